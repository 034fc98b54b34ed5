"""Rollouts by our agent loop and by TRL's own loop (GRPOTrainer with environment_factory and a tool that returns pictures), at equal
settings: the same model, prompts, generations, budgets, sandbox and precision. Exit code 1 below `--minimum` times TRL's speed.

    python benchmarks/bench_rollout.py                                  # the tiny model, taught to call the tool for a minute
    python benchmarks/bench_rollout.py --recipe recipes/qwen2.5-vl-3b-24gb.yaml --adapter RUN/sft/adapter --data RUN/data/rl.jsonl

Speed is measured on sampled rollouts, in turn, after one that does not count; greedy ones say whether both loops give the same tokens.
TRL's loop can't tell a model that its reply was not readable and ends there: such trajectories are counted by themselves.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codevision_lite.agent import AgentLimits
from codevision_lite.config import load_recipe
from codevision_lite.datasets.rows import TrainingRow, load_samples
from codevision_lite.protocol import SYSTEM_PROMPT, TOOL_SCHEMA, user_text
from codevision_lite.recipe import SFT_MIX, ModelConfig, Recipe, RLStage
from codevision_lite.records import Sample
from codevision_lite.sandbox import Sandbox
from codevision_lite.train.environment import PictureEnvironment

LOOPS = ("ours", "trl")


class StockEnvironment(PictureEnvironment):
    """As TRL's own loop wants it: the prompt's picture and text come from `reset`."""

    def reset(self, **row: Any) -> list[dict[str, Any]]:
        super().reset(**row)
        image = self.images[0]
        return [{"type": "image", "image": image}, {"type": "text", "text": user_text(self.sample.question, image.size)}]


@dataclass
class Timed:
    """A sandbox that counts the seconds of its calls."""

    sandbox: Sandbox
    seconds: float = 0.0

    @property
    def mode(self) -> str:
        return self.sandbox.mode

    def run(self, *job: Any) -> Any:
        started = time.perf_counter()
        try:
            return self.sandbox.run(*job)
        finally:
            self.seconds += time.perf_counter() - started


class _Generated(Exception):
    """Carries what `_generate` gave past the rest of the step."""


def make_trainer(loop: str, model: Any, processor: Any, samples: Sequence[Sample], recipe: Recipe, sandbox: Any, *, greedy: bool) -> Any:
    """A GRPOTrainer over the samples whose rollouts come from `loop`, "ours" or "trl"."""
    import torch
    from datasets import Dataset

    from codevision_lite.models.hf import VISION_TOKENS, HFModel
    from codevision_lite.train.grpo import AgentRollouts, grpo_settings
    from codevision_lite.train.load import precise_adapter, trl_classes, trl_configs

    stage, base = recipe.rl, trl_classes()[1]
    settings = grpo_settings(recipe, stage.prompts * stage.generations) | {"bf16": torch.cuda.is_available()}
    if loop == "trl":
        suppressed = [processor.tokenizer.convert_tokens_to_ids(t) for t in VISION_TOKENS]
        generation = {"max_new_tokens": stage.max_reply_tokens, "suppress_tokens": suppressed, "do_sample": not greedy}
        settings |= {"generation_kwargs": generation, "max_tool_calling_iterations": stage.max_turns - 1}
    args = trl_configs()[1](**settings, output_dir="/tmp/unused")
    prompt = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": ""}]
    kind, environment = (base, StockEnvironment) if loop == "trl" else (type("Ours", (AgentRollouts, base), {}), PictureEnvironment)
    with precise_adapter(model):
        trainer = kind(
            model=model, args=args, processing_class=processor, reward_funcs=lambda completions, **_: [0.0] * len(completions),
            train_dataset=Dataset.from_list([{"prompt": prompt, "index": i} for i in range(len(samples))]),
            environment_factory=lambda: environment(samples, sandbox),
        )  # fmt: skip
    if loop == "trl":
        trainer._env_tools = {name: [TOOL_SCHEMA] for name in trainer._env_tools}  # its own is made from the method's docstring
    else:
        temperature = 0.0 if greedy else stage.temperature
        at_once = stage.rollout_batch or stage.prompts * stage.generations
        trainer.rollout_model = HFModel(trainer.model, processor, temperature=temperature, seed=recipe.seed, batch_size=at_once)
        trainer.rollout_limits, trainer.rollout_sandbox = AgentLimits.of(stage), sandbox
    return trainer


def rollouts(trainer: Any, n_samples: int, generations: int) -> list[dict[str, Any]]:
    """One batch through the trainer: token ids, mask and pictures of each trajectory."""
    rows = [trainer.train_dataset[i % len(trainer.train_dataset)] for i in range(n_samples) for _ in range(generations)]
    generate = type(trainer)._generate

    def stop_after_it(prompts: Any) -> None:
        raise _Generated(generate(trainer, prompts))

    trainer._generate = stop_after_it
    trainer.model.train()
    try:
        trainer._generate_and_score_completions(rows)
    except _Generated as done:
        prompt_ids, completion_ids, masks, _, _, _, images, _ = done.args[0]
    finally:
        del trainer._generate
    return [
        {"prompt": list(p), "completion": list(c), "mask": list(m), "n_images": len(pictures)}
        for p, c, m, pictures in zip(prompt_ids, completion_ids, masks, images, strict=True)
    ]


@contextmanager
def measured(trainer: Any, sandbox: Timed) -> Iterator[dict[str, float]]:
    """Seconds of what happens inside: the whole of `_generate`, its forwards (prefill: more than one token wide) and the sandbox."""
    import torch

    seconds = {"generate": 0.0, "prefill": 0.0, "decode": 0.0, "sandbox": 0.0}
    on_gpu, started = torch.cuda.is_available(), []

    def before(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
        positions = kwargs.get("position_ids")
        tokens = positions if positions is not None else kwargs.get("input_ids", kwargs.get("inputs_embeds"))
        width = tokens.shape[2] if positions is not None and tokens.ndim == 3 else tokens.shape[1]
        if on_gpu and width > 1:
            torch.cuda.synchronize()
        started.append((time.perf_counter(), width))

    def after(*_: Any) -> None:
        at, width = started.pop()
        if on_gpu and width > 1:
            torch.cuda.synchronize()
        seconds["prefill" if width > 1 else "decode"] += time.perf_counter() - at

    language = next(m for name, m in trainer.model.named_modules() if name.endswith("language_model"))
    generate, sandbox.seconds = type(trainer)._generate, 0.0

    def timed(self: Any, prompts: Any) -> Any:
        hooks = [language.register_forward_pre_hook(before, with_kwargs=True), language.register_forward_hook(after)]
        at = time.perf_counter()
        try:
            return generate(self, prompts)
        finally:
            seconds["generate"] += time.perf_counter() - at
            for hook in hooks:
                hook.remove()

    kind = type(trainer)
    kind._generate = timed
    try:
        yield seconds
    finally:
        kind._generate = generate
        seconds["sandbox"] = sandbox.seconds


def same_tokens(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many trajectories agree token for token, and what is the matter with the others."""
    counts = {"same": 0, "trl ended at an unreadable reply": 0, "different": 0}
    for a, b in zip(ours, theirs, strict=True):
        if a == b:
            counts["same"] += 1
        elif a["prompt"] == b["prompt"] and a["completion"][: len(b["completion"])] == b["completion"]:
            counts["trl ended at an unreadable reply"] += 1
        else:
            counts["different"] += 1
    return counts


