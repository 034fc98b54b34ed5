"""The difficulty filter: roll a model out on every RL sample and keep those that it gets right sometimes, not always.

All-right and all-wrong groups have no advantage in GRPO (paper section 4.1). One row a sample in difficulty.jsonl, resumed
by id; the rows that are kept go to rl_kept.jsonl, which `make rl` then uses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from codevision_lite.agent import AgentLimits, run_batch
from codevision_lite.files import append_jsonl, read_jsonl, write_atomic
from codevision_lite.models import ChatModel
from codevision_lite.records import Sample
from codevision_lite.reward import RewardConfig, score

KEPT = "rl_kept.jsonl"


def measure(
    model: ChatModel, sandbox: Any, samples: Sequence[Sample], path: Path, *, rollouts: int, limits: AgentLimits,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, int]:  # fmt: skip
    """How often each sample is answered right in `rollouts` rollouts, by id; rows that are in `path` are not done again.

    The model must sample (temperature above 0)."""
    config = RewardConfig.preset("outcome_only")
    right = {row["id"]: row["right"] for row in read_jsonl(path, cut_tail=True)} if path.exists() else {}
    left = [s for s in samples if s.id not in right]
    at_once = max(1, model.batch_size // rollouts)
    for at in range(0, len(left), at_once):
        group = left[at : at + at_once]
        trajectories = run_batch(model, sandbox, [s for s in group for _ in range(rollouts)], limits)
        for n, sample in enumerate(group):
            mine = trajectories[n * rollouts : (n + 1) * rollouts]
            right[sample.id] = sum(score(sample, t, config).terms["accuracy"].value == 1.0 for t in mine)
            append_jsonl(path, {"id": sample.id, "right": right[sample.id], "of": rollouts})
        if on_progress:
            on_progress(len(samples) - len(left) + at + len(group))
    return {s.id: right[s.id] for s in samples}


def keep_useful(folder: Path, right: dict[str, int], rollouts: int) -> dict[str, int]:
    """Write the rows of `folder`/rl.jsonl that are neither all right nor all wrong to rl_kept.jsonl; returns the counts."""
    rows = read_jsonl(folder / "rl.jsonl")
    kept = [row for row in rows if 0 < right[row["id"]] < rollouts]
    write_atomic(folder / KEPT, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))
    return {
        "kept": len(kept), "all right": sum(right[r["id"]] >= rollouts for r in rows), "all wrong": sum(right[r["id"]] == 0 for r in rows),
    }  # fmt: skip
