"""The same small SFT and GRPO run by Unsloth's generated trainers and by TRL's own: same losses, same weights.

Runs on a CPU with Unsloth's GPU code path (unsloth_run.py); what needs a card, 4-bit kernels and Unsloth's checkpointing
among them, is not run here. Skipped where Unsloth is not installed: pip install -r requirements.txt
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from codevision_lite.files import read_jsonl

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("unsloth") is None, reason="Unsloth is not installed (pip install -r requirements.txt)"),
]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_folder):
    """What each backend's run left: metrics, adapters and what the process saw."""
    folder = tmp_path_factory.mktemp("unsloth")
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "", "UNSLOTH_COMPILE_LOCATION": str(folder / "compiled"), "PYTHONPATH": f"{HERE.parent}:{HERE}",
    }  # fmt: skip
    done = {}
    for backend in ("unsloth", "transformers"):
        out = folder / backend
        out.mkdir()
        command = [sys.executable, str(HERE / "unsloth_run.py"), backend, str(tiny_folder), str(out)]
        run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800)
        assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
        adapters = {stage: load_file(out / stage / "adapter" / "adapter_model.safetensors") for stage in ("sft", "grpo")}
        found = json.loads((out / "found.json").read_text())
        done[backend] = SimpleNamespace(**found, said=run.stdout, metrics=read_jsonl(out / "metrics.jsonl"), adapters=adapters)
    return SimpleNamespace(**done)


def test_each_run_used_its_own_trainers(runs):
    assert runs.unsloth.trainers == ["UnslothSFTTrainer.UnslothSFTTrainer", "UnslothGRPOTrainer.UnslothGRPOTrainer"]
    assert all(name.startswith("trl.trainer.") for name in runs.transformers.trainers)
    for name in ("unsloth", "transformers"):
        assert f"by {name} (a test)" in getattr(runs, name).said


def test_every_method_that_the_mixins_replace_is_called(runs):
    for run in (runs.unsloth, runs.transformers):
        assert {"_generate", "compute_loss"} <= run.calls.keys()
        assert [name for name, n in run.calls.items() if n == 0] == []
    assert runs.unsloth.calls == runs.transformers.calls


def test_losses_gradients_and_rewards_are_the_same(runs):
    assert [(r["stage"], r["step"]) for r in runs.unsloth.metrics] == [(s, i) for s in ("sft", "grpo") for i in (1, 2, 3)]
    for ours, stock in zip(runs.unsloth.metrics, runs.transformers.metrics, strict=True):
        names = ("loss", "grad_norm", *(() if stock["stage"] == "sft" else ("reward", "rollout/tool_turns")))
        assert [ours[n] for n in names] == pytest.approx([stock[n] for n in names], rel=1e-3, abs=1e-5), stock


def test_kl_starts_at_zero_from_the_sft_adapter_and_grows(runs):
    ours, stock = ([r["kl"] for r in run.metrics if r["stage"] == "grpo"] for run in (runs.unsloth, runs.transformers))
    for kl in (ours, stock):
        assert kl[:2] == pytest.approx([0, 0], abs=1e-6) and kl[2] > 1e-3, "the first step's learning rate is 0"
    assert ours[2] == pytest.approx(stock[2], rel=0.2), "they weigh the tokens of the logged mean differently; the loss is the same"


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_the_trained_adapters_are_the_same(runs, stage):
    ours, stock = runs.unsloth.adapters[stage], runs.transformers.adapters[stage]
    assert ours.keys() == stock.keys() and not any("visual" in name or "lm_head" in name for name in ours)
    apart = torch.cat([(ours[name] - stock[name]).abs().flatten() for name in ours])
    # Where a gradient is zero but for rounding, Adam makes a whole step of it, in either direction.
    assert (apart > 1e-4).float().mean() < 1e-3 and apart.median() < 1e-6, (apart.max(), (apart > 1e-4).sum(), len(apart))


def test_only_the_adapter_moves_and_in_float32(runs):
    for run in (runs.unsloth, runs.transformers):
        assert (run.base_moved, run.trained) == ([], ["torch.float32"])


def test_rollouts_are_the_same(runs):
    """Our decoding loop over Unsloth's model, after training: modes are switched right and the forward returns logits."""
    assert runs.unsloth.replies == runs.transformers.replies
    for ours, stock in zip(runs.unsloth.logprobs, runs.transformers.logprobs, strict=True):
        assert ours == pytest.approx(stock, abs=1e-3)
