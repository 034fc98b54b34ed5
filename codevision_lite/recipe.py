"""What a recipe file may say: one frozen dataclass per stage, with defaults that work on a laptop CPU.

A recipe in recipes/*.yaml holds only what differs from these. Loading, checking and overriding are config.py's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

# In proportion: the trajectories' mix of SFT, and the prompts of RL.
SFT_MIX = {
    "upright": 0.30, "rotate_90": 0.09, "rotate_180": 0.09, "rotate_270": 0.09, "flip_horizontal": 0.09, "flip_vertical": 0.09,
    "crop": 0.10, "orientation+crop": 0.15,
}  # fmt: skip
# The world of pages: its families of scenes, and the paper's five trajectory types. The paper gives no proportions.
FAMILIES = {
    "receipt": 0.16, "table": 0.14, "chart": 0.15, "scene_text": 0.13, "handwriting": 0.12, "figure": 0.10, "canvas": 0.08, "panel": 0.12,
}  # fmt: skip
SFT_TYPES = {"no_tool": 0.20, "single_tool": 0.28, "multi_tool": 0.20, "multi_crop": 0.14, "error_handling": 0.18}
_PAGE_CONDITIONS = ("corruption", "corruption+orientation")
# Held-out pictures of the signs that training never has: a corruption, and an orientation that is none of the five.
TEST_ONLY = ("corruption", "transpose")


def _at_least(low: float, stage: object, names: str) -> None:
    for name in names.split():
        value = getattr(stage, name)
        if value is not None and not value >= low:
            raise ValueError(f"{name} must be >= {low:g}, got {value}")


def _above_zero(stage: object, names: str) -> None:
    for name in names.split():
        if not getattr(stage, name) > 0:
            raise ValueError(f"{name} must be > 0, got {getattr(stage, name)}")


def _check_mix(name: str, mix: dict[str, float], known: Iterable[str]) -> None:
    unknown = [c for c in mix if c not in known]
    if unknown:
        raise ValueError(f"{name} has no {unknown[0]!r}: use {', '.join(known)}")
    if min(mix.values(), default=0) < 0 or not sum(mix.values()) > 0:
        raise ValueError(f"{name} needs weights >= 0, not all of them 0")


@dataclass(frozen=True)
class ModelConfig:
    """The base model and its view of pictures."""

    name: str = "sample_data/tiny_base"  # local folder or hub name
    backend: Literal["auto", "unsloth", "transformers"] = "auto"  # auto: Unsloth where it and a CUDA GPU are there
    quantize: Literal["nf4", "none"] = "nf4"  # 4-bit NF4 with double quantisation of the language model's linears
    min_pixels: int | None = None  # pixels of area of the model's view; None: as the model's own files say
    max_pixels: int | None = None
    lora_r: int = 32
    lora_alpha: int = 32  # = r: the adapter starts at scale 1
    threads: int | None = None  # CPU threads; None: 1 for a tiny model

    def __post_init__(self) -> None:
        _at_least(1, self, "lora_r lora_alpha min_pixels max_pixels threads")
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels must be <= max_pixels, got {self.min_pixels} and {self.max_pixels}")


@dataclass(frozen=True)
class DataConfig:
    """What synth draws; every number of rows is a count."""

    world: Literal["signs", "pages"] = "signs"  # signs: what the tiny model can see; pages: documents, charts, photographs, ...
    sft_rows: int = 2000
    rl_rows: int = 1600
    rl_mix: dict[str, float] = field(default_factory=lambda: dict(SFT_MIX))  # conditions; pages also: corruption, corruption+orientation
    processes: int | None = None  # that draw; None: one for each core, at most 8
    # signs only
    sft_mix: dict[str, float] = field(default_factory=lambda: dict(SFT_MIX))
    error_share: float = 0.1  # of the trajectories with a tool, how many make a mistake first and mend it
    second_style: float = 0.3  # how often the repair is written the second way (transpose in place of rotate or ImageOps)
    # pages only
    sft_types: dict[str, float] = field(default_factory=lambda: dict(SFT_TYPES))
    families: dict[str, float] = field(default_factory=lambda: dict(FAMILIES))
    own: str | None = None  # a JSONL of your pictures: image, question, answers and target_box (or none); as `convert --from own` writes it
    own_share: float = 0.5  # of the scenes, how many come from there
    teacher: str | None = None  # URL of an OpenAI-compatible server, up to /v1, whose model writes the SFT replies; None: our own scripts
    teacher_model: str = "teacher"  # its name on that server
    teacher_requests_per_minute: int = 60
    teacher_max_tokens: int = 2_000_000  # of prompts and replies together; the run stops there, and can go on later

    def __post_init__(self) -> None:
        _at_least(1, self, "sft_rows rl_rows processes teacher_requests_per_minute teacher_max_tokens")
        _check_mix("sft_mix", self.sft_mix, SFT_MIX)
        _check_mix("rl_mix", self.rl_mix, (*SFT_MIX, *(_PAGE_CONDITIONS if self.world == "pages" else ())))
        _check_mix("sft_types", self.sft_types, SFT_TYPES)
        _check_mix("families", self.families, FAMILIES)
        for name in ("error_share", "second_style", "own_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class SFTStage:
    """Supervised fine-tuning of a LoRA adapter on verified trajectories."""

    steps: int = 200
    batch: int = 32  # trajectories per optimizer step
    micro_batch: int = 32  # how many of them go through the model at once
    learning_rate: float = 1e-3
    warmup_share: float = 0.05
    save_every: int = 100  # steps between checkpoints

    def __post_init__(self) -> None:
        _at_least(1, self, "steps batch micro_batch save_every")
        _at_least(0, self, "warmup_share")
        _above_zero(self, "learning_rate")
        if self.batch % self.micro_batch:
            raise ValueError("batch must be a multiple of micro_batch")


@dataclass(frozen=True)
class RLStage:
    """GRPO from the SFT adapter."""

    start: Literal["sft", "base"] = "sft"  # base: a new adapter on the bare base
    steps: int = 60
    prompts: int = 16  # per optimizer step
    generations: int = 8  # rollouts of each prompt; the paper's number (section 5.3)
    micro_batch: int = 64  # trajectories through the model at once in the update
    learning_rate: float = 8e-5  # 5e-4 makes tool use collapse within ten steps on the tiny model
    warmup_steps: int = 10  # Adam's first steps are as long in every direction, also where the gradient is all noise
    schedule: Literal["constant", "cosine"] = "constant"  # after the warm-up; cosine: down to 0 at the last step
    temperature: float = 1.0
    scale_rewards: Literal["group", "batch", "none"] = "group"  # what advantages are divided by: the std of the group (GRPO), the batch, 1
    beta: float = 0.0  # KL weight against the SFT adapter; the paper has 0.001
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo"] = "dr_grpo"
    reward: Literal["dense", "paper", "outcome_only", "no_strategy", "no_penalty", "curriculum"] = "dense"
    reward_file: str | None = None  # a Python file with your own score_group: trained on in place of `reward`, which is still logged
    max_turns: int = 4
    max_reply_tokens: int = 96
    max_tokens: int = 1024  # whole trajectory
    max_images: int = 5
    final_answer: bool = False  # True: when turns, tokens or pictures run out, the model is told to answer and has one more reply
    rollout_batch: int | None = None  # trajectories that are generated at once; None: all of the step
    save_every: int = 20

    def __post_init__(self) -> None:
        _at_least(1, self, "steps prompts micro_batch max_turns max_reply_tokens max_tokens max_images rollout_batch save_every")
        _at_least(0, self, "beta warmup_steps")
        _above_zero(self, "learning_rate temperature")
        if self.generations < 2:
            raise ValueError("generations must be >= 2: the advantage is relative to the group")
        if self.prompts * self.generations % self.micro_batch:
            raise ValueError("prompts * generations must be a multiple of micro_batch")


@dataclass(frozen=True)
class EvalStage:
    """Held-out evaluation on the built-in world."""

    n_per_condition: int = 60
    conditions: tuple[str, ...] | None = None  # None: the world's own; the signs have also corruption and transpose, never trained on
    max_turns: int = 5
    max_reply_tokens: int = 96
    max_tokens: int = 1024
    max_images: int = 6
    final_answer: bool = False  # as rl.final_answer
    batch: int = 80  # samples through the model at once

    def __post_init__(self) -> None:
        _at_least(1, self, "n_per_condition max_turns max_reply_tokens max_tokens max_images batch")
        if self.conditions is not None and (not self.conditions or len(set(self.conditions)) < len(self.conditions)):
            raise ValueError("conditions needs one name or more, each once")


@dataclass(frozen=True)
class Recipe:
    """One run: data, SFT, RL and evaluation into one folder."""

    run_folder: str = "runs/demo"
    seed: int = 0
    gpu_gib: float | None = None  # memory of the card that the numbers are chosen for; `codevision-lite plan` checks it
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    sft: SFTStage = SFTStage()
    rl: RLStage = RLStage()
    eval: EvalStage = EvalStage()
    log: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ("tensorboard",)  # beside metrics.jsonl; []: nothing more

    def __post_init__(self) -> None:
        known = (*SFT_MIX, *(_PAGE_CONDITIONS if self.data.world == "pages" else TEST_ONLY))
        unknown = [name for name in self.eval.conditions or () if name not in known]
        if unknown:
            raise ValueError(f"eval.conditions: the world of {self.data.world} has no {unknown[0]!r}: use {', '.join(known)}")


@dataclass(frozen=True)
class PretrainConfig:
    """The tiny base model: what `make tiny-base` does, sized for one CPU core in one to two hours."""

    out_folder: str = "runs/tiny_base/model"
    work_folder: str = "runs/tiny_base"  # checkpoints; a stopped run goes on from them
    seed: int = 0
    tower_steps: int = 7000
    tower_batch: int = 96  # three views of each of 32 scenes
    tower_lr: float = 1e-3
    language_steps: int = 1200
    language_batch: int = 64
    language_lr: float = 1.5e-3
    chat_steps: int = 1500
    chat_batch: int = 48
    chat_lr: float = 1.2e-3
    thought_steps: int = 700  # batches as in chat
    thought_lr: float = 8e-4

    def __post_init__(self) -> None:
        _at_least(1, self, "tower_steps tower_batch language_steps language_batch")
        _above_zero(self, "tower_lr language_lr")
        if self.tower_batch % 3:
            raise ValueError("tower_batch must be a multiple of 3")