def teach(model: Any, processor: Any, rows: Sequence[TrainingRow], *, steps: int, batch: int, learning_rate: float) -> float:
    """Train what is trainable on verified trajectories, with the loss of SFT; returns the last loss."""
    import torch

    from codevision_lite.train.sft import TrajectoryCollator

    collate, order = TrajectoryCollator(rows, processor), itertools.cycle(range(len(rows)))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=learning_rate, weight_decay=0.0)
    loss = torch.zeros(())
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / 10, 2 * (steps - step) / steps)
        inputs = collate([{"index": next(order)} for _ in range(batch)])
        loss = model(**{name: value.to(model.device) for name, value in inputs.items()}).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return float(loss.detach())


def gold_rows(n: int, seed: int, sandbox: Any) -> list[TrainingRow]:
    """Verified trajectories of the built-in world of signs."""
    from codevision_lite.synth.gold import make_golds
    from codevision_lite.synth.samples import make_items
    from codevision_lite.synth.signs_scripts import write_script

    rng = random.Random(seed)
    scripts = [write_script(item, rng, error_share=0.1, second_style=0.3) for item in make_items(seed, "train", n, SFT_MIX)]
    return [TrainingRow(g.item.sample, g.trajectory, g.trained) for g in make_golds(scripts, sandbox)]


