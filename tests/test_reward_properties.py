"""Properties of the reward over random trajectories: ranges, monotony, and no dependence on how a picture was reached."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_builders import PIL_CALLS, TARGET, H, Play, W, box_in, sample

from codevision_lite.geometry import ORIENTATIONS
from codevision_lite.records import Trajectory
from codevision_lite.reward import RewardConfig, score, score_group
from codevision_lite.reward.dense import PRESETS

DENSE, PAPER = RewardConfig.preset("dense"), RewardConfig.preset("paper")
TASKS = [sample(*ops) for ops in (("rotate_90",), ("crop",), ("rotate_90", "crop"), (), ("rotate_90", "flip_horizontal"))]
CROP = sample("crop")
STEPS = st.one_of(
    st.sampled_from(sorted(PIL_CALLS)),
    st.tuples(st.floats(0, 0.8), st.floats(0, 0.8), st.floats(0.1, 1), st.floats(0.1, 1)),
)


@st.composite
def plays(draw):
    play = Play()
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.integers(0, 4))
        if kind == 0:
            play.fail(status=draw(st.sampled_from(["error", "refused", "timeout", "format"])))
        elif kind == 1:
            play.show(None)
        else:
            on = draw(st.integers(0, len(play.known) - 1))
            if play.known[on][0] is None:
                on = 0
            play.run(*_concrete(draw(st.lists(STEPS, max_size=3)), play.known[on][1]), on=on)
    return play


def _concrete(steps, size):
    """Relative crops become boxes of the picture at hand."""
    done = []
    for step in steps:
        w, h = size
        if isinstance(step, str):
            size = (h, w) if step in ("rotate_90", "rotate_270", "transpose", "transverse") else size
            done.append(step)
        else:
            x, y, dx, dy = step
            box = (x * w, y * h, x * w + dx * (w - x * w), y * h + dy * (h - y * h))
            size = (box[2] - box[0], box[3] - box[1])
            done.append(("crop", box))
    return done


@settings(max_examples=120, deadline=None)
@given(plays(), st.sampled_from(TASKS),
       st.sampled_from(["F7", "no", None]), st.sampled_from(PRESETS))  # fmt: skip
def test_terms_stay_in_their_range_and_survive_json(play, task, answer, preset):
    trajectory = play.answer(answer)
    breakdown = score(task, trajectory, RewardConfig.preset(preset))
    assert all(0.0 <= term.value <= 1.0 for term in breakdown.terms.values())
    assert -2.0 <= breakdown.total <= 2.4
    row = json.loads(json.dumps(trajectory.to_json(["missing.png"] * len(trajectory.images))))
    loaded = replace(Trajectory.from_json(row), images=trajectory.images)
    assert score(task, loaded, RewardConfig.preset(preset)) == breakdown


@settings(max_examples=80, deadline=None)
@given(st.floats(0, 60), st.floats(0, 60), st.floats(0, 1))
def test_credit_is_monotone_in_the_overlap(dx, dy, share):
    """Shrinking a crop towards the target that it contains never costs credit."""
    x1, y1, x2, y2 = TARGET
    wide = (x1 - dx, y1 - dy, x2 + dx, y2 + dy)
    closer = (x1 - share * dx, y1 - share * dy, x2 + share * dx, y2 + share * dy)
    for config in (DENSE, PAPER):
        credits = [score(CROP, Play().run(("crop", box)).answer(), config).terms["must_use"].value for box in (wide, closer)]
        assert credits[0] <= credits[1] + 1e-9


@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 1), st.floats(0, 1), st.floats(0, 0.6))
def test_credit_is_monotone_in_the_part_of_the_target_that_is_shown(part, more, margin):
    """Widening a crop to show more of the target never costs credit."""
    x1, y1, x2, y2 = TARGET
    less, more = part * (x2 - x1), (part + more * (1 - part)) * (x2 - x1)
    above = margin * (y2 - y1)
    for config in (DENSE, PAPER):
        boxes = [(x1, y1 - above, x1 + width, y2) for width in (less, more)]
        credits = [score(CROP, Play().run(("crop", box)).answer(), config).terms["must_use"].value for box in boxes]
        assert credits[0] <= credits[1] + 1e-9


@settings(max_examples=120, deadline=None)
@given(plays(), plays(), st.sampled_from(TASKS), st.booleans())
def test_any_right_answer_beats_any_wrong_one(right, wrong, task, well_formed):
    """Whatever was done with tools, also out of format; and a wrong answer beats none after the same tools."""
    trajectory = right.answer("F7")
    if not well_formed:
        trajectory = replace(trajectory, turns=tuple(replace(turn, well_formed=False) for turn in trajectory.turns))
    best_wrong = score(task, wrong.answer("no"), DENSE).total
    assert score(task, trajectory, DENSE).total > best_wrong >= score(task, wrong.answer(None), DENSE).total


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(plays(), st.sampled_from(["F7", "no", None])), min_size=2, max_size=6), st.sampled_from(TASKS), st.data())
def test_a_group_is_scored_alike_in_any_order(rollouts, task, data):
    group = [play.answer(answer) for play, answer in rollouts]
    order = data.draw(st.permutations(range(len(group))))
    for config in (DENSE, PAPER):
        straight, mixed = score_group(task, group, config), score_group(task, [group[k] for k in order], config)
        assert [straight[k] for k in order] == mixed
        assert all(0.0 <= breakdown.terms["suggested"].value <= 1.0 for breakdown in straight)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(PIL_CALLS)), st.floats(0, 0.8), st.floats(0, 0.8), st.floats(0.1, 1), st.floats(0.1, 1))
def test_a_crop_before_or_after_the_turn_scores_the_same(name, x, y, dx, dy):
    ((_, box),) = _concrete([(x, y, dx, dy)], (W, H))
    task = sample(name, "crop") if name in ORIENTATIONS else sample("rotate_90", "crop")
    before, after = Play().run(("crop", box), name), Play().run(name, ("crop", box_in((name,), box)))
    a, b = score(task, before.answer(), DENSE), score(task, after.answer(), DENSE)
    assert a.total == pytest.approx(b.total, abs=1e-6)
