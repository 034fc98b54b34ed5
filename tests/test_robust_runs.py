"""Runs that are killed, poisoned, or starved of memory or disk: what is left, what is said, and that they go on to the same end.

Every run is the real command in a process of its own, forked from a server that has imported the libraries once.
"""

from __future__ import annotations

import errno
import functools
import math
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pictures import sample
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments

from codevision_lite import pipeline
from codevision_lite.cli import main
from codevision_lite.config import dump_recipe, load_recipe
from codevision_lite.datasets.rows import TrainingRow
from codevision_lite.errors import MissingPackage, UserError
from codevision_lite.files import append_jsonl, read_jsonl
from codevision_lite.recipe import SFT_MIX, ModelConfig, Recipe, RLStage, SFTStage
from codevision_lite.synth.gold import make_golds
from codevision_lite.synth.samples import make_items
from codevision_lite.synth.signs_scripts import write_script
from codevision_lite.train import sft as sft_module
from codevision_lite.train.checkpoints import checkpoint_bytes, checkpoints, last_checkpoint, require_room, seal
from codevision_lite.train.guard import Guarded, accumulation, is_out_of_memory, memory_knobs, memory_numbers
from codevision_lite.train.load import load_for_training
from codevision_lite.train.log import StepLog
from codevision_lite.train.sft import train_sft
from codevision_lite.train.trackers import open_tracker

BASE = Path(__file__).parent.parent / "sample_data" / "tiny_base"  # it answers, so that rewards differ and GRPO moves
RECIPE = """\
run_folder: {folder}/run
model: {{name: {model}, lora_r: 8, quantize: none}}
data: {{sft_rows: 10, rl_rows: 6, processes: 1}}
sft: {{steps: 7, batch: 4, micro_batch: 2, save_every: 2}}
rl: {{steps: 5, prompts: 2, generations: 4, micro_batch: 4, learning_rate: 1e-3, max_turns: 2, max_reply_tokens: 32, save_every: 2}}
eval: {{n_per_condition: 1}}
"""
CLOCKS = ("seconds", "step_time", "time/", "profiling/")  # beginnings of what measures time in a row of metrics.jsonl


# ---------------------------------------------------------------- processes


def command(argv, said, prepare=None):
    """Runs in the child: the command line `argv`; what it prints goes to the file `said`."""
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    torch.set_num_threads(1)
    from codevision_lite.cli import main

    if prepare:
        prepare()
    os._exit(main(argv))


def kill_in_the_middle_of_a_file():
    """SIGKILL when half of checkpoint-4's optimizer state is on disk."""
    whole = torch.save

    def half(content, path, *args, **kwargs):
        whole(content, path, *args, **kwargs)
        if str(path).endswith("checkpoint-4/optimizer.pt"):
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half


def kill_before_the_rename():
    """SIGKILL when all of checkpoint-4 is written, under its other name."""
    from codevision_lite.train import checkpoints as module

    whole = module.flush

    def flush(folder):
        whole(folder)
        if folder.name == "checkpoint-4":
            os.kill(os.getpid(), signal.SIGKILL)

    module.flush = flush


