"""What one piece of gpu-check does, in a process of its own: train a model of true shape on drawn pages, and measure.

Replies are told (train/scripted.py); the rest of a rollout, the reward and the update are the real ones.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from codevision_lite.agent import dialogue_of
from codevision_lite.config import load_recipe
from codevision_lite.datasets.rows import TrainingRow, load_samples, load_training_rows
from codevision_lite.files import read_jsonl
from codevision_lite.models.backend import generation_mode
from codevision_lite.models.encoding import encode_dialogue
from codevision_lite.recipe import ModelConfig, Recipe, RLStage, SFTStage
from codevision_lite.records import Sample
from codevision_lite.sandbox import Sandbox
from codevision_lite.synth.build import build
from codevision_lite.synth.pages import chunk_items
from codevision_lite.synth.sources import weighted
from codevision_lite.train import grpo
from codevision_lite.train.load import load_for_training
from codevision_lite.train.log import StepLog
from codevision_lite.train.memory import CONTEXT, GIB, Tokens, predict
from codevision_lite.train.scripted import CALLS, ScriptedEngine, Scripts, peak_bytes, reset_peak, synchronize
from codevision_lite.train.sft import TrajectoryCollator, train_sft
from codevision_lite.train.shapes import load_shape


def model_recipe(folder: Path, work: Path, backend: str, small: bool) -> Recipe:
    """Few steps of trajectories of more than 4,096 tokens with five pictures; `small`: as short as a CPU needs."""
    pixels, reply = (12_544, 112) if small else (501_760, 192)
    rl = RLStage(
        steps=2, prompts=1, generations=2 if small else 8, micro_batch=1, rollout_batch=8, learning_rate=1e-6, beta=0.001,
        max_turns=len(CALLS) + 2, max_reply_tokens=reply, max_tokens=6144, max_images=len(CALLS) + 1,
    )  # fmt: skip
    model = ModelConfig(name=str(folder), backend=backend, max_pixels=pixels, lora_r=8 if small else 32)
    sft = SFTStage(steps=3, batch=2, micro_batch=1, learning_rate=1e-5)
    return Recipe(run_folder=str(work), model=model, sft=sft, rl=rl, log=())


class Clock(TrainerCallback):
    """Seconds of each optimizer step, and the peak from the start of training."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        reset_peak()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        synchronize()
        self._began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        synchronize()
        self.seconds.append(time.perf_counter() - self._began)


def cap_memory(gib: float) -> None:
    """Let this process have as much of the GPU as a card of `gib` would give it."""
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, (gib * GIB - CONTEXT) / total))


def run_model_piece(recipe: Recipe, save: Callable[[Mapping[str, Any]], None]) -> None:
    """SFT and GRPO of the recipe's model; `save` is given the numbers of a stage as soon as there are some."""
    folder, shape = Path(recipe.run_folder), load_shape(recipe.model.name)
    model, processor = load_for_training(recipe.model, seed=recipe.seed)
    samples = [item.sample for item in chunk_items(0, "train", 0, ["upright", "rotate_90"], weighted(recipe.data.families, (), 0.0))]
    scripts = Scripts(processor.tokenizer, samples, recipe.rl.max_reply_tokens)
    with Sandbox(mode="worker") as sandbox:
        rows = [scripts.row(sample, sandbox) for sample in samples]
        tokens = measured_tokens(rows, processor)
        predicted = [stage.allocated for stage in predict(recipe, shape, tokens)]
        save({"parameters": shape.parameters(), "tokens": asdict(tokens)})
        clock, log = Clock(), StepLog("sft", recipe.sft.steps, folder / "metrics.jsonl")
        train_sft(model, processor, rows, recipe, folder / "sft", [log, clock])
        batch_tokens = recipe.sft.batch * sum(_lengths(rows, processor)) / len(rows)
        speed = {"tokens_per_s": batch_tokens / _median(clock.seconds)}
        save({"sft": {**_steps(clock.seconds), **_memory(peak_bytes(), predicted[0]), **speed}})
        del model
        gc.collect()  # trainers refer to themselves
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        model, processor = load_for_training(recipe.model, adapter=str(folder / "sft" / "adapter"), seed=recipe.seed)
        save(_grpo_numbers(model, processor, samples, recipe, folder, sandbox, scripts, predicted))
    logged = [row.get(name, 0.0) for row in read_jsonl(folder / "metrics.jsonl") for name in ("loss", "grad_norm")]
    save({"non_finite": sum(value is None for value in logged)})  # a value that is not finite is written as null


