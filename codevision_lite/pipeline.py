"""The stages of a run, each resumable: synth -> base evaluation -> SFT -> evaluation -> GRPO -> evaluation -> report.

Every stage reads its inputs from the run folder and writes its outputs there; what is finished is not done again, and a
stage that was stopped goes on from its last checkpoint or row. `make demo` is all of them with recipes/demo.yaml.
Call `open_run` once before any of them.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from codevision_lite.agent import AgentLimits
from codevision_lite.bench.evaluate import Evaluation, evaluate
from codevision_lite.config import claim_run_folder, recipe_hash
from codevision_lite.datasets.rows import load_samples, load_training_rows, sample_row, trajectory_row
from codevision_lite.errors import UserError
from codevision_lite.files import append_jsonl, require_space, write_atomic
from codevision_lite.progress import Progress
from codevision_lite.recipe import Recipe
from codevision_lite.report import print_table, write_report
from codevision_lite.reward import RewardConfig
from codevision_lite.sandbox import Sandbox

STAGES = ("base", "sft", "grpo")
PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "RestrictedPython", "pillow", "numpy")
_ROW_BYTES = 20_000  # a row with its pictures on disk, measured on the built-in world


def demo(recipe: Recipe) -> None:
    """Everything, in order; prints the table and where the report is."""
    started = time.time()
    folder = Path(recipe.run_folder)
    synth(recipe)
    for stage in STAGES:
        if stage == "sft":
            sft(recipe)
        if stage == "grpo":
            rl(recipe)
        evaluate_stage(recipe, stage)
    _note_run(folder, wall_s=time.time() - started)
    report(recipe)


def open_run(recipe: Recipe) -> Path:
    """The run folder, claimed for this recipe. Raises UserError where it holds another run or the disk is full."""
    folder = Path(recipe.run_folder)
    rows = recipe.data.sft_rows + recipe.data.rl_rows + 3 * 8 * recipe.eval.n_per_condition
    require_space(folder, rows * _ROW_BYTES + 300 * 2**20)  # checkpoints and adapters: measured under 100 MB for the tiny model
    if claim_run_folder(folder, recipe):
        print(f"{folder}: going on with the run that is there", flush=True)
    return folder


def synth(recipe: Recipe) -> None:
    """data/{sft,rl,test}.jsonl with their pictures. Same seed, same rows; a stopped run is drawn again."""
    from codevision_lite.synth.samples import CONDITIONS, make_items
    from codevision_lite.synth.trajectories import make_golds

    folder, data = Path(recipe.run_folder) / "data", recipe.data
    if (folder / "manifest.json").exists():
        return
    for split in ("sft", "rl", "test"):
        (folder / f"{split}.jsonl").unlink(missing_ok=True)
    counts: dict[str, dict[str, int]] = {"sft": {}, "rl": {}, "test": {}}
    rejected: list[str] = []
    with Sandbox(mode="worker") as sandbox:
        progress = Progress("synth sft", data.sft_rows, "trajectories")
        golds = make_golds(
            make_items(recipe.seed, "train", data.sft_rows, data.sft_mix), sandbox, recipe.seed,
            error_share=data.error_share, second_style=data.second_style, rejected=rejected,
        )  # fmt: skip
        for n, gold in enumerate(golds, 1):
            row = trajectory_row(folder, gold.item.sample, gold.episode.trajectory(), type=gold.type, trained=gold.trained)
            append_jsonl(folder / "sft.jsonl", row)
            counts["sft"][gold.type] = counts["sft"].get(gold.type, 0) + 1
            progress.update(n)
    test_mix = dict.fromkeys(CONDITIONS, 1.0)
    for split, owner, n, mix in (
        ("rl", "rl", data.rl_rows, data.rl_mix),
        ("test", "test", len(CONDITIONS) * recipe.eval.n_per_condition, test_mix),
    ):
        progress = Progress(f"synth {split}", n, "samples")
        for i, item in enumerate(make_items(recipe.seed, owner, n, mix), 1):
            append_jsonl(folder / f"{split}.jsonl", sample_row(folder, item.sample))
            condition = item.sample.meta["condition"]
            counts[split][condition] = counts[split].get(condition, 0) + 1
            progress.update(i)
    manifest = {"seed": recipe.seed, "counts": counts, "rejected": rejected}
    write_atomic(folder / "manifest.json", json.dumps(manifest, indent=1))


def sft(recipe: Recipe) -> None:
    """sft/adapter from data/sft.jsonl."""
    folder = Path(recipe.run_folder)
    if (folder / "sft" / "adapter").is_dir():
        return
    _need(folder / "data" / "sft.jsonl", "make synth")
    from codevision_lite.train.load import load_for_training
    from codevision_lite.train.log import StepLog
    from codevision_lite.train.sft import train_sft

    rows = load_training_rows(folder / "data" / "sft.jsonl")
    model, processor = load_for_training(recipe.model, seed=recipe.seed)
    log = StepLog("sft", recipe.sft.steps, folder / "metrics.jsonl")
    with timed(folder, "sft"):
        train_sft(model, processor, rows, recipe, folder / "sft", [log])


def rl(recipe: Recipe) -> None:
    """grpo/adapter from the SFT adapter and data/rl.jsonl."""
    folder = Path(recipe.run_folder)
    if (folder / "grpo" / "adapter").is_dir():
        return
    _need(folder / "data" / "rl.jsonl", "make synth")
    _need(folder / "sft" / "adapter", "make sft")
    from codevision_lite.train.grpo import train_grpo
    from codevision_lite.train.load import load_for_training
    from codevision_lite.train.log import StepLog

    samples = load_samples(folder / "data" / "rl.jsonl")
    model, processor = load_for_training(recipe.model, adapter=str(folder / "sft" / "adapter"), seed=recipe.seed)
    log = StepLog("grpo", recipe.rl.steps, folder / "metrics.jsonl")
    with timed(folder, "grpo"), Sandbox(mode="worker") as sandbox:
        train_grpo(model, processor, samples, recipe, folder / "grpo", [log], sandbox)


def trained_stages(recipe: Recipe) -> list[str]:
    """The base and the stages whose adapters the run folder holds."""
    return [s for s in STAGES if s == "base" or (Path(recipe.run_folder) / s / "adapter").is_dir()]


def evaluate_stage(recipe: Recipe, stage: str) -> None:
    """One model over data/test.jsonl: rows in trajectories.jsonl, numbers in results.json. Raises UserError where
    something it needs is not there yet."""
    if stage not in STAGES:
        raise UserError(f"unknown stage {stage!r}: use one of {', '.join(STAGES)}")
    folder = Path(recipe.run_folder)
    if any(s["name"] == stage for s in _results(folder)["stages"]):
        return
    _need(folder / "data" / "test.jsonl", "make synth")
    adapter = None if stage == "base" else folder / stage / "adapter"
    if adapter:
        _need(adapter, "make sft" if stage == "sft" else "make rl")
    from codevision_lite.models import load_model

    samples, limits = load_samples(folder / "data" / "test.jsonl"), recipe.eval
    model = load_model(
        recipe.model.name, adapter=adapter and str(adapter), quantize=recipe.model.quantize, min_pixels=recipe.model.min_pixels,
        max_pixels=recipe.model.max_pixels, threads=recipe.model.threads, batch_size=limits.batch,
    )  # fmt: skip
    agent_limits = AgentLimits(limits.max_turns, limits.max_reply_tokens, limits.max_tokens, limits.max_images)
    run = Evaluation(stage, folder / "trajectories.jsonl", agent_limits, RewardConfig.preset(recipe.rl.reward, 1.0))
    progress = Progress(f"eval {stage}", len(samples), "pictures")
    with Sandbox(mode="worker") as sandbox:
        summary = evaluate(model, sandbox, samples, run, lambda done, total: progress.update(done))
    results = _results(folder)
    results["stages"] = sorted([*results["stages"], summary], key=lambda s: STAGES.index(s["name"]))
    results["context"] = _context(recipe, model)
    write_atomic(folder / "results.json", json.dumps(results, indent=1))


def report(recipe: Recipe) -> None:
    """report.html from the run folder's files; prints the table and the path."""
    folder = Path(recipe.run_folder)
    _need(folder / "results.json", "make eval")
    path = write_report(folder)
    print(print_table(_results(folder)))
    print(f"report: {path}")


