"""Signs that a policy plays for the reward instead of the answer, and the alarm for tool use that dies out.

All from evidence, as the reward itself; nothing here changes a reward. Training logs the rates (train/rollout_metrics.py),
the report shows them (report/monitor.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from codevision_lite.geometry import compose_ops
from codevision_lite.reward.evidence import Evidence, View

# What each sign means, for people: the report prints it.
SIGNS = {
    "brute_force": "of all rollouts: several orientations in one run, or two and more wrong ones over the turns",
    "no_op": "of those that got a picture back: one came back as it was given, not turned, narrowed or measurably changed",
    "missed_crop": "of those that cropped, where the target's place is known: no crop shows half of it",
    "unsupported": "of answers after a picture, where tools are required: no picture was upright with the target in view",
    "unsupported_right": "of right answers after a picture, where tools are required: as above, so it was not read there",
    "unread": "of answers after a picture that was upright with the target in view: wrong all the same",
}

TOOL_USE = "rollout/tool_use_where_required"  # the metric that the alarm watches
WINDOW = 8  # steps: some bad batches are no collapse
NEAR_ZERO = 0.05  # of rollouts, on prompts that require tools
FRACTION = 0.4  # of the best window so far; with WINDOW, no alarm over 200 steps of a steady rate of a half and 8 rollouts a step


def signs(evidence: Evidence) -> dict[str, bool | None]:
    """Each of SIGNS for one trajectory; None where it does not apply, which leaves it out of the rate."""
    views, target = evidence.views, evidence.sample.target_box
    crops = [view for view in views if view.cropped]
    judged = bool(views) and evidence.answered and _can_be_judged(evidence)
    supported = any(_shows_what_is_needed(evidence, view) for view in views)
    return {
        "brute_force": evidence.n_wrong_orientations >= 2 or any(view.exhaustive for view in views),
        "no_op": any(view.idle for view in views) if views else None,
        "missed_crop": all(view.overlap.recall < 0.5 for view in crops) if crops and target else None,
        "unsupported": not supported if judged else None,
        "unsupported_right": not supported if judged and evidence.right else None,
        "unread": not evidence.right if judged and supported and evidence.accuracy is not None else None,
    }


def collapse_flags(rates: Sequence[float]) -> list[bool]:
    """For each step, whether tool use has collapsed by then. `rates`: in [0, 1], on prompts that require tools, a step each.

    Collapsed: the mean of the last WINDOW steps is near zero, or below FRACTION of the highest such mean before. A mean
    of several steps, since a batch may hold few such prompts; the highest, since use may rise before it falls.

    >>> collapse_flags([0.9] * 8 + [0.0] * 5)[-2:]
    [False, True]
    """
    flags, best = [], 0.0
    for end in range(1, len(rates) + 1):
        mean = sum(rates[max(0, end - WINDOW) : end]) / WINDOW
        whole = end >= WINDOW
        flags.append(whole and mean < max(NEAR_ZERO, FRACTION * best))
        best = max(best, mean) if whole else best
    return flags


def collapse_alarm(rates: Sequence[float]) -> str | None:
    """What to tell the user after the last step, or None while tool use is well."""
    if not rates or not collapse_flags(rates)[-1]:
        return None
    now = sum(rates[-WINDOW:]) / WINDOW
    start = sum(rates[:WINDOW]) / WINDOW
    return (
        f"tool use is collapsing: {now:.0%} of the rollouts on prompts that need a tool use one (mean of {WINDOW} steps), "
        f"{start:.0%} at the start. Stop, and lower rl.learning_rate or start from an adapter that uses tools"
    )


def _can_be_judged(evidence: Evidence) -> bool:
    return bool(evidence.required_orientations) or ("crop" in evidence.sample.required_ops and evidence.sample.target_box is not None)


def _shows_what_is_needed(evidence: Evidence, view: View) -> bool:
    names, sample = evidence.required_orientations, evidence.sample
    if not view.usable or (names and view.net != compose_ops(names)):
        return False
    in_view = sample.target_box is None or view.overlap.recall >= 0.5
    return in_view and ("crop" not in sample.required_ops or sample.target_box is None or view.cropped)
