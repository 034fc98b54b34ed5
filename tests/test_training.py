"""SFT and GRPO on a small random model: what is learned, what stays as it was, and that both see what generation saw."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from pictures import picture, sample
from tiny_model import ToldModel, ask
from transformers import TrainerCallback
from trl import GRPOTrainer

from codevision_lite.agent import AgentLimits, run_episodes
from codevision_lite.datasets.rows import TrainingRow
from codevision_lite.errors import UserError
from codevision_lite.files import read_jsonl
from codevision_lite.models import ScriptedModel, load_model
from codevision_lite.models.hf import VISION_TOKENS, HFModel
from codevision_lite.models.load import load_base, load_processor
from codevision_lite.protocol import render_reply
from codevision_lite.recipe import SFT_MIX, ModelConfig, Recipe, RLStage, SFTStage
from codevision_lite.records import ToolCall
from codevision_lite.reward import RewardConfig, score
from codevision_lite.reward.explain import explain_file
from codevision_lite.synth.gold import make_golds
from codevision_lite.synth.samples import make_items
from codevision_lite.synth.signs_scripts import write_script
from codevision_lite.train import grpo, lengths, sft
from codevision_lite.train.environment import PictureEnvironment
from codevision_lite.train.load import load_for_training
from codevision_lite.train.log import StepLog
from codevision_lite.train.rollout_metrics import rollout_metrics
from codevision_lite.train.sft import StepsByLength, TrajectoryCollator, estimated_length, train_sft

ROOT = Path(__file__).parent.parent
TURN = render_reply("It is turned.", ToolCall("result = image.rotate(90, expand=True)"))
CROP = render_reply("I look closer.", ToolCall("result = image.crop((0, 0, 40, 20))", image_index=1))
BROKEN = render_reply("It is turned.", ToolCall("result = picture.rotate(90)"))
RIGHT, WRONG = (render_reply("I can read it.", answer=a) for a in ("F", "G"))
# Four rollouts of a prompt: direct, turned, with a mistake and two pictures, and one that never acts.
SCRIPTS = [[WRONG], [TURN, RIGHT], [BROKEN, TURN, CROP, RIGHT], ["Hm.", "Well."]]


def config(folder, quantize="none"):
    return ModelConfig(name=str(folder), quantize=quantize, lora_r=8, lora_alpha=8)


def weights(model, lora):
    return {name: p.detach().clone() for name, p in model.named_parameters() if ("lora_" in name) == lora}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---------------------------------------------------------------- SFT


@pytest.fixture(scope="module")
def rows(sandbox):
    rng = random.Random(0)
    scripts = [write_script(item, rng, error_share=0.6, second_style=0.3) for item in make_items(0, "train", 24, SFT_MIX)]
    return [TrainingRow(g.item.sample, g.trajectory, g.trained) for g in make_golds(scripts, sandbox)]


def test_labels_are_exactly_the_trained_replies(rows, processor):
    batch = TrajectoryCollator(rows, processor)([{"index": i} for i in range(len(rows))])
    assert any(not all(row.trained) for row in rows), "a reply with a mistake is among them"
    for row, ids, labels in zip(rows, batch["input_ids"], batch["labels"], strict=True):
        learned = labels != -100
        assert torch.equal(labels[learned], ids[learned])
        texts = [turn.text + "<|im_end|>" for turn, trained in zip(row.trajectory.turns, row.trained, strict=True) if trained]
        assert processor.tokenizer.decode(labels[learned]) == "".join(texts)


def test_labels_are_never_pictures_padding_prompts_or_mistakes(rows, processor):
    batch = TrajectoryCollator(rows, processor)([{"index": i} for i in range(len(rows))])
    outside = [processor.tokenizer.convert_tokens_to_ids(t) for t in (*VISION_TOKENS, "<|endoftext|>", "<|im_start|>")]
    assert not torch.isin(batch["labels"], torch.tensor(outside)).any()
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()
    assert torch.equal(batch["mm_token_type_ids"], (batch["input_ids"] == processor.image_token_id).long())
    mistakes = [t.text for row in rows for t, trained in zip(row.trajectory.turns, row.trained, strict=True) if not trained]
    for labels in batch["labels"]:
        text = processor.tokenizer.decode(labels[labels != -100])
        assert not any(mistake in text for mistake in mistakes)
        assert "<tool_response>" not in text


def test_a_row_is_the_same_alone_and_in_a_batch(rows, processor):
    collate = TrajectoryCollator(rows, processor)
    together = collate([{"index": i} for i in range(4)])
    for i in range(4):
        alone = collate([{"index": i}])
        n = alone["input_ids"].shape[1]
        for key in ("input_ids", "labels", "attention_mask"):
            assert torch.equal(alone[key][0], together[key][i, :n])


def test_a_step_has_the_rows_that_were_drawn_from_the_longest_to_the_shortest(rows, processor):
    lengths = [estimated_length(row, 9) for row in rows]
    exact = [len(TrajectoryCollator(rows, processor)([{"index": i}])["input_ids"][0]) for i in range(len(rows))]
    assert torch.corrcoef(torch.tensor([lengths, exact]))[0, 1] > 0.95
    order, drawn = StepsByLength(lengths, 10, seed=3), SeedableRandomSampler(rows, data_seed=3)
    epochs = [(list(order), list(drawn)) for _ in range(2)]
    order.set_epoch(0)
    assert list(order) == epochs[0][0] != epochs[1][0] and len(order) == 24
    for ours, stock in epochs:
        for at in (0, 10, 20):
            assert sorted(ours[at : at + 10]) == sorted(stock[at : at + 10])
            step = [lengths[i] for i in ours[at : at + 10]]
            assert step == sorted(step, reverse=True)


@pytest.mark.slow
def test_micro_batches_of_like_lengths_hold_less_and_learn_the_same(tmp_path, tiny_folder, rows, monkeypatch):
    def train(name):
        widths, whole = [], sft.TrajectoryCollator.__call__

        def counted(self, examples):
            batch = whole(self, examples)
            widths.append(batch["input_ids"].numel())
            return batch

        with monkeypatch.context() as patch:
            patch.setattr(sft.TrajectoryCollator, "__call__", counted)
            if name == "as drawn":
                patch.setattr(sft, "estimated_length", lambda *_: 0.0)
            model, processor = load_for_training(config(tiny_folder), seed=0)
            recipe = Recipe(sft=SFTStage(steps=3, batch=24, micro_batch=2, learning_rate=1e-3), model=config(tiny_folder))
            log = StepLog("sft", 3, tmp_path / name / "metrics.jsonl")
            train_sft(model, processor, rows, recipe, tmp_path / name, [log])
        return weights(model, lora=True), [(r["loss"], r["grad_norm"]) for r in read_jsonl(log.metrics)], sum(widths)

    (ours, our_log, our_width), (stock, stock_log, stock_width) = train("by length"), train("as drawn")
    assert our_width < 0.85 * stock_width
    assert our_log == [pytest.approx(row, rel=1e-4) for row in stock_log]
    for name, tensor in stock.items():
        assert torch.allclose(tensor, ours[name], atol=2e-5), name


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_sft_trains_the_adapter_and_nothing_else(tmp_path, tiny_folder, rows, quantize):
    model, processor = load_for_training(config(tiny_folder, quantize), seed=0)
    base, lora = weights(model, lora=False), weights(model, lora=True)
    assert not any("visual" in name or "lm_head" in name for name in lora)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(lora)
    recipe = Recipe(sft=SFTStage(steps=2, batch=4, micro_batch=2, save_every=1))
    recipe = replace(recipe, model=config(tiny_folder, quantize))
    train_sft(model, processor, rows, recipe, tmp_path / "sft", [StepLog("sft", 2, tmp_path / "metrics.jsonl")])
    assert equal(weights(model, lora=False), base)
    assert not equal(weights(model, lora=True), lora)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}, "small steps are not rounded away"
    logged = read_jsonl(tmp_path / "metrics.jsonl")
    assert [(row["stage"], row["step"]) for row in logged] == [("sft", 1), ("sft", 2)]
    assert all(math.isfinite(row["loss"]) for row in logged)
    assert (tmp_path / "sft" / "adapter" / "adapter_config.json").is_file()
    assert [p.name for p in (tmp_path / "sft").iterdir() if p.name.endswith(".part")] == []


def test_the_saved_adapter_answers_as_the_trained_model(tmp_path, tiny_folder, rows, processor):
    model, _ = load_for_training(config(tiny_folder), seed=0)
    recipe = Recipe(sft=SFTStage(steps=2, batch=4, micro_batch=4, learning_rate=1e-2))
    recipe = replace(recipe, model=config(tiny_folder))
    train_sft(model, processor, rows, recipe, tmp_path / "sft", [])
    loaded = load_model(str(tiny_folder), adapter=str(tmp_path / "sft" / "adapter"), quantize="none")
    base = load_model(str(tiny_folder), quantize="none")
    trained, again, before = (m.reply([ask("What?", picture())], 12)[0] for m in (HFModel(model, processor), loaded, base))
    assert trained.token_ids == again.token_ids
    assert trained.logprobs == pytest.approx(again.logprobs, abs=1e-4)
    assert trained.logprobs != pytest.approx(before.logprobs, abs=1e-4)


@pytest.mark.slow
def test_a_stopped_sft_goes_on_from_its_checkpoint_to_the_same_weights(tmp_path, tiny_folder, rows, processor):
    class Stop(StepLog):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == 3:
                raise KeyboardInterrupt

    def train(folder, log):
        model, _ = load_for_training(config(tiny_folder), seed=0)
        recipe = Recipe(sft=SFTStage(steps=4, batch=4, micro_batch=4, save_every=2))
        recipe = replace(recipe, model=config(tiny_folder))
        train_sft(model, processor, rows, recipe, folder / "sft", [log("sft", 4, folder / "metrics.jsonl")])
        return weights(model, lora=True)

    whole = train(tmp_path / "whole", StepLog)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", Stop)
    assert not (tmp_path / "stopped" / "sft" / "adapter").exists()
    resumed = train(tmp_path / "stopped", StepLog)
    assert [row["step"] for row in read_jsonl(tmp_path / "stopped" / "metrics.jsonl")] == [1, 2, 3, 4]
    for name, tensor in whole.items():
        assert torch.allclose(tensor, resumed[name], atol=1e-6), name


@pytest.mark.parametrize("left", ["weights alone", "half a state"])
def test_a_checkpoint_that_a_kill_left_unfinished_is_not_resumed_from(tmp_path, tiny_folder, rows, processor, left):
    def train():
        model, _ = load_for_training(config(tiny_folder), seed=0)
        recipe = Recipe(sft=SFTStage(steps=2, batch=4, micro_batch=4, save_every=1))
        train_sft(model, processor, rows, replace(recipe, model=config(tiny_folder)), tmp_path, [])
        return weights(model, lora=True)

    whole = train()
    shutil.rmtree(tmp_path / "adapter")
    last = tmp_path / "checkpoints" / "checkpoint-2"
    state = (last / "trainer_state.json").read_text()
    for path in last.iterdir():
        if not path.name.startswith("adapter"):
            path.unlink()
    if left == "half a state":
        (last / "trainer_state.json").write_text(state[:100])
    assert equal(train(), whole)


def test_a_run_that_was_stopped_before_its_adapter_was_saved_trains_no_further(tmp_path, tiny_folder, rows, processor):
    def train():
        model, _ = load_for_training(config(tiny_folder), seed=0)
        recipe = Recipe(sft=SFTStage(steps=2, batch=4, micro_batch=4))
        train_sft(model, processor, rows, replace(recipe, model=config(tiny_folder)), tmp_path, [StepLog("sft", 2, tmp_path / "m.jsonl")])
        return weights(model, lora=True)

    whole = train()
    shutil.rmtree(tmp_path / "adapter")
    assert equal(train(), whole)
    assert (tmp_path / "adapter").is_dir()
    assert len(read_jsonl(tmp_path / "m.jsonl")) == 2


@pytest.mark.parametrize("logs", [{"loss": math.nan}, {"loss": 1.0, "grad_norm": math.inf}])
def test_a_loss_that_is_not_finite_stops_the_run_with_the_key_to_change(tmp_path, logs):
    log = StepLog("sft", 10, tmp_path / "metrics.jsonl")
    with pytest.raises(UserError, match=r"sft step 3: .* Lower sft\.learning_rate"):
        log.on_log(None, SimpleNamespace(global_step=3), None, logs=logs)
    assert len(read_jsonl(tmp_path / "metrics.jsonl")) == 1, "the numbers are kept"


@pytest.mark.parametrize("load", [load_base, load_processor, lambda name: load_for_training(ModelConfig(name=name))])
@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_a_model_that_can_not_be_loaded_is_named_in_one_line(tmp_path, load, kind):
    folder = tmp_path / "no_model"
    if kind == "empty":
        folder.mkdir()
    with pytest.raises(UserError, match="no_model") as e:
        load(str(folder))
    assert "\n" not in str(e.value)


def test_an_adapter_that_is_not_there_is_named_with_the_fix(tmp_path, tiny_folder):
    with pytest.raises(UserError, match=r"gone: no adapter there .*make sft"):
        load_base(str(tiny_folder), adapter=str(tmp_path / "gone"), quantize="none")


# ---------------------------------------------------------------- GRPO


class Watched(grpo.agent_trainer(GRPOTrainer)):
    """Keeps every generation batch with its environments, and TRL's own log-probabilities of it."""

    batches: list[dict]
    trainer: GRPOTrainer

    def _generate_and_score_completions(self, inputs):
        out = super()._generate_and_score_completions(inputs)
        ids = torch.cat([out["prompt_ids"], out["completion_ids"]], dim=1)
        mask = torch.cat([out["prompt_mask"], out["completion_mask"]], dim=1)
        keys = ("pixel_values", "image_grid_thw", "mm_token_type_ids", "num_images")
        with torch.no_grad():
            logps, *_ = self._get_per_token_logps_and_entropies(
                self.model, ids, mask, out["completion_ids"].shape[1], **{k: out[k] for k in keys}
            )
        environments = [SimpleNamespace(sample=e.sample, trajectory=e.trajectory) for e in self.environments]
        self.batches.append(out | {"trl_logps": logps, "environments": environments})
        type(self).trainer = self
        return out


