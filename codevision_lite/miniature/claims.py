"""Effects, intervals and verdicts: pure functions over items.

With two seeds or more, the interval is Student's t over the seeds' effects (each seed has its own data, start and arms, so arms are
paired within it), and never narrower than the items alone would make it: two seeds may agree by chance. With one seed it is over
items, paired where both sides have the same ones; it says how sure the effect is for this one training run, and nothing of another.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from codevision_lite.bench.metrics import Z95, wilson
from codevision_lite.miniature.measures import METRICS, Item, value_of
from codevision_lite.miniature.plan import Claim, Miniature, Part, Target

Verdict = Literal["confirmed", "not confirmed", "inconclusive", "not run"]
Results = Mapping[int, Mapping[str, Sequence[Item]]]  # seed -> arm -> its items; an arm that was not evaluated is not there
Known = Mapping[int, Collection[str]]  # seed -> operations of its SFT data
# 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom
_T = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)


@dataclass(frozen=True)
class Side:
    """A number in an effect: `weight` times a metric of an arm on some conditions."""

    weight: float
    arm: str
    metric: str
    conditions: tuple[str, ...]


@dataclass(frozen=True)
class Effect:
    """A part's effect. `values`: one a seed, None where the metric applies to nothing there; low, high: 95 % interval."""

    values: dict[int, float | None]
    mean: float | None
    low: float | None
    high: float | None
    method: Literal["t over seeds", "items of one seed", "none"]
    sides: tuple[float | None, ...]  # the numbers that it is made of, means over the seeds, in the order of `sides`


@dataclass(frozen=True)
class PartResult:
    """A part, its effect and what it says; `why` is one line for people."""

    part: Part
    effect: Effect | None  # None: not run
    verdict: Verdict
    why: str


def sides(part: Part, plan: Miniature) -> tuple[Side, ...]:
    """The numbers that a part's effect is the sum of."""
    on = plan.conditions_of(part.over)
    found = [Side(1.0, part.arm, part.metric, on)]
    if part.against is not None:
        other = part.against_metric or part.metric
        found.append(Side(-part.times, part.against, other, plan.conditions_of(part.against_over or part.over)))
    if part.beyond is not None and part.against is not None:
        beyond = plan.conditions_of(part.beyond)
        found += [Side(-1.0, part.arm, part.metric, beyond), Side(part.times, part.against, part.against_metric or part.metric, beyond)]
    return tuple(found)


def measure(part: Part, plan: Miniature, results: Results, known: Known) -> Effect | None:
    """The effect with its interval, from the seeds that have all arms of it; None where no seed has."""
    parts = sides(part, plan)
    seeds = [seed for seed in results if all(side.arm in results[seed] for side in parts)]
    if not seeds:
        return None
    numbers = {seed: [_number(side, results[seed][side.arm], known.get(seed, ())) for side in parts] for seed in seeds}
    values = {seed: _sum(parts, column) for seed, column in numbers.items()}
    defined = {seed: value for seed, value in values.items() if value is not None}
    means = tuple(_mean([numbers[seed][i] for seed in defined or seeds]) for i in range(len(parts)))
    if not defined:
        return Effect(values, None, None, None, "none", means)
    mean = sum(defined.values()) / len(defined)
    low, high = _around(mean, item_reach(parts, [results[s] for s in defined], [known.get(s, ()) for s in defined]))
    if len(defined) > 1:
        over_seeds = student(list(defined.values()))
        low, high = min(low, over_seeds[0]), max(high, over_seeds[1])
    if all(METRICS[side.metric].unit == "share" for side in parts):  # each is in [0, 1], so their sum has ends too
        low, high = max(_end(parts, -1.0), low), min(_end(parts, 1.0), high)
    return Effect(values, mean, low, high, "t over seeds" if len(defined) > 1 else "items of one seed", means)


def _end(parts: Sequence[Side], sign: float) -> float:
    return sum(side.weight for side in parts if side.weight * sign > 0)


