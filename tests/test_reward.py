"""The reward of honest work: terms, presets, breakdowns, groups and their properties."""

import json
from dataclasses import fields, replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_builders import PIL_CALLS, TARGET, TURN, H, Play, W, box_in, sample

from codevision_lite.errors import UserError
from codevision_lite.geometry import ORIENTATIONS, Overlap, compose_ops
from codevision_lite.records import Op, Trajectory
from codevision_lite.reward import RewardConfig, score, score_group
from codevision_lite.reward.answer import Score
from codevision_lite.reward.dense import PRESETS
from codevision_lite.reward.evidence import op_orientation
from codevision_lite.reward.terms import overlap_value

DENSE, PAPER = RewardConfig.preset("dense"), RewardConfig.preset("paper")
ROTATE, CROP, BOTH, NOTHING = sample("rotate_90"), sample("crop"), sample("rotate_90", "crop"), sample(target=None)
TURNED = box_in(("rotate_90",), TARGET)


def total(play, task, answer="F7", config=DENSE):
    return score(task, play.answer(answer), config).total


def value(play, task, term, answer="F7", config=DENSE):
    return score(task, play.answer(answer), config).terms[term].value


def crops(*boxes):
    play = Play()
    for box in boxes:
        play.run(("crop", box), on=0)
    return play


class TestHonestWork:
    def test_one_correct_rotation_earns_the_maximum(self):
        assert total(Play().run("rotate_90"), ROTATE) == pytest.approx(1.0 + 0.1 + 0.6 + 0.2)
        assert total(Play().run("rotate_90"), ROTATE, config=PAPER) == pytest.approx(2.2)

    def test_the_minimum_is_an_empty_answer(self):
        assert total(Play(), ROTATE, None) == total(Play(), NOTHING, "") == 0.0

    @pytest.mark.parametrize("name", ORIENTATIONS)
    def test_every_orientation_is_credited_in_every_way_to_compose_it(self, name):
        pairs = [way for way in product(PIL_CALLS, repeat=2) if compose_ops(way) == name]
        assert len(pairs) == 6  # seven elements and the identity: eight factorisations, two of them with the identity
        for way in [(name,), *pairs]:
            assert total(Play().run(*way), sample(name)) == pytest.approx(1.9), way

    def test_turning_thrice_by_90_is_one_operation_not_a_search(self):
        assert total(Play().run("rotate_90", "rotate_90", "rotate_90"), sample("rotate_270")) == pytest.approx(1.9)

    def test_two_required_orientations_may_be_reached_by_one_operation(self):
        task = sample("rotate_90", "flip_horizontal")
        single = compose_ops(task.required_ops)
        assert single in ("transpose", "transverse")
        assert total(Play().run(single), task) == total(Play().run("rotate_90", "flip_horizontal"), task) == pytest.approx(1.9)
        assert total(Play().run("rotate_90").run("flip_horizontal"), task) == pytest.approx(1.9)
        assert value(Play().run("rotate_90"), task, "must_use") == 0.5

    def test_rotation_and_crop_in_one_turn_or_two_earn_the_same(self):
        one = total(Play().run("rotate_90", ("crop", TURNED)), BOTH)
        assert one == total(Play().run("rotate_90").run(("crop", TURNED)), BOTH) == pytest.approx(1.9)

    def test_a_failed_run_that_is_repaired_costs_the_completion_bonus_only(self):
        clean = Play().run("rotate_90").run(("crop", TURNED))
        repaired = Play().run("rotate_90").fail().run(("crop", TURNED), on=1)
        assert total(repaired, BOTH) == pytest.approx(total(clean, BOTH) - DENSE.completion)

    def test_recovering_from_a_wrong_direction_pays_half_and_more_than_no_tool(self):
        recovered = Play().run("rotate_270", on=0).run("rotate_90", on=0)
        assert value(recovered, ROTATE, "must_use") == 0.5
        assert total(Play(), ROTATE) < total(recovered, ROTATE) < total(Play().run("rotate_90"), ROTATE)

    def test_a_direct_answer_beats_every_tool_where_none_is_needed(self):
        direct = total(Play(), NOTHING)
        plays = [Play().run(step) for step in [*PIL_CALLS, ("crop", (0, 0, 90, 90)), ("enhance.contrast", 0.3), ("resize", (800, 600))]]
        assert all(total(play, NOTHING) < direct for play in [*plays, Play().fail()])

    def test_a_right_answer_without_the_crop_is_still_right(self):
        assert total(Play(), CROP) == pytest.approx(1.1)

    def test_tool_credit_does_not_depend_on_what_was_written(self):
        bare, talkative = Play().run("rotate_90"), Play().run("rotate_90", code="# crop", description="flip everything")
        assert score(ROTATE, bare.answer(), DENSE) == score(ROTATE, talkative.answer(), DENSE)


