"""Accuracy with its interval, and how the tool was used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from codevision_lite.geometry import ORIENTATIONS

Z95 = 1.959964  # 97.5 % quantile of the normal distribution


def wilson(correct: int, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion, both ends in [0, 1].

    >>> tuple(round(v, 3) for v in wilson(9, 10))
    (0.596, 0.982)
    """
    if n == 0:
        return 0.0, 1.0
    p, z2 = correct / n, Z95**2
    center, spread = p + z2 / (2 * n), Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, (center - spread) / (1 + z2 / n)), min(1.0, (center + spread) / (1 + z2 / n))


def condition_row(condition: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Summary of the result rows (see evaluate.py) of one condition."""
    n, correct = len(rows), sum(r["correct"] for r in rows)
    low, high = wilson(correct, n)
    turns = [r["trajectory"]["turns"] for r in rows]
    observations = [[t["observation"] for t in ts if t["observation"]] for ts in turns]
    failed = [os for os in observations if any(o["status"] != "ok" for o in os)]
    return {
        "condition": condition, "n": n, "correct": correct, "accuracy": correct / n if n else None, "low": low, "high": high,
        "tool_turns": sum(map(len, observations)) / n if n else None, "error_rate": len(failed) / n if n else None,
    }  # fmt: skip


def summarise(name: str, rows: Sequence[dict[str, Any]], conditions: Sequence[str], seconds: float) -> dict[str, Any]:
    """A stage of results.json. The damaged mean covers the five orientation conditions, as the paper's Table 1 does
    (there the source is in its average; here it is not)."""
    table = [condition_row(c, [r for r in rows if r["condition"] == c]) for c in conditions]
    damaged = [r for r in rows if r["condition"] in ORIENTATIONS]
    pooled = condition_row("damaged", damaged)
    return {
        "name": name, "rows": table, "damaged_conditions": list(ORIENTATIONS), "damaged_mean": pooled["accuracy"],
        "damaged_low": pooled["low"], "damaged_high": pooled["high"], "damaged_n": pooled["n"],
        "damaged_tool_turns": pooled["tool_turns"], "tool_turns": condition_row("all", rows)["tool_turns"],
        "n": len(rows), "seconds": seconds,
    }  # fmt: skip
