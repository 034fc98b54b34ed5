"""Evaluation: the interval is Wilson's, every row is counted once, and a stopped evaluation goes on to the same numbers."""

from __future__ import annotations

import json
import math

import pytest
from pictures import sample

from codevision_lite.agent import AgentLimits
from codevision_lite.bench.evaluate import Evaluation, evaluate, stage_rows
from codevision_lite.bench.metrics import condition_row, summarise, wilson
from codevision_lite.datasets.rows import load_training_rows
from codevision_lite.files import read_jsonl
from codevision_lite.geometry import ORIENTATIONS
from codevision_lite.models import ScriptedModel, Segment
from codevision_lite.protocol import render_reply
from codevision_lite.records import ToolCall
from codevision_lite.reward import RewardConfig

# (correct, n) -> interval, from Wilson's formula as R's prop.test(correct=FALSE) and statsmodels give it
KNOWN = {
    (9, 10): (0.5958, 0.9821),
    (0, 10): (0.0, 0.2775),
    (10, 10): (0.7225, 1.0),
    (50, 100): (0.4038, 0.5962),
    (1, 1): (0.2065, 1.0),
    (5, 300): (0.0071, 0.0384),
    (81, 263): (0.2553, 0.3662),
}


@pytest.mark.parametrize("counts, interval", KNOWN.items())
def test_wilson_interval_is_the_known_one(counts, interval):
    assert wilson(*counts) == pytest.approx(interval, abs=1e-4)


def test_nothing_measured_is_nothing_known():
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("n", [1, 7, 480])
def test_intervals_hold_their_proportion_and_stay_in_range(n):
    for correct in range(n + 1):
        low, high = wilson(correct, n)
        assert 0.0 <= low <= correct / n <= high <= 1.0
        mirrored = wilson(n - correct, n)
        assert (low, high) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]))


def result(condition, correct, *statuses):
    turns = [{"observation": {"status": s}} for s in statuses] + [{"observation": None}]
    return {"condition": condition, "correct": correct, "trajectory": {"turns": turns}}


ROWS = [
    result("upright", True),
    result("upright", True, "ok"),
    result("rotate_90", True, "error", "ok"),
    result("rotate_90", False, "ok"),
    result("flip_vertical", False),
    result("crop", True, "format"),
]


def test_a_condition_is_counted_by_hand():
    row = condition_row("rotate_90", ROWS[2:4])
    assert (row["n"], row["correct"], row["accuracy"], row["tool_turns"], row["error_rate"]) == (2, 1, 0.5, 1.5, 0.5)
    assert (row["low"], row["high"]) == wilson(1, 2)


def test_the_damaged_mean_is_over_the_orientations_and_not_the_upright_or_cropped():
    summary = summarise("sft", ROWS, ["upright", "rotate_90", "flip_vertical", "crop"], 1.0)
    assert (summary["damaged_n"], summary["n"]) == (3, 6)
    assert summary["damaged_mean"] == pytest.approx(1 / 3)
    assert (summary["damaged_low"], summary["damaged_high"]) == wilson(1, 3)
    assert summary["tool_turns"] == pytest.approx(5 / 6)
    assert [row["condition"] for row in summary["rows"]] == ["upright", "rotate_90", "flip_vertical", "crop"]


def test_a_condition_without_rows_has_no_accuracy_rather_than_zero():
    assert condition_row("crop", [])["accuracy"] is None
    assert summarise("base", [], [], 0.0)["damaged_mean"] is None


# ---------------------------------------------------------------- the runner

TURN = render_reply("Turn.", ToolCall("result = image.rotate(90, expand=True)"))
RIGHT = render_reply("I see.", answer="F")


class CountingModel(ScriptedModel):
    """Turns every picture and answers; counts the dialogues that it was given and stops the run after some."""

    batch_size = 4

    def __init__(self, stop_after: float = math.inf):
        super().__init__([TURN, RIGHT])
        self.started, self.stop_after = 0, stop_after

    def reply(self, dialogues, max_new_tokens=0) -> list[Segment]:
        if len(dialogues[0].segments) == 1:
            if self.started >= self.stop_after:
                raise KeyboardInterrupt
            self.started += len(dialogues)
        return super().reply(dialogues, max_new_tokens)


