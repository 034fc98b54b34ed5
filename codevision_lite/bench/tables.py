"""Samples out of a benchmark's file or folder: which files, their pictures, and what can't be used.

A row that can't be used becomes a BadRow; a file in which no row can be used is a UserError. Reading rows: table_rows.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codevision_lite.bench.benchmark import BadRow
from codevision_lite.bench.pictures import FilePicture, check_picture, literal_list
from codevision_lite.bench.table_rows import Layout, TableRow, file_rows
from codevision_lite.datasets.detect import input_files
from codevision_lite.errors import UserError
from codevision_lite.files import explain_os_errors
from codevision_lite.progress import Progress
from codevision_lite.records import Sample

_SUFFIXES = (".tsv", ".csv", ".jsonl", ".parquet")
_LARGE_MIB = 100  # from here on reading takes long enough to show progress
_MAX_REFERENCE = 64  # characters: a shorter "picture" of a TSV is the index of the row that holds it (VLMEvalKit's rule)


def load_samples(path: Path | None, layout: Layout, parse: Callable[[TableRow], Sample]) -> Iterator[Sample | BadRow]:
    """The samples of a file or folder. `parse` raises record.BadRow, or ValueError. See Benchmark.load."""
    if path is None:
        raise UserError(f"{layout.name} needs its file. Download it (docs/BENCHMARKS.md says from where) and give its path")
    reasons: Counter[str] = Counter()
    seen: dict[str, int] = {}
    n_good = n_rows = 0
    for row in _with_pictures(_rows(_choose(path, layout), layout), layout):
        n_rows += 1
        made = _parse(parse, row, seen) if isinstance(row, TableRow) else row
        n_good += isinstance(made, Sample)
        if isinstance(made, BadRow):
            reasons[made.reason] += 1
        yield made
    if not n_good:
        why = f". Most often: {reasons.most_common(1)[0][0]}" if reasons else ": the file has no rows. Check that it is whole"
        raise UserError(f"{path}: none of its {n_rows} rows can be used{why}")


def _parse(parse: Callable[[TableRow], Sample], row: TableRow, seen: dict[str, int]) -> Sample | BadRow:
    try:
        sample = parse(row)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as e:  # record.BadRow is a ValueError
        reason = str(e) if isinstance(e, ValueError) else f"can't be read: {type(e).__name__}: {e}"
        return BadRow(str(row.file), row.number, " ".join(reason.split())[:300])
    if sample.id in seen:
        return BadRow(str(row.file), row.number, f"its index {row.index!r} was there before, in row {seen[sample.id]}")
    seen[sample.id] = row.number
    return sample


# ---------------------------------------------------------------- files


def _choose(path: Path, layout: Layout) -> list[Path]:
    """The file, or of a folder those that the benchmark's names fit best, else all of one kind."""
    files = input_files(path)
    if path.is_dir():
        stems = {f: f.stem.lower().replace("_local", "").replace("-", "_") for f in files}
        exact = [f for f in files if stems[f] in layout.hints]
        files = exact or [f for f in files if any(h in stems[f] for h in layout.hints)] or files
        if all(f.suffix.lower() == ".tsv" for f in files):  # VLMEvalKit keeps X.tsv and X_local.tsv, which has paths for pictures
            files = [f for f in files if f.stem.removesuffix("_local") == f.stem or f.with_stem(f.stem.removesuffix("_local")) not in files]
    for file in files:
        if file.suffix.lower() not in _SUFFIXES:
            raise UserError(f"{file}: {layout.name} is read from {', '.join(_SUFFIXES)} files. Give one of these")
    return files


def _rows(files: Sequence[Path], layout: Layout) -> Iterator[TableRow | BadRow]:
    before = last = read = 0  # rows and bytes of the files before: a row's number over all files doesn't hang on which rows are good
    sizes = [file.stat().st_size for file in files]
    total = sum(sizes) >> 20
    progress = Progress(f"{layout.name}: reading", total, "MiB") if total >= _LARGE_MIB else None
    for file, size in zip(files, sizes, strict=True):
        with explain_os_errors(file):
            for row in file_rows(file, layout):
                if isinstance(row, TableRow):
                    last = before + row.number
                    row = replace(row, total=last)
                    if progress:
                        progress.update(min((read + row.done) >> 20, total - 1))
                yield row
        before, read = last, read + size
    if progress:
        progress.update(total)


# ---------------------------------------------------------------- pictures


@dataclass
class _Known:
    """Pictures by the index of their row, and rows that wait for a picture of a later row."""

    pictures: dict[str, tuple[FilePicture | str, str]] = field(default_factory=dict)
    waiting: list[tuple[TableRow, str]] = field(default_factory=list)


def _with_pictures(rows: Iterator[TableRow | BadRow], layout: Layout) -> Iterator[TableRow | BadRow]:
    """Each row with its picture, and without the picture's bytes; rows that refer to a later row come last."""
    known = _Known()
    for row in rows:
        made = _own_picture(row, layout, known) if isinstance(row, TableRow) else row
        if made is not None:
            yield made
    while known.waiting:
        ready = [(row, known.pictures[index]) for row, index in known.waiting if index in known.pictures]
        if not ready:
            for row, index in known.waiting:
                yield BadRow(str(row.file), row.number, f"its picture is that of index {index!r}, which has none")
            return
        known.waiting = [(row, index) for row, index in known.waiting if index not in known.pictures]
        for row, (picture, digest) in ready:
            known.pictures.setdefault(row.index, (picture, digest))
            yield replace(row, picture=picture, digest=digest)


def _own_picture(row: TableRow, layout: Layout, known: _Known) -> TableRow | BadRow | None:
    """None where the row has to wait for another one."""
    name = next((c for c in layout.picture if row.value.get(c) is not None), None)
    if name is None:
        return BadRow(str(row.file), row.number, f"no picture: {' and '.join(map(repr, layout.picture))} are empty or missing")
    value = row.value[name]
    light = replace(row, value={c: cell for c, cell in row.value.items() if c not in layout.picture})
    try:
        index = _reference(value, row.file.parent)
        if index is not None and index not in known.pictures:
            known.waiting.append((light, index))
            return None
        picture, digest = known.pictures[index] if index is not None else check_picture(value, row.cells[name])
    except ValueError as e:
        return BadRow(str(row.file), row.number, f"{name!r}: {e}")
    known.pictures.setdefault(row.index, (picture, digest))
    return replace(light, picture=picture, digest=digest)


def _reference(value: Any, folder: Path) -> str | None:
    """The index that a cell holds in place of a picture."""
    if isinstance(value, str) and value.startswith("["):
        value = literal_list(value)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or len(value) > _MAX_REFERENCE or "." in value or "/" in value or (folder / value).is_file():
        return None
    return value.strip() or None