@pytest.fixture(scope="module")
def start():
    """start(argv, said, prepare=None) -> a running process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["codevision_lite.train.sft", "codevision_lite.train.grpo", "codevision_lite.pipeline", "peft"])

    def run(argv, said, prepare=None):
        process = context.Process(target=command, args=([str(a) for a in argv], str(said), prepare))
        process.start()
        return process

    return run


@pytest.fixture(scope="module")
def finished(start, tmp_path_factory, tiny_folder):
    """A folder with a recipe and its run, whose data, SFT and GRPO were made without a break."""
    folder = tmp_path_factory.mktemp("finished")
    write_recipe(folder, tiny_folder)
    for verb in ("synth", "sft", "rl"):
        finish(start, folder, verb)
    return folder


def write_recipe(folder, tiny_folder):
    (folder / "small.yaml").write_text(RECIPE.format(folder=folder, model=BASE))


def finish(start, folder, verb, *overrides, prepare=None, code=0):
    """Run the verb to its end; returns what it said."""
    process = start([verb, folder / "small.yaml", *overrides], folder / "said.txt", prepare)
    process.join()
    said = (folder / "said.txt").read_text()
    assert process.exitcode == code, said
    return said


def beginning_of(finished, tmp_path, tiny_folder, stage, *overrides):
    """A copy of the run before `stage`, with a recipe of its own, claimed with the overrides."""
    write_recipe(tmp_path, tiny_folder)
    leave = ["tensorboard", "grpo", "metrics.jsonl"] + (["sft"] if stage == "sft" else [])
    shutil.copytree(finished / "run", tmp_path / "run", ignore=shutil.ignore_patterns(*leave))
    (tmp_path / "run" / "config.yaml").write_text(dump_recipe(load_recipe(tmp_path / "small.yaml", overrides, cls=Recipe)))
    return tmp_path


def curve(folder, stage):
    rows = [row for row in read_jsonl(folder / "run" / "metrics.jsonl") if row["stage"] == stage]
    return [{k: v for k, v in row.items() if not k.startswith(CLOCKS)} for row in rows]


def adapter(folder, stage):
    return (folder / "run" / stage / "adapter" / "adapter_model.safetensors").read_bytes()


def kill_at_step(process, metrics, stage, step):
    """SIGKILL as soon as the row of `step` is there."""
    while process.is_alive():
        text = metrics.read_text() if metrics.exists() else ""
        if re.search(rf'"stage": "{stage}", "step": {step},', text):
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.01)
    process.join()
    assert process.exitcode == -signal.SIGKILL


# ---------------------------------------------------------------- kill -9


@pytest.mark.slow
@pytest.mark.parametrize("verb, stage, kill", [("sft", "sft", kill_in_the_middle_of_a_file), ("rl", "grpo", kill_before_the_rename)])
def test_a_run_that_is_killed_twice_ends_as_if_it_had_not_been(start, finished, tmp_path, tiny_folder, verb, stage, kill):
    folder = beginning_of(finished, tmp_path, tiny_folder, stage)
    kept = folder / "run" / stage / "checkpoints"
    kill_at_step(start([verb, folder / "small.yaml"], folder / "said.txt"), folder / "run" / "metrics.jsonl", stage, 3)
    assert [p.name for p in checkpoints(kept)] == ["checkpoint-2"]
    finish(start, folder, verb, prepare=kill, code=-signal.SIGKILL)
    assert [p.name for p in checkpoints(kept)] == ["checkpoint-2"], "the one that was being written is not among them"
    assert (kept / "unfinished" / "checkpoint-4").is_dir()
    finish(start, folder, verb)
    assert curve(folder, stage) == curve(finished, stage), "same steps, each once, with the same numbers"
    assert adapter(folder, stage) == adapter(finished, stage)
    assert not (kept / "unfinished").exists() and len(checkpoints(kept)) == 2
    if stage == "grpo":
        assert sum(row["grad_norm"] > 0 for row in curve(finished, "grpo")) >= 3, "it learned something that could have been lost"
        ours, theirs = (read_jsonl(f / "run" / "grpo" / "rollouts.jsonl") for f in (folder, finished))
        assert [(r["step"], r["sample_id"], r["turns"], r["total"]) for r in ours] == [
            (r["step"], r["sample_id"], r["turns"], r["total"]) for r in theirs
        ]
    seconds = [row["seconds"] for row in read_jsonl(folder / "run" / "metrics.jsonl") if row["stage"] == stage]
    assert seconds == sorted(seconds), "the clock goes on"
    assert scalars(folder / "run" / "tensorboard" / stage, "loss") == [
        (row["step"], pytest.approx(row["loss"])) for row in curve(folder, stage)
    ]


def scalars(folder, name):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return [(e.step, e.value) for e in events.Scalars(name)]


@pytest.mark.slow
def test_a_run_goes_on_with_a_smaller_micro_batch_and_with_nothing_else(start, finished, tmp_path, tiny_folder):
    folder = beginning_of(finished, tmp_path, tiny_folder, "sft")
    kill_at_step(start(["sft", folder / "small.yaml"], folder / "said.txt"), folder / "run" / "metrics.jsonl", "sft", 3)
    assert "holds another run (sft.learning_rate" in finish(start, folder, "sft", "sft.learning_rate=0.1", "sft.micro_batch=1", code=2)
    finish(start, folder, "sft", "sft.micro_batch=1")
    assert [row["step"] for row in curve(folder, "sft")] == list(range(1, 8))
    for ours, theirs in zip(curve(folder, "sft"), curve(finished, "sft"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)


# ---------------------------------------------------------------- not a number


@pytest.fixture(scope="module")
def rows(sandbox):
    rng = random.Random(0)
    scripts = [write_script(item, rng, error_share=0.0, second_style=0.3) for item in make_items(0, "train", 12, SFT_MIX)]
    return [TrainingRow(g.item.sample, g.trajectory, g.trained) for g in make_golds(scripts, sandbox)]


class Poison(StepLog):
    """Calls `poison(model)` as the third step begins; keeps the optimizer."""

    def __init__(self, folder, poison=None):
        super().__init__("sft", 4, folder / "metrics.jsonl")
        self.poison, self.optimizer = poison, None

    def on_step_begin(self, args, state, control, model=None, optimizer=None, **_):
        self.optimizer = optimizer
        if state.global_step == 2 and self.poison:
            self.poison(model)


def sft_run(tiny_folder, rows, folder, poison=None):
    """(model, log, error) of four steps of two micro-batches, a checkpoint after each."""
    settings = ModelConfig(name=str(tiny_folder), quantize="none", lora_r=8, lora_alpha=8)
    recipe = Recipe(model=settings, sft=SFTStage(steps=4, batch=4, micro_batch=2, save_every=1))
    model, processor = load_for_training(settings, seed=0)
    log, error = Poison(folder, poison), None
    try:
        train_sft(model, processor, rows, recipe, folder / "sft", [log])
    except UserError as e:
        error = str(e)
    return model, log, error


def trained(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if "lora_" in name}


def a_weight_that_is_infinite(model):
    with torch.no_grad():
        model.get_output_embeddings().weight[0, 0] = math.inf


def a_gradient_that_overflows(model):
    weight = next(p for name, p in model.named_parameters() if "lora_B" in name)
    weight.register_hook(lambda gradient: gradient * 1e38 * 1e38)


@pytest.fixture(scope="module")
def whole_sft(tiny_folder, rows, tmp_path_factory):
    model, _, error = sft_run(tiny_folder, rows, tmp_path_factory.mktemp("whole"))
    assert error is None
    return trained(model)


@pytest.mark.slow
@pytest.mark.parametrize("poison", [a_weight_that_is_infinite, a_gradient_that_overflows])
def test_a_number_that_is_not_finite_stops_sft_before_the_optimizer_uses_it(tmp_path, tiny_folder, rows, whole_sft, poison):
    model, log, error = sft_run(tiny_folder, rows, tmp_path, poison)
    assert re.match(r"sft step 3: the (loss|gradient's norm) is (nan|inf|-inf) \(samples ", error) and "\n" not in error
    assert "sft.learning_rate=" in error and "run_folder" in error
    last = load_file(tmp_path / "sft" / "checkpoints" / "checkpoint-2" / "adapter_model.safetensors")
    now = {name.replace(".default", ""): p for name, p in trained(model).items()}
    assert last.keys() == now.keys() and all(torch.equal(last[name], now[name]) for name in last)
    assert {int(state["step"]) for state in log.optimizer.state.values()} == {2}
    saved = torch.load(tmp_path / "sft" / "not_finite_step3.pt", weights_only=True)
    assert saved["step"] == 3 and not math.isfinite(saved["value"]) and saved["learning_rate"] > 0
    assert len(saved["micro_batches"]) == (2 if "gradient" in error else 1)
    shown = [i for batch in saved["micro_batches"] for i in range(len(batch["input_ids"]))]
    assert len(saved["sample_ids"]) == len(shown) and set(saved["sample_ids"]) <= {row.sample.id for row in rows}
    assert saved["sample_ids"][0] in error
    assert not (tmp_path / "sft" / "adapter").exists()
    model, _, error = sft_run(tiny_folder, rows, tmp_path)  # what was wrong is put right
    assert error is None
    assert all(torch.equal(whole_sft[name], p) for name, p in trained(model).items())


@pytest.mark.slow
def test_the_batch_with_an_infinite_pixel_is_the_one_that_is_saved(tmp_path, tiny_folder, rows, monkeypatch):
    bad = rows[5].sample.id

    class Broken(sft_module.TrajectoryCollator):
        def __call__(self, examples):
            out = super().__call__(examples)
            if bad in [self.rows[e["index"]].sample.id for e in examples]:
                out["pixel_values"][0, 0] = math.inf
            return out

    monkeypatch.setattr(sft_module, "TrajectoryCollator", Broken)
    _, _, error = sft_run(tiny_folder, rows, tmp_path)
    (path,) = (tmp_path / "sft").glob("not_finite_step*.pt")
    saved = torch.load(path, weights_only=True)
    assert bad in saved["sample_ids"] and bad in error and saved["what"] == "the loss"
    assert torch.isinf(saved["micro_batches"][0]["pixel_values"]).any() and "labels" in saved["micro_batches"][0]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["pixels", "gradient"])
def test_grpo_stops_too_and_names_the_samples_of_the_rollouts(tmp_path, tiny_folder, sandbox, what, monkeypatch):
    from codevision_lite.train import grpo

    settings = ModelConfig(name=str(tiny_folder), quantize="none", lora_r=8, lora_alpha=8)
    stage = RLStage(steps=3, prompts=2, generations=2, micro_batch=1, max_turns=1, max_reply_tokens=8, save_every=1)
    model, processor = load_for_training(settings, seed=0)
    first = []

    class Broken:
        def _generate_and_score_completions(self, inputs):
            out = super()._generate_and_score_completions(inputs)
            first.append(self.environments[0].sample.id)
            if len(first) == 2 and what == "pixels":
                out["pixel_values"][0, 0] = math.inf
                out["advantages"][:] = 1.0
            elif len(first) == 2:
                out["advantages"][:] = 1.0
                a_gradient_that_overflows(self.model)
            return out

    monkeypatch.setattr(grpo, "agent_trainer", lambda base, whole=grpo.agent_trainer: type("Here", (Broken, whole(base)), {}))
    with pytest.raises(UserError, match=r"grpo step 2: the (loss|gradient's norm) is .* Try rl\.learning_rate=") as e:
        grpo.train_grpo(model, processor, [sample(84, 84, i) for i in range(4)], Recipe(model=settings, rl=stage), tmp_path, [], sandbox)
    saved = torch.load(tmp_path / "not_finite_step2.pt", weights_only=True)
    assert saved["what"] == ("the loss" if what == "pixels" else "the gradient's norm")
    assert len(saved["micro_batches"]) == (1 if what == "pixels" else 4) == len(saved["sample_ids"])
    if what == "pixels":
        assert saved["sample_ids"] == [first[1]] and first[1] in str(e.value)
    assert {"completion_ids", "advantages", "pixel_values"} <= saved["micro_batches"][0].keys()
    assert last_checkpoint(tmp_path / "checkpoints").name == "checkpoint-1"


@pytest.mark.slow
def test_a_learning_rate_far_too_high_ends_the_command_with_one_line(start, finished, tmp_path, tiny_folder):
    folder = beginning_of(finished, tmp_path, tiny_folder, "sft", "sft.learning_rate=1e30")
    said = finish(start, folder, "sft", "sft.learning_rate=1e30", code=2)
    (line,) = [line for line in said.splitlines() if line.startswith("codevision-lite: ")]
    assert re.match(r"codevision-lite: sft step \d: the loss is \w+ \(samples ", line) and "Traceback" not in said
    assert checkpoints(folder / "run" / "sft" / "checkpoints")


# ---------------------------------------------------------------- memory


def starve():
    """After step 3 no more than a few MiB are left to this process: its address space is limited and filled."""
    from codevision_lite.train.log import StepLog as Log

    whole, hog = Log.on_log, []

    def on_log(self, args, state, control, logs=None, **more):
        whole(self, args, state, control, logs=logs, **more)
        if state.global_step == 3:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (used + 2**24, resource.getrlimit(resource.RLIMIT_AS)[1]))
            size = 2**26
            while size >= 2**20:
                try:
                    hog.append(torch.empty(size, dtype=torch.uint8))
                except RuntimeError:
                    size //= 2

    Log.on_log = on_log


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
@pytest.mark.parametrize("verb, stage, key", [("sft", "sft", "sft.micro_batch=1 (now 2)"), ("rl", "grpo", "rl.")])
def test_memory_that_runs_out_ends_with_the_numbers_and_the_key(start, finished, tmp_path, tiny_folder, verb, stage, key):
    folder = beginning_of(finished, tmp_path, tiny_folder, stage)
    said = finish(start, folder, verb, prepare=starve, code=2)
    (line,) = [line for line in said.splitlines() if line.startswith("codevision-lite: ")]
    assert re.search(
        rf"{stage} step 4: out of memory in the (update|rollout|reward) \([\d.]+ GiB at its peak, [\d.]+ in this machine", line
    )
    assert key in line and "codevision-lite plan" in line and "Traceback" not in said
    finish(start, folder, verb)
    assert adapter(folder, stage) == adapter(finished, stage)


@pytest.mark.parametrize(
    "error, ours",
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.2 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"), True),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), False),
    ],
)  # fmt: skip
def test_what_is_out_of_memory_and_what_is_not(error, ours):
    assert is_out_of_memory(error) == ours


def test_the_numbers_say_what_was_asked_for():
    assert memory_numbers(RuntimeError("CUDA out of memory. Tried to allocate 2.50 GiB.")).endswith("; 2.50 GiB more were asked for")
    with pytest.raises(RuntimeError) as e:
        torch.empty(2**60)
    assert is_out_of_memory(e.value) and f"{2**62} bytes more" in memory_numbers(e.value)


def test_memory_that_runs_out_while_loading_or_evaluating_is_one_line_too(tmp_path, monkeypatch, capsys):
    (tmp_path / "small.yaml").write_text(f"run_folder: {tmp_path / 'run'}\n")
    (tmp_path / "run" / "data").mkdir(parents=True)
    (tmp_path / "run" / "data" / "test.jsonl").touch()
    monkeypatch.setattr(pipeline, "evaluate_stage", lambda recipe, stage: torch.empty(2**60))
    assert main(["eval", str(tmp_path / "small.yaml"), "--stage", "base"]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"codevision-lite: out of memory \(.*more were asked for\)\. .*codevision-lite plan .*\n", said)


def test_the_key_to_turn_is_the_one_of_where_it_happened_and_divides_the_batch():
    recipe = Recipe(
        sft=SFTStage(batch=24, micro_batch=12), rl=RLStage(prompts=4, generations=8, micro_batch=32), model=ModelConfig(quantize="nf4")
    )
    assert memory_knobs("update", "sft", recipe, 7056).startswith("Set sft.micro_batch=6 (now 12), and the same command goes on")
    assert "rl.micro_batch=16 (now 32)" in memory_knobs("update", "grpo", recipe, 7056)
    rollout = memory_knobs("rollout", "grpo", recipe, 7056)
    assert (
        "rl.micro_batch" not in rollout
        and "model.max_pixels=3528 (now 7056) or rl.max_tokens=512 (now 1024) in another run_folder" in rollout
    )
    alone = memory_knobs("update", "sft", replace(recipe, sft=SFTStage(batch=4, micro_batch=1)), 7056)
    assert "micro_batch" not in alone and alone.startswith("Set model.max_pixels=3528")
    assert "model.quantize=nf4" in memory_knobs("update", "sft", replace(recipe, model=ModelConfig(quantize="none")), 7056)


class TwoGPUs(TrainingArguments):
    """As on a machine with two, where no launcher started the process."""

    def __post_init__(self):
        super().__post_init__()
        self._n_gpu = 2


@pytest.mark.parametrize("guarded", [True, False])
def test_a_process_that_sees_two_gpus_trains_on_one_with_the_recipes_batch(tmp_path, guarded):
    args = TwoGPUs(output_dir=str(tmp_path), use_cpu=True, per_device_train_batch_size=4, report_to="none")
    assert args.train_batch_size == 8
    model = torch.nn.Linear(1, 1)
    trainer = (type("Guarded", (Guarded, Trainer), {}) if guarded else Trainer)(model=model, args=args, train_dataset=[0] * 8)
    assert trainer.args.train_batch_size == (4 if guarded else 8)
    assert isinstance(trainer._wrap_model(model), torch.nn.DataParallel) != guarded


# ---------------------------------------------------------------- disk


def no_large_files_from_step_4():
    whole = Guarded._save_checkpoint

    def save(self, model, trial):
        if self.state.global_step == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        whole(self, model, trial)

    Guarded._save_checkpoint = save


@pytest.mark.slow
def test_a_checkpoint_that_can_not_be_written_leaves_the_last_one(start, finished, tmp_path, tiny_folder):
    folder = beginning_of(finished, tmp_path, tiny_folder, "sft")
    said = finish(start, folder, "sft", prepare=no_large_files_from_step_4, code=2)
    (line,) = [line for line in said.splitlines() if line.startswith("codevision-lite: ")]
    assert re.search(
        r"run/sft/checkpoints: the checkpoint of step 4 could not be written: it needs about \d+ MiB, [\d,]+ MiB are free", line
    )
    assert "checkpoint-2 is whole, and the same command goes on from it" in line and "Traceback" not in said
    kept = folder / "run" / "sft" / "checkpoints"
    assert last_checkpoint(kept).name == "checkpoint-2" and not (kept / "unfinished").exists()
    finish(start, folder, "sft")
    assert curve(folder, "sft") == curve(finished, "sft") and adapter(folder, "sft") == adapter(finished, "sft")


@pytest.fixture
def small_disk(tmp_path):
    """A mounted tmpfs: (folder, resize in bytes)."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield folder, lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_keeps_the_last_checkpoint_and_the_run_goes_on_when_there_is_room(start, finished, tmp_path, tiny_folder, small_disk):
    disk, resize = small_disk
    folder = beginning_of(finished, tmp_path, tiny_folder, "sft")
    (folder / "run" / "sft").mkdir()
    (folder / "run" / "sft" / "checkpoints").symlink_to(disk)
    one = sum(p.stat().st_size for p in (finished / "run" / "sft" / "checkpoints" / "checkpoint-6").rglob("*") if p.is_file())
    resize(2 * one + 3 * 2**20)  # room for two and not for a third
    said = finish(start, folder, "sft", code=2)
    assert "the checkpoint of step 6 needs about" in said and "checkpoint-4 is whole" in said and "Traceback" not in said
    assert last_checkpoint(disk).name == "checkpoint-4"
    resize(5 * one + 8 * 2**20)
    finish(start, folder, "sft")
    assert curve(folder, "sft") == curve(finished, "sft") and adapter(folder, "sft") == adapter(finished, "sft")


