"""The terms of the dense reward: one pure function each, from Evidence to Score(value, reason). Weights live in
dense.py.

Ranges are [0, 1] everywhere; penalties are positive here and weighed negatively there. Sections are those of the
CodeVision paper (arXiv 2512.03746), 4.2: outcome, strategy, constraint penalties; `# differs:` marks where the default
deviates, and why.
"""

from __future__ import annotations

from collections.abc import Sequence

from codevision_lite.geometry import Overlap, compose_ops
from codevision_lite.reward.answer import Score
from codevision_lite.reward.evidence import Evidence, tail

MAX_EXCUSED = 2  # failed turns that a retry excuses; more, and guessing at the interface would be free
MAX_ZOOMS = 2  # steps of a zoom that are not wasted turns; more, and shrinking a window bit by bit would be free
MARGIN = 2.0  # a window of up to this many times the target's area is as good as one without a margin
_CROP_FLOOR = 0.1  # overlap below which a crop shows nothing in particular (the paper's own limit for an irrelevant crop)
_MIN_GAIN = 0.1  # of the crop budget: less is a shaved margin
_GOOD_CROP = 0.5  # share of the crop budget from which the step counts as done


def accuracy(evidence: Evidence, *, graded: bool = True) -> Score:
    """Outcome: is the final answer right? [0, 1], from answer.py; None where a judge was needed and failed.

    Source: 4.2, where it is 0 or 1 (`graded` False).
    # differs: a long transcription with a misread letter keeps its similarity (0.85 to 1) where the paper rounds.
    """
    value = evidence.accuracy
    return Score(value if graded or value is None else float(evidence.right), evidence.accuracy_reason)


def format_(evidence: Evidence) -> Score:
    """Outcome: every reply follows the protocol and the last one answers; 0 or 1. Source: 4.2 (r_fmt)."""
    if not evidence.answered:
        return Score(0.0, "no final answer")
    return Score(1.0, "well formed") if evidence.well_formed else Score(0.0, "a reply broke the format")


def must_use(evidence: Evidence, *, measure: str = "f2", over_baseline: bool = True, divide_by_tries: bool = True) -> Score:
    """Strategy: share of the required operations that were achieved, each with a budget of 1/N; [0, 1].

    Source: 4.2, must-use tools. Orientation is credited once, by the net orientation of a usable picture relative to
    image 0, so every correct way counts. Crop is credited by the best overlap (see `crop_credit`); only improvements
    pay, so the sum over turns is the best one.
    # differs: the orientation budget is divided by 1 + the number of wrong orientations tried (`divide_by_tries`). The
    paper pays in full for the first correct one, which makes trying all of them, right or wrong answer, worth the whole
    budget.
    """
    required = evidence.sample.required_ops
    if not required:
        return Score(0.0, "nothing is required")
    names = evidence.required_orientations
    judged = [op for op in required if op in names or not _is_orientation(op)]  # orientations may cancel each other out
    if evidence.sample.target_box is None:
        judged = [op for op in judged if op != "crop"]  # no evidence either way
    parts, value = [], 0.0
    if names:
        stage = _stage_reached(evidence, names)
        wrong = evidence.n_wrong_orientations if divide_by_tries else 0
        value += stage / (1 + wrong)
        parts.append(f"orientation {stage}/{len(names)}" + (f" after {wrong} wrong" if wrong else ""))
    if "crop" in judged:
        credit = crop_credit(evidence, measure=measure, over_baseline=over_baseline)
        value += credit.value
        parts.append(credit.reason)
    for op in judged:
        if op != "crop" and op not in names:
            done = _was_applied(evidence, op)
            value += done
            parts.append(f"{op} {'done' if done else 'missing'}")
    return Score(min(1.0, float(value) / len(judged)) if judged else 0.0, ", ".join(parts) or "nothing that can be judged")


def crop_credit(evidence: Evidence, *, measure: str = "f2", over_baseline: bool = True) -> Score:
    """How well the best usable crop shows the target, compared in image 0's frame whatever frame it was cut in; [0, 1].

    `measure`: "iou" is the paper's. "f2", the default, is the F-measure of the same areas with recall weighed above
    precision (beta 2), and a margin of up to twice the target's area free: a crop is made in order to read, so a
    cut-off character ruins it and a margin costs only resolution. A crop of four times the target's area around it gets
    0.83 (IoU: 0.25), half of the target exactly framed 0.56 (IoU: 0.5), a strip of twenty times the area 0.36.
    `over_baseline`: what the untouched picture would get, and at least 0.1, is subtracted and the rest stretched to [0,
    1], so that "crops" of the whole picture earn nothing. Monotone in the overlap.
    """
    crops = [view.overlap for view in evidence.views if view.cropped and view.usable]
    if not crops:
        return Score(0.0, "no usable crop")
    best = max(overlap_value(overlap, measure, _margin(evidence)) for overlap in crops)
    return Score(_gain(evidence, best, measure, over_baseline), f"crop {measure} {best:.2f}")


