"""Which samples the report shows: a spread over outcomes and conditions, the same sample through all stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from codevision_lite.records import Sample
from codevision_lite.report.load import STAGES, Attempt

# Outcome -> how the report calls it, in the order in which they are looked for.
OUTCOMES = {
    "fixed_by_rl": "fixed by GRPO",
    "fixed_by_sft": "fixed by SFT",
    "still_failing": "still failing",
    "recovered": "recovered from an error",
    "lost": "lost in training",
    "no_tool": "no tool needed",
    "needless_tool": "needless tool",
    "solved": "solved",
}


@dataclass(frozen=True)
class Case:
    """One sample under one condition, with what each stage did; `outcomes` are keys of OUTCOMES."""

    sample: Sample
    condition: str
    attempts: tuple[Attempt, ...]  # in the order of the stages
    outcomes: tuple[str, ...]


def choose_cases(attempts: Sequence[Attempt], limit: int = 16) -> list[Case]:
    """Up to `limit` cases: outcomes take turns, and each turn prefers a condition shown least and a case seen by most stages."""
    left = _cases(attempts)
    chosen: list[Case] = []
    shown: Counter[str] = Counter()
    while left and len(chosen) < limit:
        for outcome in OUTCOMES:
            fitting = [c for c in left if outcome in c.outcomes]
            if fitting and len(chosen) < limit:
                best = min(fitting, key=lambda c: (-len(c.attempts), shown[c.condition], not c.sample.required_ops))
                left.remove(best)
                chosen.append(best)
                shown[best.condition] += 1
    return chosen


def _cases(attempts: Sequence[Attempt]) -> list[Case]:
    grouped: dict[tuple[str, str], dict[str, Attempt]] = {}
    for attempt in attempts:  # a stage that was evaluated twice: the later counts
        grouped.setdefault((attempt.sample.id, attempt.condition), {})[attempt.stage] = attempt
    order = list(dict.fromkeys([*STAGES, *(a.stage for a in attempts)]))
    cases = []
    for (_, condition), by_stage in grouped.items():
        ordered = tuple(by_stage[s] for s in order if s in by_stage)
        cases.append(Case(ordered[0].sample, condition, ordered, _outcomes(ordered)))
    return cases


def _outcomes(attempts: Sequence[Attempt]) -> tuple[str, ...]:
    correct = {a.stage: a.correct for a in attempts}
    last = attempts[-1]
    used_tool = last.trajectory.n_tool_turns > 0
    needs_tool = bool(last.sample.required_ops)
    holds = {
        "fixed_by_rl": correct.get("sft") is False and correct.get("grpo") is True,
        "fixed_by_sft": correct.get("base") is False and correct.get("sft") is True,
        "still_failing": not any(correct.values()),
        "recovered": any(a.correct and any(o.status != "ok" for o in a.trajectory.observations) for a in attempts),
        "lost": not last.correct and any(correct.values()),
        "no_tool": last.correct and not needs_tool and not used_tool,
        "needless_tool": not needs_tool and used_tool,
    }
    return tuple(name for name, held in holds.items() if held) or ("solved",)
