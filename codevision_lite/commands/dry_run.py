"""What --dry-run prints: from the files that are there, what is done and what would be; nothing is written, no model is loaded.

What the verb itself would refuse before its work (another run in the folder, a missing input, a full disk) is refused here in the
same words. torch is imported only where a GPU's memory decides what would run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codevision_lite.errors import UserError
from codevision_lite.files import read_jsonl
from codevision_lite.progress import hanging

if TYPE_CHECKING:
    from codevision_lite.bench.settings import BenchConfig
    from codevision_lite.miniature.plan import Miniature
    from codevision_lite.recipe import PretrainConfig, Recipe

_TINY_BASE_BYTES = 100 * 2**20  # weights, and the checkpoints of four phases


@dataclass(frozen=True)
class Step:
    """A line of the answer. `done` of `total` units; `total` 1 is a step that is there or not."""

    name: str
    what: str
    done: int = 0
    total: int = 1

    @property
    def is_done(self) -> bool:
        return self.done >= self.total

    @property
    def state(self) -> str:
        return "done" if self.is_done else f"{self.done:,} of {self.total:,}" if self.done else "to do"


def show_run(recipe: Recipe, verb: str, stage: str | None, rollouts: int | None) -> None:
    """A verb of a run: demo, synth, sft, rl, eval or filter. Raises UserError where the verb would, before any work."""
    from codevision_lite import pipeline

    folder = Path(recipe.run_folder)
    there = pipeline.check_run(recipe)
    facts = [f"run folder   {folder} ({'goes on with the run that is there' if there else 'new'})"]
    if verb != "synth":
        facts.append(f"model        {_model(recipe.model.name)}")
    if verb in ("demo", "sft", "rl"):
        facts += _training_facts(recipe)
    if recipe.data.teacher and verb in ("demo", "synth") and not (folder / "data" / "manifest.json").exists():
        facts.append(f"teacher      {recipe.data.teacher_model} at {recipe.data.teacher}, "
                     f"at most {recipe.data.teacher_max_tokens:,} tokens")  # fmt: skip
    _show(facts, _run_steps(recipe, verb, stage, rollouts), folder, 0 if there else pipeline.needed_bytes(recipe))


def _run_steps(recipe: Recipe, verb: str, stage: str | None, rollouts: int | None) -> list[Step]:
    from codevision_lite import pipeline

    if verb == "demo":
        steps = [_synth(recipe)]
        for name in pipeline.STAGES:
            steps += {"sft": [_sft(recipe)], "grpo": [_rl(recipe)]}.get(name, [])
            steps.append(_evaluation(recipe, name))
        return [*steps, _report(recipe)]
    if verb == "synth":
        return [_synth(recipe)]
    pipeline.require_inputs(recipe, verb, stage)
    if verb == "eval":
        stages = [stage] if stage else pipeline.trained_stages(recipe)
        return [*(_evaluation(recipe, name) for name in stages), _report(recipe)]
    return [{"sft": _sft, "rl": _rl}[verb](recipe) if verb in ("sft", "rl") else _filter(recipe, stage or "sft", rollouts or 8)]


def _synth(recipe: Recipe) -> Step:
    from codevision_lite.synth.build import CHUNK

    data, folder = recipe.data, Path(recipe.run_folder) / "data"
    n_test = _n_test(recipe)
    total = data.sft_rows + data.rl_rows + n_test
    done = total if (folder / "manifest.json").exists() else min(CHUNK * len(list(folder.glob("parts/*.jsonl"))), total - 1)
    what = f"{data.sft_rows:,} SFT rows, {data.rl_rows:,} RL rows, {n_test:,} held-out pictures of the world of {data.world}"
    return Step("synth", what, done, total)


def _n_test(recipe: Recipe) -> int:
    from codevision_lite.synth import pages, samples

    world = samples.CONDITIONS if recipe.data.world == "signs" else pages.CONDITIONS
    return recipe.eval.n_per_condition * len(recipe.eval.conditions or world)


def _sft(recipe: Recipe) -> Step:
    what = f"{recipe.sft.steps:,} steps of {recipe.sft.batch} trajectories"
    return _trained("sft", Path(recipe.run_folder) / "sft", recipe.sft.steps, what)


def _rl(recipe: Recipe) -> Step:
    from codevision_lite.bench.difficulty import KEPT

    rl, folder = recipe.rl, Path(recipe.run_folder)
    kept = folder / "data" / KEPT
    on = f", on the {len(read_jsonl(kept)):,} samples of {kept}" if kept.exists() else ""
    what = f"{rl.steps:,} steps of {rl.prompts} prompts x {rl.generations} rollouts, {rl.reward_file or rl.reward} reward{on}"
    return _trained("rl", folder / "grpo", rl.steps, what)


def _trained(name: str, folder: Path, steps: int, what: str) -> Step:
    from codevision_lite.train.checkpoints import reached_step

    if (folder / "adapter").is_dir():
        return Step(name, f"{what}: {folder / 'adapter'}", steps, steps)
    return Step(name, what, min(reached_step(folder / "checkpoints"), steps - 1), steps)


def _evaluation(recipe: Recipe, stage: str) -> Step:
    from codevision_lite.bench.evaluate import stage_rows
    from codevision_lite.pipeline import read_results

    folder, total = Path(recipe.run_folder), _n_test(recipe)
    if any(done["name"] == stage for done in read_results(folder)["stages"]):
        return Step(f"eval {stage}", f"{total:,} held-out pictures", total, total)
    done = min(len(stage_rows(folder / "trajectories.jsonl", stage)), total - 1)
    return Step(f"eval {stage}", f"{total:,} held-out pictures, at most {recipe.eval.max_turns} turns each", done, total)


def _filter(recipe: Recipe, stage: str, rollouts: int) -> Step:
    folder = Path(recipe.run_folder) / "data"
    total, before = len(read_jsonl(folder / "rl.jsonl")), folder / f"difficulty_{stage}.jsonl"
    done = len(read_jsonl(before, cut_tail=True)) if before.exists() else 0
    return Step("filter", f"{total:,} RL samples x {rollouts} rollouts of the {stage} model", done, total)


def _report(recipe: Recipe) -> Step:
    return Step("report", f"{Path(recipe.run_folder) / 'report.html'}, written anew")


def _training_facts(recipe: Recipe) -> Iterable[str]:
    from codevision_lite.doctor.machine import has_gpu

    if recipe.model.backend == "unsloth":
        from codevision_lite.models.backend import choose_backend

        choose_backend("unsloth")  # refuses
    if recipe.gpu_gib is not None:
        here = "there is one here; does it fit: codevision-lite plan RECIPE" if has_gpu() else "there is none here: this would be very slow"
        yield f"GPU          the recipe is for a card of {recipe.gpu_gib:g} GiB; {here}"
    if trackers := [name for name in recipe.log if name != "tensorboard"]:
        yield f"sent out     metrics, to {' and '.join(trackers)} (log)"


def show_tiny_base(config: PretrainConfig) -> None:
    """The four phases of the tiny base model."""
    work = Path(config.work_folder)
    phases = {"tower": (config.tower_steps, config.tower_batch), "language": (config.language_steps, config.language_batch),
              "chat": (config.chat_steps, config.chat_batch), "thoughts": (config.thought_steps, config.chat_batch)}  # fmt: skip
    steps = []
    for name, (n, batch) in phases.items():
        begun = ": goes on from its checkpoint, or is done" if (work / f"{name}.pt").exists() else ""  # only torch can read the step
        steps.append(Step(name, f"{n:,} steps of {batch} {'views' if name == 'tower' else 'rows'}{begun}"))
    _show([f"work folder  {work}", f"writes       {config.out_folder}"], steps, work, _TINY_BASE_BYTES)


def show_miniature(plan: Miniature) -> None:
    """Every run of the experiment."""
    from codevision_lite import pipeline
    from codevision_lite.miniature.runs import make_jobs

    steps, needed = [], 0
    for job in make_jobs(plan):
        left = job.left()
        needed += 0 if pipeline.check_run(job.recipe) else pipeline.needed_bytes(job.recipe)
        what = "; ".join(" ".join(verb) for verb in left) or str(job.folder)
        steps.append(Step(job.name, what, len(job.verbs) - len(left), len(job.verbs)))
    facts = [f"folder       {plan.run_folder}", f"model        {_model(plan.recipe.model.name)}",
             f"processes    {plan.jobs} at a time, each with one core"]  # fmt: skip
    _show(facts, steps, Path(plan.run_folder), needed)


def show_bench(config: BenchConfig, folder: Path) -> None:
    """A run of a benchmark. A file is read, so that rows which can't be used are told; built-in sets are not drawn."""
    from codevision_lite.bench import jobs
    from codevision_lite.bench.benchmark import get_benchmark
    from codevision_lite.bench.run import read_rows
    from codevision_lite.bench.settings import NOT_THE_RUN, load_samples
    from codevision_lite.bench.variants import UNDAMAGED
    from codevision_lite.config import holds_run
    from codevision_lite.files import require_space

    benchmark = get_benchmark(config.benchmark)
    config = config.resolved(benchmark)
    facts = [f"benchmark    {benchmark.name}, {config.file or 'built in'}"]
    if config.file is None and not benchmark.needs_file:
        n = int(config.switches["n"])
    else:
        loaded = load_samples(benchmark, config)
        n = len(loaded.samples)
        if loaded.bad_rows:
            facts.append(f"left out     {len(loaded.bad_rows)} rows that can't be used, first {loaded.bad_rows[0]}")
    total = n * len(config.damages)
    require_space(folder, jobs.needed_bytes(total))
    there = holds_run(folder, config, NOT_THE_RUN)
    model = f"{config.model} at {config.server}: it is sent every picture" if config.server else _model(config.model, config.adapter)
    facts += [f"run folder   {folder} ({'goes on with the run that is there' if there else 'new'})", f"model        {model}"]
    damaged = sum(damage != UNDAMAGED for damage in config.damages)
    under = f" {'upright and ' if damaged < len(config.damages) else ''}under {damaged} damage{'s' if damaged > 1 else ''}"
    what = f"{n:,} samples{under if damaged else ''}, tools {config.tools}"
    steps = [Step("items", what, len(read_rows(folder)), total), Step("report", f"{folder / 'report.html'}, written anew")]
    _show(facts, steps, folder, 0 if there else jobs.needed_bytes(total))


