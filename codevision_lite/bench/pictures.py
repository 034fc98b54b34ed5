"""Pictures of a benchmark's file that stay in it, encoded, until they are opened.

A cell is read once when the file is loaded: its header, its size and its end are checked and its bytes are hashed, without
decoding (800 pictures of 33 megapixels take minutes to decode and 80 GB to hold). It is read again when it is opened.
"""

from __future__ import annotations

import ast
import base64
import binascii
import contextlib
import csv
import functools
import hashlib
import io
import json
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from codevision_lite.datasets.pictures import unwrapped
from codevision_lite.datasets.sources import BATCH_ROWS
from codevision_lite.errors import UserError
from codevision_lite.imaging import MAX_ASPECT, MAX_SOURCE_PIXELS, open_image

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # no EPS: Pillow opens it by running another program
_MAX_PATH = 1024  # characters; what is longer is base64
_UNREADABLE = (
    OSError, SyntaxError, Image.DecompressionBombError, EOFError, KeyError, IndexError, TypeError, OverflowError, ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """Where one cell lies. `at`: of a text file the row's first byte and its length; of Parquet the row group and the row in it."""

    file: Path
    row: int  # number of the row, for messages
    column: str
    at: tuple[int, int]
    place: int = 0  # of CSV and TSV: the column's number

    def read(self) -> Any:
        """The cell's value. Raises OSError where the file is gone."""
        suffix = self.file.suffix.lower()
        if suffix == ".parquet":
            return _parquet_cell(self)
        with open(self.file, "rb") as file:
            file.seek(self.at[0])
            text = file.read(self.at[1]).decode("utf-8", errors="surrogateescape")
        if suffix == ".jsonl":
            return json.loads(text.removeprefix("\ufeff"))[self.column]
        return next(csv.reader(io.StringIO(text, newline=""), delimiter="\t" if suffix == ".tsv" else ","))[self.place]


@dataclass(frozen=True)
class FilePicture:
    """A picture in a cell (records.StoredPicture). `size`: (W, H) as it is shown; `digest`: of the encoded bytes."""

    cell: Cell
    size: tuple[int, int]
    digest: str

    def decode(self) -> Image.Image:
        """The pixels, upright RGB. Raises UserError naming file and row where they can't be decoded."""
        where = f"{self.cell.file} row {self.cell.row}"
        try:
            encoded = encoded_picture(self.cell.read(), self.cell.file.parent)
            return _decode(encoded) if isinstance(encoded, bytes) else open_image(encoded)
        except _UNREADABLE as e:
            raise UserError(f"{where}: not a readable image ({e or type(e).__name__}). Download the file again") from e


@dataclass(frozen=True)
class EncodedPicture:
    """A picture held in memory as the bytes of a PNG or JPEG file (records.StoredPicture)."""

    data: bytes

    def decode(self) -> Image.Image:
        return _decode(self.data)


def check_picture(value: Any, cell: Cell) -> tuple[FilePicture | str, str]:
    """(the picture, its digest) of a cell's value: a `FilePicture`, or a path where the value is one. Raises ValueError."""
    encoded = encoded_picture(value, cell.file.parent)
    digest = hashlib.sha256(encoded if isinstance(encoded, bytes) else str(encoded).encode()).hexdigest()[:12]
    size = _size(encoded)
    if isinstance(encoded, Path):
        return str(encoded), digest
    return FilePicture(cell, size, digest), digest


def encoded_picture(value: Any, folder: Path) -> bytes | Path:
    """What a cell holds: bytes, base64 text, a path relative to `folder`, {"bytes": ..., "path": ...}, or a list of one of
    these, also as text. Raises ValueError with the reason."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = literal_list(value)
    value = unwrapped(value)
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or not value.strip():
        raise ValueError("no picture" if value is None or value == "" else f"a picture can't be a {type(value).__name__}")
    if len(value) <= _MAX_PATH:
        with contextlib.suppress(OSError, ValueError):  # too long for a name, a NUL: then it is no path
            if (path := folder / value.strip()).is_file():
                return path
    head, _, body = value.partition(",")
    text = body if head.startswith("data:") else value
    try:
        if any(space in text for space in " \n\r\t"):
            text = "".join(text.split())
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as e:
        shown = f"no such image file: {value}" if len(value) <= 200 and "." in value else f"not base64 text ({e})"
        raise ValueError(shown) from e


def literal_list(text: str) -> list[Any]:
    """A list written as text, as pandas writes it. Raises ValueError where it isn't one."""
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as e:
        raise ValueError(f"not a list: {text[:60]!r}") from e
    if not isinstance(value, list):
        raise ValueError(f"not a list: {text[:60]!r}")
    return value


def _open(encoded: bytes | Path) -> Image.Image:
    """Only the header is read. Raises ValueError for a size outside the limits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
        opened = Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded, formats=_FORMATS)
    width, height = opened.size
    if width * height > MAX_SOURCE_PIXELS or max(width, height) >= MAX_ASPECT * min(width, height):
        raise ValueError(f"{width}x{height} pixels is outside the limits ({MAX_SOURCE_PIXELS} pixels, aspect {MAX_ASPECT})")
    return opened


def _size(encoded: bytes | Path) -> tuple[int, int]:
    """(W, H), upright; decodes the pixels only where the end of the file doesn't show that it is whole. Raises ValueError."""
    try:
        with _open(encoded) as opened:
            turned = opened.getexif().get(0x0112, 1) >= 5  # EXIF orientations 5 to 8 swap the sides
            size = opened.size[::-1] if turned else opened.size
            if isinstance(encoded, bytes) and not _has_end(encoded, opened.format):
                opened.load()
    except _UNREADABLE as e:
        raise ValueError(f"not a readable image: {e or type(e).__name__}") from e
    return size


def _has_end(data: bytes, kind: str | None) -> bool:
    return (kind == "JPEG" and data.rstrip(b"\0").endswith(b"\xff\xd9")) or (kind == "PNG" and b"IEND" in data[-16:])


def _decode(data: bytes) -> Image.Image:
    with _open(data) as opened:
        return open_image(ImageOps.exif_transpose(opened))


# ---------------------------------------------------------------- Parquet: no row can be reached but by reading up to it

_reading = threading.Lock()


def _parquet_cell(cell: Cell) -> Any:
    with _reading:
        return _group(str(cell.file), cell.at[0], cell.column).read(cell.at[1])


@functools.lru_cache(maxsize=2)
def _group(file: str, group: int, column: str) -> _Group:
    return _Group(file, group, column)


class _Group:
    """One column of one row group, read forward; an evaluation goes through a file in order, so rows are read about once."""

    def __init__(self, file: str, group: int, column: str):
        self.where = file, group, column
        self._start()

    def _start(self) -> None:
        import pyarrow.parquet as pq

        file, group, column = self.where
        self._file = pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
        self._batches = self._file.iter_batches(BATCH_ROWS, row_groups=[group], columns=[column], use_threads=False)
        self._first, self._values = 0, []

    def read(self, row: int) -> Any:
        if row < self._first:
            self._start()
        while row >= self._first + len(self._values):
            self._first += len(self._values)
            self._values = next(self._batches).column(0).to_pylist()
        return self._values[row - self._first]
