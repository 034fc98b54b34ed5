"""The built-in world: the same seed draws the same bytes, splits share nothing, and every gold trajectory earns its reward."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from pictures import same
from PIL import Image

from codevision_lite.damage import damage_image
from codevision_lite.geometry import ORIENTATIONS, apply_op
from codevision_lite.protocol import render_reply
from codevision_lite.recipe import SFT_MIX
from codevision_lite.records import ToolCall
from codevision_lite.reward import RewardConfig, score
from codevision_lite.synth.glyphs import ASYMMETRIC, FACES, SYMMETRIC, WORDS, ink_mask
from codevision_lite.synth.gold import Gold, make_golds, replay, restores
from codevision_lite.synth.samples import CONDITIONS, SPLITS, make_item, make_items, split_of
from codevision_lite.synth.signs import CANVASES, KINDS, draw_scene, is_clear
from codevision_lite.synth.signs_scripts import HOW_TURNED, write_script

EVEN = dict.fromkeys(CONDITIONS, 1.0)
DENSE = RewardConfig.preset("dense")


def digest(items):
    rows = [json.dumps(replace(i.sample, image="").to_json("")) + hashlib.sha256(i.sample.image.tobytes()).hexdigest() for i in items]
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def scripts(items, seed, error_share=0.5, second_style=0.5):
    rng = random.Random(seed)
    return [write_script(item, rng, error_share, second_style) for item in items]


@pytest.fixture(scope="module")
def golds(sandbox):
    made = list(make_golds(scripts(make_items(0, "train", 240, SFT_MIX), 0, error_share=0.4), sandbox))
    assert all(isinstance(m, Gold) for m in made)
    return made


def test_the_same_seed_draws_the_same_bytes_and_another_does_not():
    first, again, other = (digest(make_items(seed, "rl", 40, EVEN)) for seed in (7, 7, 8))
    assert first == again != other


def test_more_rows_begin_with_the_same_rows():
    assert digest(list(make_items(3, "train", 30, EVEN))[:20]) == digest(make_items(3, "train", 20, EVEN))


@pytest.mark.parametrize("n", [100, pytest.param(1500, marks=pytest.mark.slow)])
def test_splits_share_no_content(n):
    keys = {split: {i.sample.meta["content_key"] for i in make_items(0, split, n, EVEN)} for split in SPLITS}
    for split, owned in keys.items():
        assert len(owned) > 0.9 * n
        assert {split_of(key) for key in owned} == {split}
    assert not (keys["train"] & keys["rl"] or keys["train"] & keys["test"] or keys["rl"] & keys["test"])


def test_equal_keys_are_equal_pictures_up_to_their_fine_place():
    """Thousands of scenes: a key stands for what is asked and shown, so a picture can't come back under another key."""
    rng, keys_of = random.Random(0), {}
    for _ in range(2000):
        scene = draw_scene(rng, canvases=(84,))
        keys_of.setdefault(hashlib.sha256(scene.image.tobytes() + scene.question.encode()).hexdigest(), set()).add(scene.content_key)
    assert max(map(len, keys_of.values())) == 1


def test_ids_differ_and_conditions_come_in_their_proportion():
    items = list(make_items(0, "train", 400, SFT_MIX))
    assert len({i.sample.id for i in items}) == 400
    counts = Counter(i.sample.meta["condition"] for i in items)
    total = sum(SFT_MIX.values())
    for condition, weight in SFT_MIX.items():
        assert abs(counts[condition] - 400 * weight / total) <= 1


@pytest.mark.parametrize("condition", CONDITIONS)
def test_required_operations_restore_the_undamaged_picture_exactly(condition):
    for seed in range(12):
        item = make_item(random.Random(seed), "train", condition)
        sample, scene = item.sample, item.scene
        restored = sample.image
        for op in (o for o in sample.required_ops if o != "crop"):
            restored = apply_op(restored, op)
        readable = damage_image(scene.image, sample.damage) if sample.damage in (scene.readable_under or ORIENTATIONS) else scene.image
        assert same(restored, readable if not sample.required_ops else scene.image)
        assert ("crop" in sample.required_ops) == scene.needs_crop == ("crop" in condition)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_target_box_holds_the_same_ink_before_and_after_the_damage(condition):
    for seed in range(8):
        item = make_item(random.Random(seed), "train", condition)
        if item.scene.target_box is None:
            continue
        before = item.scene.image.crop(tuple(map(round, item.scene.target_box)))
        after = item.sample.image.crop(tuple(map(round, item.sample.target_box)))
        assert same(damage_image(before, item.sample.damage), after)
        assert np.asarray(before).std() > 5, "there is ink in the box"


