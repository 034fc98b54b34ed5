"""gpu-check in small on the CPU: every piece's own logic, what it writes, that it resumes, and that failures are told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import sample

from codevision_lite.agent import AgentLimits, run_episodes
from codevision_lite.cli import main
from codevision_lite.errors import UserError
from codevision_lite.models import ScriptedModel, load
from codevision_lite.models.load import load_base, load_processor
from codevision_lite.train import gpu_check
from codevision_lite.train.gpu_check import PIECES, Piece, check, find_piece, table
from codevision_lite.train.gpu_pieces import measured_tokens, model_recipe
from codevision_lite.train.random_model import write_random_model
from codevision_lite.train.scripted import CALLS, ScriptedEngine, Scripts
from codevision_lite.train.shapes import KNOWN, load_shape

SMALL_LIMITS = AgentLimits(max_turns=len(CALLS) + 2, max_reply_tokens=112, max_tokens=4000, max_images=len(CALLS) + 1)


@pytest.fixture(scope="module")
def small_folder(tmp_path_factory):
    return write_random_model(tmp_path_factory.mktemp("weights") / "small", "qwen2.5-vl-3b", small=True)


@pytest.fixture(scope="module")
def small(small_folder):
    return load_base(str(small_folder), max_pixels=12_544, backend="transformers")


def test_a_random_model_is_a_quantised_folder_as_the_hub_has_it(small_folder, small):
    model, processor = small
    kinds = {name: type(m).__name__ for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert {kind for name, kind in kinds.items() if "language_model" in name} == {"Linear4bit"}
    assert {kind for name, kind in kinds.items() if "visual" in name} == {"Linear"}
    assert len(processor.tokenizer) == load_shape(str(small_folder)).vocab, "the vocabulary is padded"
    assert torch.isfinite(model(input_ids=torch.tensor([[5, 60, 70]])).logits).all()
    before = {p: p.stat().st_mtime_ns for p in small_folder.iterdir()}
    write_random_model(small_folder, "qwen2.5-vl-3b", small=True)
    assert {p: p.stat().st_mtime_ns for p in small_folder.iterdir()} == before, "what is whole is not written again"


def test_a_quantised_weight_is_the_one_that_was_drawn(small_folder, small):
    """Reading the folder gives what transformers' own quantisation of the same numbers would."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    weight = small[0].model.language_model.layers[1].mlp.up_proj.weight
    plain = dequantize_4bit(weight.data, weight.quant_state)
    again, state = quantize_4bit(plain, quant_type="nf4", compress_statistics=True)
    assert plain.std() == pytest.approx(0.02, rel=0.1)
    assert torch.allclose(dequantize_4bit(again, state), plain, atol=2e-3)


def test_every_unused_word_is_one_that_text_can_not_have(small):
    tokenizer = small[1].tokenizer
    ids = tokenizer("Any text at all, <unused-1999> too.", add_special_tokens=False)["input_ids"]
    assert max(ids) < 1280 and tokenizer.decode([1999]) == "<unused-1999>"


def test_told_replies_are_decoded_token_by_token_and_their_tools_run(small, sandbox):
    model, processor = small
    question = sample(84, 60)
    scripts, meter = Scripts(processor.tokenizer, [question], 112), {}
    engine = ScriptedEngine(model, processor, temperature=1.0, script=scripts.reply, meter=meter)
    forwards = []
    handle = model.register_forward_hook(lambda *_: forwards.append(1))
    right, wrong = run_episodes(engine, sandbox, [question, question], SMALL_LIMITS)
    handle.remove()
    assert [e.end_reason for e in (right, wrong)] == ["answer", "answer"]
    assert right.answer == question.answers[0] != wrong.answer
    assert len(right.images) == len(CALLS) + 1, "every call ran and gave a picture"
    replies = [s for s in right.dialogue.segments if s.role == "reply"]
    assert all(80 <= len(s.token_ids) <= 112 for s in replies), "thoughts fill them"
    assert len(forwards) >= sum(len(s.token_ids) for s in replies), "each token was a run of the model"
    assert all(np.isfinite(s.logprobs).all() and max(s.logprobs) < 0 for s in replies)
    assert meter["tokens"] == sum(len(s.token_ids) for e in (right, wrong) for s in e.dialogue.segments if s.role == "reply")
    assert len(meter["rollouts_s"]) == 1 and meter["decode_s"][0] > 0


def test_sft_rows_are_the_same_trajectories(small, sandbox):
    question = sample(84, 60)
    scripts = Scripts(small[1].tokenizer, [question], 112)
    row = scripts.row(question, sandbox)
    assert row.trained == (True,) * (len(CALLS) + 1)
    assert all(turn.observation.status == "ok" for turn in row.trajectory.turns[:-1])
    told = ScriptedModel([turn.text for turn in row.trajectory.turns])
    (episode,) = run_episodes(told, sandbox, [question], SMALL_LIMITS)
    assert scripts.reply(episode.dialogue, 0) == row.trajectory.turns[-1].text


