"""Accuracy with its interval, differences between paired answers, and the summary of a stage of `make demo`.

Items that share a picture (or a cycle of the same question) are no independent evidence: every interval here counts
clusters. What the tools did is in tool_use.py.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from codevision_lite.geometry import ORIENTATIONS

Z95 = 1.959964  # 97.5 % quantile of the normal distribution
RESAMPLES = 5000  # of the bootstrap: the ends of an interval move by about 0.1 of their distance from the middle between seeds
_BLOCK = 2_000_000  # numbers drawn at once, which bounds the memory of a bootstrap


@dataclass(frozen=True)
class Estimate:
    """A mean of values in [0, 1] with its 95 % interval."""

    mean: float | None  # None where there is nothing to average
    low: float
    high: float
    n: int  # items
    n_groups: int  # clusters of items that share a picture
    n_effective: float  # independent items that would be as informative


@dataclass(frozen=True)
class Paired:
    """B less A over the items that both answered; all values in [-1, 1]."""

    difference: float | None
    low: float | None  # 95 % bootstrap interval over clusters
    high: float | None
    n: int
    n_groups: int
    only_a: int  # right in A alone
    only_b: int
    p_value: float  # McNemar's exact test on those two; takes items as independent


def wilson(correct: float, n: float) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion, both ends in [0, 1].

    >>> tuple(round(v, 3) for v in wilson(9, 10))
    (0.596, 0.982)
    """
    if n == 0:
        return 0.0, 1.0
    p, z2 = correct / n, Z95**2
    center, spread = p + z2 / (2 * n), Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, (center - spread) / (1 + z2 / n)), min(1.0, (center + spread) / (1 + z2 / n))


def estimate(values: Sequence[float], groups: Sequence[Hashable]) -> Estimate:
    """The mean of `values` in [0, 1] with Wilson's interval at the effective number of items.

    The effective number is p (1 - p) / V, V the cluster-robust variance of the mean (`groups`: the cluster of each value);
    never more than single items would give. With right-or-wrong values and one item a cluster this is Wilson's own interval.
    Where all values are equal, V says nothing and the number of clusters stands in.
    Source: Wilson (1927); Dean and Pagano (Survey Practice 8, 2015) for the effective number.
    """
    n = len(values)
    if not n:
        return Estimate(None, *wilson(0, 0), 0, 0, 0.0)
    column, mean = np.asarray(values, dtype=float), float(np.mean(values))
    index = _numbered(groups)
    n_groups = int(index.max()) + 1
    spread = mean * (1 - mean)
    single = float(np.sum((column - mean) ** 2)) / n**2
    if single < 1e-12 or spread < 1e-12:
        effective = float(n_groups)
    else:
        totals = np.bincount(index, column - mean)
        clustered = float(np.sum(totals**2)) / n**2 * (n_groups / (n_groups - 1) if 1 < n_groups < n else 1.0)
        effective = spread / max(single, clustered) if n_groups > 1 else 1.0
    return Estimate(mean, *wilson(mean * effective, effective), n, n_groups, effective)


def paired(a: Sequence[float], b: Sequence[float], groups: Sequence[Hashable], seed: int = 0) -> Paired:
    """How much better B is than A on the same items; `a[i]`, `b[i]` in [0, 1] and `groups[i]` belong to item i.

    The interval is the percentile bootstrap over clusters (RESAMPLES draws from `seed`). An item counts as right from 0.5.
    """
    n = len(a)
    if not n:
        return Paired(None, None, None, 0, 0, 0, 0, 1.0)
    before, after = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    index = _numbered(groups)
    totals, counts = np.bincount(index, after - before), np.bincount(index).astype(float)
    rng, n_groups = np.random.default_rng(seed), len(counts)
    means = []
    at_once = max(1, _BLOCK // n_groups)
    for start in range(0, RESAMPLES, at_once):
        drawn = rng.integers(0, n_groups, (min(at_once, RESAMPLES - start), n_groups))
        means.append(totals[drawn].sum(1) / counts[drawn].sum(1))
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    only_a, only_b = int(np.sum((before >= 0.5) & (after < 0.5))), int(np.sum((before < 0.5) & (after >= 0.5)))
    difference = float(np.mean(after - before))
    return Paired(difference, float(low), float(high), n, n_groups, only_a, only_b, mcnemar_exact(only_a, only_b))


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided p-value of McNemar's exact test: twice the smaller tail of Binomial(only_a + only_b, 1/2), at most 1.

    >>> round(mcnemar_exact(1, 9), 4), mcnemar_exact(0, 0)
    (0.0215, 1.0)
    """
    n, k = only_a + only_b, min(only_a, only_b)
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)


def score_row(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy of scored rows of a benchmark ("value", "correct", "group"; see run.py), as JSON."""
    result = asdict(estimate([r["value"] for r in rows], [r["group"] for r in rows]))
    return {**result, "accuracy": result.pop("mean"), "correct": sum(r["correct"] for r in rows)}


def drop(undamaged: Sequence[dict[str, Any]], damaged: Sequence[dict[str, Any]], seed: int = 0) -> dict[str, Any]:
    """The difference that a damage makes, paired by item: rows of the same items before and after it, as JSON."""
    before = {row["item"]: row for row in undamaged}
    both = [(before[row["item"]], row) for row in damaged if row["item"] in before]
    return asdict(paired([a["value"] for a, _ in both], [b["value"] for _, b in both], [a["group"] for a, _ in both], seed))


def _numbered(groups: Sequence[Hashable]) -> np.ndarray:
    """(n,) int64: clusters by the order of their first appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(g, len(numbers)) for g in groups])


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
