"""SFT trajectories in the small world: single tool, multi tool, error handling and no tool (paper section 3.1).

Each is scripted from what the scene knows, executed in the sandbox, and kept only if what came back is the canonical
picture. Replies that end in an error are in the dialogue but not in the loss: recovery is taught, mistakes are not.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from codevision_lite.agent import AgentLimits, Episode, run_episodes
from codevision_lite.damage import damage_image
from codevision_lite.geometry import compose_ops, inverse_op
from codevision_lite.models import ScriptedModel
from codevision_lite.protocol import render_reply
from codevision_lite.records import ToolCall
from codevision_lite.synth.samples import Item

# What a damaged picture looks like, in words. The base model has heard these words; see train/pretrain.py.
LOOKS = {
    "none": "upright",
    "rotate_90": "turned left",
    "rotate_180": "upside down",
    "rotate_270": "turned right",
    "flip_horizontal": "mirrored",
    "flip_vertical": "flipped over",
}
PLACES = ("top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right")  # 3x3, row-major

# Two ways to write each repair; the sandbox judges by what the code does, not by how it is written.
REPAIRS = {
    "rotate_90": ("result = image.rotate(90, expand=True)", "result = image.transpose(Image.Transpose.ROTATE_90)"),
    "rotate_180": ("result = image.rotate(180, expand=True)", "result = image.transpose(Image.Transpose.ROTATE_180)"),
    "rotate_270": ("result = image.rotate(270, expand=True)", "result = image.transpose(Image.Transpose.ROTATE_270)"),
    "flip_horizontal": ("result = ImageOps.mirror(image)", "result = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)"),
    "flip_vertical": ("result = ImageOps.flip(image)", "result = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)"),
}
_STEPS = (("0", "w//3"), ("w//3", "2*w//3"), ("2*w//3", "w"))


def crop_code(cell: int) -> str:
    """Code that crops cell 0..8 (row-major) of a 3x3 grid."""
    (x1, x2), (y1, y2) = _STEPS[cell % 3], (tuple(s.replace("w", "h") for s in _STEPS[cell // 3]))
    return f"w, h = image.size\nresult = image.crop(({x1}, {y1}, {x2}, {y2}))"


@dataclass(frozen=True)
class ScriptedReply:
    """One reply of a script. `trained`: its tokens are in the loss. `works`: it is a call that must succeed, False: must fail."""

    text: str
    trained: bool = True
    works: bool | None = None


@dataclass(frozen=True)
class Gold:
    """A verified trajectory. `trained` says, reply by reply, whether its tokens are in the loss."""

    item: Item
    type: str  # "no_tool" | "single_tool" | "multi_tool" | "error_handling"
    episode: Episode
    trained: tuple[bool, ...]


def write_replies(item: Item, rng: random.Random, error_share: float, second_style: float) -> tuple[str, list[ScriptedReply]]:
    """(type, replies) that repair, inspect and answer the item as its scene knows how."""
    sample, scene = item.sample, item.scene
    style = int(rng.random() < second_style)
    errs = bool(sample.required_ops) and rng.random() < error_share
    replies: list[ScriptedReply] = []
    shown = 0  # index of the latest picture
    for op in (o for o in sample.required_ops if o != "crop"):
        look = f"The picture is {LOOKS[sample.damage]}."
        if errs and rng.random() < 0.5:
            replies += _wrong_first(look, op, style, rng)
            shown += 2
        else:
            replies += _calls(look, REPAIRS[op][style], shown, rng if errs else None)
            shown += 1
    if scene.needs_crop:
        cell = scene.facts["label_cell"]
        breaks = rng if errs and not replies else None
        replies += _calls(f"The label is small, at the {PLACES[cell]}.", crop_code(cell), shown, breaks)
    opening = "I can read it now." if replies else "The picture is upright." if sample.damage == "none" else "I can read it as it is."
    replies.append(ScriptedReply(render_reply(opening, answer=scene.answer)))
    return "error_handling" if errs else ("no_tool", "single_tool", "multi_tool")[min(2, len(sample.required_ops))], replies


def _calls(think: str, code: str, index: int, breaks: random.Random | None) -> list[ScriptedReply]:
    """The call; before it, where `breaks` is given, the same call with a mistake."""
    if breaks is None:
        return [ScriptedReply(render_reply(think, ToolCall(code, image_index=index)), works=True)]
    broken, lesson = break_code(code, breaks)
    return [
        ScriptedReply(render_reply(think, ToolCall(broken, image_index=index)), trained=False, works=False),
        ScriptedReply(render_reply(f"{lesson} {think}", ToolCall(code, image_index=index)), works=True),
    ]


def _wrong_first(look: str, op: str, style: int, rng: random.Random) -> list[ScriptedReply]:
    """A wrong repair, noticed and undone together with the damage (or, where that takes a diagonal flip, from the start)."""
    wrong = rng.choice([o for o in REPAIRS if o != op])
    first = ScriptedReply(render_reply(look, ToolCall(REPAIRS[wrong][style], image_index=0)), trained=False, works=True)
    rest = compose_ops([inverse_op(wrong), op])
    if rest in REPAIRS:
        return [first, *_calls("That was wrong.", REPAIRS[rest][style], 1, None)]
    return [first, *_calls(f"That was wrong. {look}", REPAIRS[op][style], 0, None)]


def break_code(code: str, rng: random.Random) -> tuple[str, str]:
    """(the code with a mistake that models make, what the error message then teaches)."""
    return rng.choice(
        [
            (code.replace("image.", "picture.", 1).replace("(image)", "(picture)"), "A name was wrong."),
            (code[: code.rindex(")")], "A bracket was missing."),
            (code.replace("result = ", "turned = "), "The result was missing."),
            (f"import subprocess\n{code}", "That module is not allowed."),
        ]
    )


def make_golds(
    items: Iterable[Item], sandbox: Any, seed: int, *, error_share: float, second_style: float, rejected: list[str] | None = None
) -> Iterator[Gold]:
    """Verified trajectories for `items`; what fails verification is left out, its id and reason go to `rejected`."""
    rng = random.Random(f"{seed}/gold")
    limits = AgentLimits(max_turns=12, max_images=16)
    for item in items:
        kind, replies = write_replies(item, rng, error_share, second_style)
        (episode,) = run_episodes(ScriptedModel([r.text for r in replies]), sandbox, [item.sample], limits)
        problem = verify(item, episode, replies)
        if problem is None:
            yield Gold(item, kind, episode, tuple(r.trained for r in replies))
        elif rejected is not None:
            rejected.append(f"{item.sample.id}: {problem}")


def verify(item: Item, episode: Episode, replies: Sequence[ScriptedReply]) -> str | None:
    """Why the trajectory is not gold, or None. Calls must work or fail as scripted, and the last picture must be the
    undamaged one, or the label's cell of it."""
    if episode.end_reason != "answer" or episode.answer != item.scene.answer:
        return f"ended with {episode.end_reason}, answer {episode.answer!r}"
    for n, (turn, reply) in enumerate(zip(episode.turns, replies, strict=True)):
        if turn.observation is not None and (turn.observation.status == "ok") != reply.works:
            return f"reply {n} came back as {turn.observation.status}"
    canonical = item.scene.image
    if not item.sample.required_ops:
        canonical = damage_image(canonical, item.sample.damage)
    elif item.scene.needs_crop:
        third, cell = canonical.width // 3, item.scene.facts["label_cell"]
        x, y = third * (cell % 3), third * (cell // 3)
        canonical = canonical.crop((x, y, x + third, y + third))
    if not _same(episode.images[-1], canonical):
        return "the last picture is not the canonical one"
    return None


def _same(a: Image.Image, b: Image.Image) -> bool:
    return a.size == b.size and bool((np.asarray(a) == np.asarray(b)).all())
