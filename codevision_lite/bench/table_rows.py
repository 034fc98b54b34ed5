"""Rows of a benchmark's files as they stand there: TSV and CSV with base64 pictures, JSONL, Parquet; one at a time.

Column names are compared in lower case with "_" for spaces, so that `Question Type` of a Parquet file and `question_type` of a TSV
are one. A row that can't be read is a BadRow among the rows; a file that lacks a column is a UserError. What the columns mean is
each benchmark's business.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codevision_lite.bench.benchmark import BadRow
from codevision_lite.bench.pictures import Cell, FilePicture, literal_list
from codevision_lite.datasets import record
from codevision_lite.datasets.sources import MAX_LINE_BYTES, RawRow, load_object, raw_rows
from codevision_lite.errors import UserError


@dataclass(frozen=True)
class TableRow:
    """One row. `value`: cells by canonical column name, None where empty; `cells`: where the picture's cell lies, by name."""

    file: Path
    number: int  # from 1, without the header
    value: dict[str, Any]
    cells: dict[str, Cell]
    done: int  # bytes of the file that are read by now
    total: int = 0  # number over all files
    picture: FilePicture | str = ""
    digest: str = ""  # of the picture: equal for rows that share it

    def text(self, *columns: str, default: str | None = None) -> str:
        """The first of the columns that has text. Raises record.BadRow where none has and there is no default."""
        name = next((c for c in columns if self.value.get(c) is not None), columns[0])
        value = self.value.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        if default is not None and isinstance(value, str) and not value.strip():
            return default  # an empty text is how some files say "none"
        return record.text(self.value, name, default)

    def texts(self, *columns: str) -> tuple[str, ...]:
        """A list of texts, also written as text ("['a', 'b']"); one text is a list of one. Raises record.BadRow."""
        name = next((c for c in columns if self.value.get(c) is not None), columns[0])
        value = self.value.get(name)
        if isinstance(value, str) and value.strip().startswith("["):
            try:
                value = literal_list(value)
            except ValueError as e:
                raise record.BadRow(name, f"{name!r} is {e}") from e
        if value is None or value == []:
            raise record.BadRow(name, f"{name!r} is {'empty' if name in self.value else 'missing'}")
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(v, str | int | float) and not isinstance(v, bool) for v in values):
            raise record.BadRow(name, f"{name!r} must be a list of texts, got {str(value)[:60]}")
        return tuple(str(v) for v in values)

    @property
    def index(self) -> str:
        """The row's own name in its file; its number where the file gives none."""
        value = next((self.value[c] for c in ("index", "question_id") if self.value.get(c) is not None), None)
        return str(self.total if value is None else value).strip()


@dataclass(frozen=True)
class Layout:
    """What the files of a benchmark look like, by canonical column names."""

    name: str  # of the benchmark, for messages
    required: tuple[tuple[str, ...], ...]  # of each tuple one column must be there
    optional: tuple[str, ...] = ()
    picture: tuple[str, ...] = ("image", "image_path")
    hints: tuple[str, ...] = ()  # what the file's name holds, to choose among the files of a folder


def file_rows(file: Path, layout: Layout) -> Iterator[TableRow | BadRow]:
    """The rows of one file, by its suffix. Raises UserError where a column is missing."""
    return {".parquet": _parquet, ".jsonl": _json_lines}.get(file.suffix.lower(), _delimited)(file, layout)


def _canonical(column: str) -> str:
    return "_".join(column.strip().lower().replace("_", " ").split())


def _check_columns(file: Path, columns: Sequence[str], layout: Layout) -> None:
    have = {_canonical(c) for c in columns}
    missing = [" or ".join(map(repr, names)) for names in (*layout.required, layout.picture) if not have & set(names)]
    if missing:
        shown = ", ".join(map(str, columns))[:200] or "none"
        raise UserError(f"{file}: no column {' and no column '.join(missing)} (columns: {shown}). Is it the file of {layout.name}?")