@pytest.fixture(scope="module", params=["none", "nf4"])
def grpo_run(request, tmp_path_factory, tiny_folder, sandbox):
    """Two steps of GRPO whose rollouts are told: every kind of trajectory, with up to three pictures of several shapes."""
    quantize = request.param
    folder = tmp_path_factory.mktemp("grpo")
    samples = [sample(84, 84, 0), sample(130, 60, 1, required_ops=("rotate_90",)), sample(60, 130, 2), sample(90, 90, 3)]
    model, processor = load_for_training(config(tiny_folder, quantize), seed=0)
    before = weights(model, lora=False), weights(model, lora=True)
    recipe = Recipe(
        model=config(tiny_folder, quantize),
        rl=RLStage(steps=2, prompts=2, generations=4, micro_batch=4, learning_rate=1e-2, max_turns=5, max_reply_tokens=120, save_every=1),
    )
    watched = type("WatchedHere", (Watched,), {"batches": []})
    told = partial(ToldModel, script=lambda dialogue, row: SCRIPTS[row % 4][sum(s.role == "reply" for s in dialogue.segments)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grpo, "HFModel", told)
        patch.setattr(grpo, "agent_trainer", lambda base: watched)
        sorted_ones, by_length = [], lengths.by_length
        patch.setattr(lengths, "by_length", lambda batches: sorted_ones.append((batches, by_length(batches))) or sorted_ones[-1][1])
        grpo.train_grpo(model, processor, samples, recipe, folder / "grpo", [StepLog("grpo", 2, folder / "metrics.jsonl")], sandbox)
    return SimpleNamespace(folder=folder, model=model, before=before, batches=watched.batches, processor=processor, quantize=quantize,
                           sorted_ones=sorted_ones, trainer=watched.trainer)  # fmt: skip


def test_grpo_trains_the_adapter_and_nothing_else(grpo_run):
    base, lora = grpo_run.before
    assert equal(weights(grpo_run.model, lora=False), base)
    assert not equal(weights(grpo_run.model, lora=True), lora)
    assert not any(p.requires_grad for name, p in grpo_run.model.named_parameters() if "visual" in name)
    assert {p.dtype for p in grpo_run.model.parameters() if p.requires_grad} == {torch.float32}, "small steps are not rounded away"
    assert (grpo_run.folder / "grpo" / "adapter" / "adapter_config.json").is_file()


def test_every_environment_gets_its_trajectory(grpo_run):
    for batch in grpo_run.batches:
        for row, environment in enumerate(batch["environments"]):
            assert environment.trajectory.sample_id == environment.sample.id
            assert [t.text for t in environment.trajectory.turns] == SCRIPTS[row % 4]
    reasons = [e.trajectory.end_reason for e in grpo_run.batches[0]["environments"]]
    assert reasons == ["answer", "answer", "answer", "no_action"] * 2


def test_the_tool_mask_is_one_exactly_on_the_models_tokens(grpo_run):
    decode = grpo_run.processor.tokenizer.decode
    for batch in grpo_run.batches:
        for row in range(8):
            own = batch["completion_mask"][row].bool() & batch["tool_mask"][row].bool()
            assert decode(batch["completion_ids"][row][own]) == "".join(text + "<|im_end|>" for text in SCRIPTS[row % 4])


def test_all_pictures_reach_the_loss(grpo_run):
    for batch in grpo_run.batches:
        assert batch["num_images"] == [1, 2, 3, 1] * 2
        assert batch["mm_token_type_ids"].sum() == batch["image_grid_thw"].prod(1).sum() // 4
        assert batch["pixel_values"].shape[0] == batch["image_grid_thw"].prod(1).sum()


def test_micro_batches_of_like_lengths_have_the_gradient_of_trls_shuffled_ones(grpo_run):
    trainer, model = grpo_run.trainer, grpo_run.model

    def gradient(batches):
        model.zero_grad()
        for batch in batches:
            trainer._compute_loss(model, batch).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])

    for trls, ours in grpo_run.sorted_ones:
        ours = [lengths.without_padding(batch) for batch in ours]
        long = [batch["completion_mask"].sum(1).tolist() for batch in ours]
        together = torch.cat([batch["completion_mask"].sum(1) for batch in trls])
        assert [n for row in long for n in row] == sorted(together.tolist(), reverse=True)
        widths = [batch["completion_ids"].shape[1] for batch in ours]
        assert widths == [max(row) for row in long] and widths[1] < widths[0] == trls[0]["completion_ids"].shape[1]
        assert [i for b in ours for i in b["guard_row"].tolist()] != [i for b in trls for i in b["guard_row"].tolist()]
        before, after = gradient(trls), gradient(ours)
        assert before.norm() > 0
        assert (after - before).norm() < (1e-5 if grpo_run.quantize == "none" else 2e-2) * before.norm()
    model.zero_grad()