def show_gpu_check(names: Sequence[str], out: Path, work: Path, cpu: bool) -> None:
    """The pieces of the GPU check. Raises UserError without a GPU, as the verb does."""
    from codevision_lite.doctor.machine import has_gpu
    from codevision_lite.train import gpu_check

    pieces = [gpu_check.find_piece(name) for name in names] or list(gpu_check.PIECES)
    if not cpu and not has_gpu():
        raise UserError("gpu-check: no NVIDIA GPU that torch can use. On a GPU machine, install the GPU requirements with: make setup")
    steps = []
    for piece in pieces:
        done = gpu_check.read_result(out, piece).get("status") == "ok"
        reason = None if done else gpu_check.why_not(piece, cpu)
        more = f": left out, {reason}" if reason else "" if done or cpu else f" (about {piece.minutes:g} min)"
        steps.append(Step(piece.name, f"{piece.what}{more}", int(done)))
    _show([f"results      {out}", f"work folder  {work}"], steps, work, 0 if cpu else 10 * 2**30)


def _show(facts: Sequence[str], steps: Sequence[Step], folder: Path, needed: int) -> None:
    """Print it all. `needed`: bytes on the disk of `folder`; 0 where a run that is there has taken them."""
    for fact in (*facts, f"disk         {f'at most {needed / 2**20:,.0f} MiB are needed, ' if needed else ''}{_free(folder)}"):
        print(hanging(fact[:13], fact[13:]))
    print()
    wide, states = (max(len(text) for text in texts) for texts in zip(*((step.name, step.state) for step in steps), strict=True))
    for step in steps:
        print(hanging(f"{step.name:<{max(wide, 12)}} {step.state:<{max(states, 5)}}  ", step.what))
    first = next((step.name for step in steps if not step.is_done), None)
    print(f"\nNothing was written. Without --dry-run it {f'starts with: {first}' if first else 'would find everything done'}")


