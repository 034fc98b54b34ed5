"""Intervals cover what they say, also where items share pictures; paired differences and exact tests have known values; tool use is
counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pictures import sample

from codevision_lite.agent import run_episode
from codevision_lite.bench.metrics import drop, estimate, mcnemar_exact, paired, score_row, wilson
from codevision_lite.bench.tool_use import operations_of, tool_facts, tool_summary
from codevision_lite.datasets.rows import trajectory_row
from codevision_lite.files import append_jsonl
from codevision_lite.models import ScriptedModel
from codevision_lite.protocol import render_reply
from codevision_lite.records import ToolCall

# ---------------------------------------------------------------- intervals


@pytest.mark.parametrize("correct, n", [(0, 10), (9, 10), (50, 100), (81, 263), (263, 263)])
def test_one_item_a_picture_gives_wilsons_interval(correct, n):
    found = estimate([1.0] * correct + [0.0] * (n - correct), range(n))
    assert (found.low, found.high) == pytest.approx(wilson(correct, n))
    assert (found.mean, found.n, found.n_groups) == (correct / n, n, n)
    assert found.n_effective == pytest.approx(n)


@pytest.mark.parametrize("copies", [2, 6])
def test_copies_of_items_are_no_evidence(copies):
    values = [1.0] * 30 + [0.0] * 20
    once = estimate(values, range(50))
    again = estimate(values * copies, list(range(50)) * copies)
    assert again.n_effective == pytest.approx(49)  # one cluster less: the usual correction of a variance between few clusters
    assert (again.low, again.high) == pytest.approx((once.low, once.high), abs=2e-3)


def test_where_all_are_right_the_pictures_count_and_not_the_items():
    found = estimate([1.0] * 40, [i // 4 for i in range(40)])
    assert (found.n_groups, found.n_effective) == (10, 10.0)
    assert (found.low, found.high) == pytest.approx(wilson(10, 10))


def test_graded_values_are_narrower_than_right_or_wrong():
    graded, binary = estimate([0.4, 0.6] * 50, range(100)), estimate([0.0, 1.0] * 50, range(100))
    assert graded.mean == pytest.approx(binary.mean)
    assert 0 < graded.high - graded.low < 0.3 * (binary.high - binary.low)


def test_one_picture_is_one_piece_of_evidence():
    found = estimate([1.0, 0.0, 1.0], ["a"] * 3)
    assert (found.n_effective, found.low, found.high) == (1.0, *wilson(2 / 3, 1))


def test_nothing_measured_has_no_mean():
    found = estimate([], [])
    assert (found.mean, found.low, found.high, found.n) == (None, 0.0, 1.0, 0)


@pytest.mark.parametrize("p, spread", [(0.5, 0.3), (0.85, 0.12), (0.2, 0.15)])
def test_the_interval_covers_the_truth_where_items_share_pictures(p, spread):
    """Pictures differ in how hard they are: 60 of them, 6 items each. Wilson's interval on the items would miss far more often."""
    rng, covered, naive, runs = np.random.default_rng(0), 0, 0, 1500
    a = p * (p * (1 - p) / spread**2 - 1)
    for _ in range(runs):
        hard = rng.beta(a, a * (1 - p) / p, 60)
        values = (rng.random((60, 6)) < hard[:, None]).astype(float)
        found = estimate(values.ravel(), np.repeat(np.arange(60), 6).tolist())
        covered += found.low <= p <= found.high
        low, high = wilson(values.sum(), values.size)
        naive += low <= p <= high
    assert covered / runs == pytest.approx(0.95, abs=0.02)
    assert naive < covered - 0.03 * runs


# ---------------------------------------------------------------- pairs


# Two-sided binomial tests of half, as R's binom.test gives them
KNOWN_P = [(1, 9, 0.02148), (5, 15, 0.04139), (0, 6, 0.03125), (7, 7, 1.0), (0, 0, 1.0), (30, 60, 0.00206)]


@pytest.mark.parametrize("only_a, only_b, p", KNOWN_P)
def test_mcnemars_test_has_the_known_values(only_a, only_b, p):
    assert mcnemar_exact(only_a, only_b) == pytest.approx(p, abs=5e-5)
    assert mcnemar_exact(only_b, only_a) == mcnemar_exact(only_a, only_b)


def test_a_difference_is_counted_by_hand():
    a, b = [1.0, 1.0, 0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0, 1.0, 0.0]
    found = paired(a, b, range(6))
    assert (found.difference, found.n, found.only_a, found.only_b) == (pytest.approx(1 / 6), 6, 1, 2)
    assert found.low < found.difference < found.high
    assert found == paired(a, b, range(6))  # the draws come from the seed