def test_trajectories_without_an_advantage_cost_no_pass_and_change_no_gradient(grpo_run):
    trainer, model = grpo_run.trainer, grpo_run.model
    passes = []
    model.train()

    def gradient(batches, loss):
        model.zero_grad()
        passes.clear()
        for batch in batches:
            loss(model, batch).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])

    with pytest.MonkeyPatch.context() as patch:
        inner = GRPOTrainer._compute_loss
        patch.setattr(GRPOTrainer, "_compute_loss", lambda self, model, batch: passes.append(batch) or inner(self, model, batch))
        for trls, _ in grpo_run.sorted_ones:
            alike = [{**batch, "advantages": torch.tensor([0.0, 0.5, 1e-8, -0.5])} for batch in trls]
            ours = [lengths.without_padding(batch) for batch in lengths.by_length(alike)]
            assert [batch["advantages"].abs().max() > 0.1 for batch in ours] == [True, False]
            before, after = gradient(alike, trainer._compute_loss), gradient(ours, trainer.compute_loss)
            assert len(passes) == 1 and before.norm() > 0
            assert (after - before).norm() < (1e-5 if grpo_run.quantize == "none" else 2e-2) * before.norm()
            patch.setattr(trainer, "beta", 0.1)  # the KL term pulls on all trajectories
            kl = [{**batch, "ref_per_token_logps": torch.zeros_like(batch["completion_mask"], dtype=torch.float32)} for batch in ours]
            gradient(kl, trainer.compute_loss)
            assert len(passes) == 2
            patch.setattr(trainer, "beta", 0.0)
    model.zero_grad()


