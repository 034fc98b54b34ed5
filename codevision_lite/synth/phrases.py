"""What a careful reader would think, in words: how a damage shows, what is done about it, what the log says, what is read.

Each entry is a choice of sentences. They say only what the scene, the damage and the sandbox's message make true.
"""

from __future__ import annotations

import random

from codevision_lite.records import Box

# damage -> how it shows
SIGNS_OF = {
    "none": ("The picture is upright and clear.", "Nothing is wrong with the picture.", "The text is upright and sharp enough."),
    "rotate_90": (
        "The picture lies on its left side: the text runs from bottom to top.",
        "The lines of text climb from the bottom to the top, so the picture was turned counter-clockwise.",
        "Everything is tipped over to the left.",
    ),
    "rotate_180": (
        "The picture is upside down.", "All letters stand on their heads and the lines run backwards: it was turned by half.",
        "Top and bottom as well as left and right have changed places.",
    ),
    "rotate_270": (
        "The picture lies on its right side: the text runs from top to bottom.",
        "The lines of text fall from the top to the bottom, so the picture was turned clockwise.",
        "Everything is tipped over to the right.",
    ),
    "flip_horizontal": (
        "The picture is mirrored: the letters face the wrong way.", "The text reads from right to left, as in a mirror.",
        "Left and right have changed places.",
    ),
    "flip_vertical": (
        "The letters stand on their heads but the lines still start at the left: the picture is flipped over.",
        "Top and bottom have changed places, left and right have not.", "It looks like a reflection in water.",
    ),
    "noise": ("The picture is full of noise.", "Grain covers the picture."),
    "blur": ("The picture is out of focus.", "All edges are soft."),
    "motion": ("The picture is smeared by motion.", "The camera moved: everything is drawn out in one direction."),
    "jpeg": ("Compression has left blocks around the letters.", "The picture was compressed too much."),
    "low_light": ("The picture is very dark.", "It is too dark to read well."),
    "overexposure": ("The picture is too bright.", "The light parts are washed out."),
    "low_contrast": ("There is hardly any contrast.", "Ink and paper are nearly the same grey."),
    "haze": ("A veil of haze lies over the picture.", "The picture looks foggy."),
    "low_resolution": ("The picture is coarse.", "The picture has few real pixels."),
    "perspective": ("The picture was taken at a slant.", "The page is seen from one side."),
    "occlusion": ("Something covers part of the picture.", "A part of the picture is covered."),
    "tilt": ("The picture hangs a little crooked.", "The lines of text are not level."),
}  # fmt: skip
_DO = {
    "rotate_90": ("I turn it counter-clockwise by 90 degrees.", "A quarter turn counter-clockwise sets it upright."),
    "rotate_180": ("I turn it by 180 degrees.", "Half a turn sets it upright."),
    "rotate_270": ("I turn it clockwise by 90 degrees.", "A quarter turn clockwise sets it upright."),
    "flip_horizontal": ("I mirror it back.", "A horizontal flip undoes that."),
    "flip_vertical": ("I flip it back.", "A vertical flip undoes that."),
    "noise": ("I smooth it a little.", "A small filter takes off the worst."),
    "blur": ("I sharpen it.", "An unsharp mask helps."),
    "low_light": ("I make it brighter.", "I lift the dark tones."),
    "overexposure": ("I make it darker.", "I bring the light tones down."),
    "low_contrast": ("I stretch the contrast.", "More contrast will separate them."),
    "haze": ("I stretch the contrast to cut through it.", "More contrast takes the veil off."),
    "low_resolution": ("I sharpen it.", "An unsharp mask helps a little."),
    "tilt": ("I level it.", "I turn it back by that angle."),
}
_PLACES = ("top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right")


def look(damage: str, rng: random.Random) -> str:
    """How one part of a damage shows ("rotate_90", "noise")."""
    return rng.choice(SIGNS_OF[damage])


def intend(operation: str, rng: random.Random) -> str:
    """What is done: an orientation, or the name of the corruption that is weakened."""
    return rng.choice(_DO[operation])


def intend_all(operations: tuple[str, ...], rng: random.Random) -> str:
    return " Then: ".join(intend(op, rng) for op in operations)


def place(box: Box, size: tuple[int, int]) -> str:
    """Where a box lies in a picture of `size` (W, H), in words."""
    column, row = (min(2, int(3 * (a + b) / 2 / extent)) for a, b, extent in ((box[0], box[2], size[0]), (box[1], box[3], size[1])))
    return _PLACES[3 * row + column]


def opening(subject: str, rng: random.Random) -> str:
    return rng.choice((f"This is {subject}.", f"I see {subject}.", f"The picture shows {subject}.")) if subject else ""


def small(evidence: str, where: str, rng: random.Random) -> str:
    what = evidence or "the part that I need"
    return rng.choice(
        (
            f"I need {what}, at the {where}; it is too small to read here, so I cut it out.",
            f"The print is too small. I crop {what}, at the {where}.",
            f"Next I zoom in on {what}, at the {where}.",
        )
    )


def coarse(where: str, rng: random.Random) -> str:
    return rng.choice(
        (
            f"The print is tiny. I go closer step by step, first to the {where}.",
            f"It must be at the {where}. I cut that part out first.",
            f"First I take a closer look at the {where} of the picture.",
        )
    )


def closer(evidence: str, rng: random.Random) -> str:
    what = evidence or "the part that I need"
    return rng.choice((f"I see {what}, still small. I crop closer.", f"I can see {what} now; one step closer.", f"Closer, to {what}."))


def conclude(evidence: str, working: str, answer: str, used_tools: bool, rng: random.Random) -> str:
    """What is read, and how the answer follows."""
    end = f". {working.rstrip('.')}." if working else f": {answer}."
    if not evidence:
        return rng.choice(("I can see all that I need", "Now it is clear") if used_tools else ("I can see all that I need",)) + end
    if used_tools:
        return rng.choice((f"Now I can read {evidence}", f"It can be read now: I look at {evidence}", f"I see {evidence}")) + end
    return rng.choice((f"I can read {evidence} as it stands", f"I see {evidence}", f"I look at {evidence}")) + end


# mistake -> what the log teaches
LESSONS = {
    "syntax": ("The log reports a syntax error: a bracket was not closed.", "A bracket was missing; I write it again."),
    "name": ("The log says that this name is not defined; the picture is called image.", "I used a name that does not exist. It is image."),
    "range": (
        "The log says that the box does not fit: the picture is only {width}x{height} pixels.",
        "My box went past the edge of the picture, which has {width}x{height} pixels. I correct the numbers.",
    ),
    "forgotten": ("The log says that no result was assigned.", "I forgot to assign the new picture to result."),
    "import": ("The log says that this module is not allowed; I don't need it.", "That import was refused. Without it, then."),
    "arguments": ("The log says that the arguments were wrong: the box must be one tuple.", "crop takes one tuple of four numbers."),
}


def lesson(mistake: str, size: tuple[int, int], rng: random.Random) -> str:
    """What is learned from the log of a failed call; `size` (W, H) of the picture that it worked on."""
    return rng.choice(LESSONS[mistake]).format(width=size[0], height=size[1])


def regret(rng: random.Random) -> str:
    return rng.choice(
        ("That was the wrong way.", "The text still can't be read: a wrong operation.", "That did not set it upright; I was wrong.")
    )