class TestTerms:
    @pytest.mark.parametrize(
        ("turns", "penalty"),
        [(2, 0.0), (3, 1.0)],
    )
    def test_turn_limit_is_one_more_than_required(self, turns, penalty):
        play = Play()
        for _ in range(turns):
            play.run("rotate_90", on=0)
        assert value(play, ROTATE, "turn_limit") == penalty

    def test_only_two_repaired_failures_are_excused(self):
        play = Play().fail().fail().run("rotate_90", on=0).run(on=1)
        assert value(play, ROTATE, "turn_limit") == 0.0
        assert value(play, ROTATE, "turn_limit", config=PAPER) == 1.0
        assert value(Play().fail().fail().fail().run("rotate_90").run(), ROTATE, "turn_limit") == 1.0
        assert value(Play().fail().fail().fail(), ROTATE, "turn_limit") == 1.0  # never repaired

    def test_poor_reasoning_needs_a_right_answer_and_an_irrelevant_crop(self):
        far, wide = Play().run(("crop", (0, 0, 50, 50))), Play().run(("crop", (0, 100, 400, 160)))
        assert value(far, CROP, "poor_reasoning") == 1.0
        assert value(far, CROP, "poor_reasoning", answer="no") == 0.0
        assert value(Play(), CROP, "poor_reasoning") == 0.0
        strip = Play().run(("crop", (0, 50, 400, 250)))
        assert value(wide, CROP, "poor_reasoning") == value(strip, CROP, "poor_reasoning") == 0.0
        assert value(strip, CROP, "poor_reasoning", config=PAPER) == 1.0

    def test_inappropriate_orientation(self):
        turn = Play().run("rotate_90")
        assert value(turn, NOTHING, "inappropriate") == value(turn, CROP, "inappropriate") == 1.0
        assert value(turn, CROP, "inappropriate", config=PAPER) == 0.0
        assert value(turn, ROTATE, "inappropriate") == 0.0
        straightened = Play().show(Play().known[0][0], ops=(Op("rotate", {"angle": 2}),))
        assert value(straightened, NOTHING, "inappropriate") == 0.0

    def test_a_search_in_one_run_is_exhaustive(self):
        assert value(Play().run("rotate_90", also=("rotate_180", "rotate_270")), ROTATE, "exhaustive") == 1.0
        assert value(Play().run("flip_horizontal", "flip_vertical"), sample("rotate_180"), "exhaustive") == 0.0

    def test_wide_crops_earn_more_by_f2_than_by_iou_and_near_misses_less(self):
        x1, y1, x2, y2 = TARGET
        w, h = x2 - x1, y2 - y1
        wide = Overlap(0.25, 0.25, 1.0)
        half = Overlap(0.5, 1.0, 0.5)
        assert overlap_value(wide, "f2") > overlap_value(half, "f2") > overlap_value(wide, "iou")
        play = Play().run(("crop", (x1 - w / 2, y1 - h / 2, x2 + w / 2, y2 + h / 2)))
        whole = 5 * 0.04 / (4 * 0.04 + 1)  # the untouched picture: 2 % of it are target, and twice that counts
        assert value(play, CROP, "must_use") == pytest.approx((5 / 6 - whole) / (1 - whole))
        double = Play().run(("crop", (x1, y1 - h / 2, x2, y2 + h / 2)))
        assert value(double, CROP, "must_use") == value(Play().run(("crop", TARGET)), CROP, "must_use") == 1.0, "a margin is free"
        assert value(play, CROP, "must_use", config=PAPER) == pytest.approx(0.25)

    def test_the_free_margin_shrinks_where_the_target_fills_the_picture(self):
        large = sample("crop", target=(20.0, 20.0, 350.0, 280.0))
        assert value(Play().run(("crop", (10, 0, W, H))), large, "must_use") == 0.0
        assert value(Play().run(("crop", (20, 20, 350, 280))), large, "must_use") == 1.0

    def test_windows_that_close_in_are_no_wasted_turns(self):
        zoom = crops((100.0, 50.0, 380.0, 250.0), (160.0, 90.0, 320.0, 180.0), TARGET)
        assert total(zoom, CROP) == pytest.approx(1.9 - 2 * 0.05)
        assert value(zoom, CROP, "turn_limit", config=PAPER) == 1.0 and value(zoom, CROP, "completion", config=PAPER) == 0.0
        beside = crops((0.0, 0.0, 100.0, 100.0), (10.0, 10.0, 60.0, 60.0), TARGET)
        assert value(beside, CROP, "turn_limit") == 1.0 and value(beside, CROP, "completion") == 0.0
        shaving = crops(*((10.0 * k, 7.0 * k, 400.0 - 8 * k, 300.0 - 9 * k) for k in range(8)))
        assert value(shaving, CROP, "turn_limit") == 1.0

    def test_better_crops_add_only_their_improvement(self):
        loose, tight = ("crop", (150.0, 70.0, 330.0, 200.0)), ("crop", TARGET)
        assert value(Play().run(loose, on=0).run(tight, on=0), CROP, "must_use") == value(Play().run(tight), CROP, "must_use") == 1.0
        assert value(Play().run(tight, on=0).run(loose, on=0), CROP, "must_use") == 1.0

    def test_order_of_crop_and_rotation_matters_for_the_paper_only(self):
        crop_first = Play().run(("crop", TARGET)).run("rotate_90")
        assert value(crop_first, BOTH, "completion") == 1.0
        assert value(crop_first, BOTH, "completion", config=PAPER) == 0.0
        assert value(Play().run("rotate_90", on=0).run(("crop", TARGET), on=0), BOTH, "completion") == 0.0
        in_one_run = Play().run(("crop", TARGET), "rotate_90")
        assert (value(in_one_run, BOTH, "completion"), value(in_one_run, BOTH, "completion", config=PAPER)) == (1.0, 0.0)
        assert value(Play().run("rotate_90", ("crop", TURNED)), BOTH, "completion", config=PAPER) == 1.0

    def test_required_photometric_operation_counts_only_with_effect(self):
        task = sample("enhance.contrast", target=None)
        assert value(Play().run(("enhance.contrast", 0.2)), task, "must_use") == 1.0
        assert value(Play().run(("enhance.contrast", 0.001)), task, "must_use") == 0.0

    def test_a_crop_without_a_known_place_is_not_judged(self):
        task = sample("rotate_90", "crop", target=None)
        assert value(Play().run("rotate_90"), task, "must_use") == 1.0
        assert value(Play().run("rotate_90"), task, "completion") == 0.0
        assert value(Play().run("rotate_90", ("crop", (0, 0, 100, 100))), task, "completion") == 0.0
        assert value(Play().run(("crop", (0, 0, 100, 100))), sample("crop", target=None), "must_use") == 0.0

    def test_wrong_tries_hidden_behind_an_unknown_frame_are_counted(self):
        hidden = Play().show(None, ops=(PIL_CALLS["rotate_270"],)).run("rotate_90", on=0)
        assert value(hidden, ROTATE, "must_use") == 0.5
        untraced = Play().show(None, ops=(PIL_CALLS["rotate_90"],)).run("rotate_90", on=0)
        assert value(untraced, ROTATE, "must_use") == 1.0

    def test_format_needs_every_reply(self):
        trajectory = Play().run("rotate_90").answer()
        broken = replace(trajectory, turns=(replace(trajectory.turns[0], well_formed=False), trajectory.turns[1]))
        assert score(ROTATE, broken, DENSE).terms["format"].value == 0.0

    @pytest.mark.parametrize(
        ("op", "expected"),
        [
            (Op("rotate", {"angle": 90, "expand": True}), "rotate_90"),
            (Op("rotate", {"angle": -90}), "rotate_270"),
            (Op("rotate", {"angle": 540.0}), "rotate_180"),
            (Op("rotate", {"angle": 0}), "identity"),
            (Op("rotate", {"angle": 3}), "identity"),
            (Op("rotate", {"angle": 45}), None),
            (Op("rotate", {"angle": 90}, change=0.0), "identity"),
            (Op("rotate"), None),
            (Op("rotate", {"angle": "?"}), None),
            (Op("flip", {"direction": "horizontal"}), "flip_horizontal"),
            (Op("flip", {"direction": "vertical"}), "flip_vertical"),
            (Op("flip"), None),
            (Op("transpose", {"method": "transpose"}), "transpose"),
            (Op("transpose", {"method": "transverse"}), "transverse"),
            (Op("transpose", {"method": 2}), None),
            (Op("np.rot90", {"k": 3}), None),
            (Op("ops.mirror"), "flip_horizontal"),
            (Op("np.flipud"), "flip_vertical"),
            (Op("crop", {"box": [0, 0, 1, 1]}), "identity"),
            (Op("enhance.contrast", {"factor": 2}), "identity"),
        ],
    )
    def test_op_orientation(self, op, expected):
        assert op_orientation(op) == expected


