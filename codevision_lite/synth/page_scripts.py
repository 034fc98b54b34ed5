"""How pages, charts and photographs are solved: the paper's five trajectory types (section 3.1), in varied words and code.

single tool, multi tool, multi-crop (windows that shrink, one inside the other), error handling (the log is read, the code
repaired, at most two retries) and no tool. Replies that fail are in the dialogue but not in the loss.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field, replace
from typing import Literal

from codevision_lite.damage import parse_damage
from codevision_lite.geometry import ORIENTATIONS, compose_ops, inverse_op
from codevision_lite.protocol import render_reply
from codevision_lite.records import Box, ToolCall
from codevision_lite.synth import phrases
from codevision_lite.synth.code_styles import REMEDIED, PixelBox, crop_code, level_code, orientation_code, remedy_code
from codevision_lite.synth.gold import Item, Script, ScriptedReply
from codevision_lite.synth.scene import VIEW_PIXELS, too_small

TYPES = ("no_tool", "single_tool", "multi_tool", "multi_crop", "error_handling")
_CHAINED = 0.3  # how often turning and cropping are one call
_ZOOMED = 0.4  # how often a crop is enlarged
_SECOND_MISTAKE = 0.15
_MIN_SHRINK = 0.7  # a window of a multi-crop has at most this share of the area of the one before
_MISTAKES = ("syntax", "name", "forgotten", "import")
_CROP_MISTAKES = ("range", "arguments")
_REFUSED = ("import subprocess", "import requests", "import shutil", "import socket", "import urllib.request", "import torch")


class NoScript(ValueError):
    """This item can't be solved the way that was asked for; the message says why."""


@dataclass(frozen=True)
class _View:
    """A picture of the dialogue: which region of the undamaged picture it shows, and how much enlarged."""

    region: PixelBox
    zoom: int = 1

    @property
    def size(self) -> tuple[int, int]:
        x1, y1, x2, y2 = self.region
        return (x2 - x1) * self.zoom, (y2 - y1) * self.zoom


@dataclass(frozen=True)
class _Step:
    """One call: what it does to which picture, with its words and code."""

    thought: str
    code: str
    source: int
    view: _View
    check: Literal["region", "nearer", "level"] | None  # as ScriptedReply.check
    cut: PixelBox | None = None  # of a crop, in pixels of the source (after `before`)
    before: tuple[str, ...] = ()


@dataclass
class _Plan:
    item: Item
    rng: random.Random
    views: list[_View] = field(default_factory=list)  # by image index; image 0 as it will be once turned
    steps: list[_Step] = field(default_factory=list)


def write_script(item: Item, kind: str, rng: random.Random) -> Script:
    """The item solved as a trajectory of type `kind` (of TYPES). Raises NoScript where that is not possible."""
    scene = item.scene
    plan = _Plan(item, rng, [_View((0, 0, *scene.image.size))])
    if kind != "no_tool":
        _plan_repair(plan, kind)
        if "crop" in item.sample.required_ops:
            _plan_crops(plan, kind)
        if not plan.steps:
            raise NoScript("no tool is needed")
    subject = phrases.opening(scene.subject, rng)
    replies = _with_mistakes(plan) if kind == "error_handling" else [_reply(step) for step in plan.steps]
    end = phrases.conclude(scene.evidence, scene.working, scene.answer, bool(plan.steps), rng)
    if not plan.steps:
        parts = [name for name, _ in parse_damage(item.sample.damage)]
        seen = phrases.look(parts[0] if parts else "none", rng)
        end = f"{seen} {end}"
    replies.append(ScriptedReply(render_reply(end, answer=scene.answer)))
    if subject and rng.random() < 0.8:
        replies[0] = replace(replies[0], text=replies[0].text.replace("<think>", f"<think>{subject} ", 1))
    return Script(item, kind, tuple(replies))


def _plan_repair(plan: _Plan, kind: str) -> None:
    """Turn the picture upright, then weaken a corruption."""
    sample, rng = plan.item.sample, plan.rng
    turns = tuple(op for op in sample.required_ops if op != "crop")
    parts = parse_damage(sample.damage)
    corruption = next(((name, value) for name, value in parts if name not in ORIENTATIONS), None)
    if turns:
        shows = next(name for name, _ in parts if name in ORIENTATIONS)
        thought = f"{phrases.look(shows, rng)} {phrases.intend_all(turns, rng)}"
        chained = "crop" in sample.required_ops and kind in ("multi_tool", "error_handling") and rng.random() < _CHAINED
        if chained:
            _add_crop(plan, _window(plan), thought, before=turns)
            return
        check = None if corruption and corruption[0] == "tilt" else "region"  # a tilted page is only checked once it is level
        plan.steps.append(_Step(thought, orientation_code(turns, rng), 0, plan.views[0], check, before=turns))
        plan.views.append(plan.views[0])
    if corruption is not None:
        name, value = corruption
        source = len(plan.views) - 1
        if name == "tilt":
            code, check = level_code(-float(value), rng), "level"  # made before the turns, so it is what is left once they are undone
        elif name in REMEDIED:
            code, check = remedy_code(name, int(value), rng), "nearer"
        else:
            raise NoScript(f"nothing helps against {name}")
        plan.steps.append(_Step(f"{phrases.look(name, rng)} {phrases.intend(name, rng)}", code, source, plan.views[0], check))
        plan.views.append(plan.views[0])