@pytest.mark.parametrize("writer", ["torch", "safetensors", "text"])
def test_what_each_writer_says_on_a_full_disk_is_understood(small_disk, writer):
    from safetensors.torch import save_file

    from codevision_lite.train.checkpoints import explain_refused_write

    disk, _ = small_disk
    tensor = torch.zeros(2**19)
    with pytest.raises(UserError, match=r"the checkpoint could not be written: it needs about 2 MiB, [01] MiB are free"), explain_refused_write("the checkpoint", disk, 2**21):  # fmt: skip  # noqa: E501
        if writer == "torch":
            torch.save({"a": tensor}, disk / "a.pt")
        elif writer == "safetensors":
            save_file({"a": tensor}, disk / "a.safetensors")
        else:
            (disk / "a.json").write_text("1" * 2**21)


def test_checkpoints_are_kept_by_number_whole_and_old_ones_go_last(tmp_path):
    def write(step, content="x"):
        folder = tmp_path / "unfinished" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text("{}")
        (folder / "optimizer.pt").write_text(content)
        return seal(folder, tmp_path, keep=2)

    for step in (8, 9, 10, 11):
        write(step)
    assert [p.name for p in checkpoints(tmp_path)] == ["checkpoint-10", "checkpoint-11"]
    (tmp_path / "checkpoint-11" / "optimizer.pt").write_text("xy")  # not what was written
    (tmp_path / "unfinished").mkdir(exist_ok=True)
    assert last_checkpoint(tmp_path).name == "checkpoint-10"
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-10"]
    (tmp_path / "checkpoint-10" / "optimizer.pt").unlink()
    assert last_checkpoint(tmp_path) is None
    assert write(10, "again").joinpath("optimizer.pt").read_text() == "again"