class TestRightBeatsWrong:
    MESS = Play().run("rotate_90").run("rotate_180", also=("flip_vertical", "rotate_270")).fail().run(("enhance.contrast", 0.3)).run()

    def test_a_right_answer_after_needless_pictures_and_errors_beats_a_wrong_one_with_perfect_tools(self):
        mess, perfect = total(self.MESS, NOTHING), total(Play().run("rotate_90").run(("crop", TURNED)), BOTH, "no")
        assert total(Play(), NOTHING, "no") < perfect < mess < total(Play(), NOTHING)

    def test_relief_keeps_the_order_of_waste(self):
        plays = [Play(), Play().run(("enhance.contrast", 0.3)), Play().run("rotate_90"), Play().run("rotate_90").run(), self.MESS]
        totals = [total(play, NOTHING) for play in plays]
        assert totals == sorted(totals, reverse=True) and len(set(totals)) == 5

    def test_relief_is_for_right_answers_and_never_lifts_them_above_no_tools(self):
        right, wrong = (score(NOTHING, self.MESS.answer(text), DENSE).terms["relief"] for text in ("F7", "no"))
        assert right.value > 0 == wrong.value
        assert value(Play().run("rotate_90"), ROTATE, "relief") == 0.0
        assert value(self.MESS, NOTHING, "relief", config=PAPER) == 0.0

    def test_a_wrong_answer_keeps_half_of_the_tool_credit_and_its_value_is_logged_whole(self):
        term = score(ROTATE, Play().run("rotate_90").answer("no"), DENSE).terms["must_use"]
        assert (term.value, term.weight) == (1.0, 0.3)

    @pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
    def test_a_reward_that_is_not_finite_is_unknown(self, number):
        assert score(ROTATE, Play().answer("no"), DENSE, judge=lambda *_: Score(number, "broken judge")).total is None

    def test_a_graded_transcription_is_right_for_the_paper(self):
        text = "The platform is closed to all trains"
        task = sample(answers=(text,))
        assert value(Play(), task, "accuracy", text.replace("trains", "trians"), PAPER) == 1.0
        assert 0.9 < value(Play(), task, "accuracy", text.replace("trains", "trians")) < 1.0


