"""Replies that are told, decoded at their real cost: what gpu-check's rollouts are made of, since a random model can't call tools.

ScriptedEngine runs the model for every token and takes the token of a script in place of the one that it would draw. Tool
calls, pictures, cache and log-probabilities are the real ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from codevision_lite.agent import AgentLimits, run_episodes
from codevision_lite.datasets.rows import TrainingRow
from codevision_lite.models import Dialogue, ScriptedModel
from codevision_lite.models.hf import HFModel
from codevision_lite.protocol import render_reply
from codevision_lite.records import Sample, ToolCall

# Each picture is made of the one before it and fills the pixel budget.
CALLS = (
    "result = image.rotate(90, expand=True)",
    "w, h = image.size\nresult = image.crop((0, 0, w // 2, h // 2)).resize((1000, 1000))",
    "result = image.rotate(180)",
    "w, h = image.size\nresult = image.crop((w // 4, h // 4, w, h)).resize((1000, 1000))",
)
_FILLER = "I look at the picture once more before I decide. "


class ScriptedEngine(HFModel):
    """Replies with told texts; their log-probabilities are the model's own."""

    def __init__(self, *args: Any, script: Callable[[Dialogue, int], str], meter: dict[str, Any], **options: Any):
        """`script`: the reply to a dialogue, given the dialogue and its number. `meter`: where the rollouts' numbers are added."""
        super().__init__(*args, **options)
        self.script, self.meter = script, meter

    @contextmanager
    def generating(self) -> Iterator[None]:
        """Measures from the outermost opening to its end."""
        outermost = not self._is_open
        if outermost:
            reset_peak()
            self.seconds = dict.fromkeys(self.seconds, 0.0)
        started = time.perf_counter()
        with super().generating():
            yield
        if outermost:
            synchronize()
            for name, seconds in {**self.seconds, "rollouts": time.perf_counter() - started}.items():
                self.meter.setdefault(f"{name}_s", []).append(seconds)
            self.meter.setdefault("peaks", []).append(peak_bytes())
            reset_peak()

    def _draws(self, row: Any) -> np.ndarray:
        """The ids of the told reply in place of uniform numbers."""
        super()._draws(row)  # numbers the dialogue
        text = self.script(row.dialogue, self._numbers[row.dialogue])
        ids = [*self.processor.tokenizer.encode(text, add_special_tokens=False), self.end_id]
        assert len(ids) <= row.limit, f"a told reply of {len(ids)} tokens, and max_reply_tokens is {row.limit}"
        self.meter["tokens"] = self.meter.get("tokens", 0) + len(ids)
        return np.array(ids + [self.end_id] * (row.limit - len(ids)), dtype=np.float64)

    def _choose(self, logits: torch.Tensor, draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        _, _ = super()._choose(logits, draws.clamp(max=0.5))  # what choosing costs
        chosen = draws.long()
        logprobs = torch.log_softmax(logits / (self.temperature or 1.0), dim=-1)
        return chosen, logprobs.gather(1, chosen[:, None])[:, 0]


class Scripts:
    """The told replies: four tool calls, then the answer, the right one in every second rollout."""

    def __init__(self, tokenizer: Any, samples: Sequence[Sample], reply_tokens: int):
        self.tokenizer, self.reply_tokens = tokenizer, reply_tokens
        self.answers = {sample.question: sample.answers[0] for sample in samples}

    def reply(self, dialogue: Dialogue, number: int) -> str:
        n = sum(segment.role == "reply" for segment in dialogue.segments)
        if n < len(CALLS):
            return self._filled(call=ToolCall(CALLS[n], image_index=n))
        answer = next(a for question, a in self.answers.items() if question in dialogue.segments[0].text)
        return self._filled(answer=answer if number % 2 == 0 else "I can't read it")

    def row(self, sample: Sample, sandbox: Any) -> TrainingRow:
        """The same trajectory as SFT is given it."""
        calls = [self._filled(call=ToolCall(code, image_index=n)) for n, code in enumerate(CALLS)]
        model = ScriptedModel([*calls, self._filled(answer=sample.answers[0])])
        (episode,) = run_episodes(model, sandbox, [sample], AgentLimits(max_turns=len(CALLS) + 2, max_images=len(CALLS) + 1))
        trajectory = episode.trajectory()
        return TrainingRow(sample, trajectory, (True,) * len(trajectory.turns))

    def _filled(self, **action: Any) -> str:
        """A reply of nearly `reply_tokens`, its thought as long as that needs."""

        def n_tokens(thought: str) -> int:
            return len(self.tokenizer.encode(render_reply(thought, **action), add_special_tokens=False)) + 1

        short = n_tokens(_FILLER)
        times = max(0, (self.reply_tokens - short) // max(1, n_tokens(2 * _FILLER) - short))
        return render_reply((_FILLER * (1 + times)).strip(), **action)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_bytes() -> int | None:
    """Most bytes that torch's allocator gave out since `reset_peak`; None without a GPU."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