def _model(name: str, adapter: str | None = None) -> str:
    """Where a model is, and what would be downloaded. Raises UserError for a folder that is not there."""
    on_top = f" with {adapter}" if adapter else ""
    if adapter and not (Path(adapter) / "adapter_config.json").is_file():
        raise UserError(f"{adapter}: no adapter there (adapter_config.json is missing). Train one with: make sft")
    folder = Path(name)
    if folder.is_dir():
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return f"{name}{on_top} (on this disk, {size / 2**20:,.0f} MiB)"
    if folder.is_absolute() or name.startswith(".") or name.count("/") > 1:
        raise UserError(f"model {name!r}: no such folder. Give a local folder or a hub name (the tiny model: sample_data/tiny_base)")
    base = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or base / "hub")
    if any((cache / f"models--{name.replace('/', '--')}" / "snapshots").glob("*/*.safetensors")):
        return f"{name}{on_top} (in the cache, {cache})"
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise UserError(f"model {name!r}: not on this disk and not in {cache}, and HF_HUB_OFFLINE forbids a download")
    return f"{name}{on_top} (would be downloaded from the hub{_download_size(name)}, to {cache}: {_free(cache)})"


def _free(folder: Path) -> str:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return f"{shutil.disk_usage(there).free / 2**20:,.0f} MiB are free"


def _download_size(name: str) -> str:
    from codevision_lite.train.shapes import KNOWN, load_shape

    known = any(part in name.lower() for part in KNOWN) and "bit" not in name.lower()
    return f", about {2 * load_shape(name).parameters() / 2**30:.1f} GiB" if known else ""