HALF = (200.0, 120.0, 240.0, 150.0)
PAPERS_FORMULA = [
    # what, task, play, answer, (must-use, completion, bonus, number of penalties)
    ("a right answer at once", ROTATE, Play(), "F7", (0, 0, 0, 0)),
    ("a wrong one", ROTATE, Play(), "no", (0, 0, 0, 0)),
    ("a must-use tool has a budget of 1/N", BOTH, Play().run("rotate_90"), "F7", (1 / 2, 0, 0, 0)),
    ("all of it, in order", BOTH, Play().run("rotate_90").run(("crop", TURNED)), "F7", (1, 1, 0, 0)),
    ("also with a wrong answer", BOTH, Play().run("rotate_90").run(("crop", TURNED)), "no", (1, 1, 0, 0)),
    ("another order", BOTH, Play().run(("crop", TARGET)).run("rotate_90"), "F7", (1, 0, 0, 0)),
    ("once only", ROTATE, Play().run("rotate_90", on=0).run("rotate_90", on=0), "F7", (1, 0, 0, 0)),
    ("any way to write it", ROTATE, Play().run("rotate_180", "rotate_270"), "F7", (1, 1, 0, 0)),
    ("the wrong one first", ROTATE, Play().run("rotate_270", on=0).run("rotate_90", on=0), "F7", (1, 0, 0, 0)),
    ("a failed step", ROTATE, Play().fail().run("rotate_90"), "F7", (1, 0, 0, 0)),
    ("a crop pays its IoU", CROP, crops(HALF), "F7", (1 / 2, 1, 0, 0)),
    ("of its share", BOTH, Play().run("rotate_90", on=0).run(("crop", HALF), on=0), "F7", (3 / 4, 1, 0, 0)),
    ("improvements only", CROP, crops(HALF, TARGET), "F7", (1, 0, 0, 0)),
    ("nothing for a worse one", CROP, crops(TARGET, HALF), "F7", (1, 0, 0, 0)),
    ("an effective optional tool and a right answer", NOTHING, Play().run(("enhance.contrast", 0.3)), "F7", (0, 0, 1, 0)),
    ("not with a wrong one", NOTHING, Play().run(("enhance.contrast", 0.3)), "no", (0, 0, 0, 0)),
    ("not without an effect", NOTHING, Play().run(("enhance.contrast", 0.001)), "F7", (0, 0, 0, 0)),
    ("|S| + 1 turns are free", BOTH, Play().run("rotate_90").run(("crop", TURNED)).run(on=2), "F7", (1, 0, 0, 0)),
    ("|S| + 2 are not", BOTH, Play().run("rotate_90").run(("crop", TURNED)).run(on=2).run(on=2), "F7", (1, 0, 0, 1)),
    ("errors are turns", ROTATE, Play().fail().fail().run("rotate_90"), "F7", (1, 0, 0, 1)),
    ("a search over turns", ROTATE, Play().run("rotate_270", on=0).run("rotate_180", on=0).run("rotate_90", on=0), "F7", (1, 0, 0, 1)),
    ("a right answer and a crop of IoU below 0.1", CROP, crops((199.0, 0.0, 280.0, 300.0)), "F7", (8 / 81, 0, 0, 1)),
    ("of 0.1 and more", CROP, crops((200.0, 0.0, 280.0, 299.0)), "F7", (30 / 299, 0, 0, 0)),
    ("a wrong answer", CROP, crops((0.0, 0.0, 60.0, 40.0)), "no", (0, 0, 0, 0)),
    ("no crop at all", CROP, Play(), "F7", (0, 0, 0, 0)),
    ("orientation where nothing is required", NOTHING, Play().run("rotate_90"), "F7", (0, 0, 0, 1)),
    ("not where a crop is", CROP, Play().run(("crop", TARGET)).run("rotate_90"), "F7", (1, 0, 0, 0)),
    ("penalties add up", NOTHING, Play().run("rotate_90").run("rotate_90"), "F7", (0, 0, 0, 2)),
]