def _delimited(file: Path, layout: Layout) -> Iterator[TableRow | BadRow]:
    """CSV or TSV, with the place of each row in bytes."""
    csv.field_size_limit(MAX_LINE_BYTES)  # Python's default is 128 KiB, which base64 pictures exceed
    with open(file, "rb") as opened:
        lines = _Lines(opened)
        cells = csv.reader(lines, delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
        header: list[str] | None = None
        number, start = 0, 0
        while True:
            try:
                found = next(cells, None)
            except csv.Error as e:
                number, start = number + 1, lines.end
                yield BadRow(str(file), number, f"not CSV: {e}")
                continue
            start, at = lines.end, (start, lines.end - start)
            if found is None:
                return
            if header is None:
                header = [_canonical(name) for name in found]
                _check_columns(file, found, layout)
            elif found:
                number += 1
                yield _delimited_row(file, layout, header, number, found, at)


class _Lines:
    """Lines of a file as text; `end`: the byte after the last one that was taken."""

    def __init__(self, file: Any):
        self.file, self.end = file, 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.file.readline(MAX_LINE_BYTES)
        if not line:
            raise StopIteration
        self.end += len(line)
        return line.decode("utf-8-sig" if self.end == len(line) else "utf-8", errors="surrogateescape")


def _delimited_row(
    file: Path, layout: Layout, header: list[str], number: int, found: list[str], at: tuple[int, int]
) -> TableRow | BadRow:  # fmt: skip
    if len(found) != len(header):
        return BadRow(str(file), number, f"{len(found)} cells for {len(header)} columns: the row is cut, or a quote is open")
    if any(not cell.isascii() and any("\ud800" <= c <= "\udfff" for c in cell) for cell in found):
        return BadRow(str(file), number, "not UTF-8 text")
    places = {name: Cell(file, number, name, at, header.index(name)) for name in layout.picture if name in header}
    return TableRow(file, number, {name: cell or None for name, cell in zip(header, found, strict=True)}, places, sum(at))


def _json_lines(file: Path, layout: Layout) -> Iterator[TableRow | BadRow]:
    end, number = 0, 0
    with open(file, "rb") as opened:
        while line := opened.readline():
            at, end, number = (end, len(line)), end + len(line), number + 1
            if not line.strip():
                continue
            value = load_object(file, number, line.removeprefix(b"\xef\xbb\xbf"))
            if isinstance(value, record.Reject):
                yield BadRow(str(file), number, value.reason)
                continue
            places = {_canonical(key): Cell(file, number, key, at) for key in value if _canonical(key) in layout.picture}
            yield TableRow(file, number, {_canonical(key): cell for key, cell in value.items()}, places, end)


def _parquet(file: Path, layout: Layout) -> Iterator[TableRow | BadRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(file)
    except (pa.ArrowException, OSError) as e:
        yield BadRow(str(file), 0, f"not a readable Parquet file, or a cut one: {str(e).splitlines()[0][:150]}")
        return
    columns = metadata.schema.to_arrow_schema().names
    _check_columns(file, columns, layout)
    known = {*layout.optional, *layout.picture, "index", "question_id", *(name for names in layout.required for name in names)}
    ends, total = [], 0
    for group in range(metadata.num_row_groups):
        ends.append(total := total + metadata.row_group(group).num_rows)
    group = 0
    for raw in raw_rows(file, [c for c in columns if _canonical(c) in known]):
        if not isinstance(raw, RawRow):
            yield BadRow(str(file), raw.row, raw.reason)
            continue
        while raw.number > ends[group]:
            group += 1
        at = group, raw.number - 1 - (ends[group - 1] if group else 0)
        places = {_canonical(c): Cell(file, raw.number, c, at) for c in raw.value if _canonical(c) in layout.picture}
        yield TableRow(file, raw.number, {_canonical(c): cell for c, cell in raw.value.items()}, places, raw.position)
