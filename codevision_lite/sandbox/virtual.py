"""Files that do not exist: opening gives the picture, saving and showing make outputs, paths are only text.

Does not touch the file system. Bytes of PNG, JPEG, WEBP, BMP and GIF pictures can be decoded from memory, nothing else.
"""

from __future__ import annotations

import io
import posixpath
from typing import Any

import numpy as np
from PIL import Image

from codevision_lite.sandbox.array_trace import put, trace_of
from codevision_lite.sandbox.checks import numbers_in
from codevision_lite.sandbox.facade import Box, session
from codevision_lite.sandbox.operators import spend_work
from codevision_lite.sandbox.stops import Refused, TooLarge
from codevision_lite.sandbox.trace import UNKNOWN, source_trace

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
MAX_FILE = 64 << 20
ENCODING_COST = {"JPEG": 100.0, "BMP": 10.0, "GIF": 9000.0}  # steps per pixel; PNG and WEBP 1,500


class Buffer(Box):
    """io.BytesIO / io.StringIO."""

    __slots__ = ("inner",)

    def __init__(self, data: Any = b"", text: bool = False) -> None:
        if text:
            self.inner: Any = io.StringIO(data or "")
        else:
            self.inner = io.BytesIO(data.inner.getvalue() if isinstance(data, Buffer) else bytes(data))

    def write(self, data: Any) -> int:
        session.budget.spend_bytes(len(data))
        if self.inner.tell() + len(data) > MAX_FILE:
            raise TooLarge("the buffer would be too large")
        return self.inner.write(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        if abs(offset) > MAX_FILE:
            raise TooLarge("the offset is too large")
        return self.inner.seek(offset, whence)

    def read_iter(self) -> Any:
        return iter(self.inner.getvalue().splitlines())


class PathText(Box):
    """pathlib.Path: a text."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __truediv__(self, other: Any) -> PathText:
        if not isinstance(other, str | PathText):
            raise TypeError("a path can only be joined with a str")
        return PathText(posixpath.join(self.text, str(other)))

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"PosixPath({self.text!r})"

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, PathText) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


def share(image: Image.Image) -> Image.Image:
    """A picture with the same pixels that copies them when it is first written to (Pillow's own copy-on-write flag)."""
    image.load()
    copy = Image.Image()
    copy.im, copy._mode, copy._size = image.im, image.mode, image.size
    copy.palette = image.palette.copy() if image.palette is not None else None
    if "transparency" in image.info:
        copy.info = {"transparency": image.info["transparency"]}
    copy.readonly, copy.format = 1, image.format
    return copy


def source(index: int) -> Image.Image:
    """A fresh copy of images[index], traced to itself."""
    image = share(session.sources[index])
    session.traces.put(image, source_trace(image.width, image.height, index))
    return image


def open_picture(path: Any, mode: str = "r", formats: Any = None) -> Image.Image:
    """Image.open: any path gives the current picture; a buffer is decoded."""
    if isinstance(path, Buffer):
        return decode_picture(path.inner.getvalue())
    if not isinstance(path, str | PathText):
        raise TypeError(f"Image.open needs a path or io.BytesIO, got {type(path).__name__}")
    return stored_picture(path)


def stored_picture(path: Any) -> Image.Image:
    """What the code saved under the path before, else the current picture."""
    saved = session.files.get(str(path))
    if saved is None:
        return source(session.index)
    picture, trace = share(saved), trace_of(saved)
    if trace is not None:
        put(picture, trace)
    return picture


def decode_picture(data: bytes) -> Image.Image:
    """Decode a picture from memory; raises UnidentifiedImageError."""
    opened = Image.open(io.BytesIO(data), formats=FORMATS)
    session.budget.spend_pixels(*opened.size)
    opened.load()
    image = share(opened)
    trace = session.encoded.get(hash(data))
    put(image, trace if trace is not None else UNKNOWN)
    return image


def encode_picture(image: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    kind = {"JPG": "JPEG"}.get(kind.upper().lstrip("."), kind.upper().lstrip("."))
    if kind not in FORMATS:
        raise Refused(f"the format {kind[:20]} is not available in the sandbox; use {', '.join(FORMATS)}")
    allowed = {k: v for k, v in options.items() if k in ("quality", "optimize", "lossless", "compress_level", "subsampling")}
    best = bool(allowed.get("lossless")) and numbers_in(allowed.get("quality", 80)) > 90
    spend_work(image.width * image.height * (30_000.0 if best else ENCODING_COST.get(kind, 1500.0)), f"this {kind}")
    buffer = io.BytesIO()
    image.save(buffer, kind, **allowed)
    data = buffer.getvalue()
    trace = trace_of(image)
    if trace is not None:
        session.encoded[hash(data)] = trace
    return data


def save_picture(image: Image.Image, fp: Any = None, format: Any = None, **options: Any) -> None:
    """Image.save: into a buffer, or (any path) as an output."""
    session.budget.spend_pixels(*image.size)
    if isinstance(fp, Buffer):
        fp.write(encode_picture(image, str(format or "PNG"), options))
    else:
        add_output(image, path=fp)


def show_picture(image: Image.Image, *args: Any, **kwargs: Any) -> None:
    add_output(image)


def add_output(picture: Any, bgr: bool = False, path: Any = None) -> None:
    """Keep a snapshot of a picture or array as an output of the run."""
    if len(session.outputs) >= session.budget.limits.output_images:
        session.budget.stop("output", f"the code saved more than {session.budget.limits.output_images} images")
    if isinstance(picture, Image.Image):
        copy = picture.copy()
    else:
        from codevision_lite.sandbox.numpy_facade import fromarray_input

        array = fromarray_input(picture)
        copy = Image.fromarray(np.ascontiguousarray(array[..., 2::-1]) if bgr and array.ndim == 3 else array)
    trace = trace_of(picture)
    if trace is not None:
        put(copy, trace)
    session.outputs.append(copy)
    if isinstance(path, str | PathText):
        session.files[str(path)] = copy
