"""Progress lines: one that is rewritten on a terminal, one every ten seconds elsewhere, and always the last."""

from __future__ import annotations

import pytest

from codevision_lite import progress
from codevision_lite.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets: clock[0] is now, in seconds."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_elsewhere_a_line_comes_every_ten_seconds_and_at_the_end(clock, capsys):
    shown = Progress("eval base", 480, "pictures")
    for done in range(16, 481, 16):
        clock[0] += 1
        shown.update(done, "accuracy .91")
    assert capsys.readouterr().out.splitlines() == [
        "eval base 160/480 pictures | accuracy .91 | 16/s | eta 20s",
        "eval base 320/480 pictures | accuracy .91 | 16/s | eta 10s",
        "eval base 480/480 pictures | accuracy .91 | 16/s | done in 30s",
    ]


def test_a_resumed_stage_counts_its_rate_from_where_it_began(clock, capsys):
    shown = Progress("sft step", 200, start=100)
    clock[0] += 50
    shown.update(150)
    assert capsys.readouterr().out == "sft step 150/200 | 1/s | eta 50s\n"


def test_minutes_are_told_as_minutes_and_no_progress_as_unknown(clock, capsys):
    shown = Progress("rl", 100)
    clock[0] += 10
    shown.update(0)
    clock[0] += 90
    shown.update(1)
    assert [line.split(" | ")[-1] for line in capsys.readouterr().out.splitlines()] == ["eta ?", "eta 165m00s"]