def test_the_estimate_covers_a_real_checkpoint_and_is_asked_for_before_it_is_written(finished_checkpoint, tmp_path, monkeypatch):
    model, size = finished_checkpoint
    assert size <= checkpoint_bytes(model) <= size + 4 * 2**20
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10 * 2**20))
    require_room("the next checkpoint", tmp_path, 10 * 2**20)
    with pytest.raises(
        UserError, match=r"the next checkpoint needs about 11 MiB, 10 MiB are free there\. Make room; the same command starts"
    ):
        require_room("the next checkpoint", tmp_path, 11 * 2**20)


@pytest.fixture
def finished_checkpoint(tiny_folder, rows, tmp_path):
    model, _, _ = sft_run(tiny_folder, rows, tmp_path)
    last = checkpoints(tmp_path / "sft" / "checkpoints")[-1]
    return model, sum(p.stat().st_size for p in last.rglob("*") if p.is_file())


# ---------------------------------------------------------------- trackers


def test_a_tracker_that_is_not_installed_is_named_with_the_install_line(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"log: wandb is not installed\. Install it with: pip install wandb"):
        StepLog("sft", 1, tmp_path / "metrics.jsonl", ("wandb",))


def test_tensorboard_has_the_steps_of_before_and_of_now_each_once(tmp_path):
    rows = [{"stage": "sft", "step": s, "seconds": 1.0 * s, "loss": 1 / s, "none": None} for s in range(1, 6)]
    for row in rows[:4]:
        append_jsonl(tmp_path / "metrics.jsonl", row)
    stale = open_tracker("tensorboard", tmp_path, "sft")
    stale.start(rows[:4])
    stale.close()
    log = StepLog("sft", 5, tmp_path / "metrics.jsonl", ("tensorboard",))
    log.on_train_begin(None, SimpleNamespace(global_step=2), None)  # steps 3 and 4 are done again
    for step in (3, 4, 5):
        log.on_log(None, SimpleNamespace(global_step=step), None, logs={"loss": 10.0 + step})
    log.on_train_end(None, SimpleNamespace(global_step=5), None)
    assert scalars(tmp_path / "tensorboard" / "sft", "loss") == [(1, 1.0), (2, 0.5), (3, 13.0), (4, 14.0), (5, 15.0)]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_resumed_run_goes_on_in_the_same_online_run(tmp_path, monkeypatch, name):
    calls = []
    module = SimpleNamespace(
        init=lambda **k: calls.append(("init", k)),
        log=lambda n, step: calls.append(("log", n, step)),
        finish=lambda: calls.append(("finish",)),
    )
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    for step in (1, 2):
        log = StepLog("sft", 2, tmp_path / "metrics.jsonl", (name,))
        log.on_train_begin(None, SimpleNamespace(global_step=step - 1), None)
        log.on_log(None, SimpleNamespace(global_step=step), None, logs={"loss": 1.0})
        log.on_train_end(None, SimpleNamespace(global_step=step), None)
    inits = [c[1] for c in calls if c[0] == "init"]
    assert inits[0] == inits[1] and inits[0]["resume"] == "allow" and inits[0]["name"].endswith("-sft")
    assert [(c[1]["loss"], c[2]) for c in calls if c[0] == "log"] == [(1.0, 1), (1.0, 2)]