def main() -> int:
    options = _options()
    recipe = Recipe(model=ModelConfig(quantize="none"), rl=RLStage(temperature=0.8))
    if options.recipe:
        recipe = load_recipe(options.recipe, cls=Recipe)
    stage = replace(recipe.rl, prompts=options.prompts, generations=options.generations, micro_batch=options.generations)
    recipe = replace(recipe, rl=stage, model=replace(recipe.model, name=options.model or recipe.model.name))
    from codevision_lite.train.load import load_for_training

    model, processor = load_for_training(recipe.model, adapter=options.adapter, seed=recipe.seed)
    with Sandbox(mode="worker") as workers:
        sandbox = Timed(workers)
        samples = _samples(options, sandbox)
        if options.adapter is None:
            loss = teach(model, processor, gold_rows(options.teach * 16, 0, sandbox), steps=options.teach, batch=16, learning_rate=2e-3)
            print(f"taught for {options.teach} steps, loss {loss:.3f}", flush=True)
        greedy = {loop: make_trainer(loop, model, processor, samples, recipe, sandbox, greedy=True) for loop in LOOPS}
        agreement = same_tokens(*(rollouts(greedy[loop], options.prompts, 1) for loop in LOOPS))
        print("greedy trajectories:", ", ".join(f"{n} {what}" for what, n in agreement.items()), flush=True)
        trainers = {loop: make_trainer(loop, model, processor, samples, recipe, sandbox, greedy=False) for loop in LOOPS}
        results = measure(trainers, sandbox, options)
    ratio = results["ours"]["trajectories_per_min"] / results["trl"]["trajectories_per_min"]
    print(f"ours / TRL: {ratio:.2f} (target {options.minimum})")
    if options.json:
        context = {"prompts": options.prompts, "generations": options.generations, "device": str(model.device), "model": recipe.model.name}
        Path(options.json).write_text(json.dumps({"greedy": agreement, "loops": results, "ratio": ratio, **context}, indent=1))
    return int(ratio < options.minimum)


def measure(trainers: dict[str, Any], sandbox: Timed, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Medians over `options.rounds` of each loop, one after the other."""
    n, runs = options.prompts * options.generations, {loop: [] for loop in LOOPS}
    for round_number in range(options.rounds + 1):
        for loop in LOOPS:
            cpu = time.process_time()
            with measured(trainers[loop], sandbox) as seconds:
                done = rollouts(trainers[loop], options.prompts, options.generations)
            if round_number:  # the first one warms up
                tokens = sum(sum(t["mask"]) for t in done)
                row = {"cpu": time.process_time() - cpu, "tokens_per_s": tokens / seconds["generate"]}
                runs[loop].append({**seconds, **row, "pictures": sum(t["n_images"] for t in done) / n})
    results = {}
    for loop, rows in runs.items():
        r = {name: round(statistics.median(row[name] for row in rows), 3) for name in rows[0]}
        results[loop] = r = {"trajectories_per_min": round(60 * n / r["generate"], 1), **r}
        print(
            f"{loop:5} {r['trajectories_per_min']:9,.1f} trajectories/min  {r['tokens_per_s']:7,.0f} sampled tokens/s  "
            f"{r['generate']:6.2f} s: prefill {r['prefill']:.2f}, decode {r['decode']:.2f}, sandbox {r['sandbox']:.2f}; "
            f"{r['pictures']:.2f} pictures a trajectory",
            flush=True,
        )
    return results


def _samples(options: argparse.Namespace, sandbox: Any) -> list[Sample]:
    if options.data:
        return load_samples(Path(options.data))[: options.prompts]
    return [row.sample for row in gold_rows(options.prompts, 1, sandbox)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", help="a recipe; without one, the tiny model unquantised with the defaults of recipe.py")
    parser.add_argument("--model", help="another base model than the recipe's")
    parser.add_argument("--adapter", help="an SFT adapter; without one, a new adapter is taught on the built-in signs")
    parser.add_argument("--data", help="JSONL of samples; without it, signs")
    parser.add_argument("--teach", type=int, default=60, metavar="STEPS", help="of 16 trajectories, where there is no adapter")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minimum", type=float, default=1.5, help="times TRL's trajectories a minute")
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
