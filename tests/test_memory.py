"""The memory plan: counts against real models and layers, formulas against allocation traces at true width, and the search for a fix."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from allocations import Allocations, FusedLoss, faked, meta_model, to_train
from pictures import picture, sample
from tiny_model import ToldModel, ask
from torch._subclasses.fake_tensor import FakeTensorMode

from codevision_lite.agent import AgentLimits, run_episodes
from codevision_lite.cli import main
from codevision_lite.config import load_recipe
from codevision_lite.errors import UserError
from codevision_lite.imaging import set_pixel_budget
from codevision_lite.models import kv
from codevision_lite.models.encoding import encode_segment, image_inputs
from codevision_lite.models.hf import PREFILL_TOKENS, HFModel
from codevision_lite.models.vision import KEPT_TOKENS, TOWER_TOKENS
from codevision_lite.protocol import render_prompt, render_reply
from codevision_lite.recipe import EvalStage, ModelConfig, Recipe, RLStage, SFTStage
from codevision_lite.records import ToolCall
from codevision_lite.train import memory
from codevision_lite.train.lengths import by_length, without_padding
from codevision_lite.train.memory import GIB, Tokens, count_tokens, kv_bytes, predict
from codevision_lite.train.plan import make_fit, make_plan, plan_text
from codevision_lite.train.shapes import KNOWN, load_shape, nf4_bytes, parse_shape

RECIPES = Path(__file__).parent.parent / "recipes"
PUBLISHED = {"qwen2.5-vl-3b": 3_754_622_976, "qwen2.5-vl-7b": 8_292_166_656}  # parameters that the hub shows for them


# ---------------------------------------------------------------- counts, exactly


@pytest.mark.parametrize("known", KNOWN)
def test_parameters_are_those_of_the_real_configuration(known):
    shape, model = load_shape(known), meta_model(known)
    assert shape.parameters() == sum(p.numel() for p in model.parameters()) == PUBLISHED[known]
    assert shape.vision_parameters() == sum(p.numel() for p in model.model.visual.parameters())


def test_parameters_and_adapter_of_a_local_folder(tiny_folder, model):
    shape = load_shape(str(tiny_folder))
    assert shape.parameters() == sum(p.numel() for p in model.parameters())
    adapted = to_train(meta_model("qwen2.5-vl-3b", layers=2, depth=1), r=8)
    shape = replace(load_shape("qwen2.5-vl-3b"), layers=2)
    assert shape.lora_parameters(8) == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


def test_the_flat_layout_of_the_hubs_files_is_the_same_shape():
    text = {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 2}
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "in_chans": 3, "patch_size": 14, "spatial_merge_size": 2}
    flat = {"model_type": "qwen2_5_vl", "vocab_size": 151936, "tie_word_embeddings": True, "vision_config": vision, **text}
    assert parse_shape(flat) == load_shape("unsloth/Qwen2.5-VL-3B-Instruct-bnb-4bit")


@pytest.mark.parametrize(("width", "height"), [(64, 32), (448, 160), (2048, 256), (96, 4096)])
def test_nf4_bytes_are_those_of_a_quantised_layer(width, height):
    from bitsandbytes.nn import Linear4bit

    layer = Linear4bit(width, height, bias=False, quant_type="nf4", compress_statistics=True).to("cpu")
    state = layer.weight.quant_state or layer.weight._quantize("cpu").quant_state
    tensors = [layer.weight, state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
    assert nf4_bytes(width * height) == sum(t.numel() * t.element_size() for t in tensors)


def test_kv_and_logits_bytes_are_those_of_the_models_tensors(model, processor, tiny_folder):
    shape, ids = load_shape(str(tiny_folder)), torch.randint(20, 200, (3, 37))
    with torch.no_grad():
        out = model(input_ids=ids, use_cache=True)
    cached = sum(t.numel() * t.element_size() for layer in out.past_key_values.layers for t in (layer.keys, layer.values))
    assert kv_bytes(shape, 3, 37) == cached
    assert out.logits.numel() == 3 * 37 * shape.vocab
    engine = HFModel(model, processor)
    engine.reply([ask("What?", picture())], 8)
    (row,) = engine._rows.values()
    assert sum(t.numel() * t.element_size() for t in engine._kv.read(row.slot)) == kv_bytes(shape, 1, row.slot.length), "a waiting row"


def test_rollouts_hold_no_more_than_is_planned(model, processor, sandbox, tiny_folder):
    """Rollouts of the real engine on the CPU, every live tensor counted before each forward: waiting rows have no copies."""
    turn, done = render_reply("It is turned.", ToolCall("result = image.rotate(90, expand=True)")), render_reply("So it is.", answer="F")
    plans, live = [[turn, done], [turn, turn, turn, done], [done], [turn, turn, done]], []
    told = ToldModel(
        model, processor, batch_size=6, script=lambda dialogue, n: plans[n % 4][sum(s.role == "reply" for s in dialogue.segments)]
    )
    reply = 64
    trace = Allocations([*model.parameters(), *model.buffers()])
    hook = model.register_forward_pre_hook(lambda *_: live.append(trace.live))
    try:
        with trace:
            episodes = run_episodes(told, sandbox, [sample(84, 84, i) for i in range(12)], AgentLimits(max_reply_tokens=reply))
    finally:
        hook.remove()
    longest = max(episodes, key=lambda e: e.dialogue.n_tokens)
    shape, prompt = load_shape(str(tiny_folder)), max(len(e.dialogue.segments[0].token_ids) for e in episodes)
    rl = RLStage(prompts=6, generations=2, micro_batch=12, rollout_batch=6, max_reply_tokens=reply)
    tokens = Tokens(prompt, longest.dialogue.n_tokens, len(longest.images), 9)
    planned = predict(Recipe(rl=rl), shape, tokens)[1].held["KV cache"]
    cached = max(live)
    assert told._kv.n_bytes <= planned, "the buffer, which only grows"
    assert 0.75 * planned < cached < 1.2 * planned, "and beside it nothing large: no row is held twice"


@pytest.mark.parametrize("size", [(4000, 3000), (512, 512), (3000, 400)])
@pytest.mark.parametrize("budget", [100_352, 262_144, 401_408])
def test_a_picture_has_no_more_tokens_than_planned(processor, size, budget):
    shape = load_shape("qwen2.5-vl-3b")
    before = dict(processor.image_processor.size)
    try:
        set_pixel_budget(processor, 3136, budget)
        grid = image_inputs(processor, [picture(*size)]).grid_thw[0]
    finally:
        set_pixel_budget(processor, before["shortest_edge"], before["longest_edge"])
    planned = count_tokens(Recipe(model=ModelConfig(max_pixels=budget)), shape).image
    n_tokens = int(grid.prod()) // 4
    assert n_tokens <= planned
    if size[0] * size[1] >= budget:
        assert n_tokens >= 0.85 * planned


def test_the_longest_trajectory_is_what_the_agent_allows(processor):
    shape = load_shape("qwen2.5-vl-3b")
    rl = RLStage(max_turns=4, max_reply_tokens=100, max_tokens=100_000, max_images=9)
    tokens = count_tokens(Recipe(model=ModelConfig(max_pixels=78_400), rl=rl), shape)
    assert (tokens.images, tokens.image) == (4, 100)
    assert tokens.trajectory > tokens.prompt + 3 * 100 + 4 * 100
    for final_answer, longest in ((False, 700 + 100), (True, 700)):
        cut = replace(rl, max_tokens=700, final_answer=final_answer)
        assert count_tokens(Recipe(model=ModelConfig(max_pixels=78_400), rl=cut), shape).trajectory == longest
    from codevision_lite.models import Segment

    prompt = Segment("prompt", render_prompt("x" * 40, (800, 600)), (picture(),))
    assert len(prompt.text) < tokens.prompt * 4, "characters of a prompt"
    assert len(encode_segment(processor, prompt, torch.tensor([[1, 2, 2]]))) < tokens.prompt


def test_numbers_that_are_repeated_here_are_those_of_the_engine_and_of_trl():
    from trl.trainer import sft_trainer

    assert (memory._PREFILL_TOKENS, memory._KEPT_TOKENS, memory._TOWER_TOKENS) == (PREFILL_TOKENS, KEPT_TOKENS, TOWER_TOKENS)
    assert (memory._HEADROOM, memory._HEADROOM_SHARE) == (kv.HEADROOM, kv.HEADROOM_SHARE)
    assert memory._SFT_CHUNK == sft_trainer._CHUNKED_LM_HEAD_CHUNK_SIZE


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_micro_batches_of_like_lengths_are_no_wider_than_planned(rows):
    tokens = Tokens(300, 1000, 1, 9, shortest_prompt=120)
    lengths = [(120, 880), (300, 700)] + [(p, torch.randint(1, 1001 - p, ()).item()) for p in torch.randint(120, 301, (14,)).tolist()]
    prompt, completion = torch.tensor(lengths).T[:, :, None]
    masks = {"prompt_mask": (torch.arange(300) >= 300 - prompt).long(), "completion_mask": (torch.arange(880) < completion).long()}
    whole = masks | {"prompt_ids": masks["prompt_mask"], "completion_ids": masks["completion_mask"]}
    drawn = [{name: value[at : at + rows] for name, value in whole.items()} for at in range(0, 16, rows)]
    cut = [without_padding(batch) for batch in by_length(drawn)]
    widths = [(batch["prompt_ids"].shape[1] + batch["completion_ids"].shape[1], batch["completion_ids"].shape[1]) for batch in cut]
    assert max(width for width, _ in widths) <= tokens.padded(rows)
    assert max(completion for _, completion in widths) == tokens.completion, "of the longest trajectory, which is among them"


# ---------------------------------------------------------------- formulas against traces, at true width


def one_row(tokens, micro_batch=1, r=32):
    """A recipe whose update sees one trajectory of so many tokens and no pictures worth counting."""
    rl = RLStage(prompts=1, generations=2, micro_batch=micro_batch)
    return Recipe(model=ModelConfig(lora_r=r), rl=rl, sft=SFTStage(batch=1, micro_batch=1)), Tokens(900, tokens, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("length", [1024, 5120])
def test_language_activations_of_a_training_step(known, length):
    layers = 3
    shape = replace(load_shape(known), layers=layers)
    model = to_train(meta_model(known, layers, 1), r=32)
    with FakeTensorMode(allow_non_fake_inputs=True):
        faked(model)
        inputs = torch.empty(1, length, shape.hidden, dtype=torch.bfloat16, requires_grad=True)
        mask, positions = torch.empty(1, 1, length, length, dtype=torch.bool), torch.empty(3, 1, length, dtype=torch.long)
        trace = Allocations([*model.parameters(), *model.buffers(), inputs, mask, positions])
        with trace, torch.autocast("cpu", torch.bfloat16):
            language = model.base_model.model.model.language_model
            out = language(inputs_embeds=inputs, position_ids=positions, attention_mask={"full_attention": mask}, use_cache=False)
            hidden = out.last_hidden_state
            kept = trace.live - 2 * shape.lora_parameters(32) + inputs.numel() * 2  # the adapter's bf16 copy is planned elsewhere
            grad = torch.empty_like(hidden)
            before = trace.mark()
            hidden.backward(grad)
    recipe, tokens = one_row(length)
    update = predict(recipe, shape, tokens)[2]
    assert kept == pytest.approx(update.held["layer checkpoints"], rel=0.05)
    unpacked = 2 * shape.hidden * shape.intermediate  # a quantised layer's weights; the trace has none
    assert trace.peak - before == pytest.approx(update.moments["one layer's recomputation"] - unpacked, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("known", KNOWN)
def test_logits_of_an_update(known):
    """Hidden states to log-probabilities and back, as TRL's forward slices them and accelerate widens them."""
    shape, completion, prompt = load_shape(known), 3000, 700
    with FakeTensorMode(allow_non_fake_inputs=True):
        head = torch.empty(shape.vocab, shape.hidden, dtype=torch.bfloat16)
        hidden = torch.empty(1, prompt + completion, shape.hidden, dtype=torch.bfloat16, requires_grad=True)
        trace = Allocations([head, hidden])
        with trace:
            logits = (hidden[:, -(completion + 1) :] @ head.t()).float()[:, :-1][:, -completion:]
            loss = FusedLoss.apply(logits).sum()
            del logits
            loss.backward()
    recipe, tokens = one_row(prompt + completion)
    planned = predict(recipe, shape, replace(tokens, prompt=prompt))[2].moments["logits of the loss"]
    assert trace.peak == pytest.approx(planned, rel=0.08)