def test_equal_runs_differ_by_nothing():
    found = paired([1.0, 0.0, 0.5] * 20, [1.0, 0.0, 0.5] * 20, range(60))
    assert (found.difference, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_the_paired_interval_is_that_of_the_mean_difference():
    rng = np.random.default_rng(1)
    a = (rng.random(400) < 0.6).astype(float)
    b = np.where(rng.random(400) < 0.15, 1 - a, a)
    found, deviation = paired(a, b, range(400)), np.std(b - a) / 20
    assert (found.low, found.high) == pytest.approx((found.difference - 1.96 * deviation, found.difference + 1.96 * deviation), abs=0.01)
    copies = paired(np.tile(a, 4), np.tile(b, 4), list(range(400)) * 4)
    assert copies.high - copies.low == pytest.approx(found.high - found.low, rel=0.08)


def row(item, value, condition="none", group=None):
    return {"item": item, "value": value, "correct": value == 1.0, "group": group or item, "condition": condition}


def test_a_drop_takes_only_items_that_were_asked_both_ways():
    source = [row("a", 1.0), row("b", 1.0), row("c", 0.0)]
    found = drop(source, [row("a", 0.0, "rotate_90"), row("b", 1.0, "rotate_90"), row("d", 0.0, "rotate_90")])
    assert (found["n"], found["difference"], found["only_a"]) == (2, -0.5, 1)
    assert drop(source, [])["difference"] is None


def test_a_score_row_has_what_the_tables_show():
    found = score_row([row("a", 1.0), row("b", 0.25), row("c", 0.0, group="b")])
    assert (found["n"], found["n_groups"], found["correct"]) == (3, 2, 1)
    assert found["accuracy"] == pytest.approx(1.25 / 3)


# ---------------------------------------------------------------- tool use


def call(code):
    return render_reply("Look.", ToolCall(code))


TURN_AND_CROP = call("result = image.rotate(90, expand=True).crop((0, 0, 42, 84))")
BRIGHT = call("from PIL import ImageEnhance\nresult = ImageEnhance.Brightness(image).enhance(1.6)")
BROKEN = call("result = nothing")
SEARCH = call("for a in (90, 180, 270):\n    result = image.rotate(a, expand=True)")
ANSWER = render_reply("Read.", answer="F")


def facts(sandbox, *replies, value=1.0, **fields):
    shown = sample(**fields)
    return tool_facts(shown, run_episode(ScriptedModel([*replies, ANSWER]), sandbox, shown), value)


def test_the_facts_of_a_trajectory(sandbox):
    found = facts(sandbox, BROKEN, TURN_AND_CROP, required_ops=("rotate_90", "crop"), target_box=(10.0, 4.0, 60.0, 40.0))
    assert (found["tool_turns"], found["failed"], found["recovered"], found["end_reason"]) == (2, 1, True, "answer")
    assert found["operations"] == [["rotate", "crop"]]
    assert found["effective"] == ["crop"]
    assert (found["brute_force"], found["well_formed"]) == (False, True)
    # rotate(90) turns counter-clockwise: the left half of the result is the upper half of the picture, (0, 0, 84, 42)
    assert found["crop_recall"] == pytest.approx(1.0)
    assert found["crop_iou"] == pytest.approx(50 * 36 / (84 * 42))


def test_a_crop_beside_the_target_has_no_overlap_and_no_target_no_number(sandbox):
    miss = facts(sandbox, call("result = image.crop((0, 0, 20, 20))"), target_box=(40.0, 40.0, 80.0, 80.0))
    assert (miss["crop_iou"], miss["crop_recall"]) == (0.0, 0.0)
    assert facts(sandbox, call("result = image.crop((0, 0, 20, 20))"))["crop_iou"] is None
    assert facts(sandbox)["operations"] == []


def test_trying_orientations_out_is_brute_force(sandbox):
    assert facts(sandbox, SEARCH, required_ops=("rotate_90",))["brute_force"]


def scored(found, correct=True, n_tokens=10, seconds=0.5):
    return {"facts": found, "correct": correct, "value": float(correct), "n_tokens": n_tokens, "seconds": seconds}


def test_a_summary_is_counted_by_hand(sandbox):
    rows = [
        scored(facts(sandbox, BROKEN, TURN_AND_CROP, required_ops=("rotate_90", "crop"), target_box=(10.0, 4.0, 60.0, 40.0))),
        scored(facts(sandbox, BROKEN, value=0.0), correct=False, n_tokens=20),
        scored(facts(sandbox, BRIGHT)),
        scored(facts(sandbox, SEARCH, value=0.0), correct=False),
        scored(facts(sandbox), n_tokens=0),
    ]
    found = tool_summary(rows, known={"rotate", "crop"})
    assert found["tool_use_rate"] == pytest.approx(4 / 5)
    assert found["tool_turns"] == pytest.approx(5 / 5)
    assert (found["error_rate"], found["recovery_rate"]) == (pytest.approx(2 / 5), pytest.approx(1 / 2))
    assert found["operations_per_turn"] == pytest.approx((2 + 1 + 3) / 3)
    assert found["chained"] == pytest.approx(2 / 3)
    assert found["brute_force"] == pytest.approx(1 / 5)
    assert (found["contained"], found["crop_recall"]) == (1.0, pytest.approx(1.0))
    assert found["tokens"] == pytest.approx((10 + 20 + 10 + 10) / 4)
    assert found["operations"] == {"rotate": 4, "crop": 1, "enhance.brightness": 1}
    assert (found["emergent"], found["emergent_rate"]) == ({"enhance.brightness": {"items": 1, "right": 1}}, pytest.approx(1 / 5))


def test_without_sft_data_nothing_is_called_emergent(sandbox):
    found = tool_summary([scored(facts(sandbox, BRIGHT))])
    assert (found["emergent"], found["emergent_rate"]) == (None, None)


def test_rates_of_nothing_are_unknown_and_not_zero():
    found = tool_summary([])
    assert [found[name] for name in ("tool_turns", "error_rate", "recovery_rate", "crop_iou", "tokens")] == [None] * 5


def test_the_operations_of_sft_data_are_those_that_ran(sandbox, tmp_path):
    for n, replies in enumerate([(TURN_AND_CROP,), (BROKEN,), (BRIGHT,)]):
        shown = sample(seed=n)
        trajectory = run_episode(ScriptedModel([*replies, ANSWER]), sandbox, shown)
        append_jsonl(tmp_path / "sft.jsonl", trajectory_row(tmp_path, shown, trajectory))
    assert operations_of(tmp_path / "sft.jsonl") == {"rotate", "crop", "enhance.brightness"}


def test_wilson_takes_parts_of_items():
    low, high = wilson(2.5, 5.0)
    assert math.isclose(low + high, 1.0)