def samples():
    conditions = ("upright", *ORIENTATIONS[:2])
    return [
        sample(
            40, 30, seed=i, answers=("F" if i % 4 else "G",), required_ops=("rotate_90",) if i % 3 else (),
            meta={"condition": conditions[i % 3]},
        )
        for i in range(18)
    ]  # fmt: skip


def run(folder, stage="sft"):
    return Evaluation(stage, folder / "trajectories.jsonl", AgentLimits(), RewardConfig.preset("dense"))


def without_time(summary):
    return {k: v for k, v in summary.items() if k != "seconds"}


def test_every_sample_is_a_row_with_its_pictures(tmp_path, sandbox):
    summary = evaluate(CountingModel(), sandbox, samples(), run(tmp_path))
    rows = read_jsonl(tmp_path / "trajectories.jsonl")
    assert [row["sample"]["id"] for row in rows] == [f"s{i}" for i in range(18)]
    assert all(row["correct"] == bool(i % 4) for i, row in enumerate(rows))
    assert (summary["n"], sum(r["correct"] for r in summary["rows"]), summary["tool_turns"]) == (18, 13, 1.0)
    assert rows[1]["reward"]["terms"]["must_use"]["value"] == 1.0
    loaded = load_training_rows(tmp_path / "trajectories.jsonl")
    assert [len(row.trajectory.images) for row in loaded] == [2] * 18


def test_a_stopped_evaluation_goes_on_to_the_same_summary(tmp_path, sandbox):
    whole = evaluate(CountingModel(), sandbox, samples(), run(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        evaluate(CountingModel(stop_after=8), sandbox, samples(), run(tmp_path / "stopped"))
    rest = CountingModel()
    resumed = evaluate(rest, sandbox, samples(), run(tmp_path / "stopped"))
    assert rest.started == 10
    assert without_time(resumed) == without_time(whole)
    assert len(read_jsonl(tmp_path / "stopped" / "trajectories.jsonl")) == 18


def test_a_row_that_a_crash_cut_is_done_again(tmp_path, sandbox):
    whole = evaluate(CountingModel(), sandbox, samples(), run(tmp_path))
    path = tmp_path / "trajectories.jsonl"
    path.write_bytes(path.read_bytes()[:-200])
    rest = CountingModel()
    assert without_time(evaluate(rest, sandbox, samples(), run(tmp_path))) == without_time(whole)
    assert rest.started == 1
    assert len(read_jsonl(path)) == 18


def test_what_is_done_is_not_done_again(tmp_path, sandbox):
    evaluate(CountingModel(), sandbox, samples(), run(tmp_path))
    again = CountingModel()
    evaluate(again, sandbox, samples(), run(tmp_path))
    assert again.started == 0


def test_stages_share_a_file_without_mixing(tmp_path, sandbox):
    evaluate(CountingModel(), sandbox, samples()[:6], run(tmp_path, "base"))
    evaluate(CountingModel(), sandbox, samples(), run(tmp_path, "sft"))
    assert [len(stage_rows(tmp_path / "trajectories.jsonl", stage)) for stage in ("base", "sft", "grpo")] == [6, 18, 0]


def test_progress_counts_what_was_already_done(tmp_path, sandbox):
    evaluate(CountingModel(), sandbox, samples()[:8], run(tmp_path))
    told = []
    evaluate(CountingModel(), sandbox, samples(), run(tmp_path), lambda done, total: told.append((done, total)))
    assert told == [(12, 18), (16, 18), (18, 18)]


def test_a_summary_is_json(tmp_path, sandbox):
    assert json.dumps(evaluate(CountingModel(), sandbox, samples(), run(tmp_path)), allow_nan=False)