def test_trajectories_of_the_real_pieces_are_as_long_as_promised(small_folder, sandbox):
    """More than 4,096 tokens and five pictures, within the recipe's limits, at the pixel budget of a GPU's piece."""
    recipe = model_recipe(small_folder, small_folder / "work", "transformers", small=False)
    processor = load_processor(str(small_folder), max_pixels=recipe.model.max_pixels)
    question = sample(900, 700)
    scripts = Scripts(processor.tokenizer, [question], recipe.rl.max_reply_tokens)
    tokens = measured_tokens([scripts.row(question, sandbox)], processor)
    assert 4096 <= tokens.trajectory <= recipe.rl.max_tokens and tokens.images == 5
    assert tokens.image >= 0.95 * recipe.model.max_pixels / 28**2


# ---------------------------------------------------------------- the runner


def test_pieces_fit_their_limits_and_cover_what_they_should():
    assert sum(p.minutes for p in PIECES) <= 25
    assert all(p.minutes * 60 < p.limit_s <= 540 for p in PIECES)
    models = {(p.known, p.gib, p.backend) for p in PIECES if p.kind == "model"}
    for known, gib in (("qwen2.5-vl-3b", 24), ("qwen2.5-vl-7b", 48)):
        assert {(known, gib, "transformers"), (known, gib, "unsloth")} <= models
    assert {p.known for p in PIECES if p.kind == "weights"} == set(KNOWN)


def result(**changes):
    stages = {
        "sft": {"peak_gib": 9.0, "planned_gib": 10.0, "tokens_per_s": 900.0},
        "rollouts": {"peak_gib": 14.0, "planned_gib": 15.0, "tokens_per_s": 120.0, "trajectories_per_min": 8.0,
                     "logprob_gap": {"mean": 0.01, "max": 0.2}},
        "update": {"peak_gib": 16.0, "planned_gib": 16.5}, "rl_step": {"step_s": 31.0, "split_s": {"decode": 20.0}},
    }  # fmt: skip
    return {"status": "ok", "non_finite": 0, **stages, **changes}


def test_the_table_shows_the_plan_beside_the_peak_and_what_failed():
    unsloth = result(sft={**result()["sft"], "tokens_per_s": 1.6 * result()["sft"]["tokens_per_s"]})
    text = table({"3b-24gb": result(), "3b-24gb-unsloth": unsloth, "7b-24gb": {"status": "failed", "error": "out of memory"}, "learning": {
        "status": "ok", "sft": {"steps": 300, "loss_first": 2.0, "loss_last": 0.5},
        "rl": {"steps": 60, "reward_first": 0.2, "reward_last": 0.6}}, "rollouts": {"status": "ok", "bench": {"ratio": 1.7}}})  # fmt: skip
    assert "1.70 times the trajectories a minute" in text
    assert text.count("1.60 times the SFT tokens a second of plain transformers") == 1
    assert "9.00       10.00" in text and "not finite: 0" in text and "an RL step: decode 20.00 s" in text
    assert "failed: out of memory" in text and "loss 2.000 to 0.500 in 300 steps; reward 0.20 to 0.60 in 60 steps" in text


@pytest.fixture
def fake_pieces(monkeypatch, tmp_path):
    """Three pieces whose processes are one line of Python each: one works, one fails, one never ends."""
    lines = {
        "works": "print('fine')",
        "fails": "import sys; print('a line before'); sys.exit('ValueError: the reason')",
        "hangs": "import time; time.sleep(60)",
    }
    pieces = tuple(Piece(name, "learning", name, 0.1, limit_s=2 if name == "hangs" else 20) for name in lines)
    monkeypatch.setattr(gpu_check, "PIECES", pieces)
    command = "import sys; name = sys.argv[sys.argv.index('--piece') + 1]; exec(" + repr(lines) + "[name])"
    monkeypatch.setattr(gpu_check, "_COMMAND", (gpu_check.sys.executable, "-c", command))
    return tmp_path / "out", tmp_path / "work"


def test_a_piece_that_fails_or_hangs_is_recorded_and_the_others_go_on(fake_pieces, capsys):
    out, work = fake_pieces
    assert not check([], out, work, cpu=True)
    statuses = {p.stem: json.loads(p.read_text()) for p in out.glob("*.json")}
    assert {name: r["status"] for name, r in statuses.items()} == {"works": "ok", "fails": "failed", "hangs": "failed"}
    assert "ValueError: the reason" in statuses["fails"]["error"] and "not done after 2 s" in statuses["hangs"]["error"]
    capsys.readouterr()
    check(["works", "fails"], out, work, cpu=True)
    again = capsys.readouterr().out
    assert "works: done before" in again, "a finished piece is not run again"
    assert "fails: failed" in again, "one that failed is"