@pytest.mark.parametrize("task, play, answer, parts", [row[1:] for row in PAPERS_FORMULA], ids=[row[0] for row in PAPERS_FORMULA])
def test_the_paper_preset_is_its_formula(task, play, answer, parts):
    """R = r_acc + 0.1 r_fmt + 1.0 must-use (with the completion bonus, 0.1 as released) + 0.2 suggested - 0.5 penalties."""
    must_use, completion, bonus, penalties = parts
    wanted = float(answer == "F7") + 0.1 + must_use + 0.1 * completion + 0.2 * bonus - 0.5 * penalties
    assert total(play, task, answer, PAPER) == pytest.approx(wanted), score(task, play.answer(answer), PAPER)


def test_the_paper_preset_pays_necessity_as_its_formula():
    """max(0, mean accuracy with - without) to right answers with the tool, where those without are right at most once."""
    look = Play().run(("crop", (0, 0, 90, 90)))
    for right_without, wanted in ((0, 0.75), (1, 0.5), (2, 0.0)):
        group = [look.answer()] * 3 + [look.answer("no")] + [Play().answer()] * right_without + [Play().answer("no")] * (4 - right_without)
        scored = score_group(NOTHING, group, PAPER)
        assert [b.terms["suggested"].value for b in scored] == [wanted] * 3 + [0.0] * 5
        assert scored[0].total == pytest.approx(1.1 + 0.2 * wanted + 0.2)


class TestGroup:
    LOOK = Play().run(("crop", (0, 0, 90, 90)))

    def test_a_tool_that_helps_in_the_group_is_paid_to_the_right_users(self):
        group = [self.LOOK.answer()] * 3 + [self.LOOK.answer("no")] + [Play().answer("no")] * 4
        values = [b.terms["suggested"].value for b in score_group(NOTHING, group)]
        assert values == [0.75] * 3 + [0.0] * 5
        assert score(NOTHING, group[0], DENSE, group=group) == score_group(NOTHING, group)[0]

    def test_nothing_is_paid_where_direct_answers_do_as_well(self):
        group = [self.LOOK.answer()] * 4 + [Play().answer()] * 2 + [Play().answer("no")] * 2
        assert all(b.terms["suggested"].value == 0.0 for b in score_group(NOTHING, group))

    def test_one_lucky_rollout_is_not_a_necessity(self):
        group = [self.LOOK.answer()] + [Play().answer("no")] * 7
        assert score_group(NOTHING, group)[0].terms["suggested"].value == 0.0
        assert score_group(NOTHING, group, PAPER)[0].terms["suggested"].value == 1.0

    def test_no_op_tools_do_not_make_a_tool_group(self):
        idle = Play().run(("enhance.contrast", 0.001)).answer()
        group = [idle] * 4 + [Play().answer("no")] * 4
        assert all(b.terms["suggested"].value == b.terms["emergent"].value == 0.0 for b in score_group(NOTHING, group, PAPER))

    @settings(max_examples=25, deadline=None)
    @given(st.permutations(range(6)))
    def test_the_order_of_the_group_does_not_matter(self, order):
        plays = [self.LOOK, self.LOOK, Play(), Play().run("rotate_90"), Play(), Play().fail()]
        group = [play.answer("F7" if k < 2 else "no") for k, play in enumerate(plays)]
        straight, mixed = score_group(NOTHING, group), score_group(NOTHING, [group[k] for k in order])
        assert [straight[k] for k in order] == mixed


