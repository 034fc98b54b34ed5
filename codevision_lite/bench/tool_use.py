"""What the model did with its tool: facts of one trajectory, and their summary over a condition.

Facts are read from executed operations and traced geometry (reward/evidence.py, reward/monitor.py), never from the code's text, and
are kept in the row of the item, so that a summary needs neither pictures nor a model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from codevision_lite.files import read_jsonl
from codevision_lite.records import Sample, Trajectory
from codevision_lite.reward.evidence import collect
from codevision_lite.reward.monitor import signs

Facts = dict[str, Any]


def tool_facts(sample: Sample, trajectory: Trajectory, accuracy: float) -> Facts:
    """The facts of one trajectory, as JSON. `accuracy` in [0, 1] is the benchmark's own score of the answer.

    "operations": names that ran, for each successful run. "effective": those other than orientations that changed the picture.
    "crop_iou", "crop_recall": the best crop's overlap with the target and the share of the target that some crop shows, both in the
    frame of the shown picture; None where nothing was cropped or the target's place is not known.
    """
    evidence = collect(sample, trajectory, accuracy, "")
    found = signs(evidence)
    crops = [view.overlap for view in evidence.views if view.cropped and sample.target_box is not None]
    return {
        "tool_turns": evidence.n_turns, "failed": evidence.n_failed, "recovered": evidence.n_retried > 0,
        "operations": [[op.name for op in o.ops] for o in trajectory.observations if o.status == "ok"],
        "effective": sorted({name for view in evidence.views for name in view.effective}),
        "crop_iou": max((c.iou for c in crops), default=None), "crop_recall": max((c.recall for c in crops), default=None),
        "brute_force": bool(found["brute_force"]), "no_op": found["no_op"], "unsupported_right": found["unsupported_right"],
        "end_reason": trajectory.end_reason, "well_formed": evidence.well_formed,
    }  # fmt: skip


def tool_summary(rows: Sequence[dict[str, Any]], known: Collection[str] | None = None) -> dict[str, Any]:
    """Rates and means over the scored rows of a benchmark ("facts", "correct", "n_tokens", "seconds"; see run.py).

    `known`: the operations that the SFT data holds (`operations_of`); None: not known, and nothing is called emergent. A rate is None
    where it applies to no row. "emergent": effective operations outside `known`, with how many items used each and how many of
    those were answered right.
    """
    facts = [row["facts"] for row in rows]
    runs = [names for f in facts for names in f["operations"]]
    failed = [f for f in facts if f["failed"]]
    cropped = [f for f in facts if f["crop_iou"] is not None]
    unlearnt = [(row, set(row["facts"]["effective"]) - set(known)) for row in rows] if known is not None else []
    used = Counter(name for _, names in unlearnt for name in names)
    right = Counter(name for row, names in unlearnt for name in names if row["correct"])
    return {
        "tool_use_rate": _mean([f["tool_turns"] > 0 for f in facts]),
        "tool_turns": _mean([f["tool_turns"] for f in facts]),
        "operations_per_turn": _mean([len(names) for names in runs]),
        "chained": _mean([len(names) > 1 for names in runs]),  # of successful runs: two operations and more in one call
        "error_rate": _mean([f["failed"] > 0 for f in facts]),
        "recovery_rate": _mean([f["recovered"] for f in failed]),  # of items with a failed turn: a later one succeeded
        "crop_rate": _mean(["crop" in f["effective"] for f in facts]),
        "crop_iou": _mean([f["crop_iou"] for f in cropped]),
        "crop_recall": _mean([f["crop_recall"] for f in cropped]),
        "contained": _mean([f["crop_recall"] >= 0.9 for f in cropped]),  # the best crop shows the target but for its margin
        "brute_force": _mean([f["brute_force"] for f in facts]),
        "no_op": _mean([f["no_op"] for f in facts if f["no_op"] is not None]),
        "unsupported_right": _mean([f["unsupported_right"] for f in facts if f["unsupported_right"] is not None]),
        "answered": _mean([f["end_reason"] == "answer" for f in facts]),
        "well_formed": _mean([f["well_formed"] for f in facts]),
        "ended": dict(Counter(f["end_reason"] for f in facts)),
        "tokens": _mean([row["n_tokens"] for row in rows if row["n_tokens"]]),  # that the model wrote for an answer
        "seconds": _mean([row["seconds"] for row in rows]),  # for an answer; items of one batch share its time
        "operations": dict(Counter(name for names in runs for name in names).most_common()),
        "emergent": None if known is None else {name: {"items": n, "right": right[name]} for name, n in used.most_common()},
        "emergent_rate": None if known is None else _mean([bool(names) for _, names in unlearnt]),
    }  # fmt: skip


def operations_of(sft_rows: Path) -> set[str]:
    """The operations that ran in a file of SFT trajectories; "crop" where one was cropped in any spelling.

    Raises UserError where the file can't be read."""
    names: set[str] = set()
    read_jsonl(sft_rows, _add_operations(names))
    return names


def _add_operations(names: set[str]) -> Callable[[dict[str, Any]], None]:
    def add(row: dict[str, Any]) -> None:
        for turn in row["trajectory"]["turns"]:
            names.update(op["name"] for op in (turn["observation"] or {"ops": ()})["ops"])
        if "crop" in row["sample"].get("required_ops", ()):
            names.add("crop")

    return add


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