def overlap_value(overlap: Overlap, measure: str, margin: float = MARGIN) -> float:
    """One number for an overlap, in [0, 1]: "iou", or "f2" = 5PR / (4P + R) with P = min(1, margin x precision).

    >>> round(overlap_value(Overlap(iou=0.25, precision=0.25, recall=1.0), "f2"), 3)
    0.833
    """
    if measure == "iou":
        return overlap.iou
    precision, recall = min(1.0, margin * overlap.precision), overlap.recall
    return 5 * precision * recall / (4 * precision + recall) if recall > 0 else 0.0


def completion(
    evidence: Evidence, *, measure: str = "f2", over_baseline: bool = True, strict_order: bool = False, excuse_zooms: bool = True
) -> Score:
    """Strategy: all required operations, and not one step that was wrong or not needed; 0 or 1.

    Source: 4.2, completion bonus. Without wrong step: no failed run, no wrong orientation, no search, at most one turn
    for each required operation.
    # differs: the paper asks for the required order. Turning and cropping commute - both orders give the same pixels -
    so by default the last picture must be both turned and cropped, and only orientations keep their order (through the
    net one). `strict_order` asks that the crop does not come before the orientation, within a turn or over turns.
    # differs: the windows of a zoom are steps towards the target, not redundant ones (`excuse_zooms`).
    """
    required = evidence.sample.required_ops
    if not required:
        return Score(0.0, "nothing is required")
    if "crop" in required and evidence.sample.target_box is None:
        return Score(0.0, "crop: no target box is known")
    views = [view for view in evidence.views if view.usable]
    if not views:
        return Score(0.0, "no usable picture")
    if evidence.n_failed or evidence.n_wrong_orientations or any(view.exhaustive for view in evidence.views):
        return Score(0.0, "a wrong or failed step")
    turns = evidence.n_turns - (_zooms(evidence) if excuse_zooms else 0)
    if turns > len(required):
        return Score(0.0, f"{turns} turns for {len(required)} operations")
    names = evidence.required_orientations
    turned = [v.turn for v in views if not names or v.net == compose_ops(names)]
    good = [v for v in views if v.cropped and _is_good(evidence, v.overlap, measure, over_baseline)]
    cropped = [v.turn for v in (good if "crop" in required else views)]
    missing = [op for op in required if op != "crop" and not _is_orientation(op) and not _was_applied(evidence, op)]
    if missing or not turned or not cropped:
        return Score(0.0, "not all required operations")
    if strict_order:
        swapped = turned[0] > cropped[0] or (names and "crop" in required and any(v.crop_first for v in views))
        return Score(0.0, "another order") if swapped else Score(1.0, "complete, in order")
    last = views[-1].turn
    return Score(1.0, "complete") if last in turned and last in cropped else Score(0.0, "the last picture lacks one")


def suggested(evidence: Evidence, group: Sequence[Evidence] | None, *, min_side: int = 2) -> Score:
    """Strategy: did optional tools help on this prompt? How much more accurate those who used them are; [0, 1].

    Paid to right answers that used an effective optional tool, when the tool group is the more accurate and the other
    one is right at most once. Source: 4.2, suggested tools.
    # differs: both sides need `min_side` rollouts (the paper: 1), since one lucky rollout against none shows nothing.
    """
    if group is None or len(group) < 2:
        return Score(0.0, "no group to compare with")
    judged = [other for other in group if other.accuracy is not None]
    with_tool = [float(other.right) for other in judged if other.optional_tools]
    without = [float(other.right) for other in judged if not other.optional_tools]
    if len(with_tool) < min_side or len(without) < min_side:
        return Score(0.0, f"{len(with_tool)} rollouts with and {len(without)} without optional tools")
    gain = sum(with_tool) / len(with_tool) - sum(without) / len(without)
    if gain <= 0 or sum(without) > 1:
        return Score(0.0, f"tools are not necessary here (gain {gain:+.2f}, {sum(without):.0f} right without)")
    if not (evidence.right and evidence.optional_tools):
        return Score(0.0, "tools help here; not used, or not right")
    return Score(gain, f"{', '.join(evidence.optional_tools)}: gain {gain:+.2f} in the group")


def emergent(evidence: Evidence) -> Score:
    """Strategy: a right answer with an optional tool that had an effect; 0 or 1. Source: 4.2 and the released reward.

    A photometric operation counts when it changed the picture measurably, a geometric one when it rescaled or narrowed
    it.
    """
    if not evidence.optional_tools:
        return Score(0.0, "no effective optional tool")
    return Score(float(evidence.right), ", ".join(evidence.optional_tools))


def turn_limit(evidence: Evidence, *, excuse_retries: bool = True, excuse_zooms: bool = True) -> Score:
    """Penalty: more tool turns than |S| + 1; 0 or 1. Source: 4.2 (i).

    # differs: a failed turn that a successful one follows is not counted (at most 2, and only where tools are
    required): the error was reported, and repairing it is what the model should learn. Nor are the coarser windows of a
    zoom (at most 2): the paper's own multi-crop data would be punished.
    """
    turns = evidence.n_turns - (excused(evidence) if excuse_retries else 0) - (_zooms(evidence) if excuse_zooms else 0)
    limit = len(evidence.sample.required_ops) + 1
    return Score(float(turns > limit), f"{turns} of {limit} turns")