# ---------------------------------------------------------------- several processes


def be_rank(rank, port):
    """As `accelerate launch` starts a process."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def finish_two(start, folder, verb, *overrides):
    """Run the verb in two processes (gloo); returns what each said."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    said = [folder / f"said{rank}.txt" for rank in (0, 1)]
    both = [start([verb, folder / "small.yaml", *overrides], said[rank], functools.partial(be_rank, rank, port)) for rank in (0, 1)]
    for process in both:
        process.join()
    assert [p.exitcode for p in both] == [0, 0], "".join(path.read_text() for path in said)
    return [path.read_text() for path in said]


@pytest.mark.slow
def test_two_processes_share_the_batch_of_sft_and_learn_what_one_would(start, finished, tmp_path, tiny_folder):
    steps = "sft.steps=2"  # the third would end the data, where two processes pad theirs
    (alone := tmp_path / "alone").mkdir(), (both := tmp_path / "both").mkdir()
    for folder in (alone, both):
        beginning_of(finished, folder, tiny_folder, "sft", steps)
    finish(start, alone, "sft", steps)
    first, second = finish_two(start, both, "sft", steps)
    ours, theirs = curve(both, "sft"), curve(alone, "sft")
    assert [row["step"] for row in ours] == [1, 2]
    assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in theirs], rel=1e-5)
    assert [row["grad_norm"] for row in ours] == pytest.approx([row["grad_norm"] for row in theirs], rel=1e-4)
    (a, b) = (load_file(f / "run" / "sft" / "adapter" / "adapter_model.safetensors") for f in (both, alone))
    assert all(torch.allclose(a[name], b[name], atol=1e-5) for name in b)
    assert "sft step 2/2" in first and "sft step" not in second, "the first alone reports"
    (checkpoint,) = checkpoints(both / "run" / "sft" / "checkpoints")
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {p.name for p in checkpoint.iterdir()}


@pytest.mark.slow
def test_two_processes_write_every_rollout_of_grpo_once(start, finished, tmp_path, tiny_folder):
    overrides = ("rl.steps=2", "rl.prompts=4")
    folder = beginning_of(finished, tmp_path, tiny_folder, "grpo", *overrides)
    finish_two(start, folder, "rl", *overrides)
    rollouts = read_jsonl(folder / "run" / "grpo" / "rollouts.jsonl")
    assert [row["step"] for row in rollouts] == [0] * 16 + [1] * 16
    for step in (0, 1):
        groups = Counter(row["sample_id"] for row in rollouts if row["step"] == step)
        assert list(groups.values()) == [4, 4, 4, 4], "whole groups, four prompts"
    assert [row["step"] for row in curve(folder, "grpo")] == [1, 2]
    assert len({tuple(row["turns"]) for row in rollouts}) > 8, "the processes don't draw the same"


def test_a_batch_that_the_processes_can_not_share_is_named(monkeypatch):
    assert accumulation("sft", 32, 4) == 8
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert accumulation("sft", 32, 4) == 2
    with pytest.raises(UserError, match=r"4 processes of sft\.micro_batch=32 make 128 rows, which a batch of 32 is no multiple of"):
        accumulation("sft", 32, 32)
