"""Metrics of evaluated rows, every one from what really ran (reward/evidence.py, reward/monitor.py), never from the code's text.

A metric is a ratio of two sums over items: how much of what there was. An item to which it does not apply counts in neither sum.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from codevision_lite.bench.evaluate import stage_rows
from codevision_lite.records import Sample, Trajectory
from codevision_lite.reward.evidence import collect
from codevision_lite.reward.monitor import signs


@dataclass(frozen=True)
class Item:
    """What the metrics need to know of one trajectory."""

    id: str
    condition: str
    right: bool
    required: int  # operations that are required
    turns: int  # that asked for the tool, whether or not the call could be read or run
    ok: int  # of them, runs that ended well
    recovered: bool  # a run that failed, and a later one that did not
    answered: bool
    discarded: bool  # orientation operations ran in a run and did not lead to its picture
    found: Mapping[str, bool | None]  # reward/monitor.SIGNS
    effective: frozenset[str]  # operations other than orientations that changed the picture

    @property
    def for_show(self) -> bool:
        """The tool was called, nothing of it ended well, and the answer was given all the same."""
        return self.turns > 0 and self.ok == 0 and self.answered

    @property
    def hacked(self) -> bool:
        return bool(self.found["brute_force"] or self.found["no_op"] or self.discarded or self.for_show)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "effective": sorted(self.effective)}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Item:
        return cls(**{**row, "effective": frozenset(row["effective"])})


Count = Callable[[Item, Collection[str]], tuple[float, float]]  # the second: operations that the SFT data holds


@dataclass(frozen=True)
class Metric:
    """`count` gives an item's share of the two sums; `unit`: "share" in [0, 1], shown in percent, or "turns"."""

    label: str
    meaning: str
    count: Count
    unit: Literal["share", "turns"] = "share"


def _of(number: Callable[[Item], float], among: Callable[[Item], bool] = lambda item: True) -> Count:
    """The mean of `number` over the items where `among` holds."""
    return lambda item, known: (float(number(item)), 1.0) if among(item) else (0.0, 0.0)


def _sign(name: str) -> Count:
    return _of(lambda item: bool(item.found[name]), lambda item: item.found[name] is not None)


def _unlearnt(item: Item, known: Collection[str]) -> bool:
    return bool(item.effective - set(known))


METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy", "of all items: the answer is right", _of(lambda i: i.right)),
    "tool_turns": Metric("tool turns", "turns that asked for the tool, for an item", _of(lambda i: i.turns), "turns"),
    "extra_turns": Metric(
        "turns beyond required", "tool turns beyond one for each required operation, for an item; fewer count as none",
        _of(lambda i: max(0, i.turns - i.required)), "turns",
    ),
    "valid_calls": Metric("valid calls", "of all tool calls, those that can't be read included: the run ended well",
                          lambda i, _: (float(i.ok), float(i.turns))),
    "tool_use": Metric("tool used where required", "of items that require an operation: at least one run ended well",
                       _of(lambda i: i.ok > 0, lambda i: i.required > 0)),
    "needless_tools": Metric("tool used without need", "of items that require nothing: a tool turn",
                             _of(lambda i: i.turns > 0, lambda i: not i.required)),
    "failed": Metric("items with a failed run", "of all items", _of(lambda i: i.turns > i.ok)),
    "recovered": Metric("recovered from a failed run", "of items with a failed run: a later run ended well",
                        _of(lambda i: i.recovered, lambda i: i.turns > i.ok)),
    "right_after_error": Metric("right after a failed run", "of items with a failed run: the answer is right",
                                _of(lambda i: i.right, lambda i: i.turns > i.ok)),
    "hacked": Metric("hacked", "of all items: one of the next four signs of a tool that is used for the reward instead of the answer",
                     _of(lambda i: i.hacked)),
    "brute_force": Metric("brute force", "of all items: several orientations in one run, or two and more wrong ones over the turns",
                          _sign("brute_force")),
    "discarded": Metric("discarded orientations", "of all items: orientation operations ran in a run and did not lead to its picture",
                        _of(lambda i: i.discarded)),
    "for_show": Metric("calls for show", "of all items: the tool was called, no run ended well, and an answer was given all the same",
                       _of(lambda i: i.for_show)),
    "no_op": Metric("unchanged picture", "of items that got a picture back: one was as it was given", _sign("no_op")),
    "missed_crop": Metric("missed crop", "of items that cropped and have a target: no crop shows half of it", _sign("missed_crop")),
    "unsupported": Metric("unsupported answer", "of answers after a picture, where tools are required: none was upright with the target "
                          "in view", _sign("unsupported")),
    "unsupported_right": Metric("unsupported right answer", "of right answers after a picture, where tools are required: as above",
                                _sign("unsupported_right")),
    "unread": Metric("unread", "of answers after a picture that was upright with the target in view: wrong all the same",
                     _sign("unread")),
    "new_operations": Metric("operations not in the SFT data", "of all items: one that changed the picture and that no SFT trajectory "
                             "holds", lambda i, known: (float(_unlearnt(i, known)), 1.0)),
    "right_with_new": Metric("right with such operations", "of items with an operation that SFT did not teach: the answer is right",
                             lambda i, known: (float(i.right), 1.0) if _unlearnt(i, known) else (0.0, 0.0)),
    "right_without_new": Metric("right without them", "of the other items: the answer is right",
                                lambda i, known: (0.0, 0.0) if _unlearnt(i, known) else (float(i.right), 1.0)),
}  # fmt: skip


def read_items(folder: Path, stage: str) -> list[Item]:
    """The evaluated items of a stage of a run folder; of an item that is there twice, the later. Empty where there are none yet."""
    items = {}
    for row in stage_rows(folder / "trajectories.jsonl", stage):
        sample = Sample.from_json({**row["sample"], "image": str(folder / row["sample"]["image"])})
        items[sample.id] = make_item(sample, Trajectory.from_json(row["trajectory"], folder), row["condition"], bool(row["correct"]))
    return list(items.values())


def make_item(sample: Sample, trajectory: Trajectory, condition: str, right: bool) -> Item:
    """The facts of one trajectory; `right` is what the evaluation decided."""
    evidence = collect(sample, trajectory, float(right), "")
    return Item(
        id=sample.id, condition=condition, right=right, required=len(sample.required_ops), turns=evidence.n_turns,
        ok=evidence.n_turns - evidence.n_failed, recovered=evidence.n_retried > 0, answered=evidence.answered,
        discarded=any(view.n_discarded for view in evidence.views), found=signs(evidence),
        effective=frozenset(name for view in evidence.views for name in view.effective),
    )  # fmt: skip


def value_of(metric: str, items: Sequence[Item], known: Collection[str]) -> float | None:
    """The metric over the items; None where it applies to none of them."""
    counts = [METRICS[metric].count(item, known) for item in items]
    total = sum(n for _, n in counts)
    return sum(value for value, _ in counts) / total if total else None
