"""What honest work and tricks earn under each preset, and what each of our differences from the paper's reward changes.

Run: python benchmarks/reward_differences.py
Every line is a trajectory whose code really ran in the sandbox. docs/REWARD.md holds what this prints, and a test compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from PIL import Image

from codevision_lite.agent import AgentLimits, run_episode
from codevision_lite.models import ScriptedModel
from codevision_lite.protocol import render_reply
from codevision_lite.records import Sample, ToolCall, Trajectory
from codevision_lite.reward import RewardConfig, score, score_group
from codevision_lite.sandbox import Sandbox

WIDTH, HEIGHT = 400, 300
TARGET = (200, 120, 280, 150)
TURNED = (120, 120, 150, 200)  # the target once the picture is turned by 90 degrees
PRESETS = ("paper", "dense", "no_strategy", "no_penalty", "outcome_only")
TEXT = "The platform is closed to all trains"
PAPER, DENSE = RewardConfig.preset("paper"), RewardConfig.preset("dense")

LIST_OF_OPS = "# rotate(90) rotate(180) rotate(270) ImageOps.flip ImageOps.mirror crop((200, 120, 280, 150))\n"
ALL_ROTATIONS = "turned = [image.rotate(angle, expand=True) for angle in (90, 180, 270)]\nresult = turned[0]"
NOTHING_DONE = "from PIL import ImageEnhance\nresult = ImageEnhance.Contrast(image).enhance(1.0)"
CONTRAST = "from PIL import ImageEnhance\nresult = ImageEnhance.Contrast(image).enhance(1.8)"
CRASH = "result = picture.rotate(90)"


def rotate(angle: int) -> str:
    return f"result = image.rotate({angle}, expand=True)"


def crop(box: Sequence[int]) -> str:
    return f"result = image.crop({tuple(box)})"


def grown(box: Sequence[int], dx: int, dy: int) -> tuple[int, ...]:
    return box[0] - dx, box[1] - dy, box[2] + dx, box[3] + dy


@dataclass(frozen=True)
class Behaviour:
    """What a model does: the code of each turn, and its answer ("F7" is right). `on`: the picture that each turn starts from."""

    required: tuple[str, ...]
    codes: tuple[str, ...] = ()
    answer: str | None = "F7"
    on: int | None = 0  # always this picture; None: the latest
    description: str = ""
    wanted: str = "F7"
    beside: int = 0  # rollouts of the same prompt that answer wrongly at once


R, C, RC = ("rotate_90",), ("crop",), ("rotate_90", "crop")
BEHAVIOURS = {
    "rotate: one right rotation": Behaviour(R, (rotate(90),)),
    "rotate: all three rotations in one block": Behaviour(R, (ALL_ROTATIONS,)),
    "rotate: brute force over three turns": Behaviour(R, (rotate(270), rotate(180), rotate(90))),
    "rotate: wrong direction, then the right one": Behaviour(R, (rotate(270), rotate(90))),
    "rotate: operations in a comment, wrong answer": Behaviour(R, (LIST_OF_OPS + "result = image",), "no"),
    "rotate: right rotation, no answer at all": Behaviour(R, (rotate(90),), None),
    "rotate: right rotation, wrong answer": Behaviour(R, (rotate(90),), "no"),
    "rotate: right answer at once": Behaviour(R),
    "rotate: wrong answer at once": Behaviour(R, (), "no"),
    "none: right answer at once": Behaviour(()),
    "none: two enhancements by 1.0": Behaviour((), (NOTHING_DONE, NOTHING_DONE)),
    "none: one visible enhancement": Behaviour((), (CONTRAST,)),
    "none: a needless rotation": Behaviour((), (rotate(90),)),
    "none: needless pictures and a repaired error": Behaviour((), (rotate(90), CRASH, CONTRAST, rotate(180))),
    "none: one lucky contrast among eight rollouts": Behaviour((), (CONTRAST,), beside=7),
    "none: a long text with one misread letter": Behaviour((), (), f"{TEXT[:-6]}trians", wanted=TEXT),
    "crop: the target exactly": Behaviour(C, (crop(TARGET),)),
    "crop: four times the area around it": Behaviour(C, (crop(grown(TARGET, 40, 15)),)),
    "crop: half of the target exactly": Behaviour(C, (crop((200, 120, 240, 150)),)),
    "crop: three windows that close in": Behaviour(C, (crop((100, 50, 380, 250)), crop((160, 90, 320, 180)), crop(TARGET))),
    "crop: a strip with the target in it": Behaviour(C, (crop((0, 100, 400, 170)),)),
    "crop: nearly the whole picture": Behaviour(C, (crop((10, 10, 390, 290)),)),
    "crop: a corner far from the target": Behaviour(C, (crop((0, 0, 60, 40)),)),
    "crop: the box in the description only": Behaviour(C, ("result = image",), description="crop((200, 120, 280, 150))"),
    "crop: the target, and a needless rotation": Behaviour(C, (crop(TARGET), rotate(90))),
    "crop: right answer at once": Behaviour(C),
    "both: rotation, then crop": Behaviour(RC, (rotate(90), crop(TURNED)), on=None),
    "both: crop, then rotation": Behaviour(RC, (crop(TARGET), rotate(90)), on=None),
    "both: with one repaired error": Behaviour(RC, (rotate(90), CRASH, crop(TURNED)), on=None),
    "both: with two repaired errors": Behaviour(RC, (CRASH, rotate(90), CRASH, crop(TURNED)), on=None),
    "both: rotation and a guess": Behaviour(RC, (rotate(90),)),
    "both: all tools right, wrong answer": Behaviour(RC, (rotate(90), crop(TURNED)), "no", on=None),
}

# What differs -> the fields of RewardConfig, and a behaviour that shows it.
DIFFERENCES = {
    "weight of tools, and half of it for wrong answers": (("must_use", "wrong_share"), "both: all tools right, wrong answer"),
    "completion bonus 0.2": (("completion",), "both: rotation, then crop"),
    "wrong tries share the orientation's budget": (("divide_by_tries",), "rotate: brute force over three turns"),
    "search within one run": (("exhaustive", "divide_by_tries"), "rotate: all three rotations in one block"),
    "F2 with a free margin in place of IoU": (("crop_measure",), "crop: four times the area around it"),
    "crops pay beyond the untouched picture": (("crop_over_baseline",), "crop: nearly the whole picture"),
    "turning and cropping commute": (("strict_order",), "both: crop, then rotation"),
    "a repaired error is no wasted turn": (("excuse_retries",), "both: with two repaired errors"),
    "nor is a window that closes in": (("excuse_zooms",), "crop: three windows that close in"),
    "a wide crop is not irrelevant": (("spare_wide_crops",), "crop: a strip with the target in it"),
    "irrelevant crop costs 0.2": (("poor_reasoning",), "crop: a corner far from the target"),
    "needless orientation on crop items": (("only_without_tools",), "crop: the target, and a needless rotation"),
    "economy: 0.05 for each needless turn": (("economy",), "none: one visible enhancement"),
    "no bonus for any visible edit": (("emergent",), "none: one visible enhancement"),
    "necessity needs two rollouts on each side": (("min_side", "emergent"), "none: one lucky contrast among eight rollouts"),
    "tools without an answer earn nothing": (("strategy_needs_answer",), "rotate: right rotation, no answer at all"),
    "relief: tools cannot sink a right answer": (("relief",), "none: needless pictures and a repaired error"),
    "long texts are graded": (("graded",), "none: a long text with one misread letter"),
}


def main() -> int:
    with Sandbox(mode="inline") as sandbox:
        runs = {name: play(sandbox, behaviour) for name, behaviour in BEHAVIOURS.items()}
    print(f"{'behaviour':<48}" + "".join(f"{name:>13}" for name in PRESETS))
    for name, behaviour in BEHAVIOURS.items():
        print(f"{name:<48}" + "".join(f"{total(runs[name], behaviour, RewardConfig.preset(p)):>13.2f}" for p in PRESETS))
    print(f"\n{'difference from the paper':<51}{'shown by':<48}{'paper':>7}{'dense':>7}{'without':>9}")
    for title, (names, shown) in DIFFERENCES.items():
        values = [total(runs[shown], BEHAVIOURS[shown], config) for config in (PAPER, DENSE, undone(names))]
        print(f"{title:<51}{shown:<48}{values[0]:>7.2f}{values[1]:>7.2f}{values[2]:>9.2f}")
    missing = differing() - {name for names, _ in DIFFERENCES.values() for name in names}
    if missing:
        print(f"not shown: {', '.join(sorted(missing))}")
    return int(bool(missing))


def task(behaviour: Behaviour) -> Sample:
    target = tuple(map(float, TARGET)) if behaviour.required else None
    return Sample("s", "What is written?", picture(), (behaviour.wanted,), behaviour.required, target)


def picture() -> Image.Image:
    """A coarse pattern without symmetry."""
    small = Image.new("RGB", (20, 15))
    small.putdata([(x * 12 % 256, y * 40 % 256, (x * y * 7 + x) % 256) for y in range(15) for x in range(20)])
    return small.resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)


def play(sandbox: Sandbox, behaviour: Behaviour) -> Trajectory:
    """The trajectory of the agent loop with a model that says what the behaviour is."""
    replies, n_pictures = [], 1
    for code in behaviour.codes:
        source = n_pictures - 1 if behaviour.on is None else behaviour.on
        replies.append(render_reply("I use the tool.", ToolCall(code, behaviour.description, source)))
        n_pictures += code != CRASH
    if behaviour.answer is not None:
        replies.append(render_reply("I can read it.", answer=behaviour.answer))
    limits = AgentLimits(max_turns=len(replies) if behaviour.answer is not None else len(replies) + 2)
    if behaviour.answer is None:
        replies += ["I stop here.", "I stop here."]
    return run_episode(ScriptedModel(replies), sandbox, task(behaviour), limits)


def total(trajectory: Trajectory, behaviour: Behaviour, config: RewardConfig) -> float:
    sample = task(behaviour)
    if not behaviour.beside:
        return score(sample, trajectory, config).total
    wrong = replace(trajectory, turns=trajectory.turns[-1:], images=trajectory.images[:1], answer="no")
    return score_group(sample, [trajectory, *[wrong] * behaviour.beside], config)[0].total


def undone(names: Sequence[str]) -> RewardConfig:
    """Dense, with the paper's choice for some of its fields."""
    return replace(DENSE, **{name: getattr(PAPER, name) for name in names})


def differing() -> set[str]:
    return {field.name for field in fields(RewardConfig) if getattr(PAPER, field.name) != getattr(DENSE, field.name)}


if __name__ == "__main__":
    raise SystemExit(main())
