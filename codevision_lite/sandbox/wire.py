"""Messages between the sandbox and its workers: a JSON head and raw pixels, both with their length in front.

Does not pickle, and does not trust what a worker sends: read_reply checks every field and size before it makes a Run.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
import time
from typing import Any

from PIL import Image

from codevision_lite.records import Frame, Op
from codevision_lite.sandbox.limits import Limits
from codevision_lite.sandbox.run import Run

FIRST_BYTES = 1 << 16
HEAD = struct.Struct(">IQ")  # bytes of JSON, bytes of pixels
MAX_JSON = 64 << 20  # requests; replies are bounded by the limits
SHARED_BYTES = 64 << 20  # a 16 MP RGBA picture; pages that were never written take no memory
BYTES = {"L": 1, "RGB": 4, "RGBA": 4}
RAW = {"RGB": "RGBX"}  # Pillow keeps four bytes a pixel: sending all of them is twice as fast as dropping one
MAX_COORDINATE = 1e13  # larger than what a map between pictures may hold
STATUSES = ("ok", "refused", "error", "timeout", "memory", "output")


class Closed(Exception):
    """The other side is gone."""


def make_shared() -> tuple[int, mmap.mmap] | tuple[None, None]:
    """A descriptor and a mapping of memory that two processes share (Linux; sparse); (None, None) elsewhere."""
    if not hasattr(os, "memfd_create"):
        return None, None
    fd = os.memfd_create("pixels", os.MFD_CLOEXEC)
    os.ftruncate(fd, SHARED_BYTES)
    return fd, mmap.mmap(fd, SHARED_BYTES)


def send(sock: socket.socket, head: dict[str, Any], parts: list[bytes] | tuple[bytes, ...] = (), shared: mmap.mmap | None = None) -> None:
    """One message; the pixels go through the shared memory where they fit, else through the socket."""
    total = sum(map(len, parts))
    if shared is not None and 0 < total <= len(shared):
        offset = 0
        for part in parts:
            shared[offset : offset + len(part)] = part
            offset += len(part)
        head, parts = {**head, "shared": total}, ()
    text = json.dumps(head).encode()
    sock.sendall(HEAD.pack(len(text), sum(map(len, parts))) + text)
    for part in parts:
        sock.sendall(part)


def pixels_of(head: Any, pixels: Any, shared: mmap.mmap | None) -> Any:
    """The pixels of a received message, wherever they came through. Raises ValueError for more than there is."""
    n = head.get("shared", 0)
    if not n:
        return pixels
    if shared is None or not isinstance(n, int) or not 0 < n <= len(shared):
        raise ValueError("no such pixels")
    return memoryview(shared)[:n]


def receive(
    sock: socket.socket, deadline: float | None = None, max_json: int = MAX_JSON, max_pixels: int = 1 << 40
) -> tuple[Any, bytearray]:
    """One message. Raises Closed, TimeoutError after `deadline` (perf_counter seconds), ValueError for a message beyond its limits."""
    if deadline is not None:
        sock.settimeout(max(1e-3, deadline - time.perf_counter()))
    data = sock.recv(FIRST_BYTES)  # most messages are one read: there is never a second one on the way
    if not data:
        raise Closed
    if len(data) < HEAD.size:
        data += read(sock, HEAD.size - len(data), deadline)
    n_json, n_pixels = HEAD.unpack_from(data)
    if n_json > max_json or n_pixels > max_pixels:
        raise ValueError("the message is larger than allowed")
    end = HEAD.size + n_json
    if len(data) < end:
        data += read(sock, end - len(data), deadline)
    pixels = bytearray(data[end:])
    if len(pixels) < n_pixels:
        pixels += read(sock, n_pixels - len(pixels), deadline)
    return json.loads(data[HEAD.size : end]), pixels


def read(sock: socket.socket, n: int, deadline: float | None) -> bytearray:
    data = bytearray(n)
    view, filled = memoryview(data), 0
    while filled < n:
        if deadline is not None:
            left = deadline - time.perf_counter()
            if left <= 0:
                raise TimeoutError
            sock.settimeout(left)
        got = sock.recv_into(view[filled:])
        if got == 0:
            raise Closed
        filled += got
    return data


def raw_of(image: Image.Image) -> bytes:
    """The pixels of a picture as they travel."""
    if image.mode not in BYTES:
        return image.tobytes()
    image.load()
    encoder = Image._getencoder(image.mode, "raw", (RAW.get(image.mode, image.mode),))  # tobytes() without its pieces of 64 KB:
    encoder.setimage(image.im, (0, 0, *image.size))  # joining them takes longer than all the rest of a call
    return encoder.encode(BYTES[image.mode] * image.width * image.height + 1024)[2]


def picture_of(mode: str, size: tuple[int, int], pixels: Any) -> Image.Image:
    """The picture of pixels that travelled; a copy of them."""
    return Image.frombytes(mode, size, pixels, "raw", RAW.get(mode, mode)) if mode in BYTES else Image.frombytes(mode, size, pixels)


def pack_run(run: Run) -> tuple[dict[str, Any], list[bytes]]:
    """A Run as a message (worker side)."""
    head: dict[str, Any] = {
        "status": run.status, "message": run.message, "stdout": run.stdout, "seconds": run.seconds,
        "ops": [op.to_json() for op in run.ops], "frame": run.frame and run.frame.to_json(), "image": None,
    }  # fmt: skip
    if run.result is None:
        return head, []
    head["image"] = {"mode": run.result.mode, "size": list(run.result.size)}
    return head, [raw_of(run.result)]


def unpack_run(head: Any, pixels: Any, limits: Limits, n_sources: int = 1) -> Run:
    """A Run on `n_sources` pictures from an untrusted message. Raises ValueError, KeyError or TypeError for anything that does not fit."""
    if head["status"] not in STATUSES:
        raise ValueError("unknown status")
    message, stdout = str(head["message"]), str(head["stdout"])
    room = limits.stdout_chars + limits.message_chars + 500
    if len(message) > room or len(stdout) > room:
        raise ValueError("too much text")
    ops = tuple(read_op(row) for row in head["ops"][: limits.ops])
    image = None if head["image"] is None else read_image(head["image"], pixels, limits)
    frame = read_frame(head["frame"], n_sources) if head["frame"] and image is not None else None
    return Run(head["status"], message, image, stdout, ops, frame, float(head["seconds"]))


def read_op(row: Any) -> Op:
    if not isinstance(row["name"], str) or not isinstance(row["args"], dict):
        raise ValueError("not an operation")
    change = row["change"]
    return Op(row["name"][:100], row["args"], None if change is None else float(change))


def read_image(head: Any, pixels: Any, limits: Limits) -> Image.Image:
    mode, (width, height) = head["mode"], head["size"]
    if mode not in BYTES or not (isinstance(width, int) and isinstance(height, int) and 0 < width * height <= limits.output_pixels):
        raise ValueError("not a possible picture")
    if len(pixels) != width * height * BYTES[mode] or max(width, height) >= limits.output_aspect * min(width, height):
        raise ValueError("not a possible picture")
    return picture_of(mode, (width, height), pixels)


def read_frame(rows: Any, n_sources: int) -> Frame:
    frame = Frame.from_json(rows[:256])
    for piece in frame.pieces:
        numbers = [v for row in (*piece.polygon, *piece.matrix) for v in row]
        if len(piece.matrix) != 3 or any(len(r) != 3 for r in piece.matrix) or not all(abs(float(v)) < MAX_COORDINATE for v in numbers):
            raise ValueError("not a frame")
        if len(piece.polygon) < 3 or any(len(p) != 2 for p in piece.polygon):
            raise ValueError("not a frame")
        if type(piece.source) is not int or not 0 <= piece.source < n_sources:
            raise ValueError("not a frame")
    return frame
