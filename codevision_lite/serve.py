"""An OpenAI-compatible chat endpoint whose replies come from the whole agent loop: the code runs here, the client sees the answer.

POST /v1/chat/completions (also stream=true), GET /v1/models, GET /health. Standard library alone. What a client may ask for, and
what is refused, is in docs/SERVING.md. Pictures come as data URLs: nothing is ever fetched, and nothing is kept.
"""

from __future__ import annotations

import hmac
import json
import queue
import select
import signal
import socket
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from codevision_lite import __version__
from codevision_lite.agent import AgentLimits, Episode
from codevision_lite.ask import ModelChoice, Running, Step, open_model, terminal_text
from codevision_lite.chat_api import ApiError, Request, chunk, completion, read_request, step_text
from codevision_lite.errors import UserError
from codevision_lite.models import ChatModel
from codevision_lite.models.server import ServerError
from codevision_lite.models.shared import SharedModel, shared
from codevision_lite.sandbox import Sandbox

LOOPBACK = ("127.0.0.1", "localhost", "::1")
IDLE_S = 30.0  # a connection that sends or takes nothing for so long is closed
KEEP_ALIVE_S = 10.0  # between signs of life on a stream that waits for the model
SPARE_CONNECTIONS = 32  # beside those that are answered: they wait, are refused, or ask for /health


@dataclass(frozen=True)
class ServeConfig:
    """Where the server listens and what one client may take."""

    name: str  # of the model, as clients say it
    host: str = "127.0.0.1"
    port: int = 8000  # 0: any that is free
    api_key: str | None = None  # None: no key is asked for; then only this machine is served
    concurrency: int = 4  # questions at once; more are refused with 429
    max_request_bytes: int = 32 * 2**20
    timeout_s: float = 300.0  # of one question
    limits: AgentLimits = field(default_factory=AgentLimits)

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK and not self.api_key:
            raise UserError(f"--host {self.host} is reachable from other machines: give --api-key-env NAME, or stay with 127.0.0.1")
        for name in ("concurrency", "max_request_bytes", "timeout_s"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} must be > 0, got {getattr(self, name)}")


def serve(choice: ModelChoice, config: ServeConfig, model: ChatModel | None = None) -> None:
    """Load the model and answer until Ctrl-C or SIGTERM. Raises UserError where the port is taken or the model can't be loaded."""
    print(choice.describe(), flush=True)
    model = shared(model or open_model(choice, batch_size=config.concurrency))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Sandbox(mode="worker", workers=config.concurrency) as sandbox:
        try:
            server = AgentServer(config, model, sandbox)
        except OSError as e:
            raise UserError(f"{config.host}:{config.port}: {e.strerror}. Choose another with --host and --port") from e
        with server:
            print(f"serving {config.name} at {server.url} (Ctrl-C ends it)", flush=True)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print("stopped", flush=True)
    if isinstance(model, SharedModel):
        model.close()


