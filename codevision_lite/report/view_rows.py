"""What the viewer shows: one entry for each trajectory of a file, whichever part of the project wrote it.

Reads the rows of `make demo` and of `bench` (trajectories.jsonl), of GRPO (rollouts.jsonl) and of the training data (sft.jsonl).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codevision_lite.errors import UserError
from codevision_lite.files import read_jsonl
from codevision_lite.records import Sample, Trajectory

FILES = ("trajectories.jsonl", "rollouts.jsonl")  # of a run folder, the first that is there

TermRow = tuple[float | None, float | None, str]  # value, weight and reason; None: not scored, not written


@dataclass(frozen=True)
class Entry:
    """A trajectory with its sample and what was thought of it. `key` is equal for the same item in another run or stage."""

    key: tuple[str, ...]
    stage: str  # "" where the file has no stages
    condition: str
    correct: bool | None  # None: the file does not say
    why: str  # why the answer counted as right or wrong
    total: float | None  # reward
    terms: dict[str, TermRow]
    step: int | None  # of training; None outside of it
    sample: Sample  # its picture is a path
    trajectory: Trajectory  # its pictures are paths


@dataclass(frozen=True)
class Pairs:
    """The same items in two runs or stages, in the order of the first."""

    names: tuple[str, str]
    entries: tuple[tuple[Entry, Entry], ...]
    n_alone: tuple[int, int]  # items that only the first, only the second has


def rows_file(run: Path) -> Path:
    """The file of trajectories of a run folder; a file itself. Raises UserError where there is none."""
    if run.is_file():
        return run
    found = next((run / name for name in FILES if (run / name).is_file()), None)
    if found is None:
        what = "is no such file or folder" if not run.exists() else f"has neither {' nor '.join(FILES)}"
        raise UserError(f"{run} {what}. Name a run folder, such as runs/demo (made by: make demo), or a JSONL of trajectories")
    return found


def read_entries(path: Path) -> list[Entry]:
    """All trajectories of the file; of an item that was evaluated twice, the later. Raises UserError naming file, row and field."""
    entries: dict[tuple[str, ...], Entry] = {}
    seen: Counter[tuple[str, ...]] = Counter()
    for entry in read_jsonl(path, lambda row: _entry(row, path.parent), cut_tail=True):
        key = entry.key
        if entry.step is not None:  # the rollouts of one prompt share all but their number
            seen[key] += 1
            entry = replace(entry, key=(*key, str(seen[key])))
        entries[(entry.stage, *entry.key)] = entry
    if not entries:
        raise UserError(f"{path}: no trajectories in it yet")
    return list(entries.values())


def pair(first: Sequence[Entry], second: Sequence[Entry], names: tuple[str, str]) -> Pairs:
    """Entries of equal keys together, and of equal stages where there are several. Raises UserError where none fit."""
    stages = [{entry.stage for entry in side} for side in (first, second)]
    by_stage = max(map(len, stages)) > 1
    if by_stage and stages[0] != stages[1]:
        there = " and ".join(", ".join(sorted(side)) for side in stages)
        raise UserError(f"{names[0]} and {names[1]} have different stages ({there}). Say which to compare, such as --compare base,grpo")

    def key_of(entry: Entry) -> tuple[str, ...]:
        return (entry.stage, *entry.key) if by_stage else entry.key

    others = {key_of(entry): entry for entry in second}
    both = tuple((entry, others[key_of(entry)]) for entry in first if key_of(entry) in others)
    if not both:
        raise UserError(f"{names[0]} and {names[1]} share no item: run both on the same samples and damages")
    return Pairs(names, both, (len(first) - len(both), len(second) - len(both)))


def of_stage(entries: Sequence[Entry], stage: str, path: Path) -> list[Entry]:
    """Raises UserError naming the stages that are there."""
    found = [entry for entry in entries if entry.stage == stage]
    if not found:
        stages = list(dict.fromkeys(entry.stage for entry in entries if entry.stage))
        there = f"there are: {', '.join(stages)}" if stages else "it has no stages; name two runs instead"
        raise UserError(f"{path}: no stage {stage!r} there; {there}")
    return found


def spread(entries: Sequence[Any], limit: int | None) -> list[Any]:
    """At most `limit` of them, evenly over the whole, so that no stage or condition is left out by its place in the file."""
    if limit is None or len(entries) <= limit:
        return list(entries)
    return [entries[i * len(entries) // limit] for i in range(limit)]


def _entry(row: dict[str, Any], folder: Path) -> Entry:
    picture = row["sample"]["image"]
    sample = Sample.from_json({**row["sample"], "image": str(folder / picture) if picture else ""})
    trajectory = Trajectory.from_json(row["trajectory"], folder)
    trajectory = replace(trajectory, images=trajectory.images if all(row["trajectory"]["images"]) else ())
    reward = row.get("reward") or {"total": row.get("total"), "terms": row.get("terms") or {}}
    terms = {name: _term(value) for name, value in reward.get("terms", {}).items()}
    condition = row.get("condition") or sample.meta.get("condition") or sample.damage
    step = row.get("step")
    key = (row.get("item") or sample.id, condition) if step is None else (sample.id, condition, str(step))
    correct = row.get("correct")
    if correct is None and "accuracy" in terms and terms["accuracy"][0] is not None:
        correct = terms["accuracy"][0] >= 1.0  # as the evaluation decides it
    why = row.get("how") or (terms["accuracy"][2] if "accuracy" in terms else "")
    return Entry(key, row.get("stage") or "", condition, correct, why, reward.get("total"), terms, step, sample, trajectory)


def _term(value: Any) -> TermRow:
    """Evaluations write {"value", "weight", "reason"}, GRPO the value alone."""
    if isinstance(value, dict):
        return value.get("value"), value.get("weight"), value.get("reason") or ""
    return value, None, ""
