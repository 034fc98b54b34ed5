"""Which files an input means, and which format each of them has: by suffix, columns and the fields of the first rows."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from codevision_lite.datasets.formats import FORMATS
from codevision_lite.datasets.sources import RawRow, raw_rows
from codevision_lite.errors import UserError

_PATTERNS = ("*.parquet", "*.jsonl", "*.json", "*.csv", "*.tsv")
_NOT_ROWS = ("dataset_info.json", "manifest.json")
_LOOK_AT = 50  # rows; the first ones may be broken


def input_files(path: Path) -> list[Path]:
    """The files of rows that `path` names: itself, or of a folder all Parquet files (also in its folders), else all JSONL, and so on.

    Raises UserError where there are none."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder. Check the path")
    released = path / "codevision_sft.json"
    if released.is_file():
        return [released]
    for pattern in _PATTERNS:
        found = sorted(path.rglob(pattern) if pattern == "*.parquet" else path.glob(pattern))
        if found := [f for f in found if f.name not in _NOT_ROWS and not f.name.endswith(".rejects.jsonl")]:
            return found
    raise UserError(f"{path}: no .parquet, .jsonl, .json, .csv or .tsv file in this folder. Name the file, or another folder")


def detect(path: Path) -> str:
    """The format of a file, one of FORMATS. Raises UserError where it looks like none of them."""
    columns, name = _fields(path), path.stem.lower()
    if {"prompt", "extra_info"} <= columns or {"prompt", "reward_model"} <= columns:
        if "agent_name" in columns:
            return "verl"
        return "mvtoolbench" if "mvtool" in name else "codevision-rl"
    if "conversations" in columns:
        return "codevision-sft" if name.startswith("codevision") else "sharegpt"
    if {"tool_images", "trajectory", "image"} <= columns:
        return "hf"
    if path.suffix.lower() == ".jsonl" and ("sample" in columns or {"id", "image", "question", "answers", "required_ops"} <= columns):
        return "jsonl"
    if "question" in columns or "image" in columns:
        return "own"
    shown = f"its fields are {', '.join(sorted(columns)[:8])}" if columns else "no row of it can be read"
    raise UserError(f"{path}: not a format that is known ({shown}). Say which it is with --from {'|'.join(FORMATS)}")


def _fields(path: Path) -> set[str]:
    if path.suffix.lower() == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return set(pq.read_schema(path).names)
        except (pa.ArrowException, OSError) as e:
            raise UserError(f"{path}: not a readable Parquet file ({str(e).splitlines()[0][:100]}). Download it again") from e
    rows: list[dict[str, Any]] = [raw.value for raw in islice(raw_rows(path), _LOOK_AT) if isinstance(raw, RawRow) and raw.value]
    counts: dict[str, int] = {}
    for row in rows:
        for key in row:
            counts[key] = counts.get(key, 0) + 1
    return {key for key, n in counts.items() if 2 * n >= len(rows)}  # what every other row has
