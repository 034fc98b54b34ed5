"""From any format that is read to any that is written, row by row: what is bad is left out with its reason, the rest goes on.

The output appears under its name when it is whole (a stopped run leaves only OUT.part, and the same command starts over);
equal input gives equal bytes. Refused rows are in OUT.rejects.jsonl: {file, row, field, reason}.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from codevision_lite.datasets.detect import detect, input_files
from codevision_lite.datasets.formats import FORMATS, TARGETS, BoxDefault, TransformIs
from codevision_lite.datasets.ours import HF_COLUMNS, parse_hf, parse_ours
from codevision_lite.datasets.own import OWN_COLUMNS, parse_own
from codevision_lite.datasets.record import BadRow, Record, Reject
from codevision_lite.datasets.sharegpt import parse_sharegpt
from codevision_lite.datasets.sources import RawRow, raw_rows
from codevision_lite.datasets.verl import COLUMNS as VERL_COLUMNS
from codevision_lite.datasets.verl import parse_verl
from codevision_lite.datasets.writers import finish, open_writer
from codevision_lite.errors import UserError
from codevision_lite.files import append_jsonl, explain_os_errors
from codevision_lite.progress import Progress

_COLUMNS = {"hf": HF_COLUMNS, "own": OWN_COLUMNS, **dict.fromkeys(("verl", "codevision-rl", "mvtoolbench"), VERL_COLUMNS)}


@dataclass(frozen=True)
class Reading:
    """How foreign rows are understood."""

    transform_is: TransformIs = "damage"  # what `transform` names: what was done to the picture, or what has to be done
    ambiguous_box: BoxDefault = "shown"  # the frame of a box whose frame can't be told


@dataclass
class Summary:
    """What became of the rows. `frames`: of boxes in verl rows; "undamaged" boxes have only one."""

    rows: int = 0
    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)  # by field and reason, without the row's own values
    frames: Counter[str] = field(default_factory=Counter)
    left_out: int = 0  # trajectories of kept rows, where the format holds samples only
    unknown_transforms: int = 0  # of kept trajectories: their damage is not known

    @property
    def counts(self) -> str:
        return f"{self.kept} kept, {self.rejected.total()} rejected"

    def lines(self) -> list[str]:
        """For people; the first line has the counts."""
        said = [f"{self.rows} rows: {self.counts}"]
        said += [f"  rejected {n}: {reason}" for reason, n in sorted(self.rejected.items(), key=lambda r: (-r[1], r[0]))]
        if self.frames:
            said.append("  box frames: " + ", ".join(f"{name} {n}" for name, n in sorted(self.frames.items())))
        if self.left_out:
            said.append(f"  {self.left_out} trajectories left out: this format holds samples only")
        if self.unknown_transforms:
            said.append(f"  {self.unknown_transforms} trajectories kept whose 'transform' is not known: their damage is given as none")
        return said


def read_records(path: Path, source: str = "auto", reading: Reading = Reading()) -> Iterator[Record | Reject]:
    """The records of a file or folder, one at a time, with the rows that were refused among them.

    `source`: one of detect.FORMATS, or "auto". Raises UserError where nothing is there or no format is recognised."""
    files = input_files(path)
    for file in files:
        for item, _, _ in _read_file(file, source, reading, alone=len(files) == 1):
            yield item


def _read_file(file: Path, source: str, reading: Reading, alone: bool) -> Iterator[tuple[Record | Reject, int, int]]:
    """(record or reject, row number, bytes of the file that are done). A file of no known format is one reject among
    other files, and a UserError where it is `alone`."""
    if source == "auto":
        try:
            source = detect(file)
        except UserError as e:
            if alone:
                raise
            yield Reject(str(file), 0, "", str(e).removeprefix(f"{file}: ")), 0, 0
            return
    parse, done = _parser(source, reading), 0
    with explain_os_errors(file):
        for raw in raw_rows(file, _COLUMNS.get(source)):
            if isinstance(raw, RawRow):
                done = raw.position
                yield _parse(parse, raw, file), raw.number, done
            else:
                yield raw, raw.row, done


def _parser(source: str, reading: Reading) -> Any:
    if source not in FORMATS:
        raise UserError(f"unknown format {source!r}. Use one of {', '.join(FORMATS)}")
    if source in ("sharegpt", "codevision-sft"):
        return partial(parse_sharegpt, transform_is=reading.transform_is, source=source)
    if source in ("verl", "codevision-rl", "mvtoolbench"):
        return partial(parse_verl, transform_is=reading.transform_is, ambiguous_box=reading.ambiguous_box, source=source)
    return {"jsonl": parse_ours, "hf": parse_hf, "own": parse_own}[source]


def _parse(parse: Any, raw: RawRow, file: Path) -> Record | Reject:
    try:
        record = parse(raw.value, file.parent)
        json.dumps(record.to_json([""] * len(record.pictures)), ensure_ascii=False).encode()
    except BadRow as e:
        return Reject(str(file), raw.number, e.field, e.reason)
    except UnicodeEncodeError:
        return Reject(str(file), raw.number, "", "a text holds half of a surrogate pair, which UTF-8 can't write")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError) as e:
        # A shape that no check foresaw must not end the run: the row is refused, and its reason says where to look.
        return Reject(str(file), raw.number, "", f"can't be read: {type(e).__name__}: {' '.join(str(e).split())[:200]}")
    return record


def output_path(out: Path, to: str) -> Path:
    """OUT as a file: a folder, or a name without a suffix, gets train.<suffix>. Raises UserError for another format's suffix."""
    if to not in TARGETS:
        raise UserError(f"unknown format {to!r}. Use one of {', '.join(TARGETS)}")
    if out.is_dir() or not out.suffix:
        return out / f"train{TARGETS[to]}"
    if out.suffix != TARGETS[to]:
        raise UserError(f"{out}: --to {to} writes {TARGETS[to]} files. Name it {out.with_suffix(TARGETS[to])}")
    return out


