"""Numbers that say how rollouts go: reward terms, tool use, errors and recovery, and signs of reward hacking."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from codevision_lite.records import Sample, Trajectory
from codevision_lite.reward.dense import Breakdown
from codevision_lite.reward.evidence import collect
from codevision_lite.reward.monitor import TOOL_USE, signs

Record = tuple[Sample, Trajectory, Breakdown]


def rollout_metrics(records: Sequence[Record], groups: Sequence[Sequence[int]]) -> dict[str, float]:
    """Means over records, as they go to metrics.jsonl; a rate that applies to none of them is left out.

    `groups`: record numbers of each prompt's rollouts. `reward/<term>` and `reward_std/<term>` are values before weights;
    "total" is the weighted sum. `monitor/<sign>` are the rates of monitor.SIGNS.
    """
    return {**_rewards(records, groups), **_rollouts(records), **_monitor(records)}


def _rewards(records: Sequence[Record], groups: Sequence[Sequence[int]]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    values: dict[str, list[float]] = defaultdict(list)
    for _, _, breakdown in records:
        if breakdown.total is not None:
            values["total"].append(breakdown.total)
        for name, term in breakdown.terms.items():
            if term.value is not None:
                values[name].append(term.value)
    for name, column in values.items():
        metrics[f"reward/{name}"] = float(np.mean(column))
        metrics[f"reward_std/{name}"] = float(np.std(column))
    totals = [[records[i][2].total for i in group if records[i][2].total is not None] for group in groups]
    metrics["reward/zero_variance_groups"] = float(np.mean([np.std(t) < 1e-6 if t else True for t in totals]))
    return metrics


def _rollouts(records: Sequence[Record]) -> dict[str, float]:
    trajectories = [t for _, t, _ in records]
    turns = [t.n_tool_turns for t in trajectories]
    failed = [t for t in trajectories if any(o.status != "ok" for o in t.observations)]
    needy = [t.n_tool_turns > 0 for s, t, _ in records if s.required_ops]
    metrics = {
        "rollout/tool_turns": float(np.mean(turns)),
        "rollout/tool_use_rate": float(np.mean([n > 0 for n in turns])),
        "rollout/answered": float(np.mean([t.end_reason == "answer" for t in trajectories])),
        "rollout/error_rate": len(failed) / len(trajectories),
        "rollout/dropped": float(np.mean([b.total is None for _, _, b in records])),
        "rollout/n_dropped": float(sum(b.total is None for _, _, b in records)),
    }
    if failed:
        metrics["rollout/recovery_rate"] = float(np.mean([_recovered(t) for t in failed]))
    if needy:
        metrics[TOOL_USE] = float(np.mean(needy))
    return metrics


def _recovered(trajectory: Trajectory) -> bool:
    """Whether a run succeeded after the first one that failed."""
    worked = [o.status == "ok" for o in trajectory.observations]
    return any(worked[worked.index(False) :])


def _monitor(records: Sequence[Record]) -> dict[str, float]:
    found: dict[str, list[bool]] = defaultdict(list)
    for sample, trajectory, breakdown in records:
        for name, sign in signs(collect(sample, trajectory, breakdown.terms["accuracy"].value, "")).items():
            if sign is not None:
                found[name].append(sign)
    return {f"monitor/{name}": float(np.mean(column)) for name, column in found.items()}