def test_a_symbol_that_looks_the_same_when_turned_asks_for_no_turn():
    seen = Counter()
    for damage in ORIENTATIONS:
        for seed in range(60):
            item = make_item(random.Random(f"{damage}{seed}"), "train", damage)
            readable = item.scene.readable_under
            if readable is None or readable:
                assert item.sample.required_ops == ()
                assert readable is None or damage in readable, "a symmetric symbol is only shown turned where it stays readable"
                seen["symmetric" if readable else "count"] += 1
            else:
                assert len(item.sample.required_ops) == 1
                seen["asymmetric"] += 1
    assert min(seen[kind] for kind in ("symmetric", "count", "asymmetric")) > 5


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("text", [*SYMMETRIC, *ASYMMETRIC, *WORDS])
def test_symbols_are_as_symmetric_as_they_claim(face, text):
    """Turned to a claimed symmetry a symbol is nearly itself; otherwise its forms differ."""
    ink = ink_mask(text, face=face, weight=2, height_px=64, max_width_px=400)
    picture = Image.fromarray(np.round(ink * 255).astype(np.uint8))
    for op in ORIENTATIONS:
        turned = np.asarray(apply_op(picture, op).resize(picture.size)).astype(float) / 255
        change = np.abs(turned - ink).mean() / ink.mean()
        claimed = op in SYMMETRIC.get(text, ())
        assert change < 0.4 if claimed else change > 0.08, f"{op}: {change:.2f}"


def test_signs_that_cannot_be_told_are_drawn_but_are_no_items():
    rng = random.Random(0)
    drawn = [draw_scene(rng, "sign") for _ in range(100)]
    assert {is_clear(scene) for scene in drawn} == {True, False}
    items = [make_item(rng, "test", "rotate_90").scene for _ in range(200)]
    assert all(map(is_clear, items))
    assert {scene.answer for scene in items if scene.kind == "sign"} == {"F", "P", "R", "2", "7", "y", "?"}, "a turned A might be a V"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_scene_is_drawn_in_every_canvas_without_leaving_it(kind):
    for canvas in CANVASES:
        scene = draw_scene(random.Random(canvas), kind, (canvas,))
        assert (scene.kind, scene.image.size, scene.image.mode) == (kind, (canvas, canvas), "RGB")
        if scene.target_box:
            x1, y1, x2, y2 = scene.target_box
            assert 0 <= x1 < x2 <= canvas and 0 <= y1 < y2 <= canvas


def test_golds_are_of_all_types(golds):
    assert set(Counter(g.type for g in golds)) == {"no_tool", "single_tool", "multi_tool", "error_handling"}
    assert len(golds) == 240


def test_after_tools_the_question_is_asked_anew_and_else_how_the_picture_lies(golds):
    for gold in golds:
        question, think = gold.item.sample.question, gold.trajectory.turns[-1].think
        assert think.endswith(question) if len(gold.trajectory.turns) > 1 else think.startswith(HOW_TURNED)


def test_a_gold_without_a_mistake_earns_everything(golds):
    for gold in (g for g in golds if g.type != "error_handling"):
        sample = gold.item.sample
        terms = score(sample, gold.trajectory, DENSE).terms
        wanted = float(bool(sample.required_ops))
        assert (terms["accuracy"].value, terms["format"].value) == (1.0, 1.0)
        assert (terms["must_use"].value, terms["completion"].value) == (wanted, wanted), sample.id
        assert not any(term.value for term in terms.values() if term.weight < 0), sample.id