def _plan_crops(plan: _Plan, kind: str) -> None:
    if any(step.cut for step in plan.steps):
        return  # it is in the same call as the turn
    scene, rng = plan.item.scene, plan.rng
    size = scene.image.size
    window = _window(plan)
    if kind != "multi_crop":
        _add_crop(plan, window, phrases.small(scene.evidence, phrases.place(window, size), rng))
        return
    windows = _windows(plan, window)
    for n, region in enumerate(windows):
        thought = phrases.coarse(phrases.place(region, size), rng) if n == 0 else phrases.closer(scene.evidence, rng)
        _add_crop(plan, region, thought, may_zoom=n == len(windows) - 1)


def _window(plan: _Plan) -> PixelBox:
    """The target with a margin: what the last crop shows."""
    scene = plan.item.scene
    assert scene.target_box, f"{plan.item.sample.id} needs a crop but has no target"
    low = max(4.0, plan.rng.uniform(0.08, 0.2) * min(60.0, scene.target_box[3] - scene.target_box[1]))  # about twice its area at most
    window = _grown(scene.target_box, low, scene.image.size)
    if too_small(scene.facts.get("text_px", 9.0), (window[2] - window[0], window[3] - window[1])):
        raise NoScript("the target is too large to be read after one crop")
    return window


def _windows(plan: _Plan, last: PixelBox) -> list[PixelBox]:
    """One or two coarser windows around the last one, each inside the one before."""
    scene, rng = plan.item.scene, plan.rng
    size, target = scene.image.size, scene.target_box
    coarse = _grown(scene.facts["block_box"], 8.0, size) if "block_box" in scene.facts else None
    if coarse is None or not _shrinks(coarse, last):
        width, height = rng.uniform(0.35, 0.5) * size[0], rng.uniform(0.35, 0.5) * size[1]
        x, y = (target[0] + target[2]) / 2 + rng.uniform(-0.1, 0.1) * width, (target[1] + target[3]) / 2 + rng.uniform(-0.1, 0.1) * height
        coarse = _grown((x - width / 2, y - height / 2, x + width / 2, y + height / 2), 0.0, size)
    windows = [coarse, last]
    if rng.random() < 0.5:
        middle = _between(coarse, last)
        if _shrinks(coarse, middle) and _shrinks(middle, last):
            windows = [coarse, middle, last]
    whole = (0, 0, *size)
    if not all(_shrinks(a, b) for a, b in zip([whole, *windows], windows, strict=False)):
        raise NoScript("no windows that shrink")
    return windows


def _add_crop(plan: _Plan, window: PixelBox, thought: str, *, before: tuple[str, ...] = (), may_zoom: bool = True) -> None:
    """Cut `window` (undamaged pixels) out of the latest picture, or out of the whole upright one."""
    rng = plan.rng
    latest = len(plan.views) - 1
    whole = max(i for i, view in enumerate(plan.views) if view == plan.views[0])
    source = whole if rng.random() < 0.3 else latest
    view = plan.views[source]
    x, y, zoom = view.region[0], view.region[1], view.zoom
    cut = tuple((v - o) * zoom for v, o in zip(window, (x, y, x, y), strict=True))
    width, height = window[2] - window[0], window[3] - window[1]
    allowed = [k for k in (2, 3, 4) if width * height * k * k <= VIEW_PIXELS and zoom == 1]
    enlarge = rng.choice(allowed) if allowed and may_zoom and rng.random() < _ZOOMED else 1
    if before:
        thought = f"{thought} The part that I need is small: I cut it out in the same step."
    code = crop_code(cut, rng, enlarge, before)
    plan.steps.append(_Step(thought, code, source, _View(window, enlarge * zoom), "region", cut, before))
    plan.views.append(plan.steps[-1].view)


def _reply(step: _Step, lesson: str = "", index: int | None = None) -> ScriptedReply:
    thought = f"{lesson} {step.thought}" if lesson else step.thought
    call = ToolCall(step.code, image_index=step.source if index is None else index)
    shows = tuple(float(v) for v in step.view.region) if step.check == "region" else None
    return ScriptedReply(render_reply(thought, call), works=True, check=step.check, shows=shows)


