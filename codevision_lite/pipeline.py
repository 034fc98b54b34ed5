"""The stages of a run, each resumable: synth -> base evaluation -> SFT -> evaluation -> GRPO -> evaluation -> report.

Every stage reads its inputs from the run folder and writes its outputs there; what is finished is not done again, and a
stage that was stopped goes on from its last checkpoint or row. `make demo` is all of them with recipes/demo.yaml.
Call `open_run` once before any of them.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codevision_lite.agent import AgentLimits
from codevision_lite.bench.context import commit, machine
from codevision_lite.bench.difficulty import KEPT, keep_useful, measure
from codevision_lite.bench.evaluate import Evaluation, evaluate
from codevision_lite.config import CONFIG_NAME, claim_run_folder, dump_recipe, holds_run, load_recipe, plain, recipe_hash
from codevision_lite.datasets.rows import load_samples, load_training_rows
from codevision_lite.errors import UserError
from codevision_lite.files import require_space, write_atomic
from codevision_lite.models.backend import start_backend
from codevision_lite.progress import Progress
from codevision_lite.recipe import Recipe
from codevision_lite.report import print_table, write_report
from codevision_lite.reward import RewardConfig
from codevision_lite.reward.user_file import load_scorer
from codevision_lite.sandbox import Sandbox

STAGES = ("base", "sft", "grpo")
# What a run may change on its way: how much goes through the machine at once and what is written when, not what is learned.
CHANGEABLE = ("log", "model.threads", "sft.micro_batch", "sft.save_every", "rl.micro_batch", "rl.rollout_batch", "rl.save_every")
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
    require_space(folder, needed_bytes(recipe))
    if claim(recipe):
        print(f"{folder}: going on with the run that is there", flush=True)
    return folder


def needed_bytes(recipe: Recipe) -> int:
    """What a whole run takes on disk, at most."""
    rows = recipe.data.sft_rows + recipe.data.rl_rows + 3 * 8 * recipe.eval.n_per_condition
    return rows * _ROW_BYTES + 300 * 2**20  # checkpoints and adapters: measured under 100 MB for the tiny model


def check_run(recipe: Recipe) -> bool:
    """As `open_run`, writing nothing: whether the run is there already. Raises UserError where it would."""
    require_space(Path(recipe.run_folder), needed_bytes(recipe))
    return _is_same_but_changeable(Path(recipe.run_folder) / CONFIG_NAME, recipe) or holds_run(recipe.run_folder, recipe)


def claim(recipe: Recipe) -> bool:
    """Make the run folder this recipe's own; True if it held the same run already. Raises UserError where it holds another."""
    _take_over(Path(recipe.run_folder) / CONFIG_NAME, recipe)
    return claim_run_folder(recipe.run_folder, recipe)


def _take_over(config: Path, recipe: Recipe) -> None:
    """Write the new values of CHANGEABLE into a run's config, and keys that are newer than the run where they are at their
    defaults, if nothing else differs; else leave it, to be refused."""
    if _is_same_but_changeable(config, recipe) and config.read_text(encoding="utf-8") != dump_recipe(recipe):
        write_atomic(config, dump_recipe(recipe))


def _is_same_but_changeable(config: Path, recipe: Recipe) -> bool:
    if not config.exists():
        return False
    try:
        old, new = plain(load_recipe(config, cls=Recipe)), plain(recipe)
    except UserError:
        return False
    for key in CHANGEABLE:
        *sections, name = key.split(".")
        before, now = old, new
        for section in sections:
            before, now = before.get(section, {}), now[section]
        before[name] = now[name]
    return old | {"run_folder": None} == new | {"run_folder": None}


def synth(recipe: Recipe) -> None:
    """data/{sft,rl,test}.jsonl with their pictures. Same seed, same bytes; a stopped run goes on."""
    from codevision_lite.synth.build import build

    build(Path(recipe.run_folder) / "data", recipe.seed, recipe.data, recipe.eval)