def _grpo_numbers(
    model: Any, processor: Any, samples: Sequence[Sample], recipe: Recipe, folder: Path, sandbox: Any, scripts: Scripts,
    predicted: list[int],
) -> dict[str, Any]:  # fmt: skip
    meter: dict[str, Any] = {}
    rewards: list[float] = []
    kept: list[Any] = []

    def timed_score(*args: Any, **options: Any) -> Any:
        started = time.perf_counter()
        scored = score_group(*args, **options)
        rewards.append(time.perf_counter() - started)
        return scored

    def keeping(episode: Any) -> Any:
        kept.append(episode)
        return split_episode(episode)

    score_group, split_episode = grpo.score_group, grpo.split_episode
    engine = partial(ScriptedEngine, script=scripts.reply, meter=meter)
    clock, log = Clock(), StepLog("grpo", recipe.rl.steps, folder / "metrics.jsonl")
    with replaced(grpo, HFModel=engine, score_group=timed_score, split_episode=keeping):
        grpo.train_grpo(model, processor, samples, recipe, folder / "grpo", [log, clock], sandbox)
    trajectories = [row["trajectory"] for row in read_jsonl(folder / "grpo" / "rollouts.jsonl")]
    observations = [turn["observation"] for t in trajectories for turn in t["turns"] if turn.get("observation")]
    steps, rollouts = len(clock.seconds), sum(meter["rollouts_s"])
    pictures = 1 + sum(o.get("image_index") is not None for o in observations) / len(trajectories)
    update = sum(clock.seconds) - rollouts - sum(rewards)
    sandbox_s = sum(o.get("seconds") or 0.0 for o in observations)
    peaks = [p for p in meter["peaks"] if p is not None]
    return {
        "rollouts": {**_memory(max(peaks) if peaks else None, predicted[1]), "tokens_per_s": meter["tokens"] / rollouts,
                     "trajectories_per_min": 60 * len(trajectories) / rollouts, "pictures_per_trajectory": pictures,
                     "logprob_gap": logprob_gap(model, processor, kept[-1], recipe.rl.temperature)},
        "update": {**_memory(peak_bytes(), predicted[2])},
        "rl_step": {**_steps(clock.seconds), "split_s": {
            "prefill": sum(meter["prefill_s"]) / steps, "decode": sum(meter["decode_s"]) / steps, "sandbox": sandbox_s / steps,
            "rollouts": rollouts / steps, "reward": sum(rewards) / steps, "update": update / steps,
        }},
    }  # fmt: skip


