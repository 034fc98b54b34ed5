"""How the tiny model solves its world of signs, in the words that its base has heard: single tool, multi tool, error handling and
no tool (paper section 3.1).

Replies that end in an error are in the dialogue but not in the loss: recovery is taught, mistakes are not.
"""

from __future__ import annotations

import random

from codevision_lite.geometry import compose_ops, inverse_op
from codevision_lite.protocol import render_reply
from codevision_lite.records import Box, ToolCall
from codevision_lite.synth.gold import Item, Script, ScriptedReply

# What a damaged picture looks like, in words. The base model has heard these words; see train/pretrain.py.
LOOKS = {
    "none": "upright",
    "rotate_90": "turned left",
    "rotate_180": "upside down",
    "rotate_270": "turned right",
    "flip_horizontal": "mirrored",
    "flip_vertical": "flipped over",
}
# The model asks itself what it was asked before: the answer is then at hand under any other question.
HOW_TURNED = "How is this picture turned?"
WHERE_LABEL = "Where is the small label?"
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


def say_turned(look: str) -> str:
    return f"{HOW_TURNED} It is {look}."


def say_place(cell: int) -> str:
    return f"{WHERE_LABEL} At the {PLACES[cell]}."


def write_script(item: Item, rng: random.Random, error_share: float, second_style: float) -> Script:
    """Replies that repair, inspect and answer the item as its scene knows how."""
    sample, scene = item.sample, item.scene
    whole: Box = (0.0, 0.0, *map(float, scene.image.size))
    style = int(rng.random() < second_style)
    errs = bool(sample.required_ops) and rng.random() < error_share
    replies: list[ScriptedReply] = []
    shown = 0  # index of the latest picture
    for op in (o for o in sample.required_ops if o != "crop"):
        look = say_turned(LOOKS[sample.damage])
        if errs and rng.random() < 0.5:
            replies += _wrong_first(look, op, style, rng, whole)
            shown += 2
        else:
            replies += _calls(look, REPAIRS[op][style], shown, whole, rng if errs else None)
            shown += 1
    if scene.needs_crop:
        cell = scene.facts["label_cell"]
        breaks = rng if errs and not replies else None
        look = "" if replies else f"{say_turned(LOOKS[sample.damage])} "
        replies += _calls(f"{look}{say_place(cell)}", crop_code(cell), shown, scene.target_box, breaks)
    # Asked anew: the model finds a place in a picture that came before the question, and takes the latest question for the one it is asked.
    turned = "" if replies else f"{say_turned(LOOKS[sample.damage])} "
    opening = f"{turned}I can read it now. {sample.question}"
    replies.append(ScriptedReply(render_reply(opening, answer=scene.answer)))
    kind = "error_handling" if errs else ("no_tool", "single_tool", "multi_tool")[min(2, len(sample.required_ops))]
    return Script(item, kind, tuple(replies))


def _calls(think: str, code: str, index: int, shows: Box, breaks: random.Random | None) -> list[ScriptedReply]:
    """The call, whose picture must show a part of the undamaged one; before it, where `breaks` is given, the same call with a mistake."""
    if breaks is None:
        return [ScriptedReply(render_reply(think, ToolCall(code, image_index=index)), works=True, check="region", shows=shows)]
    broken, lesson = break_code(code, breaks)
    return [
        ScriptedReply(render_reply(think, ToolCall(broken, image_index=index)), trained=False, works=False),
        *_calls(f"{lesson} {think}", code, index, shows, None),
    ]


def _wrong_first(look: str, op: str, style: int, rng: random.Random, whole: Box) -> list[ScriptedReply]:
    """A wrong repair, noticed and undone together with the damage (or, where that takes a diagonal flip, from the start)."""
    wrong = rng.choice([o for o in REPAIRS if o != op])
    first = ScriptedReply(render_reply(look, ToolCall(REPAIRS[wrong][style], image_index=0)), trained=False, works=True)
    rest = compose_ops([inverse_op(wrong), op])
    if rest in REPAIRS:
        return [first, *_calls("That was wrong.", REPAIRS[rest][style], 1, whole, None)]
    return [first, *_calls(f"That was wrong. {look}", REPAIRS[op][style], 0, whole, None)]


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
