"""Generation: log-probabilities that training recomputes, greedy replies equal to `generate()`, a cache that changes nothing."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from pictures import picture, sample
from tiny_model import ToldModel, answer, ask, converse, show, token_ids

from codevision_lite.agent import AgentLimits, run_episodes
from codevision_lite.models import Dialogue, Segment, load_model, vision
from codevision_lite.models.dense import merged_linears
from codevision_lite.models.encoding import image_inputs
from codevision_lite.models.hf import VISION_TOKENS, HFModel, _Row
from codevision_lite.models.kv import RowCache
from codevision_lite.models.load import load_base
from codevision_lite.models.vision import PictureFeatures
from codevision_lite.protocol import render_reply
from codevision_lite.records import ToolCall
from codevision_lite.train.load import LORA_TARGETS

TURN = render_reply("It is turned.", ToolCall("result = image.rotate(90, expand=True)"))
CROP = render_reply("I look closer.", ToolCall("result = image.crop((0, 0, 40, 20))", image_index=1))
BROKEN = render_reply("It is turned.", ToolCall("result = picture.rotate(90)"))
ANSWER = render_reply("I can read it.", answer="F")

# For each dialogue its first picture and what it is shown after each reply (None: a message without a picture).
FIRST = [(84, 84), (300, 40), (60, 200)]
SHOWN = [[(200, 120), None], [None, (84, 84)], [(40, 300), (90, 90)]]


@pytest.fixture(params=["none", "nf4"])
def any_model(request):
    return request.getfixturevalue({"none": "model", "nf4": "nf4_model"}[request.param])


def prompts():
    return [ask(f"What is in cell {i}?", picture(*size, seed=i)) for i, size in enumerate(FIRST)]


def shown():
    return [[size and picture(*size, seed=10 * i + j) for j, size in enumerate(sizes, 1)] for i, sizes in enumerate(SHOWN)]


def stock_inputs(processor, dialogues, side="right"):
    """The training forward's inputs for whole dialogues, padded on one side."""
    rows = [token_ids(d) for d in dialogues]
    width, pad = max(map(len, rows)), processor.tokenizer.pad_token_id
    padded = [row + [pad] * (width - len(row)) if side == "right" else [pad] * (width - len(row)) + row for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    ids = torch.tensor(padded)
    pictures = image_inputs(processor, [image for d in dialogues for image in d.images])
    return {
        "input_ids": ids, "attention_mask": torch.tensor(mask if side == "right" else [row[::-1] for row in mask]),
        "mm_token_type_ids": (ids == processor.image_token_id).long(),
        "pixel_values": pictures.pixel_values, "image_grid_thw": pictures.grid_thw,
    }  # fmt: skip


@torch.no_grad()
def recomputed(model, processor, dialogues, temperature=1.0, side="right", **changes):
    """Log-probabilities of all sampled tokens by the stock forward, dialogue by dialogue."""
    inputs = stock_inputs(processor, dialogues, side) | changes
    logprobs = torch.log_softmax(model(**inputs).logits.float() / temperature, dim=-1)
    out = []
    for i, dialogue in enumerate(dialogues):
        at = 0 if side == "right" else inputs["input_ids"].shape[1] - len(token_ids(dialogue))
        for segment in dialogue.segments:
            if segment.role == "reply":
                out += [float(logprobs[i, at + n - 1, t]) for n, t in enumerate(segment.token_ids)]
            at += len(segment.token_ids)
    return torch.tensor(out)


def sampled(dialogues):
    return torch.tensor([p for d in dialogues for s in d.segments if s.role == "reply" for p in s.logprobs])


@pytest.mark.parametrize("side, temperature", [("right", 1.0), ("left", 0.7)])
def test_the_training_forward_gives_the_logprobs_of_generation(any_model, processor, side, temperature):
    dialogues = prompts()
    converse(HFModel(any_model, processor, temperature=temperature, seed=3), dialogues, shown(), max_new_tokens=20)
    ours, theirs = sampled(dialogues), recomputed(any_model, processor, dialogues, temperature, side)
    assert (ours - theirs).abs().max() < 1e-4


def test_that_agreement_would_notice_a_wrong_picture_or_position(model, processor):
    dialogues = prompts()
    converse(HFModel(model, processor, temperature=1.0, seed=3), dialogues, shown(), max_new_tokens=12)
    right = sampled(dialogues)
    inputs = stock_inputs(processor, dialogues)
    for changes in ({"pixel_values": inputs["pixel_values"].flip(0)}, {"mm_token_type_ids": torch.zeros_like(inputs["input_ids"])}):
        assert (recomputed(model, processor, dialogues, **changes) - right).abs().max() > 0.1


def test_greedy_replies_are_those_of_generate(any_model, processor):
    dialogues = prompts()
    converse(HFModel(any_model, processor), dialogues, shown(), max_new_tokens=16)
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    suppressed = [processor.tokenizer.convert_tokens_to_ids(t) for t in VISION_TOKENS]
    assert len({t for d in dialogues for s in d.segments if s.role == "reply" for t in s.token_ids}) > 4, "varied replies"
    for n in (1, 3, 5):  # the three replies
        before = [Dialogue(d.segments[:n]) for d in dialogues]
        inputs = stock_inputs(processor, before, "left")
        generated = any_model.generate(
            **inputs, max_new_tokens=16, do_sample=False, suppress_tokens=suppressed, eos_token_id=end, pad_token_id=0
        )
        for row, dialogue in zip(generated[:, inputs["input_ids"].shape[1] :].tolist(), dialogues, strict=True):
            reply = dialogue.segments[n]
            assert row[: len(reply.token_ids)] == reply.token_ids
            assert reply.finished == (reply.token_ids[-1] == end)
            assert reply.finished or len(reply.token_ids) == 16


def test_the_kept_cache_gives_what_a_fresh_prefill_gives(any_model, processor):
    kept, fresh = prompts(), prompts()
    converse(HFModel(any_model, processor, temperature=1.0, seed=1), kept, shown())

    class Forgetful(HFModel):
        def reply(self, dialogues, max_new_tokens):
            self.forget()
            return super().reply(dialogues, max_new_tokens)

    converse(Forgetful(any_model, processor, temperature=1.0, seed=1), fresh, shown())
    assert list(map(token_ids, kept)) == list(map(token_ids, fresh))
    assert (sampled(kept) - sampled(fresh)).abs().max() < 1e-4


def test_in_later_turns_only_the_new_tokens_are_prefilled(model, processor):
    dialogues, widths = prompts(), []
    hook = model.register_forward_pre_hook(lambda _, args, kwargs: widths.append(kwargs["position_ids"].shape[2]), with_kwargs=True)
    try:
        converse(HFModel(model, processor, seed=1), dialogues, shown(), max_new_tokens=4)
    finally:
        hook.remove()
    prefills = [w for w in widths if w > 1]
    assert prefills[0] == max(len(d.segments[0].token_ids) for d in dialogues)
    new = [max(len(d.segments[n].token_ids) for d in dialogues) for n in (2, 4)]
    assert prefills[1:] == [n + 1 for n in new], "what was shown, after the reply's last token"


@pytest.mark.parametrize("left", [[0, 1, 2], [2, 0], [1], [2, 1, 0]])
def test_dialogues_may_end_or_change_places_between_turns(model, processor, left):
    together, alone, pictures = prompts(), prompts(), shown()
    engine = HFModel(model, processor)
    answer(engine, together, 10)
    for i in left:
        show(together[i], pictures[i][0])
    answer(engine, [together[i] for i in left], 10)
    for i in left:
        converse(HFModel(model, processor), [alone[i]], [pictures[i][:1]])
        assert token_ids(together[i]) == token_ids(alone[i])


def test_a_new_dialogue_may_join_one_that_is_under_way(model, processor):
    first, second = prompts()[:2]
    engine = HFModel(model, processor)
    answer(engine, [first], 10)
    show(first, picture(50, 90, seed=8))
    replies = engine.reply([first, second], 8)
    for dialogue, reply in zip((first, second), replies, strict=True):
        (again,) = HFModel(model, processor).reply([dialogue], 8)
        assert reply.token_ids == again.token_ids


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_vision_tokens_are_never_sampled_even_if_the_model_wants_to(model, processor, temperature):
    vision = torch.tensor([processor.tokenizer.convert_tokens_to_ids(t) for t in VISION_TOKENS])

    def want(_, args, logits):
        return logits.index_add(-1, vision, torch.full((*logits.shape[:-1], len(vision)), 100.0))

    dialogues = prompts()
    hook = model.lm_head.register_forward_hook(want)
    try:
        replies = HFModel(model, processor, temperature=temperature).reply(dialogues, 12)
    finally:
        hook.remove()
    assert not {t for r in replies for t in r.token_ids} & set(vision.tolist())
    assert max(p for r in replies for p in r.logprobs) < -50, "the log-probability is that of the full softmax"


@pytest.mark.parametrize("same_object", [True, False])
def test_equal_prompts_are_prefilled_once_and_get_the_same_logits(model, processor, same_object):
    image, batches = picture(120, 60), []
    copies = [ask("What?", image if same_object else image.copy()) for _ in range(4)]
    dialogues = [*copies[:2], ask("What?", picture(120, 60, seed=1)), *copies[2:], ask("Which?", image)]
    hook = model.register_forward_pre_hook(lambda _, args, kwargs: batches.append(kwargs["position_ids"].shape[1]), with_kwargs=True)
    try:
        replies = HFModel(model, processor).reply(dialogues, 8)
    finally:
        hook.remove()
    assert batches[:2] == [3, 6], "three different prompts, then a token for each of six dialogues"
    assert batches[1:] == sorted(batches[1:], reverse=True), "finished rows leave the batch"
    for dialogue, reply in zip(dialogues, replies, strict=True):
        (alone,) = HFModel(model, processor).reply([dialogue], 8)
        assert reply.token_ids == alone.token_ids
        assert reply.logprobs == pytest.approx(alone.logprobs, abs=1e-4)
    assert replies[0].logprobs != pytest.approx(replies[2].logprobs, abs=1e-2)
    assert replies[0].logprobs != pytest.approx(replies[5].logprobs, abs=1e-2)


def test_rollouts_of_one_prompt_go_their_own_ways(model, processor):
    dialogues = [ask("What?", picture(84, 84)) for _ in range(6)]
    converse(HFModel(model, processor, temperature=1.0), dialogues, [[picture(84, 84, seed=i)] for i in range(6)])
    assert len({tuple(token_ids(d)) for d in dialogues}) == 6
    assert (sampled(dialogues) - recomputed(model, processor, dialogues)).abs().max() < 1e-4


def test_a_seed_fixes_what_is_sampled(model, processor):
    replies = [HFModel(model, processor, temperature=1.0, seed=seed).reply(prompts(), 10) for seed in (0, 0, 1)]
    first, again, other = ([r.token_ids for r in row] for row in replies)
    assert first == again != other


def told(model, processor, **options):
    """Rollouts of several lengths; every dialogue but the first uses the tool, some twice."""
    texts = [TURN, CROP, BROKEN, ANSWER]
    plans = [[3], [0, 3], [0, 1, 3], [2, 0, 1, 3], [0, 3]]

    def script(dialogue, number):
        return texts[plans[number % len(plans)][sum(s.role == "reply" for s in dialogue.segments)]]

    return ToldModel(model, processor, script=script, **options)


SAMPLES = [sample(*size, seed=seed) for size, seed in [((84, 84), 0), ((84, 84), 0), ((130, 60), 1), ((60, 130), 2), ((84, 84), 0)]]


@pytest.mark.parametrize("make", [HFModel, told])
def test_how_many_are_held_at_once_does_not_change_what_is_said(model, processor, sandbox, make):
    limits = AgentLimits(max_turns=5, max_reply_tokens=120 if make is told else 12)
    all_at_once, two = (run_episodes(make(model, processor, batch_size=n), sandbox, SAMPLES, limits) for n in (64, 2))
    all_at_once, two = ([token_ids(e.dialogue) for e in episodes] for episodes in (all_at_once, two))
    assert all_at_once == two
    assert len(set(map(tuple, two))) == (4 if make is told else 3), "as many as there are different samples and scripts"


def test_no_more_rows_are_cached_than_are_allowed(model, processor, sandbox):
    engine, held = told(model, processor, batch_size=2), []
    hook = model.register_forward_pre_hook(lambda *_: held.append(len(engine._rows)))
    try:
        run_episodes(engine, sandbox, SAMPLES, AgentLimits(max_turns=5, max_reply_tokens=120))
    finally:
        hook.remove()
    assert max(held) == 2
    assert not engine._rows and not engine._kv.slots, "nothing is kept of what is over"


def test_sampling_depends_on_the_dialogues_number_and_not_on_its_neighbours(model, processor):
    together, alone = prompts(), prompts()
    converse(HFModel(model, processor, temperature=1.0, seed=5), together, shown())
    engine = HFModel(model, processor, temperature=1.0, seed=5)
    for dialogue in alone:
        engine._draws(_Row(dialogue, limit=1))  # numbers them in order
    for i in (2, 0, 1):
        converse(engine, [alone[i]], [shown()[i]])
    assert list(map(token_ids, together)) == list(map(token_ids, alone))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_looking_for_ends_now_and_then_changes_nothing(model, processor, temperature):
    conversations = [prompts(), prompts()]
    for dialogues, every in zip(conversations, (1, 4), strict=True):
        engine = HFModel(model, processor, temperature=temperature, seed=2)
        engine._check_every = every
        converse(engine, dialogues, shown(), max_new_tokens=14)
    each, now_and_then = conversations
    assert list(map(token_ids, each)) == list(map(token_ids, now_and_then))
    assert (sampled(each) - sampled(now_and_then)).abs().max() < 1e-4


def test_a_step_as_on_a_gpu_sees_written_columns_alone_and_says_the_same(model, processor, monkeypatch):
    """Windowed reads of the cache, a mask that attention takes as it is, and looks for ends now and then."""
    conversations, widths, masks = [prompts(), prompts()], [], []
    converse(HFModel(model, processor, temperature=1.0, seed=2), conversations[0], shown(), max_new_tokens=14)
    update = RowCache.update

    def watched(self, number, states):
        seen = update(self, number, states)
        if states.shape[2] == 1 and number == 0:
            widths.append(seen.shape[2] - max(slot.length for slot in self.slots[: self.n_decoded]))
        return seen

    model.set_attn_implementation("sdpa")
    hook = model.register_forward_pre_hook(lambda _, args, kwargs: masks.append(kwargs["attention_mask"].ndim), with_kwargs=True)
    try:
        engine = HFModel(model, processor, temperature=1.0, seed=2)
        engine._on_gpu, engine._check_every = True, 4
        engine.forget()
        monkeypatch.setattr(RowCache, "update", watched)
        converse(engine, conversations[1], shown(), max_new_tokens=14)
    finally:
        hook.remove()
        model.set_attn_implementation("eager")
    usual, windowed = conversations
    assert set(widths) == {0} and set(masks) == {2, 4}
    assert list(map(token_ids, usual)) == list(map(token_ids, windowed))
    assert (sampled(usual) - sampled(windowed)).abs().max() < 1e-4


def test_what_is_forgotten_gives_its_memory_back_at_once(model, processor):
    """Not when Python's collector comes by: on a GPU the caches of many rollouts would lie side by side until then."""
    engine = HFModel(model, processor)
    gc.disable()
    try:
        converse(engine, prompts(), shown(), max_new_tokens=4)
        held = [weakref.ref(t) for t in engine._kv.tensors]
        assert held and all(ref() is not None for ref in held)
        engine.forget()
        assert all(ref() is None for ref in held)
    finally:
        gc.enable()


def test_dialogues_join_while_others_are_decoded(model, processor):
    early, late = prompts()[:2], prompts()[2:]
    engine, replies = HFModel(model, processor), {}
    with engine.generating():
        for dialogue in early:
            engine.add(dialogue, 24)
        while not replies:
            replies.update((id(d), r) for d, r in engine.advance())
        engine.add(late[0], 24)
        while len(replies) < 3:
            replies.update((id(d), r) for d, r in engine.advance())
        assert engine.advance() == []
    for dialogue in [*early, *late]:
        (alone,) = HFModel(model, processor).reply([dialogue], 24)
        assert replies[id(dialogue)].token_ids == alone.token_ids
        assert replies[id(dialogue)].logprobs == pytest.approx(alone.logprobs, abs=1e-4)


@pytest.mark.parametrize("when", ["before it begins", "under way"])
def test_a_dialogue_may_be_dropped_while_the_model_replies_to_it(model, processor, when):
    """As a server does when a client has gone: its reply is finished, and its slot is free then."""
    gone, other, later = prompts()
    engine, replies = HFModel(model, processor), {}
    with engine.generating():
        engine.add(gone, 24)
        engine.add(other, 4)
        if when == "before it begins":
            engine.drop(gone)
        while id(other) not in replies:
            replies.update((id(d), r) for d, r in engine.advance())
        engine.drop(gone)
        engine.add(later, 24)
        while len(replies) < 3:
            replies.update((id(d), r) for d, r in engine.advance())
    assert sorted(slot.index for slot in engine._kv.slots) == [0, 1], "those of the two that are kept"
    for dialogue, limit in ((gone, 24), (other, 4), (later, 24)):
        (alone,) = HFModel(model, processor).reply([dialogue], limit)
        assert replies[id(dialogue)].token_ids == alone.token_ids


def test_equal_pictures_go_through_the_tower_once(model, processor):
    image, pictures = picture(84, 84), []
    dialogues = [ask(f"What is in cell {i}?", image.copy()) for i in range(3)]
    hook = model.model.visual.register_forward_pre_hook(lambda _, args, kwargs: pictures.append(len(kwargs["grid_thw"])), with_kwargs=True)
    try:
        engine = HFModel(model, processor)
        converse(engine, dialogues, [[image.rotate(90)]] * 2 + [[picture(84, 84, 7)]], max_new_tokens=4)
    finally:
        hook.remove()
    assert pictures == [1, 2]


def test_many_pictures_go_through_the_tower_in_parts(model, processor, monkeypatch):
    images = [picture(40 + 9 * i, 84, seed=i) for i in range(5)]
    whole = PictureFeatures(model, processor).features(images, model.device)
    parts = []
    monkeypatch.setattr(vision, "TOWER_TOKENS", 20)
    hook = model.model.visual.register_forward_pre_hook(lambda _, args, kwargs: parts.append(kwargs["grid_thw"]), with_kwargs=True)
    try:
        with torch.no_grad():
            again = PictureFeatures(model, processor).features(images, model.device)
    finally:
        hook.remove()
    assert len(parts) > 1 and torch.cat(parts).shape == (5, 3)
    assert all(len(p) == 1 or int(p.prod(1).sum()) // 4 <= 20 for p in parts)
    assert torch.allclose(again, whole, atol=1e-4)


def test_the_rollouts_of_a_prompt_share_its_prefill_even_when_they_start_apart(model, processor, sandbox):
    widths = []
    hook = model.register_forward_pre_hook(lambda _, args, kwargs: widths.append(kwargs["position_ids"].shape[2]), with_kwargs=True)
    try:
        run_episodes(told(model, processor, batch_size=2), sandbox, [SAMPLES[0]] * 5, AgentLimits(max_turns=1, max_reply_tokens=120))
    finally:
        hook.remove()
    assert sum(width > 1 for width in widths) == 1


def test_draws_spread_evenly_give_the_softmax(model, processor):
    engine, n = HFModel(model, processor, temperature=0.7), 4000
    torch.manual_seed(0)
    logits = torch.randn(1, 1280) * 2
    tokens, logprobs = engine._choose(logits.expand(n, -1), (torch.arange(n) + 0.5) / n)
    allowed = (logits / 0.7).index_fill(1, engine._suppressed, float("-inf")).softmax(-1)[0]
    assert (torch.bincount(tokens, minlength=1280) - n * allowed).abs().max() <= 1.01
    assert torch.allclose(logprobs, torch.log_softmax(logits / 0.7, -1)[0, tokens])
    last, _ = engine._choose(logits.expand(2, -1), torch.tensor([0.0, 1.0]))
    assert (allowed[last] > 0).all()


def test_a_dialogue_continued_with_another_reply_is_read_anew(model, processor):
    dialogue, other = prompts()[0], prompts()[0]
    engine = HFModel(model, processor)
    engine.reply([dialogue], 8)
    for d in (dialogue, other):
        d.segments.append(Segment("reply", "Something else."))
        show(d, picture(40, 60))
    (reply,), (expected,) = engine.reply([dialogue], 8), HFModel(model, processor).reply([other], 8)
    assert reply.token_ids == expected.token_ids


def test_a_reply_is_cut_at_the_limit_and_says_so(model, processor):
    for reply in HFModel(model, processor).reply(prompts(), 1):
        assert (len(reply.token_ids), len(reply.logprobs), reply.finished) == (1, 1, False)


def test_replying_leaves_the_model_in_its_mode(model, processor):
    model.train()
    HFModel(model, processor).reply(prompts()[:1], 1)
    assert model.training
    model.eval()


def test_nf4_leaves_the_tower_and_the_head_unquantised(nf4_model):
    kinds = {name: type(module).__name__ for name, module in nf4_model.named_modules()}
    quantised = [name for name, kind in kinds.items() if kind == "Linear4bit"]
    assert len(quantised) == 7 * 4
    assert all("language_model" in name for name in quantised)
    assert kinds["lm_head"] == "Linear"


def test_load_model_gives_a_chat_model_with_its_sampling(tiny_folder):
    loaded = load_model(str(tiny_folder), quantize="none", max_pixels=56 * 56, min_pixels=28 * 28, temperature=0.5, batch_size=3)
    assert (loaded.temperature, loaded.batch_size) == (0.5, 3)
    assert loaded.processor.image_processor.size == {"shortest_edge": 28 * 28, "longest_edge": 56 * 56}
    assert loaded.processor.tokenizer.padding_side == "left"


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_merged_weights_compute_what_the_quantised_model_with_its_adapter_computes(tiny_folder, quantize):
    from peft import LoraConfig, get_peft_model

    base, _ = load_base(str(tiny_folder), quantize=quantize)
    torch.manual_seed(0)
    lora = LoraConfig(r=8, lora_alpha=16, target_modules=LORA_TARGETS, init_lora_weights=False)
    model = get_peft_model(base, lora).eval()
    ids = torch.randint(300, 900, (2, 20))
    with torch.no_grad():
        own = model(input_ids=ids).logits
        with merged_linears(model):
            merged = model(input_ids=ids).logits
            assert all("forward" in vars(m) for m in model.modules() if hasattr(m, "lora_A"))
        with model.disable_adapter(), merged_linears(model):
            without = model(input_ids=ids).logits
        again = model(input_ids=ids).logits
    assert (merged - own).abs().max() < 1e-3 * own.abs().max()
    assert (without - own).abs().max() > 0.1 * own.abs().max(), "the adapter matters here"
    assert torch.equal(again, own), "closing it leaves the model as it was"
