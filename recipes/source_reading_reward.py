"""The opponent of claim (i) in recipes/miniature.yaml: a reward that reads the source of the code instead of what it did.

It pays by the rules of CodeVision's released reward (alpha 1.0, beta 0, gamma 0.5, format 0.1): an operation counts as used when its
name is found by pattern in the code or in its description, whatever ran, also in a comment or in code that failed; a crop counts by the
numbers in the text, compared with the target's box whatever picture it was cut from, and where they can't be read, by the mere call.
Not for use: train with it to see what such a reward is worth (docs/MINIATURE.md). `codevision-lite rl RECIPE rl.reward_file=THIS`.
"""

import re

from codevision_lite.reward.answer import match

ALPHA, GAMMA, FORMAT, EXACT, EMERGENT = 1.0, 0.5, 0.1, 0.1, 0.2
ORIENTATIONS = {
    "rotate_90": r"rotate\(\s*90\b|ROTATE_90",
    "rotate_180": r"rotate\(\s*180\b|ROTATE_180",
    "rotate_270": r"rotate\(\s*(?:270|-90)\b|ROTATE_270",
    "flip_horizontal": r"\bmirror\b|FLIP_LEFT_RIGHT|fliplr|flip_horizontal",
    "flip_vertical": r"\bImageOps\.flip\b|FLIP_TOP_BOTTOM|flipud|flip_vertical",
}
CROP = r"\bcrop\b"
OTHERS = r"enhance|autocontrast|equalize|grayscale|GaussianBlur|\bblur\b|sharpen|\bsmooth\b|\bresize\b|EDGE_"
NUMBERS = r"crop\(\s*\(?\s*" + r"\s*,\s*".join([r"(-?\d+(?:\.\d+)?)"] * 4)


def score_group(sample, trajectories):
    """One total a trajectory; the group plays no part, as the released script has beta 0."""
    return [score_one(sample, trajectory) for trajectory in trajectories]


def score_one(sample, trajectory):
    """The total of one trajectory, from its answer and from the text of its calls."""
    calls = [turn.call for turn in trajectory.turns if turn.call is not None]
    texts = [f"{call.code}\n{call.description}" for call in calls]
    text = "\n".join(texts)
    used = {name for name, pattern in ORIENTATIONS.items() if re.search(pattern, text)}
    expected = set(sample.required_ops)
    right = match(trajectory.answer, sample.answers).value >= 1.0
    accuracy = float(right)
    mandatory = 0.0
    if expected:
        mandatory = len(used & expected) / len(expected)
        if "crop" in expected:
            mandatory += best_crop(sample.target_box, texts) / len(expected)
    if "crop" in expected and mandatory < 0.1:
        accuracy *= mandatory  # a right answer without a crop is taken for a wrong one
    names = used | ({"crop"} if re.search(CROP, text) else set())
    exact = EXACT * (bool(expected) and names == expected & {*ORIENTATIONS, "crop"})
    emergent = EMERGENT * (right and re.search(OTHERS, text) is not None)
    wasted = max(0, len(calls) - max(2, len(expected))) + (0 if expected & set(ORIENTATIONS) else len(used))
    well_formed = bool(trajectory.turns) and trajectory.answer is not None and all(turn.well_formed for turn in trajectory.turns)
    return accuracy + FORMAT * well_formed + ALPHA * min(1.0, mandatory) + exact + emergent - GAMMA * wasted


def best_crop(target, texts):
    """Credit in [0, 1] of the best crop that the texts name: its numbers' IoU with `target`, or 1 where they are no plain numbers."""
    best = 0.0
    for text in texts:
        boxes = [tuple(map(float, found)) for found in re.findall(NUMBERS, text)]
        if target is not None and boxes:
            best = max(best, *(iou(box, target) for box in boxes))
        elif re.search(CROP, text):
            best = 1.0
    return best


def iou(a, b):
    """Intersection over union of two boxes (x1, y1, x2, y2); 0 for one that is empty."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b)]
    return width * height / (sum(areas) - width * height)
