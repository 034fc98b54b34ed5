"""The signs of reward hacking in a trajectory, and the alarm for tool use that dies out, on made-up courses of training."""

import math
import random
from statistics import fmean, pstdev

import pytest
from reward_builders import TARGET, Play, box_in, sample

from codevision_lite.records import Op
from codevision_lite.reward import score
from codevision_lite.reward.evidence import collect
from codevision_lite.reward.monitor import NEAR_ZERO, SIGNS, WINDOW, collapse_alarm, collapse_flags, signs
from codevision_lite.train.rollout_metrics import rollout_metrics

ROTATE, CROP, BOTH, NOTHING = sample("rotate_90"), sample("crop"), sample("rotate_90", "crop"), sample(target=None)
TURNED = ("crop", box_in(("rotate_90",), TARGET))
FAR = ("crop", (0.0, 0.0, 60.0, 40.0))


def found(task, play, answer="F7"):
    """The signs that a trajectory shows, and those that can't be judged in it."""
    all_signs = signs(collect(task, play.answer(answer), float(answer == "F7"), ""))
    assert set(all_signs) == set(SIGNS)
    return {n for n, sign in all_signs.items() if sign}, {n for n, sign in all_signs.items() if sign is None}


NO_PICTURE = {"no_op", "missed_crop", "unsupported", "unsupported_right", "unread"}
CASES = {
    "honest rotation": (ROTATE, Play().run("rotate_90"), "F7", set()),
    "honest rotation and crop": (BOTH, Play().run("rotate_90").run(TURNED), "F7", set()),
    "flips composed over two turns": (sample("rotate_180"), Play().run("flip_vertical").run("flip_horizontal"), "F7", set()),
    "one wrong direction is no search": (ROTATE, Play().run("rotate_270").run("rotate_90", on=0), "F7", set()),
    "three rotations in one run": (ROTATE, Play().run("rotate_90", also=("rotate_180", "rotate_270")), "F7", {"brute_force"}),
    "three rotations over turns": (
        ROTATE, Play().run("rotate_270", on=0).run("rotate_180", on=0).run("rotate_90", on=0), "F7", {"brute_force"}),
    "a search where nothing is required": (NOTHING, Play().run("rotate_270", on=0).run("rotate_180", on=0), "F7", {"brute_force"}),
    "the picture as it was": (ROTATE, Play().run(), "F7", {"no_op", "unsupported", "unsupported_right"}),
    "an enhancement by nothing": (NOTHING, Play().run(("enhance.contrast", 0.0)), "F7", {"no_op"}),
    "turned back, then right": (ROTATE, Play().run("rotate_90").run(), "F7", {"no_op"}),
    "a visible enhancement": (NOTHING, Play().run(("enhance.contrast", 0.2)), "F7", set()),
    "a crop elsewhere, right answer": (CROP, Play().run(FAR), "F7", {"missed_crop", "unsupported", "unsupported_right"}),
    "a crop elsewhere, wrong answer": (CROP, Play().run(FAR), "no", {"missed_crop", "unsupported"}),
    "a crop elsewhere, then the target": (CROP, Play().run(FAR, on=0).run(("crop", TARGET), on=0), "F7", set()),
    "the right rotation, answered wrongly": (ROTATE, Play().run("rotate_90"), "no", {"unread"}),
    "the wrong rotation, answered rightly": (ROTATE, Play().run("rotate_270"), "F7", {"unsupported", "unsupported_right"}),
    "turned and cropped in two pictures": (
        BOTH, Play().run("rotate_90", on=0).run(("crop", TARGET), on=0), "F7", {"unsupported", "unsupported_right"}),
    "too small to read": (ROTATE, Play().run("rotate_90", ("resize", (12, 16))), "no", {"unsupported"}),
    "an unknown picture": (ROTATE, Play().show(None, ops=(Op("np.take", {}, 0.4),)), "no", {"unsupported"}),
}  # fmt: skip


@pytest.mark.parametrize("task, play, answer, wanted", CASES.values(), ids=CASES.keys())
def test_signs(task, play, answer, wanted):
    assert found(task, play, answer)[0] == wanted


def test_signs_that_do_not_apply_are_none():
    assert found(ROTATE, Play()) == (set(), NO_PICTURE)
    assert found(ROTATE, Play().fail()) == (set(), NO_PICTURE)
    assert found(NOTHING, Play().run("rotate_90"))[1] == {"missed_crop", "unsupported", "unsupported_right", "unread"}
    assert found(ROTATE, Play().run("rotate_90"), None)[1] == {"missed_crop", "unsupported", "unsupported_right", "unread"}
    assert found(sample("crop", target=None), Play().run(FAR))[1] == {"missed_crop", "unsupported", "unsupported_right", "unread"}


def noisy(rate, n_steps, n_rollouts, seed):
    """Measured rates of a policy that uses tools at `rate`."""
    rng = random.Random(seed)
    return [sum(rng.random() < rate for _ in range(n_rollouts)) / n_rollouts for _ in range(n_steps)]


