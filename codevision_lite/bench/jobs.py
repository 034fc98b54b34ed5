"""The jobs of the command line: run a benchmark, score it again, and write what a run folder shows."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from codevision_lite.bench.benchmark import Benchmark, get_benchmark
from codevision_lite.bench.context import run_context
from codevision_lite.bench.run import ROWS, read_failures, read_rows, run_items, scored_again
from codevision_lite.bench.settings import NOT_THE_RUN, BenchConfig, load_samples
from codevision_lite.bench.summary import file_facts, summarise
from codevision_lite.bench.tool_use import operations_of
from codevision_lite.config import CONFIG_NAME, claim_run_folder, dump_recipe, load_recipe
from codevision_lite.errors import UserError
from codevision_lite.files import append_jsonl, explain_os_errors, read_jsonl, require_space, write_atomic
from codevision_lite.models import ChatModel, load_model
from codevision_lite.models.openai import ServerModel
from codevision_lite.models.server import ChatServer
from codevision_lite.report.benchmark import benchmark_table, write_benchmark_report
from codevision_lite.sandbox import Sandbox

RESULTS = "results.json"
_ROW_BYTES = 10_000  # of a row with its text; pictures are kept of the first items alone
_PICTURES_BYTES = 50 * 2**20


def run_benchmark(config: BenchConfig, folder: Path, model: ChatModel | None = None) -> dict[str, Any]:
    """Run what is not done yet, write results.json and report.html, print the table; returns the results.

    `model`: what answers in place of the one that `config` names. Raises UserError where the folder holds another run, the file or
    the model can't be read, or a server fails again and again."""
    benchmark = get_benchmark(config.benchmark)
    config = config.resolved(benchmark)
    loaded = load_samples(benchmark, config)
    require_space(folder, needed_bytes(len(loaded.samples) * len(config.damages)))
    if claim_run_folder(folder, config, NOT_THE_RUN):
        print(f"{folder}: going on with the run that is there", flush=True)
    for bad in loaded.bad_rows[:3]:
        print(f"left out: {bad}", flush=True)
    if len(loaded.bad_rows) > 3:
        print(f"left out: {len(loaded.bad_rows) - 3} more rows, named in {folder / RESULTS}", flush=True)
    ids = [sample.id for sample in loaded.samples]
    before = _results(folder)
    context = before.get("context")
    started = time.perf_counter()
    if context is None or {row["id"] for row in read_rows(folder)} < {f"{i}@{d}" for i in ids for d in config.damages}:
        model = model or make_model(config)
        context = run_context(config, model)
        with Sandbox(mode="inline" if config.tools == "off" else "worker") as sandbox:  # off: no code runs, no process is needed
            run_items(benchmark, config, loaded.samples, model, sandbox, folder)
    wall_s = before.get("wall_s", 0.0) + time.perf_counter() - started
    return _write(benchmark, config, folder, ids, {**file_facts(loaded), "context": context, "wall_s": round(wall_s, 1)})


def needed_bytes(n_items: int) -> int:
    """What a run of so many items takes on disk, at most."""
    return _PICTURES_BYTES + _ROW_BYTES * n_items


def rescore(folder: Path, switches: dict[str, str] | None = None, sft_rows: str | None = None) -> dict[str, Any]:
    """Score the rows of a run again with the rule as it is now, without the model; `switches` replace those of the run.

    Raises UserError where `folder` holds no run, and for a switch that says how the file is read."""
    config = load_config(folder)
    benchmark = get_benchmark(config.benchmark)
    for name in switches or {}:
        if name in benchmark.switches and benchmark.switches[name].is_of_load:
            raise UserError(f"rescore: {name} says how the file is read, and it was read already. Run again: bench --switch")
    config = replace(config, switches=config.switches | (switches or {}), sft_rows=sft_rows or config.sft_rows).resolved(benchmark)
    before = _results(folder)
    rows = [scored_again(benchmark, row, config.switches) for row in read_rows(folder)]
    if not rows:
        raise UserError(f"{folder}: no rows there yet ({ROWS}). Make them with: codevision-lite bench {config.benchmark} --out {folder}")
    unfinished = folder / f".{ROWS}.part"
    unfinished.unlink(missing_ok=True)
    for row in rows:
        append_jsonl(unfinished, row)
    with explain_os_errors(folder):
        unfinished.replace(folder / ROWS)
    write_atomic(folder / CONFIG_NAME, dump_recipe(config))
    kept = {name: before[name] for name in ("n_in_file", "n_samples", "bad_rows", "context", "wall_s") if name in before}
    return _write(benchmark, config, folder, before.get("ids") or list(dict.fromkeys(row["item"] for row in rows)), kept)


def load_config(folder: Path) -> BenchConfig:
    """The config of a run folder. Raises UserError where it holds no run of a benchmark."""
    if not (folder / CONFIG_NAME).is_file():
        raise UserError(f"{folder}: no run here (no {CONFIG_NAME}). Start one with: codevision-lite bench NAME --out {folder}")
    return load_recipe(folder / CONFIG_NAME, cls=BenchConfig)


def make_model(config: BenchConfig) -> ChatModel:
    """The model that a config names. Raises UserError where it can't be loaded."""
    if config.server:
        return ServerModel(ChatServer(config.server, config.model, timeout_s=config.timeout_s))
    return load_model(
        config.model, adapter=config.adapter, quantize=config.quantize, min_pixels=config.min_pixels, max_pixels=config.max_pixels,
        batch_size=config.batch, backend=config.backend,
    )  # fmt: skip


def known_operations(config: BenchConfig) -> set[str] | None:
    """The operations of the SFT data: of the file that is given, else of the run folder that the adapter lies in; None: not known."""
    if config.sft_rows:
        return operations_of(Path(config.sft_rows))
    beside = Path(config.adapter).parent.parent / "data" / "sft.jsonl" if config.adapter else None
    return operations_of(beside) if beside and beside.is_file() else None


def _write(benchmark: Benchmark, config: BenchConfig, folder: Path, ids: list[str], more: dict[str, Any]) -> dict[str, Any]:
    # Without the texts of its turns a row is small: the report reads those of the few that it shows.
    rows = read_jsonl(folder / ROWS, _without_trajectory, cut_tail=True) if (folder / ROWS).exists() else []
    results = {**summarise(benchmark, config, ids, rows, read_failures(folder), known_operations(config)), **more}
    write_atomic(folder / RESULTS, json.dumps(results, indent=1, ensure_ascii=False))
    path = write_benchmark_report(folder)
    print(benchmark_table(results))
    print(f"report: {path}")
    return results


def _without_trajectory(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "trajectory"}


def _results(folder: Path) -> dict[str, Any]:
    path = folder / RESULTS
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as e:
        raise UserError(f"{path}: not JSON ({e}). Remove it and run again: the rows are kept") from e
