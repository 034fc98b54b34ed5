"""One growing output file a format: `with open_writer(...) as add: add(record)`. Pictures beside it, or inside where it is Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from codevision_lite.datasets.record import BadRow, Record
from codevision_lite.datasets.rows import IMAGES
from codevision_lite.datasets.sharegpt import DATASET_INFO, write_sharegpt
from codevision_lite.datasets.verl import write_verl
from codevision_lite.files import append_jsonl, write_atomic

Add = Callable[[Record], None]


@contextmanager
def open_writer(to: str, path: Path, folder: Path) -> Iterator[Add]:
    """Write records in format `to` to `path`; pictures that are files go to `folder`/images.

    `add` raises BadRow for a record that the format can't hold, and leaves the file as it was."""
    with {"jsonl": _jsonl, "hf": _hf, "verl": _verl, "sharegpt": _sharegpt}[to](path, folder) as add:
        yield add


def finish(to: str, out: Path) -> None:
    """What goes beside the finished file: for LLaMA-Factory the entry of its dataset_info.json."""
    if to != "sharegpt":
        return
    beside = out.with_name("dataset_info.json")
    try:
        entries = json.loads(beside.read_bytes())
    except (OSError, ValueError):
        entries = {}
    entries = entries if isinstance(entries, dict) else {}
    write_atomic(beside, json.dumps({**entries, out.stem: {"file_name": out.name, **DATASET_INFO}}, indent=2) + "\n")


def _save(record: Record, folder: Path) -> list[str]:
    return [f"{IMAGES}/{picture.save(folder / IMAGES)}" for picture in record.pictures]


@contextmanager
def _jsonl(path: Path, folder: Path) -> Iterator[Add]:
    path.write_bytes(b"")
    yield lambda record: append_jsonl(path, record.to_json(_save(record, folder)))


@contextmanager
def _sharegpt(path: Path, folder: Path) -> Iterator[Add]:
    with open(path, "w", encoding="utf-8") as file:
        start = "[\n"

        def add(record: Record) -> None:
            nonlocal start
            if record.trajectory is None:
                raise BadRow("trajectory", "a sample without a trajectory; sharegpt holds conversations (use --to verl, hf or jsonl)")
            row = write_sharegpt(record, [f"{IMAGES}/{picture.name}" for picture in record.pictures])
            _save(record, folder)
            file.write(start + json.dumps(row, ensure_ascii=False))
            start = ",\n"

        yield add
        file.write("\n]\n" if start == ",\n" else "[]\n")


@contextmanager
def _hf(path: Path, folder: Path) -> Iterator[Add]:
    from codevision_lite.datasets.parquet import HF_SCHEMA, ParquetRows, hf_row

    with ParquetRows(path, HF_SCHEMA) as rows:
        yield lambda record: rows.add(hf_row(record), _n_bytes(record))


@contextmanager
def _verl(path: Path, folder: Path) -> Iterator[Add]:
    from codevision_lite.datasets.parquet import VERL_SCHEMA, ParquetRows

    n = 0

    def add(record: Record) -> None:
        nonlocal n
        rows.add(write_verl(record, n), len(record.pictures[0].data))
        n += 1

    with ParquetRows(path, VERL_SCHEMA) as rows:
        yield add


def _n_bytes(record: Record) -> int:
    return sum(len(picture.data) for picture in record.pictures)
