"""Will it fit? A recipe's peak memory against a card, and which key of the recipe to turn where it does not.

    codevision-lite plan recipes/qwen2.5-vl-3b-24gb.yaml
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from codevision_lite.errors import UserError
from codevision_lite.recipe import Recipe
from codevision_lite.train.memory import CONTEXT, FRAGMENTATION, GIB, Stage, Tokens, count_tokens, predict, rollout_rows
from codevision_lite.train.shapes import Shape, load_shape

# stage -> the recipe's keys that make it smaller, the ones that cost least first
_KNOBS = {
    "SFT": ("sft.micro_batch", "model.max_pixels", "rl.max_tokens", "model.lora_r"),
    "RL rollouts": ("rl.rollout_batch", "model.max_pixels", "rl.max_tokens", "rl.prompts", "model.lora_r"),
    "RL update": ("rl.micro_batch", "rl.max_tokens", "model.max_pixels", "rl.prompts", "model.lora_r"),
    "evaluation": ("eval.batch", "model.max_pixels", "eval.max_tokens"),
}
_SMALLEST = {"model.max_pixels": 100_352, "rl.max_tokens": 2048, "eval.max_tokens": 2048, "model.lora_r": 8}


@dataclass(frozen=True)
class Plan:
    """What `codevision-lite plan` prints."""

    model: str
    shape: Shape
    tokens: Tokens
    stages: tuple[Stage, ...]
    gpu_gib: float
    gpu: str  # where that number is from
    changes: dict[str, dict[str, int] | None]  # stage that does not fit -> recipe keys that make it fit; None: none do

    @property
    def fits(self) -> bool:
        return not self.changes

    def to_json(self) -> dict[str, Any]:
        stages = [
            {"name": s.name, "held": s.held, "moments": s.moments, "moment": s.moment, "allocated": s.allocated, "total": s.total,
             "fits": s.name not in self.changes}
            for s in self.stages
        ]  # fmt: skip
        return {
            "model": self.model, "parameters": self.shape.parameters(), "gpu_gib": self.gpu_gib, "gpu": self.gpu, "fits": self.fits,
            "tokens": asdict(self.tokens), "context_bytes": CONTEXT, "fragmentation": FRAGMENTATION, "stages": stages,
            "changes": self.changes,
        }  # fmt: skip


def make_plan(recipe: Recipe, gpu_gib: float | None = None) -> Plan:
    """`gpu_gib`: the card's memory; None: this machine's card, else the recipe's `gpu_gib`. Raises UserError where none is known."""
    shape = load_shape(recipe.model.name)
    size, where = _gpu(recipe, gpu_gib)
    stages = predict(recipe, shape)
    changes = {s.name: make_fit(recipe, shape, s.name, size) for s in stages if s.total > size * GIB}
    return Plan(recipe.model.name, shape, count_tokens(recipe, shape), stages, size, where, changes)


def _gpu(recipe: Recipe, asked: float | None) -> tuple[float, str]:
    if asked is not None:
        return asked, "--gpu-gib"
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory / GIB, torch.cuda.get_device_name(0)
    if recipe.gpu_gib is not None:
        return recipe.gpu_gib, "the recipe's gpu_gib"
    raise UserError("plan: no GPU here, and the recipe has no gpu_gib. Say how large the card is: --gpu-gib 24")


def make_fit(recipe: Recipe, shape: Shape, stage: str, gpu_gib: float) -> dict[str, int] | None:
    """Recipe values that let the stage fit, changing as few keys as little as possible; None where even all of them don't."""
    changes: dict[str, int] = {}
    for key in _KNOBS[stage]:
        for value in _smaller(recipe, key):
            recipe, changes[key] = _with(recipe, key, value), value
            if next(s for s in predict(recipe, shape) if s.name == stage).total <= gpu_gib * GIB:
                return changes
    return None