def test_the_references_pass_by_length_is_trls_own(grpo_run):
    trainer, model = grpo_run.trainer, grpo_run.model
    for batch in grpo_run.batches:
        ids, mask = (torch.cat([batch[f"prompt_{n}"], batch[f"completion_{n}"]], dim=1) for n in ("ids", "mask"))
        shown = {name: batch[name] for name in ("pixel_values", "image_grid_thw", "mm_token_type_ids", "num_images")}
        given = model, ids, mask, batch["completion_ids"].shape[1]
        with torch.no_grad():
            trls, *_ = GRPOTrainer._get_per_token_logps_and_entropies(trainer, *given, batch_size=3, num_tiles=None, **shown)
            for size in (3, 4, 8):
                ours, *_ = trainer._get_per_token_logps_and_entropies(*given, batch_size=size, num_tiles=None, **shown)
                own = (batch["completion_mask"] * batch["tool_mask"]).bool()
                assert ours.shape == trls.shape
                assert (ours - trls)[own].abs().max() < (1e-4 if grpo_run.quantize == "none" else 0.5)
                assert (ours - trls)[own].abs().mean() < (1e-5 if grpo_run.quantize == "none" else 0.06)


def test_what_the_recipe_says_of_advantages_and_learning_rate_is_what_trl_is_told():
    stage = RLStage(schedule="cosine", warmup_steps=7, scale_rewards="none", learning_rate=3e-4, temperature=0.8, beta=0.02)
    given = grpo.grpo_settings(Recipe(rl=stage), 128)
    wanted = {
        "lr_scheduler_type": "cosine", "warmup_steps": 7, "scale_rewards": "none", "learning_rate": 3e-4, "temperature": 0.8, "beta": 0.02,
    }  # fmt: skip
    assert {name: given[name] for name in wanted} == wanted
    assert grpo.grpo_settings(Recipe(), 128)["lr_scheduler_type"] == "constant_with_warmup"