def test_a_piece_that_ran_in_small_is_not_done(fake_pieces, capsys, monkeypatch):
    out, work = fake_pieces
    assert check(["works"], out, work, cpu=True)
    assert "its numbers say nothing about a GPU" in capsys.readouterr().out
    monkeypatch.setattr(load, "gpu_name", lambda: "a card")
    for small, said in ((False, "works: ok"), (False, "works: done before"), (True, "works: ok")):
        assert check(["works"], out, work, cpu=small)
        assert said in capsys.readouterr().out
        assert json.loads((out / "works.json").read_text())["small"] is small


def test_unsloth_pieces_are_skipped_on_a_cpu_with_the_reason(tmp_path):
    assert check(["3b-24gb-unsloth"], tmp_path / "out", tmp_path / "work", cpu=True)
    record = json.loads((tmp_path / "out" / "3b-24gb-unsloth.json").read_text())
    assert record["status"] == "skipped" and record["error"] == "Unsloth needs a GPU"


def test_a_card_that_is_too_small_for_a_piece_skips_it(monkeypatch):
    class Card:
        total_memory = 24 * 2**30

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Card)
    assert "24 GiB" in gpu_check.why_not(find_piece("7b-48gb"), cpu=False)
    assert gpu_check.why_not(find_piece("7b-24gb"), cpu=False) is None


def test_a_piece_sees_one_gpu(monkeypatch):
    for seen, cpu, given in ((None, False, "0"), ("2,3", False, "2"), ("2,3", True, "")):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if seen:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
        assert gpu_check._environment(cpu)["CUDA_VISIBLE_DEVICES"] == given


def test_a_gpu_without_bfloat16_is_refused_before_any_piece(monkeypatch, tmp_path):
    monkeypatch.setattr(load, "gpu_name", lambda: "Tesla T4, 15 GiB")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    with pytest.raises(UserError, match=r"7\.5 and no bfloat16"):
        check(["learning"], tmp_path, tmp_path, cpu=False)
    assert list(tmp_path.iterdir()) == []


def test_the_verb_lists_and_refuses(capsys, monkeypatch, tmp_path):
    assert main(["gpu-check", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(p.name in listed for p in PIECES) and "not measured" in listed
    assert main(["gpu-check", "--piece", "9b"]) == 2
    assert "no piece '9b'" in capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["gpu-check", "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "no NVIDIA GPU" in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_model_piece_without_its_weights_says_which_command_makes_them(tmp_path):
    with pytest.raises(UserError, match="gpu-check --piece weights-7b"):
        gpu_check.run_inside("7b-48gb", tmp_path / "out", tmp_path / "work", cpu=True)


@pytest.mark.slow
def test_weights_and_a_model_piece_run_in_small_on_a_cpu(tmp_path):
    out, work = tmp_path / "out", tmp_path / "work"
    assert main(["gpu-check", "--cpu", "--out", str(out), "--work", str(work), "--piece", "weights-3b", "--piece", "3b-24gb"]) == 0
    found = json.loads((out / "3b-24gb.json").read_text())
    assert found["status"] == "ok" and found["non_finite"] == 0
    assert found["tokens"]["images"] == len(CALLS) + 1
    assert found["rollouts"]["pictures_per_trajectory"] == len(CALLS) + 1, "every told call gave a picture"
    assert found["rollouts"]["logprob_gap"]["max"] < 0.05, "decoding with a cache agrees with one forward"
    split = found["rl_step"]["split_s"]
    assert split["prefill"] + split["decode"] <= split["rollouts"] and split["update"] > 0 and split["reward"] > 0
    assert found["sft"]["tokens_per_s"] > 0 and found["sft"]["peak_gib"] is None
    assert all(found[stage]["planned_gib"] > 0 for stage in ("sft", "rollouts", "update"))
    assert (work / "weights-3b-small" / "config.json").exists()
    assert Path(work / "3b-24gb" / "grpo" / "adapter").is_dir()


@pytest.mark.slow
def test_the_learning_piece_runs_in_small_on_a_cpu(tmp_path):
    out, work = tmp_path / "out", tmp_path / "work"
    assert main(["gpu-check", "--cpu", "--out", str(out), "--work", str(work), "--piece", "learning"]) == 0
    found = json.loads((out / "learning.json").read_text())
    assert found["sft"]["steps"] == 3 and found["rl"]["steps"] == 2
    assert found["sft"]["loss_last"] > 0 and found["rl"]["reward_last"] is not None