class TestConfig:
    def test_unknown_preset_names_the_nearest(self):
        with pytest.raises(UserError, match="did you mean 'outcome_only'"):
            RewardConfig.preset("outcome-only")
        with pytest.raises(UserError, match="crop_measure"):
            RewardConfig(crop_measure="giou")

    def test_ablations_keep_what_they_name(self):
        play = Play().run("rotate_180", on=0).run("rotate_270", on=0).run("rotate_90", on=0)
        totals = {name: total(play, ROTATE, config=RewardConfig.preset(name)) for name in PRESETS}
        assert totals["outcome_only"] == pytest.approx(1.1)
        assert totals["no_strategy"] < 1.1 < totals["no_penalty"]

    def test_weight_zero_is_logged(self):
        breakdown = score(ROTATE, Play().run("rotate_90").answer(), RewardConfig.preset("outcome_only"))
        assert breakdown.terms["must_use"].value == 1.0 and breakdown.terms["must_use"].weight == 0.0

    def test_curriculum_moves_from_tools_to_outcome(self):
        tools, middle, outcome = (RewardConfig.preset("curriculum", progress=p) for p in (0.0, 0.5, 1.0))
        assert (tools.accuracy, tools.must_use) == (0.0, 1.0)
        assert (outcome.accuracy, outcome.must_use) == (1.0, 0.0)
        assert 0 < middle.accuracy < 1 and 0 < middle.must_use < 1
        assert RewardConfig.preset("curriculum", progress=7) == outcome

    def test_weights_are_not_negative_and_the_total_is_their_sum(self):
        assert all(getattr(DENSE, f.name) >= 0 for f in fields(DENSE) if f.type == "float")
        b = score(BOTH, Play().run("rotate_90").run(("crop", TURNED)).answer(), DENSE)
        assert b.total == pytest.approx(sum(t.value * t.weight for t in b.terms.values()))

    def test_breakdown_is_json(self):
        breakdown = score(BOTH, Play().run("rotate_90").answer(), DENSE)
        row = json.loads(json.dumps(breakdown.to_json()))
        assert row["total"] == pytest.approx(breakdown.total) and row["terms"]["accuracy"]["reason"] == "same text"

    def test_meta_of_the_sample_steers_the_answer(self):
        task = sample(answers=("100",), meta={"tolerance": 0.05})
        assert value(Play(), task, "accuracy", "104") == 1.0
        assert value(Play(), replace(task, meta={}), "accuracy", "104") == 0.0
        options = sample(answers=("B",), meta={"choices": ["red", "blue"]})
        assert value(Play(), options, "accuracy", "blue") == 1.0

    def test_a_failed_judge_leaves_the_sample_out(self):
        trajectory = Play().answer("no")
        assert score(ROTATE, trajectory, DENSE, judge=lambda *_: None).total is None
        assert score(ROTATE, trajectory, DENSE, judge=lambda *_: Score(1.0, "judge")).terms["accuracy"].value == 1.0

    def test_the_judge_is_not_asked_where_the_rules_say_yes(self):
        def never(*_):
            raise AssertionError("asked")

        assert score(ROTATE, Play().answer(), DENSE, judge=never).terms["accuracy"].value == 1.0


def test_an_empty_trajectory_scores_without_crashing():
    empty = Trajectory("s", (), (), None, "length")
    assert score(sample("rotate_90", "crop"), empty).total == 0.0
    assert score(sample(answers=()), Play().answer()).terms["accuracy"].value == 0.0
    assert TURN.observation is None