def _smaller(recipe: Recipe, key: str) -> Iterator[int]:
    """Values of the key below the recipe's, falling, that the recipe's own rules allow."""
    stage = recipe.rl
    if key == "sft.micro_batch":
        yield from (n for n in range(recipe.sft.micro_batch - 1, 0, -1) if recipe.sft.batch % n == 0)
    elif key == "rl.micro_batch":
        yield from (n for n in range(stage.micro_batch - 1, 0, -1) if stage.prompts * stage.generations % n == 0)
    elif key == "rl.rollout_batch":
        yield from (n for n in range(rollout_rows(recipe) - 1, 0, -1) if stage.prompts * stage.generations % n == 0)
    elif key == "eval.batch":
        yield from range(recipe.eval.batch - 1, 0, -1)
    elif key == "rl.prompts":
        yield from (n for n in range(stage.prompts - 1, 0, -1) if n * stage.generations % stage.micro_batch == 0)
    else:
        now = _value(recipe, key) or load_shape(recipe.model.name).max_pixels  # max_pixels may be the folder's
        steps = [round(now * part) for part in (0.75, 0.5, 0.375, 0.25, 0.125, 0.0625, 0.03125)]
        yield from (n for n in steps if _SMALLEST[key] <= n < now)


def _value(recipe: Recipe, key: str) -> Any:
    part, name = key.split(".")
    return getattr(getattr(recipe, part), name)


def _with(recipe: Recipe, key: str, value: int) -> Recipe:
    part, name = key.split(".")
    return replace(recipe, **{part: replace(getattr(recipe, part), **{name: value})})


def plan_text(plan: Plan) -> str:
    """The table that `codevision-lite plan` prints."""
    names = list(dict.fromkeys(name for stage in plan.stages for name in (*stage.held, *stage.moments)))
    width = max(map(len, names)) + 2
    t = plan.tokens
    lines = [
        f"{plan.model}: {plan.shape.parameters() / 1e9:.2f} billion parameters; card of {plan.gpu_gib:.1f} GiB ({plan.gpu})",
        f"longest trajectory: {t.trajectory:,} tokens, {t.images} pictures of {t.image:,} tokens, prompt {t.prompt:,}",
        "",
        f"{'GiB':{width}}" + "".join(f"{stage.name:>14}" for stage in plan.stages),
    ]
    for name in names:
        lines.append(f"{name:{width}}" + "".join(f"{_cell(stage, name):>14}" for stage in plan.stages))
    lines.append(f"{'CUDA context, fragmentation':{width}}" + "".join(f"{(s.total - s.allocated) / GIB:14.2f}" for s in plan.stages))
    lines.append(f"{'peak':{width}}" + "".join(f"{s.total / GIB:14.2f}" for s in plan.stages))
    lines += ["(in brackets: not at the same moment as the peak)", ""]
    return "\n".join([*lines, *_verdict(plan)])


def _cell(stage: Stage, name: str) -> str:
    if name in stage.held:
        return f"{stage.held[name] / GIB:.2f}"
    if name in stage.moments:
        value = f"{stage.moments[name] / GIB:.2f}"
        return value if name == stage.moment else f"({value})"
    return "-"


def _verdict(plan: Plan) -> list[str]:
    if plan.fits:
        left = plan.gpu_gib - max(s.total for s in plan.stages) / GIB
        return [f"fits, with {left:.1f} GiB left"]
    lines = []
    for name, change in plan.changes.items():
        stage = next(s for s in plan.stages if s.name == name)
        parts = stage.held | {stage.moment: stage.moments[stage.moment]}
        largest = max(parts, key=parts.__getitem__)
        over = stage.total / GIB - plan.gpu_gib
        fix = "no key of the recipe makes it fit: take a smaller model or a larger card"
        if change:
            fix = "it fits with " + " ".join(f"{key}={value}" for key, value in change.items())
        lines.append(f"{name} does not fit by {over:.1f} GiB; most of it: {largest} ({parts[largest] / GIB:.1f} GiB); {fix}")
    return lines