def require_inputs(recipe: Recipe, verb: str, stage: str | None = None) -> None:
    """Raises UserError for what sft, rl, filter or eval reads and is not there yet; `stage`: whose adapter filter or eval takes.

    Call it before `open_run`: a mistake then leaves no folder that the corrected command would be refused in."""
    folder = Path(recipe.run_folder)
    if (folder / {"sft": "sft", "rl": "grpo"}.get(verb, "") / "adapter").is_dir():
        return
    data = {"sft": "sft.jsonl", "rl": "rl.jsonl", "filter": "rl.jsonl", "eval": "test.jsonl"}[verb]
    _need(folder / "data" / data, "make synth")
    adapter = "sft" if verb == "rl" and recipe.rl.start == "sft" else stage if verb in ("eval", "filter") else None
    if adapter in ("sft", "grpo"):
        _need(folder / adapter / "adapter", "make sft" if adapter == "sft" else "make rl")
    if verb == "rl" and recipe.rl.reward_file:
        load_scorer(recipe.rl.reward_file)  # a mistake in it shows before a model is loaded


def sft(recipe: Recipe) -> None:
    """sft/adapter from data/sft.jsonl."""
    folder = Path(recipe.run_folder)
    if (folder / "sft" / "adapter").is_dir():
        return
    require_inputs(recipe, "sft")
    start_backend(recipe.model.backend)  # before what imports transformers and trl
    from codevision_lite.train.load import load_for_training
    from codevision_lite.train.log import StepLog
    from codevision_lite.train.sft import train_sft

    rows = load_training_rows(folder / "data" / "sft.jsonl")
    model, processor = load_for_training(recipe.model, seed=recipe.seed)
    log = StepLog("sft", recipe.sft.steps, folder / "metrics.jsonl", recipe.log)
    with timed(folder, "sft"):
        train_sft(model, processor, rows, recipe, folder / "sft", [log])


def rl(recipe: Recipe) -> None:
    """grpo/adapter from the SFT adapter (or a new one, as rl.start says) and data/rl.jsonl."""
    folder = Path(recipe.run_folder)
    if (folder / "grpo" / "adapter").is_dir():
        return
    require_inputs(recipe, "rl")
    adapter = folder / "sft" / "adapter" if recipe.rl.start == "sft" else None
    start_backend(recipe.model.backend)
    from codevision_lite.train.grpo import train_grpo
    from codevision_lite.train.load import load_for_training
    from codevision_lite.train.log import StepLog

    kept = folder / "data" / KEPT
    samples = load_samples(kept if kept.exists() else folder / "data" / "rl.jsonl")
    if kept.exists():
        print(f"rl: {len(samples)} samples of {kept}, which the difficulty filter kept", flush=True)
    model, processor = load_for_training(recipe.model, adapter=adapter and str(adapter), seed=recipe.seed)
    log = StepLog("grpo", recipe.rl.steps, folder / "metrics.jsonl", recipe.log)
    with timed(folder, "grpo"), Sandbox(mode="worker") as sandbox:
        train_grpo(model, processor, samples, recipe, folder / "grpo", [log], sandbox)


def difficulty(recipe: Recipe, stage: str, rollouts: int) -> None:
    """data/rl_kept.jsonl: the RL samples that the model of `stage` gets right sometimes, not always. Resumes by sample."""
    folder = Path(recipe.run_folder) / "data"
    _need(folder / "rl.jsonl", "make synth")
    samples, settings = load_samples(folder / "rl.jsonl"), recipe.rl
    model = _load_stage(recipe, stage, batch_size=recipe.eval.batch, temperature=settings.temperature, seed=recipe.seed)
    limits = AgentLimits.of(settings)
    progress = Progress(f"filter with {stage}", len(samples), "samples")
    with Sandbox(mode="worker") as sandbox:
        right = measure(model, sandbox, samples, folder / f"difficulty_{stage}.jsonl", rollouts=rollouts, limits=limits,
                        on_progress=progress.update)  # fmt: skip
    counts = keep_useful(folder, right, rollouts)
    print(f"{folder / KEPT}: " + ", ".join(f"{n} {what}" for what, n in counts.items()))