def convert(
    source_path: Path, out: Path, to: str, *, source: str = "auto", limit: int | None = None, reading: Reading = Reading()
) -> Summary:
    """Convert a file or folder; `limit`: stop after that many good rows. Writes OUT, OUT.rejects.jsonl and pictures.

    Raises UserError where nothing is there, no format is recognised, or not one row is good."""
    out = output_path(out, to)
    files = input_files(source_path)
    if out.absolute() in [f.absolute() for f in files]:
        raise UserError(f"{out} is the input as well. Choose another name for the output")
    part, rejects = out.with_name(f"{out.name}.part"), out.with_name(f"{out.name}.rejects.jsonl")
    rejects_part = rejects.with_name(f"{rejects.name}.part")
    summary = Summary()
    with explain_os_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        rejects_part.write_bytes(b"")
        with open_writer(to, part, out.parent) as add:
            for item in _kept_and_refused(files, source, reading, limit, summary):
                refused = item if isinstance(item, Reject) else _write(add, item, to, summary)
                if refused is not None:
                    summary.rejected[_kind(refused)] += 1
                    append_jsonl(rejects_part, vars(refused))
        _publish(rejects_part, rejects)
        if not summary.kept:
            part.unlink()
            raise UserError(f"{source_path}: none of its {summary.rows} rows can be used{_why(summary, rejects)}")
        _publish(part, out)
        finish(to, out)
    return summary


def _kept_and_refused(files: list[Path], source: str, reading: Reading, limit: int | None, summary: Summary) -> Iterator[Any]:
    """(record, file, row) and Reject; shows progress, refuses what was there before, stops at the limit."""
    sizes = [f.stat().st_size for f in files]
    total = max(1, sum(sizes) >> 20)
    progress, before, seen = Progress("convert", total, "MiB"), 0, set()
    for file, size in zip(files, sizes, strict=True):
        for item, row, done in _read_file(file, source, reading, alone=len(files) == 1):
            summary.rows += row > 0
            progress.update(min((before + done) >> 20, total - 1), summary.counts)
            if isinstance(item, Reject):
                yield item
            elif (key := _identity(item)) in seen:
                yield Reject(str(file), row, "id", f"a row that was there before: 'id' {item.sample.id!r}")
            else:
                seen.add(key)
                yield item, file, row
            if limit is not None and summary.kept >= limit:
                progress.update(total, summary.counts)
                return
        before += size
    progress.update(total, summary.counts)


def _identity(record: Record) -> bytes:
    """Two rows are the same if their ids are, and of trajectories their replies (several may belong to one sample)."""
    replies = [turn.text for turn in record.trajectory.turns] if record.trajectory else []
    return hashlib.sha256(json.dumps([record.sample.id, *replies]).encode()).digest()[:12]


def _write(add: Any, item: tuple[Record, Path, int], to: str, summary: Summary) -> Reject | None:
    record, file, row = item
    try:
        add(record)
    except BadRow as e:
        return Reject(str(file), row, e.field, e.reason)
    summary.kept += 1
    frame = record.sample.meta.get("box_frame")
    if frame is not None:
        summary.frames["undamaged" if record.sample.damage == "none" else str(frame)] += 1
    summary.left_out += to == "verl" and record.trajectory is not None
    summary.unknown_transforms += "unknown_transform" in record.sample.meta
    return None


def _kind(refused: Reject) -> str:
    """The reason without what belongs to this row alone, to count rows by it."""
    reason = re.split(r", got |: | \(", refused.reason)[0]
    return f"{refused.field or 'row'}: {re.sub(r'[-+]?[0-9][0-9.]*', 'N', reason)[:100]}"


def _why(summary: Summary, rejects: Path) -> str:
    if not summary.rejected:
        return ": the file has no rows. Check that it is the right one"
    return f", most often because of {summary.rejected.most_common(1)[0][0]}. All reasons: {rejects}"


def _publish(part: Path, final: Path) -> None:
    """Give a finished file its name; an empty one (no rejects) takes the place of an old one by removing it."""
    if part.stat().st_size == 0:
        part.unlink()
        final.unlink(missing_ok=True)
        return
    with open(part, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, final)
