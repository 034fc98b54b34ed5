"""The runner: samples through a model and the agent loop, one result row each, resumed by sample id.

A row is {"stage", "condition", "correct", "sample", "trajectory", "reward"}; pictures lie in images/ beside the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codevision_lite.agent import AgentLimits, run_batch
from codevision_lite.bench.metrics import summarise
from codevision_lite.datasets.rows import trajectory_row
from codevision_lite.files import append_jsonl, read_jsonl
from codevision_lite.models import ChatModel
from codevision_lite.records import Sample
from codevision_lite.reward import RewardConfig, score


@dataclass(frozen=True)
class Evaluation:
    """What to run and where to write it."""

    stage: str  # name of the model in the tables: base, sft, grpo
    results: Path  # JSONL, appended; other stages' rows may be there
    limits: AgentLimits
    reward: RewardConfig


def evaluate(
    model: ChatModel, sandbox: Any, samples: Sequence[Sample], run: Evaluation, on_progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Evaluate what is not in the results file yet and summarise all of the stage (a stage of results.json)."""
    done = {row["sample"]["id"]: row for row in stage_rows(run.results, run.stage)}
    left = [s for s in samples if s.id not in done]
    started = time.perf_counter()
    for at in range(0, len(left), model.batch_size):
        batch = left[at : at + model.batch_size]
        for sample, trajectory in zip(batch, run_batch(model, sandbox, batch, run.limits), strict=True):
            breakdown = score(sample, trajectory, run.reward)
            row = trajectory_row(
                run.results.parent, sample, trajectory, stage=run.stage, condition=sample.meta["condition"],
                correct=breakdown.terms["accuracy"].value == 1.0, reward=breakdown.to_json(),
            )  # fmt: skip
            append_jsonl(run.results, row)
            done[sample.id] = row
        if on_progress:
            on_progress(len(samples) - len(left) + at + len(batch), len(samples))
    conditions = list(dict.fromkeys(s.meta["condition"] for s in samples))
    return summarise(run.stage, [done[s.id] for s in samples], conditions, time.perf_counter() - started)


def stage_rows(results: Path, stage: str) -> list[dict[str, Any]]:
    """The rows of one stage; none where the file is not there yet."""
    return [row for row in read_jsonl(results, cut_tail=True) if row["stage"] == stage] if results.exists() else []
