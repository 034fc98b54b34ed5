"""Training progress: one line a step, every number to metrics.jsonl and to the trackers of the recipe's `log`.

metrics.jsonl is the source of truth: a resumed run drops the rows of the steps that it does again, and TensorBoard's event
files are written anew from the rest. What is not finite stops the run.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from codevision_lite.errors import UserError
from codevision_lite.files import append_jsonl, read_jsonl, write_atomic
from codevision_lite.models.load import release_freed_memory
from codevision_lite.progress import Progress
from codevision_lite.reward.monitor import TOOL_USE, collapse_alarm
from codevision_lite.train.trackers import Tracker, open_tracker


class StepLog(TrainerCallback):
    """Trainer callback for one stage. `trackers`: names from the recipe; raises MissingPackage where one is not installed."""

    def __init__(self, stage: str, steps: int, metrics: Path, trackers: Sequence[str] = ()):
        self.stage, self.steps, self.metrics = stage, steps, metrics
        self._trackers: list[Tracker] = [open_tracker(name, metrics.parent, stage) for name in trackers]
        self._progress: Progress | None = None
        self._began = time.monotonic()
        self._tool_use: list[float] = []  # one rate a step, on prompts that require tools
        self._alarmed = False
        self._tokens = 0  # that were trained on before this process

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        drop_rows(self.metrics, lambda row: row["stage"] != self.stage or row["step"] <= state.global_step)
        logged = read_jsonl(self.metrics, cut_tail=True) if self.metrics.exists() else []
        logged = [row for row in logged if row["stage"] == self.stage]
        self._tool_use = [row[TOOL_USE] for row in logged if row.get(TOOL_USE) is not None]
        if logged:  # the clock and the count of tokens go on too; transformers keeps neither
            self._began = time.monotonic() - logged[-1]["seconds"]
            self._tokens = logged[-1].get("num_tokens", 0) if self.stage == "sft" else 0
        for tracker in self._trackers:
            tracker.start(logged)
        self._progress = Progress(f"{self.stage} step", self.steps, start=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not logs or "train_runtime" in logs:
            return
        if state.global_step % 10 == 0:
            release_freed_memory()
        numbers = {k: v for k, v in logs.items() if isinstance(v, int | float)}
        if TOOL_USE in numbers:
            numbers["monitor/tool_collapse"] = self._watch_tool_use(numbers[TOOL_USE], state.global_step)
        if "num_tokens" in numbers:
            numbers["num_tokens"] += self._tokens
        row = {"stage": self.stage, "step": state.global_step, "seconds": time.monotonic() - self._began, **numbers}
        append_jsonl(self.metrics, row)
        for tracker in self._trackers:
            tracker.log(row)
        for name in ("loss", "grad_norm"):
            if name in numbers and not math.isfinite(numbers[name]):
                key = {"grpo": "rl"}.get(self.stage, self.stage)
                where = f"{self.stage} step {state.global_step}"
                raise UserError(f"{where}: {name} is {numbers[name]}. Lower {key}.learning_rate and run again")
        if self._progress:
            self._progress.update(state.global_step, _note(numbers))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for tracker in self._trackers:
            tracker.close()

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
    accuracy = n.get("mean_token_accuracy", math.nan)  # Unsloth's trainer can't tell: it makes no logits
    return f"loss {n.get('loss', math.nan):.3f}" + (f" | token accuracy {accuracy:.3f}" if math.isfinite(accuracy) else "")
