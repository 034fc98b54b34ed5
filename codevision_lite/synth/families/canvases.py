"""Large canvases with tiny targets: what must be read covers down to less than 0.01 % of the picture."""

from __future__ import annotations

import random
from decimal import Decimal

from codevision_lite.records import Box
from codevision_lite.synth.families.canvas_maps import chart_of_land, chart_of_stars
from codevision_lite.synth.families.canvas_worlds import Thing, World, circuit_board, floor_plan, shelves
from codevision_lite.synth.families.drawing import block_around, content_key, grown, union
from codevision_lite.synth.scene import Scene, too_small
from codevision_lite.synth.typography import letter_height
from codevision_lite.synth.words import count_also

_WORLDS = (chart_of_land, chart_of_stars, floor_plan, shelves, circuit_board)
_KINDS = {"read": 0.28, "find": 0.2, "marked": 0.27, "compare": 0.1, "compute": 0.15}
_HUGE = 0.08  # how often a canvas is larger than the usual


def draw(rng: random.Random) -> Scene:
    """Draw one canvas with one question about one or two of its things."""
    while True:  # until the print is free of other print
        size = (rng.randint(2000, 2600), rng.randint(1500, 1900))
        if rng.random() < _HUGE:
            size = (rng.randint(2900, 3600), rng.randint(2100, 2700))
        world = rng.choice(_WORLDS)(rng, size)
        if len(world.things) >= 6 and (scene := _ask(rng, world)):
            return scene


def _ask(rng: random.Random, world: World) -> Scene | None:
    kind = rng.choices(tuple(_KINDS), tuple(_KINDS.values()))[0]
    words, size = world.words, world.sheet.size
    if kind in ("compare", "compute") and not words.compare:
        kind = "pins"
    if kind in ("compare", "compute"):
        return _ask_pair(rng, world, kind)
    things = [t for t in world.things if t.pins] if kind == "pins" else world.things
    thing = rng.choice([t for t in things if _inside(t.room, size)])
    name, value, unit = thing.name, thing.value, (f"{thing.value} {words.unit}",) if words.unit else ()
    both = union(thing.name_box, thing.value_box)
    if kind == "pins":
        working = f"{thing.pins // 2} pins on each side: 2 × {thing.pins // 2} = {thing.pins}"
        return _scene(rng, world, kind, f"How many pins has the chip {name}?", str(thing.pins), count_also(thing.pins), thing.extent,
                      f"the chip {name}", working, [thing])  # fmt: skip
    if kind == "find":
        return _scene(rng, world, kind, words.find.format(value=value), name, (), both, words.valued.format(value=value), "", [thing])
    if kind == "read":
        return _scene(rng, world, kind, words.read.format(name=name), value, unit, both, words.thing.format(name=name), "", [thing])
    _mark(world, thing.room)
    question, evidence = words.marked.format(mark=world.mark), f"the print in the {world.mark}"
    return _scene(rng, world, kind, question, value, unit, thing.value_box, evidence, "", [thing])


def _inside(box: Box, size: tuple[int, int]) -> bool:
    return box[0] > 4 and box[1] > 4 and box[2] < size[0] - 4 and box[3] < size[1] - 4


def _mark(world: World, room: Box) -> None:
    """A ring or a frame in the room that a thing has around it."""
    x1, y1, x2, y2 = room
    if world.mark.endswith("frame"):
        world.sheet.line([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], world.mark_color, 4, closed=True)
    else:
        world.sheet.disc(((x1 + x2) / 2, (y1 + y2) / 2), (x2 - x1) / 2, None, outline=world.mark_color, width=4)


def _ask_pair(rng: random.Random, world: World, kind: str) -> Scene | None:
    """Two neighbours, which one crop can show."""
    a = rng.choice(world.things)
    near = [b for b in world.things if b is not a and _fits(_box(a, b), world)]
    if not near:
        return None
    b = rng.choice(near)
    if Decimal(a.value) < Decimal(b.value):
        a, b = b, a
    words = world.words
    names = rng.sample([a.name, b.name], 2)
    evidence = f"{words.thing.format(name=a.name)} and {words.thing.format(name=b.name)}"
    if kind == "compare":
        question, working = words.compare.format(a=names[0], b=names[1]), f"{a.name} has {a.value} and {b.name} has {b.value}"
        return _scene(rng, world, kind, question, a.name, (), _box(a, b), evidence, working, [a, b])
    gap = str(Decimal(a.value) - Decimal(b.value))
    also = (f"{gap} {words.unit}",) if words.unit else ()
    return _scene(rng, world, kind, words.compute.format(a=a.name, b=b.name), gap, also, _box(a, b), evidence,
                  f"{a.value} - {b.value} = {gap}", [a, b])  # fmt: skip


def _box(a: Thing, b: Thing) -> Box:
    return union(a.name_box, a.value_box, b.name_box, b.value_box)


def _fits(box: Box, world: World) -> bool:
    """Whether a crop of `box` with a margin is small and can be read."""
    (w, h), wide, high = world.sheet.size, box[2] - box[0] + 120, box[3] - box[1] + 120
    return wide < 0.36 * w and high < 0.36 * h and not too_small(letter_height(world.face, world.text), (wide, high))


def _scene(
    rng: random.Random, world: World, kind: str, question: str, answer: str, also: tuple[str, ...], box: Box, evidence: str, working: str,
    things: list[Thing],
) -> Scene | None:  # fmt: skip
    size, text_px = world.sheet.size, letter_height(world.face, world.text)
    if not world.sheet.is_clear():
        return None
    box = grown(box, 0, size)
    facts = {
        "text_px": text_px, "block_box": list(block_around(box, size, rng.uniform(0.25, 0.34), rng)),
        "names": [t.name for t in things], "values": [t.value for t in things], "pins": [t.pins for t in things],
    }  # fmt: skip
    return Scene(
        f"canvas/{kind}", world.sheet.finish(), question, answer, box, too_small(text_px, size), (),
        content_key("canvas", [world.sheet], question), facts, also, world.subject, evidence, working,
    )  # fmt: skip