def trained_stages(recipe: Recipe) -> list[str]:
    """The base and the stages whose adapters the run folder holds."""
    return [s for s in STAGES if s == "base" or (Path(recipe.run_folder) / s / "adapter").is_dir()]


def evaluate_stage(recipe: Recipe, stage: str) -> None:
    """One model over data/test.jsonl: rows in trajectories.jsonl, numbers in results.json. Raises UserError where
    something it needs is not there yet."""
    if stage not in STAGES:
        raise UserError(f"unknown stage {stage!r}: use one of {', '.join(STAGES)}")
    folder = Path(recipe.run_folder)
    if any(s["name"] == stage for s in read_results(folder)["stages"]):
        return
    _need(folder / "data" / "test.jsonl", "make synth")
    samples, limits = load_samples(folder / "data" / "test.jsonl"), recipe.eval
    model = _load_stage(recipe, stage, batch_size=limits.batch)
    agent_limits = AgentLimits.of(limits)
    run = Evaluation(stage, folder / "trajectories.jsonl", agent_limits, RewardConfig.preset(recipe.rl.reward, 1.0))
    progress = Progress(f"eval {stage}", len(samples), "pictures")
    with Sandbox(mode="worker") as sandbox:
        summary = evaluate(model, sandbox, samples, run, lambda done, total: progress.update(done))
    results = read_results(folder)
    results["stages"] = sorted([*results["stages"], summary], key=lambda s: STAGES.index(s["name"]))
    results["context"] = _context(recipe, model)
    write_atomic(folder / "results.json", json.dumps(results, indent=1))


def _load_stage(recipe: Recipe, stage: str, **sampling: Any) -> Any:
    """The base model, with the adapter of the stage. Raises UserError where the stage is not trained yet."""
    from codevision_lite.models import load_model

    adapter = None if stage == "base" else Path(recipe.run_folder) / stage / "adapter"
    if adapter:
        _need(adapter, "make sft" if stage == "sft" else "make rl")
    model = recipe.model
    return load_model(
        model.name, adapter=adapter and str(adapter), quantize=model.quantize, min_pixels=model.min_pixels, max_pixels=model.max_pixels,
        threads=model.threads, backend=model.backend, **sampling,
    )  # fmt: skip


def report(recipe: Recipe) -> None:
    """report.html from the run folder's files; prints the table and the path."""
    folder = Path(recipe.run_folder)
    _need(folder / "results.json", "make eval")
    path = write_report(folder)
    print(print_table(read_results(folder)))
    print(f"report: {path}")


@contextmanager
def timed(folder: Path, stage: str) -> Iterator[None]:
    """Add the wall time of a stage to results.json."""
    started = time.time()
    yield
    results = read_results(folder)
    results.setdefault("stage_seconds", {})[stage] = round(time.time() - started, 1)
    write_atomic(folder / "results.json", json.dumps(results, indent=1))


def read_results(folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    return json.loads(path.read_text()) if path.exists() else {"stages": []}


def _note_run(folder: Path, wall_s: float) -> None:
    """Add wall time (over resumed runs too) and the peak memory of this process to results.json."""
    results = read_results(folder)
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
        "seed": recipe.seed, "config_hash": recipe_hash(recipe), "commit": commit(), "hardware": machine(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES}, "python": platform.python_version(),
        "model": recipe.model.name, "quantize": recipe.model.quantize,
        "min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"],
    }  # fmt: skip


def _need(path: Path, command: str) -> None:
    if not path.exists():
        raise UserError(f"{path} is not there yet. Make it, with the same recipe, by: {command}")