class AgentServer(ThreadingHTTPServer):
    """The listening server; `serve_forever` answers. `model` may be asked from several threads."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, config: ServeConfig, model: ChatModel, sandbox: Sandbox):
        self.config, self.model, self.sandbox = config, model, sandbox
        self.slots = threading.BoundedSemaphore(config.concurrency)
        self.started = int(time.time())
        self._connections = threading.BoundedSemaphore(config.concurrency + SPARE_CONNECTIONS)
        super().__init__((config.host, config.port), _Handler)

    @property
    def url(self) -> str:
        return f"http://{self.config.host}:{self.server_port}/v1"

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that went away
            traceback.print_exc()


class _Handler(BaseHTTPRequestHandler):
    server: AgentServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = f"codevision-lite/{__version__}", ""
    timeout = IDLE_S

    def do_GET(self) -> None:
        self._answer({"/health": self._health, "/v1/models": self._models})

    def do_POST(self) -> None:
        self._answer({"/v1/chat/completions": self._chat})

    def _answer(self, routes: dict[str, Any]) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        try:
            if path != "/health":
                self._check_client()
            if path not in routes:
                raise ApiError(404, f"nothing at {self.command} {path or '/'}: POST /v1/chat/completions, GET /v1/models, GET /health")
            routes[path]()
        except ApiError as e:
            self._send(e.status, e.to_json())

    def _check_client(self) -> None:
        """A page that is open in a browser on this machine must not get at the server by a name that leads here."""
        key = self.server.config.api_key
        if key is None:
            host = self.headers.get("Host", "").rsplit(":", 1)[0].strip("[]")
            if host not in LOOPBACK:
                raise ApiError(403, f"the host name {host!r} is not this machine's", "permission_error")
            return
        given = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if not hmac.compare_digest(given.encode(), key.encode()):
            raise ApiError(401, "wrong or missing API key (Authorization: Bearer KEY)", "authentication_error", code="invalid_api_key")

    def _health(self) -> None:
        self._send(200, {"status": "ok", "model": self.server.config.name, "version": __version__})

    def _models(self) -> None:
        model = {"id": self.server.config.name, "object": "model", "created": self.server.started, "owned_by": "codevision-lite"}
        self._send(200, {"object": "list", "data": [model]})

    def _chat(self) -> None:
        config = self.server.config
        request = read_request(self._body(), config.name, config.limits)
        if not self.server.slots.acquire(blocking=False):
            busy = f"{config.concurrency} questions are being answered; try again in a moment"
            raise ApiError(429, busy, "rate_limit_error", code="rate_limit_exceeded")
        asked = request.pictures, request.question, request.limits
        run = Running(self.server.model, self.server.sandbox, *asked, at_end=self.server.slots.release)
        try:
            (self._stream if request.stream else self._whole)(run, request)
        finally:
            run.stop()

    def _body(self) -> Any:
        if self.headers.get_content_type() != "application/json":  # what a form of any web page can't send
            raise ApiError(415, "send JSON, with Content-Type: application/json")
        length, most = self.headers.get("Content-Length", ""), self.server.config.max_request_bytes
        if not length.isdecimal():
            raise ApiError(411, "send a Content-Length")
        if int(length) > most:
            raise ApiError(413, f"the request has {int(length):,} bytes; at most {most:,} are read. Send smaller pictures")
        data, deadline = bytearray(), time.monotonic() + IDLE_S
        while len(data) < int(length):
            if time.monotonic() > deadline:
                raise ApiError(408, f"the request took more than {IDLE_S:.0f} s to arrive")
            piece = self.rfile.read1(min(int(length) - len(data), 1 << 16))
            if not piece:
                raise ConnectionError("the client went away")
            data += piece
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as e:
            raise ApiError(400, f"the request is not JSON: {e}") from e

    def _events(self, run: Running) -> Iterator[Step | Episode | None]:
        """What happens, until the answer; None as a sign of life. Raises ApiError when the time is over or the run failed,
        ConnectionError when the client left."""
        timeout_s = self.server.config.timeout_s
        deadline = time.monotonic() + timeout_s
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ApiError(504, f"no answer within {timeout_s:g} s", "timeout_error")
            try:
                event = run.events.get(timeout=min(left, KEEP_ALIVE_S))
            except queue.Empty:
                event = None
            if isinstance(event, Exception):
                raise _told(event) from event
            yield event
            if isinstance(event, Episode):
                return
            if self._client_left():
                raise ConnectionError("the client went away")

    def _client_left(self) -> bool:
        readable = select.select([self.connection], [], [], 0)[0]
        return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""

    def _whole(self, run: Running, request: Request) -> None:
        said = []
        for event in self._events(run):
            if isinstance(event, Step):
                said.append(step_text(event))
            elif isinstance(event, Episode):
                self._send(200, completion(_new_id(), self.server.config.name, event, "".join(said)))

    def _stream(self, run: Running, request: Request) -> None:
        name, identity, created = self.server.config.name, _new_id(), int(time.time())
        self.close_connection = True  # its end is the end of the stream
        self.send_response(200)
        for header in (("Content-Type", "text/event-stream"), ("Cache-Control", "no-store"), ("Connection", "close")):
            self.send_header(*header)
        self.end_headers()
        self._event(chunk(identity, created, name, {"role": "assistant", "content": ""}))
        try:
            for event in self._events(run):
                if isinstance(event, Step):
                    self._event(chunk(identity, created, name, {"reasoning_content": step_text(event)}))
                elif isinstance(event, Episode):
                    whole = completion(identity, name, event, "")
                    choice = whole["choices"][0]
                    self._event(chunk(identity, created, name, {"content": choice["message"]["content"]}))
                    self._event(chunk(identity, created, name, {}, choice["finish_reason"]))
                    if request.include_usage:
                        self._event({**chunk(identity, created, name, {}), "choices": [], "usage": whole["usage"]})
                else:
                    self.wfile.write(b": waiting\n\n")
        except ApiError as e:
            self._event(e.to_json())
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, body: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode())
        self.wfile.flush()

    def _send(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body, ensure_ascii=False).encode(errors="replace")
        if status >= 400:
            self.close_connection = True  # the body may not have been read
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        if status == 429:
            self.send_header("Retry-After", "1")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses (a method, a header that is too long), as JSON."""
        self._send(int(code), ApiError(int(code), message or "bad request").to_json())

    def log_message(self, form: str, *values: Any) -> None:
        print(f"{time.strftime('%H:%M:%S')} {self.client_address[0]} {terminal_text(form % values)}", file=sys.stderr, flush=True)


def _told(error: Exception) -> ApiError:
    """What a client is told about what ended its question."""
    if isinstance(error.__cause__, ServerError):
        return ApiError(502, str(error), "api_error")
    if isinstance(error, UserError):
        return ApiError(400, str(error))
    traceback.print_exception(error)
    return ApiError(500, "the server failed; its log says why", "api_error")


def _new_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"
