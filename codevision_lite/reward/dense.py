"""Weights, presets and the breakdown: how the terms become one number.

Every term is computed and logged whatever its weight; weight 0 means logged only. Does not read trajectories
(evidence.py) and does not define terms (terms.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from codevision_lite.errors import UserError
from codevision_lite.records import Sample, Trajectory
from codevision_lite.reward import terms
from codevision_lite.reward.answer import Score, match
from codevision_lite.reward.evidence import MIN_CHANGE, Evidence, collect
from codevision_lite.reward.judge import Judge

PRESETS = ("dense", "paper", "outcome_only", "no_strategy", "no_penalty", "curriculum")


@dataclass(frozen=True)
class RewardConfig:
    """Weights (all >= 0; penalties are subtracted) and the few switches between the paper's rules and ours.

    The defaults are "dense". A right answer beats a wrong one whatever was done with tools: wrong ones keep half of the
    tool credit and end at 0.1 + 0.4 at most, and needless or wrong steps cost a right one at most 0.46 of its 1.0. The
    paper's weights let perfect tools with a wrong answer beat a direct right one (1.2 to 1.1). docs/REWARD.md has the reasons.
    """

    accuracy: float = 1.0
    format: float = 0.1  # paper, 5.3
    must_use: float = 0.6  # paper: 1.0
    completion: float = 0.2  # the paper gives no number; released code: 0.1
    suggested: float = 0.2  # paper, 5.3
    emergent: float = 0.0  # released code: 0.2, which makes any edit of the picture a bonus; `suggested` asks whether it helped
    turn_limit: float = 0.5  # paper, 5.3
    poor_reasoning: float = 0.2  # paper: 0.5, which makes a missed crop dearer than none and ends the exploration of crops
    inappropriate: float = 0.5  # paper, 5.3
    exhaustive: float = 0.5  # as the turn limit that it stands in for
    economy: float = 0.2  # 0.05 for each needless turn: decides ties, never more
    wrong_share: float = 0.5  # share of tool credit (must_use, completion) that a wrong answer keeps; the paper's 1.0
    free_cost: float = 0.3  # what tools may cost a right answer in full ...
    relief: float = 0.9  # ... and the share of any cost beyond it that is given back; 0: the paper's
    crop_measure: str = "f2"  # "iou": the paper's
    crop_over_baseline: bool = True  # False: the overlap itself, also of a crop of nearly everything
    divide_by_tries: bool = True  # wrong orientations tried share the budget
    strict_order: bool = False  # True: the paper's; cropping before turning loses the completion bonus
    excuse_retries: bool = True  # a failed turn that was repaired is not a wasted one
    excuse_zooms: bool = True  # nor are windows that close in on the target
    graded: bool = True  # a long transcription with a slip counts in part; False: right or wrong
    spare_wide_crops: bool = True  # a wide crop around the target is not "irrelevant"
    only_without_tools: bool = False  # True: `inappropriate` only where nothing at all is required
    strategy_needs_answer: bool = True  # tools without a final answer earn nothing
    min_side: int = 2  # rollouts with and without tools that `suggested` needs
    min_change: float = MIN_CHANGE  # mean absolute change from which an operation had an effect
    tolerance: float = 0.0  # relative, for numbers; a sample's meta["tolerance"] wins

    def __post_init__(self) -> None:
        if self.crop_measure not in ("f2", "iou"):
            raise UserError(f"crop_measure={self.crop_measure!r}: use 'f2' or 'iou'")

    @classmethod
    def preset(cls, name: str, progress: float = 0.0) -> RewardConfig:
        """A named configuration; `progress` in [0, 1] (share of the steps done) matters for "curriculum" only.

        Raises UserError for an unknown name.
        """
        changes = _CHANGES.get(name)
        if changes is None and name != "curriculum":
            near = get_close_matches(name, PRESETS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(PRESETS)}"
            raise UserError(f"unknown reward preset {name!r}: {hint}")
        return _curriculum(progress) if changes is None else cls(**changes)


@dataclass(frozen=True)
class Term:
    """One part of a reward: it adds value * weight."""

    value: float | None  # [0, 1]; None: the judge failed
    weight: float  # negative for penalties; 0: logged only
    reason: str


@dataclass(frozen=True)
class Breakdown:
    """A reward and where it comes from: `total` is the sum of value x weight over its terms.

    `total` is None where a term with weight is unknown, or is no finite number: leave the sample out.
    """

    total: float | None
    terms: dict[str, Term]

    def to_json(self) -> dict[str, Any]:
        return {"total": self.total, "terms": {name: vars(term) for name, term in self.terms.items()}}


def score(
    sample: Sample,
    trajectory: Trajectory,
    config: RewardConfig | None = None,
    group: Sequence[Trajectory] | None = None,
    judge: Judge | None = None,
) -> Breakdown:
    """Score one trajectory.

    `group`: all rollouts of the prompt, this one included, for the group term; None leaves it at 0. The sample's meta
    may hold "answer_rule", "choices" and "tolerance" for the answer (see answer.match). For a whole group,
    `score_group` does the work once. Source: 4.2, R = R_outcome + strategy - penalties.
    """
    config = config or RewardConfig()
    evidence = _evidence(sample, trajectory, config, judge)
    others = None if group is None else [_evidence(sample, other, config, judge) for other in group]
    return _breakdown(evidence, others, config)


def score_group(
    sample: Sample, trajectories: Sequence[Trajectory], config: RewardConfig | None = None, judge: Judge | None = None
) -> list[Breakdown]:
    """Score all rollouts of one prompt; the order of the results is theirs."""
    config = config or RewardConfig()
    group = [_evidence(sample, trajectory, config, judge) for trajectory in trajectories]
    return [_breakdown(evidence, group, config) for evidence in group]


def _evidence(sample: Sample, trajectory: Trajectory, config: RewardConfig, judge: Judge | None) -> Evidence:
    answer, meta = trajectory.answer, sample.meta
    verdict: Score | None = match(
        answer,
        sample.answers,
        rule=meta.get("answer_rule", "auto"),
        choices=meta.get("choices", ()),
        tolerance=meta.get("tolerance", config.tolerance),
    )
    if judge is not None and answer and answer.strip() and verdict.value < 1.0:
        verdict = judge(sample.question, answer, sample.answers)
    value, reason = (None, "the judge failed") if verdict is None else (verdict.value, verdict.reason)
    return collect(sample, trajectory, value, reason, config.min_change)


def _breakdown(evidence: Evidence, group: Sequence[Evidence] | None, config: RewardConfig) -> Breakdown:
    c = config
    crop = {"measure": c.crop_measure, "over_baseline": c.crop_over_baseline}
    must_use = terms.must_use(evidence, **crop, divide_by_tries=c.divide_by_tries)
    completion = terms.completion(evidence, **crop, strict_order=c.strict_order, excuse_zooms=c.excuse_zooms)
    if c.strategy_needs_answer and not evidence.answered:
        must_use = completion = Score(0.0, "no final answer")
    share = 1.0 if evidence.right else c.wrong_share
    outcome = {"accuracy": (terms.accuracy(evidence, graded=c.graded), c.accuracy), "format": (terms.format_(evidence), c.format)}
    tools = {
        "must_use": (must_use, c.must_use * share),
        "completion": (completion, c.completion * share),
        "suggested": (terms.suggested(evidence, group, min_side=c.min_side), c.suggested),
        "emergent": (terms.emergent(evidence), c.emergent),
        "turn_limit": (terms.turn_limit(evidence, excuse_retries=c.excuse_retries, excuse_zooms=c.excuse_zooms), -c.turn_limit),
        "poor_reasoning": (terms.poor_reasoning(evidence, spare_wide=c.spare_wide_crops), -c.poor_reasoning),
        "inappropriate": (terms.inappropriate(evidence, only_without_tools=c.only_without_tools), -c.inappropriate),
        "exhaustive": (terms.exhaustive(evidence), -c.exhaustive),
        "economy": (terms.economy(evidence), -c.economy),
    }
    cost = -sum(part.value * weight for part, weight in tools.values())
    largest = sum(-weight for _, weight in tools.values() if weight < 0) if c.relief else 0.0
    rows = outcome | tools | {"relief": (terms.relief(evidence, cost, largest, c.free_cost, c.relief), largest)}
    unknown = any(part.value is None and weight for part, weight in rows.values())
    total = math.nan if unknown else sum(part.value * weight for part, weight in rows.values() if weight)
    parts = {name: Term(part.value, weight, part.reason) for name, (part, weight) in rows.items()}
    return Breakdown(float(total) if math.isfinite(total) else None, parts)


def _curriculum(progress: float) -> RewardConfig:
    """Tool terms first, then outcome, with a short cross-fade around the middle.

    Source: the two stages of ToolsRL (arXiv 2604.19945), where tool and answer rewards together did worse than either
    order.
    """
    outcome = min(1.0, max(0.0, (progress - 0.45) / 0.1))
    dense = RewardConfig()
    tools = 1.0 - outcome
    return replace(
        dense, accuracy=outcome, suggested=dense.suggested * outcome, must_use=tools, completion=dense.completion * tools,
        wrong_share=1.0 - (1.0 - dense.wrong_share) * outcome, relief=dense.relief * outcome,
    )  # fmt: skip


_NO_STRATEGY = {"must_use": 0.0, "completion": 0.0, "suggested": 0.0, "emergent": 0.0}
_NO_PENALTY = {"turn_limit": 0.0, "poor_reasoning": 0.0, "inappropriate": 0.0, "exhaustive": 0.0, "economy": 0.0}
_PAPER = {
    "must_use": 1.0, "completion": 0.1, "emergent": 0.2, "poor_reasoning": 0.5, "exhaustive": 0.0, "economy": 0.0,
    "crop_measure": "iou",
    "crop_over_baseline": False, "divide_by_tries": False, "strict_order": True, "excuse_retries": False,
    "excuse_zooms": False, "graded": False, "wrong_share": 1.0, "relief": 0.0,
    "spare_wide_crops": False, "only_without_tools": True, "strategy_needs_answer": False, "min_side": 1,
}  # fmt: skip
_CHANGES: dict[str, dict[str, Any]] = {
    "dense": {},
    "paper": _PAPER,
    "outcome_only": _NO_STRATEGY | _NO_PENALTY,
    "no_strategy": _NO_STRATEGY,
    "no_penalty": _NO_PENALTY,
}
