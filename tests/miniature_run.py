"""An experiment's folder as its runs leave it, without training: real trajectories of scripts, right as often as it is told."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from codevision_lite.agent import AgentLimits, run_episode
from codevision_lite.bench.metrics import summarise
from codevision_lite.datasets.rows import trajectory_row
from codevision_lite.files import append_jsonl, write_atomic
from codevision_lite.miniature.plan import Miniature
from codevision_lite.miniature.runs import make_jobs, prepare, share_start
from codevision_lite.models import ScriptedModel
from codevision_lite.protocol import render_reply
from codevision_lite.records import Sample, ToolCall, Trajectory
from codevision_lite.reward import score
from codevision_lite.synth.gold import Item
from codevision_lite.synth.samples import make_items
from codevision_lite.synth.signs_scripts import write_script

Shares = Mapping[str, float]  # arm -> how often an item that requires something is solved

NO_OP = ("result = ImageEnhance.Brightness(image).enhance(1.01)",)  # what changes nothing at all is an error
BRUTE_FORCE = ("images = [image.rotate(a, expand=True) for a in (90, 180, 270)]\nresult = images[0]",)


def run_codes(sandbox, sample: Sample, codes=(), answer: str | None = None) -> Trajectory:
    """The trajectory of a model that runs these pieces of code on the user's picture, then answers (None: rightly)."""
    replies = [render_reply("I try.", ToolCall(code)) for code in codes]
    model = ScriptedModel([*replies, render_reply("I see.", answer=sample.answers[0] if answer is None else answer)])
    return run_episode(model, sandbox, sample, AgentLimits(max_turns=len(replies) + 1))


def solve(sandbox, item: Item, rng: random.Random, share: float) -> Trajectory:
    """Solved by its script with the probability `share`; else answered at once, which is right where nothing is required."""
    sample = item.sample
    if sample.required_ops and rng.random() < share and sample.damage.count("+") == 0:
        script = write_script(item, rng, error_share=0.2, second_style=0.3)
        return run_episode(ScriptedModel([reply.text for reply in script.replies]), sandbox, sample)
    return run_codes(sandbox, sample, answer="?" if sample.required_ops else None)


def make_experiment(plan: Miniature, sandbox, shares: Shares, steps: int = 12) -> None:
    """Folders, rows, metrics and results of the arms in `shares`, for every seed of the plan."""
    jobs = {job.folder: job for job in make_jobs(plan)}
    for job in jobs.values():
        prepare(job)
    for seed in plan.seed_list:
        n = plan.recipe.eval.n_per_condition * len(plan.conditions)
        items = list(make_items(f"{seed}/test", "test", n, dict.fromkeys(plan.conditions, 1.0)))
        write_atomic(plan.folder("base", seed) / "data" / "manifest.json", "{}")
        for row in _sft_rows(plan.folder("base", seed) / "data", sandbox, seed):
            append_jsonl(plan.folder("base", seed) / "data" / "sft.jsonl", row)
        for arm, share in shares.items():
            rng = random.Random(f"{seed}/{arm}")
            solved = [(item.sample, solve(sandbox, item, rng, share)) for item in items]
            if arm in plan.arms:
                share_start(jobs[plan.folder(arm, seed)])
            add_stage(plan, seed, arm, solved)
            if arm in plan.arms:
                _add_metrics(plan.folder(arm, seed) / "metrics.jsonl", rng, share, steps)


def add_stage(plan: Miniature, seed: int, arm: str, solved: list[tuple[Sample, Trajectory]]) -> None:
    """Rows and results of an arm, as an evaluation writes them."""
    folder, stage = plan.folder(arm, seed), arm if arm in ("base", "sft") else "grpo"
    rows = []
    for sample, trajectory in solved:
        breakdown = score(sample, trajectory)
        condition, correct = sample.meta["condition"], breakdown.terms["accuracy"].value == 1.0
        row = trajectory_row(
            folder, sample, replace(trajectory, seconds=0.1), stage=stage, condition=condition, correct=correct, reward=breakdown.to_json()
        )
        append_jsonl(folder / "trajectories.jsonl", row)
        rows.append(row)
    path = folder / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {"stages": [], "context": {"hardware": "a test's machine"}}
    results["stages"].append(summarise(stage, rows, plan.conditions, 1.0))
    write_atomic(path, json.dumps(results))


def _sft_rows(folder: Path, sandbox, seed: int) -> Iterator[dict]:
    rng = random.Random(seed)
    for item in make_items(f"{seed}/sft", "train", 8, {"rotate_90": 1.0, "flip_vertical": 1.0, "crop": 1.0, "upright": 1.0}):
        script = write_script(item, rng, error_share=0.0, second_style=0.5)
        trajectory = run_episode(ScriptedModel([reply.text for reply in script.replies]), sandbox, item.sample)
        yield trajectory_row(folder, item.sample, trajectory)


def _add_metrics(path: Path, rng: random.Random, share: float, steps: int) -> None:
    for step in range(1, steps + 1):
        level = share * (0.6 + 0.4 * step / steps)
        row = {"stage": "grpo", "step": step, "seconds": 9.0 * step}
        row |= {f"reward/{name}": abs(level + rng.gauss(0, 0.03)) for name in ("accuracy", "must_use", "total")}
        row |= {"rollout/tool_turns": abs(1.2 * level + rng.gauss(0, 0.03)), "rollout/error_rate": abs(rng.gauss(0.05, 0.02))}
        append_jsonl(path, row | {"rollout/tool_use_where_required": level, "monitor/brute_force": abs(rng.gauss(0, 0.01))})