def economy(evidence: Evidence) -> Score:
    """Penalty: tool turns beyond |S|, retries excused; 0 for none to 1 for four or more. Not in the paper.

    A tie-break below the turn limit: where nothing is required, answering at once must beat any look first.
    """
    beyond = max(0, evidence.n_turns - excused(evidence) - len(evidence.sample.required_ops))
    return Score(min(1.0, beyond / 4), f"{beyond} turns more than required")


def excused(evidence: Evidence) -> int:
    """Failed turns that do not count as wasted."""
    return min(MAX_EXCUSED, evidence.n_retried) if evidence.sample.required_ops else 0


def _zooms(evidence: Evidence) -> int:
    """Windows of a zoom that do not count as wasted; only where a crop is required."""
    return min(MAX_ZOOMS, evidence.n_zooms) if "crop" in evidence.sample.required_ops else 0


def poor_reasoning(evidence: Evidence, *, spare_wide: bool = True) -> Score:
    """Penalty: a right answer although no crop shows the target (IoU < 0.1); 0 or 1. Source: 4.2 (ii).

    A right answer without any crop is not concerned: the released code treats it as wrong, the paper does not say.
    # differs: a wide crop that contains at least half of the target is lazy, not irrelevant (`spare_wide`); it earns no
    credit.
    """
    crops = [view for view in evidence.views if view.cropped]
    if evidence.sample.target_box is None or not crops or not evidence.right:
        return Score(0.0, "no crop behind a right answer")
    best = max(view.overlap.iou for view in crops)
    shows = spare_wide and any(view.overlap.recall >= 0.5 for view in crops)
    return Score(float(best < 0.1 and not shows), f"best crop IoU {best:.2f}")


def inappropriate(evidence: Evidence, *, only_without_tools: bool = False) -> Score:
    """Penalty: an orientation operation although the picture is upright; 0 or 1. Source: 4.2 (iii).

    # differs: the paper looks at samples that require nothing; by default those that require only a crop are upright as
    well.
    """
    needless = not evidence.sample.required_ops if only_without_tools else not evidence.required_orientations
    used = needless and any(view.oriented for view in evidence.views)
    return Score(float(used), "orientation used without need" if used else "none")


def exhaustive(evidence: Evidence) -> Score:
    """Penalty: one piece of code that goes through several orientations; 0 or 1. Not in the paper, whose turn limit it evades."""
    searched = any(view.exhaustive for view in evidence.views)
    return Score(float(searched), "several orientations in one run" if searched else "none")


def relief(evidence: Evidence, cost: float, largest: float, free_cost: float, share: float) -> Score:
    """What a right answer gets back of what its tools cost it, as a share of `largest`, the cost of all penalties; [0, 1].

    `cost`: penalties less tool credit. Up to `free_cost` it counts in full, of the rest only 1 - `share`: enough that
    less waste always earns more, and too little to push a right answer below a wrong one. Not in the paper.
    """
    back = share * (cost - free_cost)
    if not evidence.right or back <= 0 or largest <= 0:
        return Score(0.0, "nothing to give back")
    return Score(min(1.0, back / largest), f"tools cost {cost:.2f}, {back:.2f} given back: the answer is right")


def _stage_reached(evidence: Evidence, names: tuple[str, ...]) -> int:
    """How many of the required orientations, in order, some usable picture has behind it; the longest prefix counts."""
    nets = {view.net for view in evidence.views if view.usable}
    for k in range(len(names), 0, -1):
        net = compose_ops(names[:k])
        if net != "identity" and net in nets:
            return k
    return 0


def _margin(evidence: Evidence) -> float:
    """The free margin: less for a target that fills much of the picture, so that the untouched picture is no good crop of it."""
    whole = evidence.whole.precision
    return max(1.0, min(MARGIN, 1.0 / (MARGIN * whole))) if whole > 0 else MARGIN


def _gain(evidence: Evidence, overlap: float, measure: str, over_baseline: bool) -> float:
    """What an overlap adds to that of the untouched picture, stretched to [0, 1]."""
    if not over_baseline:
        return overlap
    floor = min(0.999, max(_CROP_FLOOR, overlap_value(evidence.whole, measure, _margin(evidence))))
    gain = (overlap - floor) / (1.0 - floor)
    return min(1.0, gain) if gain >= _MIN_GAIN else 0.0


def _is_good(evidence: Evidence, overlap: Overlap, measure: str, over_baseline: bool) -> bool:
    return _gain(evidence, overlap_value(overlap, measure, _margin(evidence)), measure, over_baseline) >= _GOOD_CROP


def _is_orientation(name: str) -> bool:
    return name.startswith(("rotate_", "flip_")) or name in ("transpose", "transverse", "identity")


def _was_applied(evidence: Evidence, op: str) -> bool:
    return any(op in (name, tail(name)) for view in evidence.views for name in view.effective)