def _with_mistakes(plan: _Plan) -> list[ScriptedReply]:
    """The steps, one of them done wrong first: a call that fails, or a wrong orientation that is noticed and undone."""
    rng = plan.rng
    at = rng.randrange(len(plan.steps))
    step, replies = plan.steps[at], [_reply(s) for s in plan.steps[:at]]
    turn = len(step.before) == 1 and step.cut is None
    if turn and rng.random() < 0.4:
        replies += _wrong_turn(step, rng)
        late = len(replies) - at - 1  # how many pictures more than planned
    else:
        kinds = [*_MISTAKES, *(_CROP_MISTAKES if ".crop((" in step.code else ())]
        rng.shuffle(kinds)
        mistakes = kinds[: 2 if rng.random() < _SECOND_MISTAKE else 1]
        lesson = ""
        for mistake in mistakes:
            broken = _break(step, mistake, plan.views[step.source].size, rng)
            call = ToolCall(broken, image_index=step.source)
            thought = f"{lesson} {step.thought}" if lesson else step.thought
            replies.append(ScriptedReply(render_reply(thought, call), trained=False, works=False))
            lesson = phrases.lesson(mistake, plan.views[step.source].size, rng)
        replies.append(_reply(replace(step, thought=_briefer(step.thought)), lesson))
        late = 0
    for later in plan.steps[at + 1 :]:
        replies.append(_reply(later, index=later.source + late if later.source > at else later.source))
    return replies


def _briefer(thought: str) -> str:
    """After an error the plan is not explained again in full."""
    return thought.split(". ", 1)[-1]


def _wrong_turn(step: _Step, rng: random.Random) -> list[ScriptedReply]:
    """Another orientation first; what it did is undone together with the damage, or the work starts again from image 0."""
    (op,) = step.before
    wrong = rng.choice([o for o in ORIENTATIONS if o != op])
    first = ScriptedReply(
        render_reply(f"{_look_of(step)} {phrases.intend(wrong, rng)}", ToolCall(orientation_code((wrong,), rng), image_index=0)),
        trained=False, works=True,
    )  # fmt: skip
    rest = compose_ops([inverse_op(wrong), op])
    if rest in ORIENTATIONS and rng.random() < 0.6:
        again = replace(step, thought=f"{phrases.regret(rng)} {phrases.intend(rest, rng)}", code=orientation_code((rest,), rng), source=1)
    else:
        again = replace(step, thought=f"{phrases.regret(rng)} From the first picture again: {phrases.intend(op, rng)}", source=0)
    return [first, _reply(again)]


def _look_of(step: _Step) -> str:
    return step.thought.rsplit(". ", 1)[0].rstrip(".") + "."


def _break(step: _Step, mistake: str, size: tuple[int, int], rng: random.Random) -> str:
    """The step's code with a mistake that models make; it must fail, which the sandbox confirms."""
    code = step.code
    if mistake == "syntax":
        at = code.rindex(")")
        return code[:at] + code[at + 1 :]
    if mistake == "name":
        wrong = rng.choice(("picture", "img0", "original_image", "input_image"))
        return re.sub(r"\bimage\b", wrong, code, count=1) if "(image)" not in code else code.replace("(image)", f"({wrong})", 1)
    if mistake == "forgotten":
        assigned = re.sub(r"\b(result|output|processed_image) =", "final =", code)
        return assigned if assigned != code else re.sub(r"(.*)\Z", r"final = \1", code, count=1)
    if mistake == "import":
        return f"{rng.choice(_REFUSED)}\n{code}"
    if mistake == "arguments":
        return re.sub(r"\.crop\(\((.*?)\)\)", r".crop(\1)", code)
    x1, y1, x2, y2 = step.cut
    far = f"{size[0] + rng.randint(5, 300)}, {y1}, {size[0] + rng.randint(320, 700)}, {y2}"
    return code.replace(f"{x1}, {y1}, {x2}, {y2}", far)


def _grown(box: Box, margin: float, size: tuple[int, int]) -> PixelBox:
    x1, y1, x2, y2 = box
    return (
        max(0, int(x1 - margin)), max(0, int(y1 - margin)), min(size[0], round(x2 + margin + 0.5)), min(size[1], round(y2 + margin + 0.5)),
    )  # fmt: skip


def _between(outer: PixelBox, inner: PixelBox) -> PixelBox:
    return tuple(round(0.45 * a + 0.55 * b) for a, b in zip(outer, inner, strict=True))


def _shrinks(outer: PixelBox, inner: PixelBox) -> bool:
    """Whether `inner` lies inside `outer` and is clearly smaller."""
    inside = outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]
    return inside and _area(inner) <= _MIN_SHRINK * _area(outer)


def _area(box: PixelBox) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