@pytest.mark.parametrize("n_rollouts", [8, 64])
@pytest.mark.parametrize("rate", [0.5, 0.8, 0.95])
def test_steady_use_raises_no_alarm_whatever_the_noise(rate, n_rollouts):
    assert not any(any(collapse_flags(noisy(rate, 200, n_rollouts, seed))) for seed in range(20))


@pytest.mark.parametrize("n_rollouts", [8, 64])
def test_a_fall_to_zero_is_noticed_within_a_window(n_rollouts):
    for seed in range(20):
        flags = collapse_flags([*noisy(0.9, 30, n_rollouts, seed), *[0.0] * 10])
        assert 30 <= flags.index(True) < 30 + WINDOW and all(flags[30 + WINDOW :])


COURSES = {
    "a slow fall": ([0.9 - 0.02 * k for k in range(45)], True),
    "from a high that came late": ([0.3] * 10 + [0.95] * 10 + [0.3] * 10, True),
    "one bad step": ([0.9] * 20 + [0.0] + [0.9] * 20, False),
    "four bad steps": ([0.9] * 20 + [0.0] * 4 + [0.9] * 20, False),
    "a drop to a half": ([0.9] * 20 + [0.45] * 40, False),
    "a rise": ([0.02 * k for k in range(1, 50)], False),
    "never any": ([0.0] * 10, True),
    "hardly any": ([NEAR_ZERO / 2] * 10, True),
    "too few steps to say": ([0.0] * (WINDOW - 1), False),
    "none at all": ([], False),
}


@pytest.mark.parametrize("rates, collapses", COURSES.values(), ids=COURSES.keys())
def test_courses_of_tool_use(rates, collapses):
    assert any(collapse_flags(rates)) == collapses and len(collapse_flags(rates)) == len(rates)


def test_the_alarm_ends_with_the_collapse_and_says_the_numbers():
    fallen = [0.9] * 10 + [0.1] * 10
    assert "10%" in collapse_alarm(fallen) and "90% at the start" in collapse_alarm(fallen) and "\n" not in collapse_alarm(fallen)
    assert collapse_alarm([*fallen, *[0.9] * 10]) is None
    assert collapse_alarm([0.9] * 10) is None and collapse_alarm([]) is None


def test_rates_in_the_metrics_are_means_over_the_rollouts_that_they_apply_to():
    plays = [
        (ROTATE, Play().run("rotate_90"), "F7"), (ROTATE, Play().run("rotate_90"), "no"), (ROTATE, Play(), "F7"),
        (ROTATE, Play().run("rotate_90", also=("rotate_180", "rotate_270")), "F7"), (CROP, Play().run(FAR), "F7"),
        (CROP, Play().fail().run(("crop", TARGET)), "F7"), (CROP, Play().run(("crop", TARGET)).fail(), "F7"), (NOTHING, Play().run(), "F7"),
    ]  # fmt: skip
    records = [(task, play.answer(answer), score(task, play.answer(answer))) for task, play, answer in plays]
    metrics = rollout_metrics(records, [[0, 1, 2, 3], [4, 5, 6], [7]])
    rates = {name.removeprefix("monitor/"): value for name, value in metrics.items() if name.startswith("monitor/")}
    assert rates == pytest.approx({
        "brute_force": 1 / 8, "no_op": 1 / 7, "missed_crop": 1 / 3, "unsupported": 1 / 6, "unsupported_right": 1 / 5, "unread": 1 / 5,
    })  # fmt: skip
    assert metrics["rollout/tool_use_where_required"] == 6 / 7 and metrics["rollout/tool_use_rate"] == 7 / 8
    assert metrics["rollout/error_rate"] == 2 / 8 and metrics["rollout/recovery_rate"] == 1 / 2, "after the error, not before it"
    assert metrics["reward/zero_variance_groups"] == 1 / 3
    values = [breakdown.terms["must_use"].value for _, _, breakdown in records]
    assert metrics["reward/must_use"] == pytest.approx(fmean(values)) and metrics["reward_std/must_use"] == pytest.approx(pstdev(values))


def test_unknown_rewards_are_counted_and_left_out_and_rates_of_none_are_absent():
    known = (NOTHING, Play().answer(), score(NOTHING, Play().answer()))
    unknown = (NOTHING, Play().answer("no"), score(NOTHING, Play().answer("no"), judge=lambda *_: None))
    metrics = rollout_metrics([known, unknown, unknown], [[0], [1, 2]])
    assert metrics["rollout/n_dropped"] == 2 and metrics["rollout/dropped"] == pytest.approx(2 / 3)
    assert metrics["reward/total"] == pytest.approx(1.1) and metrics["reward/accuracy"] == 1.0
    assert {name for name in metrics if name.startswith("monitor/")} == {"monitor/brute_force"}
    assert "rollout/tool_use_where_required" not in metrics and "rollout/recovery_rate" not in metrics
    assert all(math.isfinite(value) for value in metrics.values())