@pytest.mark.slow
def test_logits_of_the_sft_loss():
    from trl.trainer.sft_trainer import _chunked_cross_entropy_loss

    vocab, width, n = 30_000, 32, 600
    hidden, head = torch.randn(1, n, width, dtype=torch.bfloat16, requires_grad=True), torch.randn(vocab, width, dtype=torch.bfloat16)
    labels = torch.randint(0, vocab, (1, n))
    trace = Allocations([hidden, head, labels])
    with trace, torch.autocast("cpu", torch.bfloat16):
        loss, *_ = _chunked_cross_entropy_loss(hidden, head, memory._SFT_CHUNK, labels=labels)
        loss.backward()
    recipe, tokens = one_row(n)
    planned = predict(recipe, replace(load_shape("qwen2.5-vl-3b"), vocab=vocab), tokens)[0].moments["logits of the loss"]
    assert trace.peak == pytest.approx(planned, rel=0.05)


class EqualLengths:
    """Stands in for the tower's cumulative lengths, which fake tensors can't give: pieces of one length."""

    def __init__(self, lengths):
        self.lengths = lengths

    def __getitem__(self, _):
        return self

    def __sub__(self, _):
        return self

    def tolist(self):
        return self.lengths


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False], ids=["training", "rollouts"])
def test_vision_activations(training):
    """1,344 patches, a picture of 336 tokens, through the tower; it keeps nothing in training either."""
    shape, patches, depth = replace(load_shape("qwen2.5-vl-3b"), v_depth=4), 1344, 4
    model = to_train(meta_model("qwen2.5-vl-3b", 1, depth), r=8)
    with FakeTensorMode(allow_non_fake_inputs=True):
        faked(model)
        model.train(training)
        pixels = torch.empty(patches, shape.patch_values)
        angles = (torch.empty(patches, 80), torch.empty(patches, 80))
        trace = Allocations([*model.parameters(), *model.buffers(), *angles])
        with trace, torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(training):
            pixels, tower = pixels + 0, model.base_model.model.model.visual
            hidden = tower.patch_embed(pixels)
            for number, block in enumerate(tower.blocks):
                lengths = EqualLengths([patches] if number == depth - 1 else [64] * (patches // 64))
                hidden = block(hidden, cu_seqlens=lengths, position_embeddings=angles)
            out = tower.merger(hidden)
    assert not out.requires_grad, "the frozen tower is in the graph"
    recipe, _ = one_row(10)
    stage = predict(recipe, shape, Tokens(400, 401, 1, patches // 4))[1]
    assert trace.peak == pytest.approx(stage.moments["vision tower"] / 2, rel=0.08), "planned for a picture of each of two rows"


@pytest.mark.slow
@pytest.mark.parametrize("known", KNOWN)
def test_activations_of_a_prefill(known):
    """A turn's new tokens of several rows; no gradients, so layers don't add up."""
    shape, rows, new = load_shape(known), 8, 374
    model = to_train(meta_model(known, 2, 1), r=32)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        faked(model).eval()
        inputs = torch.empty(rows, new, shape.hidden, dtype=torch.bfloat16)
        mask, positions = torch.empty(rows, 1, new, new, dtype=torch.bool), torch.empty(3, rows, new, dtype=torch.long)
        trace = Allocations([*model.parameters(), *model.buffers(), inputs, mask, positions])
        with trace, torch.autocast("cpu", torch.bfloat16):
            language, attention = model.base_model.model.model.language_model, {"full_attention": mask}
            language(inputs_embeds=inputs, position_ids=positions, attention_mask=attention, use_cache=False)
    rl = RLStage(prompts=2, generations=4, micro_batch=8, max_reply_tokens=1)
    stage = predict(Recipe(rl=rl), shape, Tokens(300, 301, 1, new - memory._OBSERVATION))[1]
    planned = stage.moments["prefill of a turn"] - 2 * shape.hidden * shape.intermediate
    assert trace.peak == pytest.approx(planned, rel=0.1)


@pytest.mark.slow
def test_a_checkpointed_step_of_the_tiny_model_keeps_what_is_planned(tiny_folder, processor):
    """Real tensors: what autograd keeps between forward and backward, by its own hooks."""
    from codevision_lite.train.load import load_for_training

    model, _ = load_for_training(ModelConfig(name=str(tiny_folder), quantize="none", lora_r=8, lora_alpha=8, backend="transformers"))
    model.gradient_checkpointing_enable()
    model.train()
    language = model.base_model.model.model.language_model
    shape, kept = load_shape(str(tiny_folder)), {}
    inputs = torch.randn(2, 300, shape.hidden, requires_grad=True)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        hidden = language(inputs_embeds=inputs, use_cache=False).last_hidden_state
    bytes_of_layers = sum(n for n in kept.values() if n == inputs.numel() * 4)
    assert bytes_of_layers == pytest.approx(inputs.numel() * 4 * (shape.layers + 1), rel=0.3), "an input a layer, and the last norm's"
    assert hidden.shape == inputs.shape


# ---------------------------------------------------------------- does it fit, and what to turn


def big(**changes):
    rl = RLStage(prompts=8, micro_batch=4, max_turns=8, max_reply_tokens=512, max_tokens=6144, max_images=6)
    model = ModelConfig(name="Qwen/Qwen2.5-VL-3B-Instruct", max_pixels=262_144)
    evaluation = EvalStage(batch=100, max_tokens=6144, max_reply_tokens=512)
    recipe = Recipe(model=model, rl=rl, sft=SFTStage(batch=32, micro_batch=32), eval=evaluation)
    return replace(recipe, **changes)


@pytest.mark.parametrize("index", range(4), ids=["sft", "rollouts", "update", "evaluation"])
def test_the_change_that_is_found_fits_and_a_smaller_one_does_not(index):
    recipe, shape = big(), load_shape("qwen2.5-vl-3b")
    stage = predict(recipe, shape)[index]
    assert stage.total > 24 * GIB, "as it is, it does not fit"
    changes = make_fit(recipe, shape, stage.name, 24)
    assert len(changes) == 1, "one key is enough"
    ((key, value),) = changes.items()
    part, name = key.split(".")

    def with_value(n):
        return predict(replace(recipe, **{part: replace(getattr(recipe, part), **{name: n})}), shape)[index].total

    assert with_value(value) <= 24 * GIB
    now = getattr(getattr(recipe, part), name) or recipe.rl.prompts * recipe.rl.generations
    total = {"sft": recipe.sft.batch, "rl": recipe.rl.prompts * recipe.rl.generations, "eval": 1}[part]
    larger = next((n for n in range(value + 1, now) if part == "eval" or total % n == 0), None)
    assert larger is None or with_value(larger) > 24 * GIB, "the least change"


def test_a_card_that_nothing_fits_is_said_so():
    plan = make_plan(big(model=ModelConfig(name="qwen2.5-vl-7b", max_pixels=262_144)), 6)
    assert plan.changes["RL update"] is None
    assert "take a smaller model or a larger card" in plan_text(plan)


def test_more_of_anything_takes_more():
    shape, recipe = load_shape("qwen2.5-vl-3b"), big()
    totals = [s.total for s in predict(recipe, shape)]
    for change in (
        {"sft": replace(recipe.sft, batch=64, micro_batch=64)}, {"rl": replace(recipe.rl, micro_batch=8)},
        {"rl": replace(recipe.rl, prompts=16)}, {"eval": replace(recipe.eval, batch=120)},
        {"model": replace(recipe.model, max_pixels=401_408)}, {"model": replace(recipe.model, lora_r=64)},
        {"model": replace(recipe.model, quantize="none")}, {"model": replace(recipe.model, name="qwen2.5-vl-7b")},
    ):  # fmt: skip
        changed = replace(recipe, **change)
        more = [s.total for s in predict(changed, load_shape(changed.model.name))]
        assert any(b > a for a, b in zip(totals, more, strict=True)), change
        if changed.model.max_pixels == recipe.model.max_pixels:  # of larger pictures fewer are prefilled at once
            assert all(b >= a for a, b in zip(totals, more, strict=True)), change


def test_quantising_saves_what_it_should():
    shape = load_shape("qwen2.5-vl-7b")
    assert 3.7 < shape.linear_weights() * 2 / shape.nf4_bytes() < 3.9, "16 bits to 4 and a little more"


def test_the_plan_verb_prints_a_table_and_json(capsys):
    assert main(["plan", str(RECIPES / "qwen2.5-vl-3b-24gb.yaml"), "--gpu-gib", "12"]) == 0
    text = capsys.readouterr().out
    assert "3.75 billion parameters" in text and "RL update does not fit" in text and "it fits with rl." in text
    assert main(["plan", str(RECIPES / "qwen2.5-vl-3b-24gb.yaml"), "--json", "--gpu-gib", "24"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["fits"] and plan["gpu_gib"] == 24
    for stage in plan["stages"]:
        assert stage["allocated"] == sum(stage["held"].values()) + max(stage["moments"].values())
        assert stage["total"] > stage["allocated"]


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--gpu-gib", "0"], "--gpu-gib must be > 0"),
        (["model.name=nobody/no-such-model"], "'nobody/no-such-model': its config.json is not on this machine"),
        (["gpu_gib=null"], "Say how large the card is"),
    ],
)
def test_what_the_plan_verb_can_not_do_is_one_line(capsys, argv, told):
    assert main(["plan", str(RECIPES / "qwen2.5-vl-3b-24gb.yaml"), *argv]) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1


def test_a_model_of_another_kind_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UserError, match="llama"):
        load_shape(str(tmp_path))
    with pytest.raises(UserError, match=r"no config\.json"):
        load_shape(str(RECIPES))


def test_the_recipes_gpu_gib_is_what_it_is_measured_against(monkeypatch):
    recipe = load_recipe(RECIPES / "qwen2.5-vl-7b-48gb.yaml", cls=Recipe)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert make_plan(recipe).gpu_gib == 48
    assert make_plan(recipe, 24).gpu == "--gpu-gib"