def judge(part: Part, effect: Effect | None) -> PartResult:
    """The verdict on a part: where the interval lies, and whether an effect as large as the margin is still possible."""
    if effect is None:
        return PartResult(part, None, "not run", "an arm of it was not run")
    if effect.mean is None:
        return PartResult(part, effect, "inconclusive", f"{METRICS[part.metric].label}: nothing to measure")
    assert effect.low is not None and effect.high is not None
    sign, limit = (1.0, part.at_least) if part.at_least is not None else (-1.0, -(part.at_most or 0.0))
    low, high = sorted((sign * effect.low, sign * effect.high))  # now the claim is: above the limit
    if high < limit:
        return PartResult(part, effect, "not confirmed", "the whole interval is on the other side")
    if high < limit + part.margin:
        return PartResult(part, effect, "not confirmed", "an effect as large as the margin is excluded")
    if low > limit:
        return PartResult(part, effect, "confirmed", "the whole interval is on the claimed side")
    return PartResult(part, effect, "inconclusive", "the interval holds both sides")


def verdict_of(parts: Sequence[PartResult]) -> Verdict:
    """All parts must hold: one that does not decides; else what is missing is said first."""
    found = {p.verdict for p in parts}
    return next(v for v in ("not confirmed", "not run", "inconclusive", "confirmed") if v in found)  # type: ignore[return-value]


def decide(claim: Claim, plan: Miniature, results: Results, known: Known) -> tuple[Verdict, list[PartResult]]:
    parts = [judge(part, measure(part, plan, results, known)) for part in claim.parts]
    return verdict_of(parts), parts


def is_met(target: Target, effect: Effect | None) -> bool | None:
    """Whether the mean over the seeds reaches the target; None where it was not measured."""
    if effect is None or effect.mean is None:
        return None
    part = target.part
    return effect.mean >= part.at_least if part.at_least is not None else effect.mean <= (part.at_most or 0.0)


def student(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of two or more independent values.

    >>> [round(v, 3) for v in student([1.0, 2.0, 3.0])]
    [-0.484, 4.484]
    """
    n, mean = len(values), sum(values) / len(values)
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)
    reach = t_quantile(n - 1) * spread
    return mean - reach, mean + reach


def t_quantile(freedom: int) -> float:
    """97.5 % quantile of Student's t. Beyond 10 degrees of freedom by Fisher's expansion around the normal one, to 4 digits.

    >>> round(t_quantile(2), 3), round(t_quantile(30), 3)
    (4.303, 2.042)
    """
    if freedom <= len(_T):
        return _T[freedom - 1]
    z = 1.959964
    terms = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + sum(term / freedom ** (k + 1) for k, term in enumerate(terms))


def item_reach(parts: Sequence[Side], arms: Sequence[Mapping[str, Sequence[Item]]], known: Sequence[Collection[str]]) -> float:
    """Half the width of a 95 % interval that counts items alone, of the mean effect over seeds (one of `arms` and `known` a seed).

    An item moves all arms at once, so what they share cancels out. Each ratio of sums is taken as linear in its items (the delta
    method). Where all items are alike, their spread says nothing and Wilson's interval of none among n stands in.
    """
    variance, n_least = 0.0, 0
    for by_arm, taught in zip(arms, known, strict=True):
        moves: dict[str, float] = defaultdict(float)  # what each item adds to the effect, beyond its share of it
        applied = []
        for side in parts:
            counts = [(i.id, *METRICS[side.metric].count(i, taught)) for i in by_arm[side.arm] if i.condition in side.conditions]
            total = sum(n for _, _, n in counts)
            ratio = sum(value for _, value, _ in counts) / total
            for name, value, n in counts:
                moves[name] += side.weight * (value - ratio * n) / total
            applied.append(sum(n > 0 for _, _, n in counts))
        variance += sum(move * move for move in moves.values())
        n_least += min(applied)
    error = math.sqrt(variance) / len(arms)
    return Z95 * error if error > 1e-9 else wilson(0, n_least)[1]


def _around(mean: float, reach: float) -> tuple[float, float]:
    return mean - reach, mean + reach


def _number(side: Side, items: Sequence[Item], known: Collection[str]) -> float | None:
    return value_of(side.metric, [item for item in items if item.condition in side.conditions], known)


def _sum(parts: Sequence[Side], numbers: Sequence[float | None]) -> float | None:
    if any(number is None for number in numbers):
        return None
    return sum(side.weight * number for side, number in zip(parts, numbers, strict=True) if number is not None)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
