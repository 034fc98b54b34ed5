"""Numbers that say how rollouts go: reward terms, tool use, errors and recovery, and signs of reward hacking."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from codevision_lite.records import Sample, Trajectory


def rollout_metrics(records: Sequence[tuple[Sample, Trajectory, Any]], groups: Sequence[Sequence[int]]) -> dict[str, float]:
    """Means over (sample, trajectory, breakdown) records. `groups`: record numbers of each prompt's rollouts."""
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
    trajectories = [t for _, t, _ in records]
    turns = [t.n_tool_turns for t in trajectories]
    metrics["rollout/tool_turns"] = float(np.mean(turns))
    metrics["rollout/tool_use_rate"] = float(np.mean([n > 0 for n in turns]))
    metrics["rollout/answered"] = float(np.mean([t.end_reason == "answer" for t in trajectories]))
    failed = [t for t in trajectories if any(o.status != "ok" for o in t.observations)]
    metrics["rollout/error_rate"] = len(failed) / len(trajectories)
    if failed:
        metrics["rollout/recovery_rate"] = float(np.mean([any(o.status == "ok" for o in t.observations) for t in failed]))
    metrics["rollout/dropped"] = float(np.mean([b.total is None for _, _, b in records]))
    return metrics