def test_a_micro_batch_loses_no_column_that_one_of_its_rows_needs():
    masks = {"prompt_mask": [[0, 0, 1, 1], [0, 1, 1, 1]], "completion_mask": [[1, 1, 0, 0], [1, 0, 0, 0]]}
    batch = {name: torch.tensor(mask) for name, mask in masks.items()}
    batch |= {"prompt_ids": torch.arange(8).view(2, 4), "completion_ids": torch.arange(8).view(2, 4), "advantages": torch.ones(2)}
    batch |= {"mm_token_type_ids": torch.arange(16).view(2, 8), "num_items_in_batch": torch.tensor(3)}
    cut = lengths.without_padding(batch)
    assert cut["prompt_ids"].tolist() == [[1, 2, 3], [5, 6, 7]] and cut["completion_ids"].tolist() == [[0, 1], [4, 5]]
    assert cut["mm_token_type_ids"].tolist() == [[1, 2, 3, 4, 5], [9, 10, 11, 12, 13]]
    assert cut["advantages"] is batch["advantages"] and cut["num_items_in_batch"] == 3


def test_trls_logprobs_are_those_of_the_rollouts(grpo_run):
    """With NF4 the update runs under bf16 autocast and the rollouts in float32, so they agree to bf16's precision only."""
    for batch in grpo_run.batches:
        own = (batch["completion_mask"] * batch["tool_mask"]).bool()
        difference = (batch["trl_logps"] - batch["sampling_per_token_logps"])[own].abs()
        assert difference.max() < (1e-4 if grpo_run.quantize == "none" else 0.5)
        assert difference.mean() < (1e-5 if grpo_run.quantize == "none" else 0.06)
        assert (batch["sampling_per_token_logps"][own] < 0).all()


