"""An OpenAI-compatible chat server in a thread of the test, which answers as a function says."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

# request body -> a text, a whole reply object, (HTTP status, body[, headers]), or bytes to send as they are
Answer = Callable[[dict[str, Any]], Any]


class Served:
    """The running server: where it is, and what it was asked."""

    def __init__(self, url: str):
        self.url = url
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()


@contextmanager
def chat_server(answer: Answer) -> Iterator[Served]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with served.lock:
                served.requests.append(body)
                served.headers.append(dict(self.headers))
                served.at_once += 1
                served.most_at_once = max(served.most_at_once, served.at_once)
            try:
                status, content, more = _encoded(answer(body)) if self.path == "/v1/chat/completions" else (404, b"no such path", {})
            finally:
                with served.lock:
                    served.at_once -= 1
            self.send_response(status)
            for name, value in {"Content-Length": len(content), **more}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: Any) -> None:  # a client that gave up
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    served = Served(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()


def completion(text: str | None, *, finish: str = "stop", n_tokens: int = 7, **message: Any) -> dict[str, Any]:
    """A reply object as vLLM sends it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": n_tokens, "total_tokens": 100 + n_tokens}}


def pictures_of(body: dict[str, Any]) -> list[Image.Image]:
    """All pictures of a request, in order."""
    parts = [part for message in body["messages"] if isinstance(message["content"], list) for part in message["content"]]
    uris = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) for uri in uris]


def n_replies(body: dict[str, Any]) -> int:
    """How many turns the model has had."""
    return sum(message["role"] == "assistant" for message in body["messages"])


def _encoded(given: Any) -> tuple[int, bytes, dict[str, Any]]:
    if isinstance(given, tuple):
        return given[0], given[1].encode(), given[2] if len(given) > 2 else {}
    if isinstance(given, bytes):
        return 200, given, {}
    return 200, json.dumps(given if isinstance(given, dict) else completion(given)).encode(), {}