def gpu_check(recipe: Recipe) -> None:
    """Two steps of SFT and GRPO with the recipe's model on the GPU, in a folder of their own. Raises UserError where
    there is no GPU."""
    from codevision_lite.models.load import gpu_name, peak_gpu_gib

    if gpu_name() is None:
        raise UserError("gpu-check: no NVIDIA GPU that torch can use. On a GPU machine, install the GPU requirements with: make setup")
    small = replace(
        recipe, run_folder=f"{recipe.run_folder}-gpu-check", data=replace(recipe.data, sft_rows=64, rl_rows=64),
        sft=replace(recipe.sft, steps=2), rl=replace(recipe.rl, steps=2), eval=replace(recipe.eval, n_per_condition=2),
    )  # fmt: skip
    open_run(small)
    demo(small)
    print(f"peak GPU memory: {peak_gpu_gib():.1f} GiB on {gpu_name()}")


@contextmanager
def timed(folder: Path, stage: str) -> Iterator[None]:
    """Add the wall time of a stage to results.json."""
    started = time.time()
    yield
    results = _results(folder)
    results.setdefault("stage_seconds", {})[stage] = round(time.time() - started, 1)
    write_atomic(folder / "results.json", json.dumps(results, indent=1))


def _results(folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    return json.loads(path.read_text()) if path.exists() else {"stages": []}


def _note_run(folder: Path, wall_s: float) -> None:
    """Add wall time (over resumed runs too) and the peak memory of this process to results.json."""
    results = _results(folder)
    results["wall_s"] = round(results.get("wall_s", 0) + wall_s, 1)
    results["peak_rss_gib"] = round(max(results.get("peak_rss_gib", 0), peak_rss_gib()), 2)
    write_atomic(folder / "results.json", json.dumps(results, indent=1))


def peak_rss_gib() -> float:
    """Peak resident memory of this process, in GiB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)  # bytes on macOS, KiB on Linux


def _context(recipe: Recipe, model: Any) -> dict[str, Any]:
    size = model.processor.image_processor.size
    return {
        "seed": recipe.seed, "config_hash": recipe_hash(recipe), "commit": _commit(), "hardware": _hardware(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES}, "python": platform.python_version(),
        "model": recipe.model.name, "quantize": recipe.model.quantize,
        "min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"],
    }  # fmt: skip


def _commit() -> str:
    here = Path(__file__).parent
    done = subprocess.run(["git", "-C", str(here), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _hardware() -> str:
    from codevision_lite.models.load import gpu_name

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return gpu_name() or f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, no GPU"


def _need(path: Path, command: str) -> None:
    if not path.exists():
        raise UserError(f"{path} is not there yet. Make it with: {command}")
