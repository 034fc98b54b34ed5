"""A headless Chromium driven over the DevTools protocol: what the browser tests need and no more.

The websocket client is the package `websocket` (pip install websocket-client); tests skip without it.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)  # fmt: skip


class Page:
    """One tab. `requests` and `errors`: the URLs that it asked for, and what its scripts threw."""

    def __init__(self, socket: Any):
        self._socket, self._ids = socket, itertools.count(1)
        self.requests: list[str] = []
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Network", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif message.get("method") == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, script: str, seconds: float = 30.0) -> None:
        """Until the expression is true."""
        deadline = time.monotonic() + seconds
        while not self.run(f"!!({script})"):
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {script}\n{self.run('document.body.innerText')}"
            time.sleep(0.1)

    def click(self, selector: str) -> None:
        """A real click in the middle of the element."""
        x, y = self.run(
            f"(() => {{const e = document.querySelector({selector!r}); e.scrollIntoView({{block: 'center'}});"
            "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def write(self, selector: str, text: str) -> None:
        """Replace what a text field holds, as a person would."""
        self.run(f"(() => {{const e = document.querySelector({selector!r}); e.focus(); e.select()}})()")
        self.call("Input.insertText", text=text)

    def upload(self, selector: str, path: Path) -> None:
        node = self.call("DOM.querySelector", nodeId=self.call("DOM.getDocument")["root"]["nodeId"], selector=selector)
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node["nodeId"])

    def screenshot(self, path: Path) -> Path:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
        return path


@contextmanager
def chromium(binary: str, profile: Path, size: tuple[int, int] = (1280, 900), dark: bool = False) -> Iterator[Page]:
    """A page of a new browser with a new profile."""
    import websocket

    window = f"--window-size={size[0]},{size[1]}"
    process = subprocess.Popen(
        [binary, *FLAGS, window, f"--user-data-dir={profile}", "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        note = profile / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not (note.is_file() and "\n" in note.read_text()):
            assert process.poll() is None and time.monotonic() < deadline, "the browser did not start"
            time.sleep(0.1)
        port = int(note.read_text().split("\n")[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/json/list")
        tab = next(t for t in json.loads(connection.getresponse().read()) if t["type"] == "page")
        socket = websocket.create_connection(tab["webSocketDebuggerUrl"], timeout=60)
        page = Page(socket)
        if dark:
            page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        yield page
        socket.close()
    finally:
        process.terminate()
        process.wait(timeout=20)
