"""Training progress: one line a step, every number to metrics.jsonl; what is not finite stops the run."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from codevision_lite.errors import UserError
from codevision_lite.files import append_jsonl, read_jsonl, write_atomic
from codevision_lite.models.load import release_freed_memory
from codevision_lite.progress import Progress
from codevision_lite.reward.monitor import TOOL_USE, collapse_alarm


class StepLog(TrainerCallback):
    """Trainer callback for one stage."""

    def __init__(self, stage: str, steps: int, metrics: Path):
        self.stage, self.steps, self.metrics = stage, steps, metrics
        self._progress: Progress | None = None
        self._began = time.monotonic()
        self._tool_use: list[float] = []  # one rate a step, on prompts that require tools
        self._alarmed = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        drop_rows(self.metrics, lambda row: row["stage"] != self.stage or row["step"] <= state.global_step)
        logged = read_jsonl(self.metrics, cut_tail=True) if self.metrics.exists() else []
        self._tool_use = [row[TOOL_USE] for row in logged if row["stage"] == self.stage and row.get(TOOL_USE) is not None]
        self._progress = Progress(f"{self.stage} step", self.steps, start=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not logs or "train_runtime" in logs:
            return
        if state.global_step % 10 == 0:
            release_freed_memory()
        numbers = {k: v for k, v in logs.items() if isinstance(v, int | float)}
        if TOOL_USE in numbers:
            numbers["monitor/tool_collapse"] = self._watch_tool_use(numbers[TOOL_USE], state.global_step)
        append_jsonl(self.metrics, {"stage": self.stage, "step": state.global_step, "seconds": time.monotonic() - self._began, **numbers})
        for name in ("loss", "grad_norm"):
            if name in numbers and not math.isfinite(numbers[name]):
                raise UserError(
                    f"{self.stage} step {state.global_step}: {name} is {numbers[name]}. Lower {self.stage}.learning_rate and run again"
                )
        if self._progress:
            self._progress.update(state.global_step, _note(numbers))

    def _watch_tool_use(self, rate: float, step: int) -> float:
        """1 while tool use has collapsed, else 0; says so once when it does."""
        self._tool_use.append(rate)
        alarm = collapse_alarm(self._tool_use)
        if alarm and not self._alarmed:
            print(f"\nWARNING {self.stage} step {step}: {alarm}", file=sys.stderr, flush=True)
        self._alarmed = alarm is not None
        return float(self._alarmed)


def drop_rows(path: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Rewrite a JSONL file without the rows of steps that a resumed run does again."""
    if not path.exists():
        return
    rows = read_jsonl(path, cut_tail=True)
    kept = [row for row in rows if keep(row)]
    if len(kept) < len(rows):
        write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))


def _note(n: dict[str, float]) -> str:
    if "reward/total" in n:
        reward = f"reward {n['reward/total']:.2f} (answer {n['reward/accuracy']:.2f} tools {n.get('reward/must_use', 0.0):.2f})"
        return f"{reward} | tool turns {n['rollout/tool_turns']:.2f} | errors {n['rollout/error_rate']:.2f}"
    return f"loss {n.get('loss', math.nan):.3f} | token accuracy {n.get('mean_token_accuracy', math.nan):.3f}"
