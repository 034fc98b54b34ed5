"""Raw rows out of files, one at a time: JSON lines, a JSON list, CSV or TSV, Parquet. Memory doesn't grow with the file.

A row that can't be read is a Reject among the rows; reading goes on after it. Doesn't know what the fields mean.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codevision_lite.datasets.json_list import list_items
from codevision_lite.datasets.record import Reject

BATCH_ROWS = 8  # rows of a Parquet file in memory at a time; a row may hold megabytes of pictures
MAX_LINE_BYTES = 64 << 20  # one row of text; beyond it the file isn't what it claims to be
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in the file. `position`: bytes of the file that are done, roughly, for progress."""

    number: int  # from 1; of text files the line
    value: dict[str, Any]
    position: int


def raw_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[RawRow | Reject]:
    """The rows of a file, by its suffix. `columns`: the only ones to read of a Parquet file."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        yield from _parquet(path, columns)
        return
    with open(path, "rb") as file:
        if file.read(2) in _UTF16:
            yield Reject(str(path), 0, "", "UTF-16 text; UTF-8 is needed (iconv -f UTF-16 -t UTF-8 does it)")
            return
    yield from {".json": _json_list, ".csv": _table, ".tsv": _table}.get(suffix, _json_lines)(path)


def load_object(path: Path, number: int, data: bytes) -> dict[str, Any] | Reject:
    """The JSON object in `data`, or why it isn't one."""
    try:
        value = json.loads(data.decode())
    except UnicodeDecodeError as e:
        return Reject(str(path), number, "", f"not UTF-8 text (byte {e.start + 1})")
    except json.JSONDecodeError as e:
        return Reject(str(path), number, "", f"not JSON: {e.msg} (character {e.pos + 1})")
    except (ValueError, RecursionError) as e:  # a number of thousands of digits, thousands of nested brackets
        return Reject(str(path), number, "", f"not JSON: {str(e).splitlines()[0]}")
    return value if isinstance(value, dict) else Reject(str(path), number, "", f"an object is needed, got {type(value).__name__}")


def _json_lines(path: Path) -> Iterator[RawRow | Reject]:
    with open(path, "rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES):
            number += 1
            if len(line) == MAX_LINE_BYTES:
                yield Reject(str(path), number, "", f"a line of more than {MAX_LINE_BYTES >> 20} MiB")
                while (rest := file.readline(1 << 20)) and not rest.endswith(b"\n"):
                    pass
                continue
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                value = load_object(path, number, line)
                yield value if isinstance(value, Reject) else RawRow(number, value, file.tell())


def _json_list(path: Path) -> Iterator[RawRow | Reject]:
    for number, (data, position, problem) in enumerate(list_items(path), 1):
        value = Reject(str(path), number, "", problem) if problem else load_object(path, number, data)
        yield value if isinstance(value, Reject) else RawRow(number, value, position)


def _table(path: Path) -> Iterator[RawRow | Reject]:
    """CSV or TSV with a header. Rows are counted without the header."""
    csv.field_size_limit(MAX_LINE_BYTES)  # base64 pictures are longer than Python's default of 128 KiB
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        header: list[str] | None = None
        number = 0
        while True:
            try:
                cells = next(lines)
            except StopIteration:
                return
            except csv.Error as e:
                number += 1
                yield Reject(str(path), number, "", f"not CSV: {e}")
                continue
            if header is None:
                header = [name.strip() for name in cells]
            elif cells:
                number += 1
                yield _table_row(path, number, header, cells, file.buffer.tell())


def _table_row(path: Path, number: int, header: list[str], cells: list[str], position: int) -> RawRow | Reject:
    if len(cells) != len(header):
        return Reject(str(path), number, "", f"{len(cells)} cells for {len(header)} columns ({', '.join(header)})")
    for name, cell in zip(header, cells, strict=True):
        try:
            cell.encode()
        except UnicodeEncodeError:
            return Reject(str(path), number, name, "not UTF-8 text")
    return RawRow(number, {name: cell or None for name, cell in zip(header, cells, strict=True)}, position)


def _parquet(path: Path, columns: Sequence[str] | None) -> Iterator[RawRow | Reject]:
    """A few rows at a time. `buffer_size` streams the pages of a column: without it a whole column chunk, which may be
    the whole file, is read at once. What stays in memory is a page: of pictures up to 1,024 rows, as pyarrow writes them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    size, number = path.stat().st_size, 0
    usual = pa.default_memory_pool()
    try:
        pa.set_memory_pool(_frugal_pool())  # the reader keeps the pool that it was made with
        try:
            opened = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
        finally:
            pa.set_memory_pool(usual)
        with opened as file:
            names = [name for name in file.schema_arrow.names if columns is None or name in columns]
            total = file.metadata.num_rows
            for group in range(file.num_row_groups):
                start = number
                try:
                    for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=names, use_threads=False):
                        for value in batch.to_pylist():
                            number += 1
                            yield RawRow(number, value, size * number // max(total, 1))
                except (pa.ArrowException, OSError, ValueError) as e:
                    end = start + file.metadata.row_group(group).num_rows
                    yield Reject(str(path), number + 1, "", f"rows {number + 1} to {end} can't be read: {_line(e)}")
                    number = end
    except (pa.ArrowException, OSError) as e:
        yield Reject(str(path), 0, "", f"not a readable Parquet file: {_line(e)}")


def _frugal_pool() -> Any:
    """An allocator that gives a page back at once. pyarrow's usual one does so when its clock says, which may be pages later."""
    import pyarrow as pa

    if "jemalloc" not in pa.supported_memory_backends():
        return pa.system_memory_pool()
    pa.jemalloc_set_decay_ms(0)
    return pa.jemalloc_memory_pool()


def _line(e: Exception) -> str:
    return (str(e).splitlines() or [type(e).__name__])[0][:200]