def test_advantages_are_relative_to_the_group_and_favour_the_right_answer_with_one_turn(grpo_run):
    for batch in grpo_run.batches:
        for group in batch["advantages"].view(2, 4):
            assert group.sum().abs() < 1e-3
            assert group.argmax() == 1


def test_rollouts_and_metrics_are_written(grpo_run):
    rollouts = read_jsonl(grpo_run.folder / "grpo" / "rollouts.jsonl")
    assert len(rollouts) == 16 and {row["step"] for row in rollouts} == {0, 1}
    assert rollouts[1]["turns"] == SCRIPTS[1] and rollouts[1]["terms"]["accuracy"] == 1.0
    metrics = read_jsonl(grpo_run.folder / "metrics.jsonl")
    assert [row["step"] for row in metrics] == [1, 2]
    wanted = {"loss", "grad_norm", "reward/total", "reward/accuracy", "reward/must_use", "rollout/tool_turns", "rollout/error_rate"}
    assert wanted <= set(metrics[0])
    assert metrics[0]["reward/accuracy"] == 0.5 and metrics[0]["rollout/tool_use_rate"] == 0.75
    assert metrics[0]["rollout/error_rate"] == 0.5 and metrics[0]["rollout/recovery_rate"] == 0.5


def test_saved_rollouts_are_explained_as_they_were_scored(tmp_path, sandbox):
    picture(84, 84).save(tmp_path / "shown.png")
    shown = replace(sample(84, 84, required_ops=("rotate_90",)), image=str(tmp_path / "shown.png"))
    episodes = run_episodes(ScriptedModel([TURN, RIGHT]), sandbox, [shown, shown], AgentLimits())
    environments = [SimpleNamespace(sample=shown, trajectory=e.trajectory()) for e in episodes]
    reward = grpo.make_reward(RLStage(), tmp_path / "grpo" / "rollouts.jsonl")
    totals = reward(environments=environments, trainer_state=SimpleNamespace(global_step=0, max_steps=1), log_metric=lambda *_: None)
    explained = explain_file(tmp_path / "grpo" / "rollouts.jsonl", ["dense"])
    assert [e.breakdowns["dense"].total for e in explained] == totals and [e.n_group for e in explained] == [2, 2]