@contextmanager
def replaced(module: Any, **names: Any) -> Iterator[None]:
    """Other values for names of a module, while it is open: how the pieces look into a training run."""
    before = {name: getattr(module, name) for name in names}
    for name, value in names.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def measured_tokens(rows: Sequence[TrainingRow], processor: Any) -> Tokens:
    """Lengths of these trajectories as training sees them: the longest of each kind."""
    merge = processor.image_processor.merge_size**2
    found = []
    for row in rows:
        dialogue = dialogue_of(row.sample, row.trajectory)
        grids = encode_dialogue(processor, dialogue).grid_thw
        found.append((len(dialogue.segments[0].token_ids), dialogue.n_tokens, len(grids), int(grids.prod(1).max()) // merge))
    return Tokens(*(max(column) for column in zip(*found, strict=True)))


def _lengths(rows: Sequence[TrainingRow], processor: Any) -> list[int]:
    collate = TrajectoryCollator(rows, processor)
    return [collate([{"index": i}])["input_ids"].shape[1] for i in range(len(rows))]


@torch.no_grad()
def logprob_gap(model: Any, processor: Any, episode: Any, temperature: float) -> dict[str, float]:
    """How far the rollout's log-probabilities are from those of one forward over the whole trajectory: mean and largest."""
    prompt, ids, mask, sampled = grpo.split_episode(episode)
    inputs = processor.image_processor(images=list(episode.dialogue.images), return_tensors="pt")
    device = next(model.parameters()).device
    tokens = torch.tensor([prompt + ids], device=device)
    kinds = (tokens == processor.image_token_id).long()
    with generation_mode(model), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        out = model(
            input_ids=tokens, attention_mask=torch.ones_like(tokens), mm_token_type_ids=kinds, use_cache=False, logits_to_keep=len(ids) + 1,
            pixel_values=inputs["pixel_values"].to(device), image_grid_thw=inputs["image_grid_thw"].to(device),
        )  # fmt: skip
    total, worst, n = 0.0, 0.0, 0
    for at in range(0, len(ids), 256):  # in float32 a whole trajectory would be gigabytes
        logits = out.logits[0, at : min(at + 256, len(ids))].float() / temperature
        targets = torch.tensor(ids[at : at + 256], device=device)
        whole = torch.log_softmax(logits, -1).gather(1, targets[:, None])[:, 0].cpu()
        own = torch.tensor(mask[at : at + 256]).bool()
        gaps = (whole - torch.tensor(sampled[at : at + 256]))[own].abs()
        if len(gaps):
            total, n, worst = total + float(gaps.sum()), n + len(gaps), max(worst, float(gaps.max()))
    return {"mean": total / max(1, n), "max": worst}


def run_learning_piece(work: Path, save: Callable[[Mapping[str, Any]], None], short: bool) -> None:
    """The tiny base on its own world, a few hundred steps: the loss falls and the reward rises. `short`: a few steps, no verdict."""
    few = ["sft.steps=3", "sft.batch=8", "sft.micro_batch=8", "rl.steps=2", "rl.prompts=2", "rl.generations=4", "rl.micro_batch=8",
           "data.sft_rows=16", "data.rl_rows=8", "rl.max_reply_tokens=12", "eval.n_per_condition=1", "data.processes=1"]  # fmt: skip
    many = ["sft.steps=300", "rl.steps=60", "eval.n_per_condition=1"]
    recipe = load_recipe("recipes/demo.yaml", [f"run_folder={work}", "log=[]", *(few if short else many)], cls=Recipe)
    folder = Path(recipe.run_folder)
    build(folder / "data", recipe.seed, recipe.data, recipe.eval)
    model, processor = load_for_training(recipe.model, seed=recipe.seed)
    train_sft(model, processor, load_training_rows(folder / "data" / "sft.jsonl"), recipe, folder / "sft", [_step_log("sft", recipe)])
    losses = _column(folder, "sft", "loss")
    save({"sft": {"steps": len(losses), **_ends("loss", losses)}})
    model, processor = load_for_training(recipe.model, adapter=str(folder / "sft" / "adapter"), seed=recipe.seed)
    samples = load_samples(folder / "data" / "rl.jsonl")
    with Sandbox(mode="worker") as sandbox:
        grpo.train_grpo(model, processor, samples, recipe, folder / "grpo", [_step_log("grpo", recipe)], sandbox)
    rewards = _column(folder, "grpo", "reward/total")
    save({"rl": {"steps": len(rewards), **_ends("reward", rewards)}})
    if not short:
        assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10]), f"the loss did not fall: {losses[:10]} to {losses[-10:]}"
        assert np.mean(rewards[-10:]) > np.mean(rewards[:10]), f"the reward did not rise: {rewards[:10]} to {rewards[-10:]}"


def _step_log(stage: str, recipe: Recipe) -> StepLog:
    return StepLog(stage, {"sft": recipe.sft, "grpo": recipe.rl}[stage].steps, Path(recipe.run_folder) / "metrics.jsonl")


def _column(folder: Path, stage: str, name: str) -> list[float]:
    return [row[name] for row in read_jsonl(folder / "metrics.jsonl") if row["stage"] == stage and row.get(name) is not None]


def _ends(name: str, values: list[float]) -> dict[str, float]:
    """Means of the first and the last tenth, or step."""
    n = max(1, len(values) // 10)
    return {f"{name}_first": float(np.mean(values[:n])), f"{name}_last": float(np.mean(values[-n:]))}


def _memory(measured: int | None, predicted: int) -> dict[str, float | None]:
    found = None if measured is None else round(measured / GIB, 3)
    return {"peak_gib": found, "planned_gib": round(predicted / GIB, 3), "ratio": found and round(measured / predicted, 3)}


def _steps(seconds: list[float]) -> dict[str, Any]:
    return {"steps": len(seconds), "step_s": round(_median(seconds), 3), "first_step_s": round(seconds[0], 3)}


def _median(seconds: list[float]) -> float:
    """Of the steps after the first, which compiles and warms up; of that one where it is alone."""
    return float(np.median(seconds[1:] or seconds))