def test_a_gold_that_mends_a_mistake_earns_its_tools_and_no_penalty_but_for_the_needless_turn(golds):
    for gold in (g for g in golds if g.type == "error_handling"):
        terms = score(gold.item.sample, gold.trajectory, DENSE).terms
        works = all(o.status != "ok" or trained for o, trained in zip(gold.trajectory.observations, gold.trained, strict=False))
        assert (terms["accuracy"].value, terms["format"].value) == (1.0, 1.0)
        assert terms["must_use"].value == 1.0 if works else terms["must_use"].value >= 0.5
        assert not any(term.value for name, term in terms.items() if term.weight < 0 and name != "economy")


def test_mistakes_are_shown_but_not_learned(golds):
    kinds = Counter()
    for gold in golds:
        observations = gold.trajectory.observations
        for turn, (observation, trained) in enumerate(zip(observations, gold.trained, strict=False)):
            assert trained or gold.type == "error_handling"
            if not trained:
                assert turn == 0 and gold.trained[1], "what follows a mistake is learned"
                kinds[observation.status] += 1
            else:
                assert observation.status == "ok"
        assert gold.trained[-1]
        assert len(gold.trained) == len(gold.trajectory.turns)
    assert {"ok", "error", "refused"} <= set(kinds), kinds


def test_golds_are_the_same_for_the_same_seed(sandbox):
    def texts(seed):
        made = make_golds(scripts(make_items(0, "train", 20, SFT_MIX), seed), sandbox)
        return [[t.text for t in g.trajectory.turns] for g in made]

    assert texts(1) == texts(1) != texts(2)


def test_golds_replay_to_the_same_pictures_and_messages(golds, sandbox):
    for gold in golds[:40]:
        assert replay(gold.item.sample, gold.trajectory, sandbox) is None
    called = next(g for g in golds if g.type == "single_tool")
    first, *rest = called.trajectory.turns
    other = replace(first, text=first.text.replace("result = ", "other = "))
    assert "another end" in replay(called.item.sample, replace(called.trajectory, turns=(other, *rest)), sandbox)


def test_required_operations_restore_every_sample(golds):
    assert all(restores(g.item) for g in golds if g.item.sample.required_ops)


class Drifting:
    """A sandbox whose pictures are one grey level off."""

    mode = "inline"

    def __init__(self, sandbox):
        self.sandbox = sandbox

    def run(self, *args):
        run = self.sandbox.run(*args)
        return replace(run, result=run.result and run.result.point(lambda v: v ^ 1))


def test_what_does_not_give_the_right_picture_is_rejected(sandbox):
    made = list(make_golds(scripts(make_items(0, "train", 10, {"rotate_90": 1.0}), 0, error_share=0.0), Drifting(sandbox)))
    kept, rejected = [m for m in made if isinstance(m, Gold)], [m for m in made if not isinstance(m, Gold)]
    assert all(not g.item.sample.required_ops for g in kept)
    assert rejected
    assert all("its pixels are not those of the undamaged picture" in r.reason for r in rejected)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("result = image.rotate(180, expand=True)", "not upright"),
        ("result = image.rotate(90, expand=True).crop((0, 0, 100, 100))", "another region"),
        ("result = image.rotate(90, expand=True).convert('L')", "its pixels"),
        ("result = picture.rotate(90)", "came back as error"),
    ],
)
def test_a_call_that_does_something_else_is_rejected(sandbox, code, reason):
    items = (make_item(random.Random(seed), "train", "rotate_270") for seed in range(50))
    script = next(s for s in scripts(items, 0, error_share=0.0) if s.type == "single_tool")
    call = script.replies[0]
    text = render_reply("The picture is turned right.", ToolCall(code))
    (made,) = make_golds([replace(script, replies=(replace(call, text=text), *script.replies[1:]))], sandbox)
    assert not isinstance(made, Gold) and reason in made.reason


def test_verification_notices_a_wrong_answer(golds, sandbox):
    gold = next(g for g in golds if g.type == "single_tool")
    (script,) = scripts([replace(gold.item, scene=replace(gold.item.scene, answer="Q"))], 0, error_share=0.0)
    wrong = replace(script.replies[-1], text=render_reply("I can read it now.", answer="W"))
    (made,) = make_golds([replace(script, replies=(*script.replies[:-1], wrong))], sandbox)
    assert not isinstance(made, Gold) and "answer" in made.reason