@pytest.fixture(scope="module")
def bench():
    """benchmarks/bench_rollout.py, which builds TRL's own loop over the same tool."""
    spec = importlib.util.spec_from_file_location("bench_rollout", ROOT / "benchmarks" / "bench_rollout.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_greedy_rollouts_are_those_of_trls_own_loop_token_for_token(bench, sandbox):
    """The tiny base learns four dialogues by heart, with up to three pictures; then both loops let it speak."""
    sizes = [(84, 84), (130, 60), (60, 130), (90, 90)]
    samples = [sample(*size, seed, question=f"What is on sign {seed}?") for seed, size in enumerate(sizes)]
    scripts = [[TURN, CROP, RIGHT], [BROKEN, TURN, RIGHT], [WRONG], [TURN, RIGHT]]
    rows = []
    for start, script in zip(samples, scripts, strict=True):
        (episode,) = run_episodes(ScriptedModel(script), sandbox, [start], AgentLimits())
        rows.append(TrainingRow(start, episode.trajectory(), (True,) * len(script)))
    stage = RLStage(prompts=4, generations=2, micro_batch=2, max_reply_tokens=96, rollout_batch=3)
    recipe = Recipe(model=ModelConfig(name=str(ROOT / "sample_data" / "tiny_base"), quantize="none"), rl=stage)
    model, processor = load_for_training(recipe.model, seed=0)
    bench.teach(model, processor, rows, steps=60, batch=4, learning_rate=4e-3)
    loops = (bench.make_trainer(loop, model, processor, samples, recipe, sandbox, greedy=True) for loop in bench.LOOPS)
    ours, theirs = (bench.rollouts(trainer, 4, 2) for trainer in loops)
    assert ours == theirs
    assert sorted(t["n_images"] for t in ours) == [1, 1, 2, 2, 2, 2, 3, 3], "it has learned them"


@pytest.mark.slow
def test_a_stopped_grpo_goes_on_with_the_rollouts_it_would_have_had(tmp_path, tiny_folder, sandbox):
    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == 2:
                raise KeyboardInterrupt

    def train(folder, callbacks):
        model, processor = load_for_training(config(tiny_folder), seed=0)
        stage = RLStage(steps=3, prompts=2, generations=2, micro_batch=4, learning_rate=1e-2, max_reply_tokens=10, save_every=1)
        recipe = Recipe(model=config(tiny_folder), rl=stage)
        grpo.train_grpo(model, processor, [sample(84, 84, i) for i in range(4)], recipe, folder, callbacks, sandbox)
        return weights(model, lora=True)

    whole = train(tmp_path / "whole", [])
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", [Stop()])
    resumed = train(tmp_path / "stopped", [])
    runs = [read_jsonl(tmp_path / run / "rollouts.jsonl") for run in ("whole", "stopped")]
    said = [[(row["step"], row["sample_id"], row["turns"]) for row in rows] for rows in runs]
    assert said[0] == said[1] and len(said[0]) == 12
    assert len({str(turns) for _, _, turns in said[0]}) > 6, "they differ from each other"
    for name, tensor in whole.items():
        assert torch.allclose(tensor, resumed[name], atol=1e-6), name


def test_collapsing_tool_use_is_said_once_and_flagged_also_after_a_resume(tmp_path, capsys):
    def log(stage_log, rates, start):
        for step, rate in enumerate(rates, start):
            logs = {"loss": 1.0, "rollout/tool_use_where_required": rate}
            stage_log.on_log(None, SimpleNamespace(global_step=step), None, logs=logs)

    log(StepLog("grpo", 40, tmp_path / "metrics.jsonl"), [0.9] * 10, 1)
    resumed = StepLog("grpo", 40, tmp_path / "metrics.jsonl")
    resumed.on_train_begin(None, SimpleNamespace(global_step=10), None)
    log(resumed, [0.1] * 12, 11)
    said = capsys.readouterr().err
    assert said.count("WARNING grpo step ") == 1 and "tool use is collapsing" in said
    flags = [row["monitor/tool_collapse"] for row in read_jsonl(tmp_path / "metrics.jsonl")]
    assert flags[:14] == [0.0] * 14 and flags[-5:] == [1.0] * 5


def test_an_episode_without_a_last_word_is_split_before_its_last_observation(model, processor, sandbox):
    told = ToldModel(model, processor, script=lambda dialogue, row: TURN)
    (episode,) = run_episodes(told, sandbox, [sample()], AgentLimits(max_turns=2, max_reply_tokens=120))
    assert episode.end_reason == "max_turns"
    prompt, completion, mask, logprobs = grpo.split_episode(episode)
    assert len(completion) == len(mask) == len(logprobs)
    assert prompt == episode.dialogue.segments[0].token_ids
    assert all((p < 0) == bool(own) for p, own in zip(logprobs, mask, strict=True))
    assert mask[-1] == 1


def test_grpo_notices_a_sampled_vision_token(model, processor, sandbox):
    (episode,) = run_episodes(ToldModel(model, processor, script=lambda dialogue, row: RIGHT), sandbox, [sample()], AgentLimits())
    vision = processor.tokenizer.convert_tokens_to_ids("<|vision_end|>")
    episode.dialogue.segments[1].token_ids[0] = vision
    trainer = SimpleNamespace(processing_class=processor)
    with pytest.raises(AssertionError, match="sampled vision tokens"):
        grpo.AgentRollouts._check_pictures(trainer, [grpo.split_episode(episode)], [episode])


def test_the_environment_holds_a_sample_and_shows_what_the_agent_would(sandbox):
    environment = PictureEnvironment([sample(40, 30, 0), sample(40, 30, 1)], sandbox)
    environment.reset(prompt=[], index=1)
    assert environment.sample.id == "s1"
    text, image = environment.code_image_tool("result = image.rotate(90, expand=True)")
    assert text["text"] == "Image 1: 30x40 pixels.\n" and image["image"].size == (30, 40)
    (missing,) = environment.code_image_tool("result = image", image_index=5)
    assert missing["text"] == "There is no image 5; image_index goes from 0 to 1."
    (error,) = environment.code_image_tool("result = picture")
    assert "picture" in error["text"]
    environment.reset(prompt=[], index=0)
    assert len(environment.images) == 1 and environment.trajectory is None


def test_rollout_metrics_count_what_happened(sandbox):
    config = RewardConfig.preset("dense")
    turned, records = sample(required_ops=("rotate_90",)), []
    for script in SCRIPTS:
        (episode,) = run_episodes(ScriptedModel(script), sandbox, [turned], AgentLimits())
        trajectory = episode.trajectory()
        records.append((turned, trajectory, score(turned, trajectory, config)))
    metrics = rollout_metrics(records, [[0, 1], [2, 3]])
    assert metrics["rollout/tool_turns"] == (0 + 1 + 3 + 1) / 4
    assert metrics["rollout/answered"] == 0.75
    assert metrics["reward/accuracy"] == 0.5
    assert metrics["rollout/recovery_rate"] == 0.5
    assert metrics["reward/zero_variance_groups"] == 0.0
    assert rollout_metrics(records, [[0], [1], [2], [3]])["reward/zero_variance_groups"] == 1.0
    assert json.dumps(metrics)
