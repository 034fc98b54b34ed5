"""Text in the street, as if photographed: direction signs, posters, and what street.py draws (shop fronts, cars, market stalls)."""

from __future__ import annotations

import random

import numpy as np

from codevision_lite.synth.families.drawing import Color, Sheet, block_around, content_key, grown, ink_on, mix, union
from codevision_lite.synth.families.street import Asked, World, cars, front, stall
from codevision_lite.synth.families.surfaces import PAINTS, brick, country, lights, mount, moved, photograph, plaster, slanted, wood
from codevision_lite.synth.scene import READABLE_PX, Scene, too_small
from codevision_lite.synth.typography import letter_height, text_width
from codevision_lite.synth.words import MONTHS, TOWNS, WEEKDAYS, count_also, person

_SMALL = 0.4  # how often a question about small print is preferred where there is some
_EVENTS = (
    "Summer Fair", "Jazz Night", "Book Market", "Choir Concert", "Flower Show", "Film Evening", "Folk Dance", "Chess Open", "Harvest Fest",
    "Puppet Theatre", "Night Run", "Poetry Slam", "Pottery Course", "Flea Market", "Lantern Walk", "Science Day",
)  # fmt: skip
_HALLS = ("Town Hall", "Old Mill", "City Park", "Corn Hall", "School Gym", "Harbour Square", "Library", "Station Yard", "Rose Garden")


def draw(rng: random.Random) -> Scene:
    """Draw one view with one question."""
    while True:  # until all text has its place and something can be asked
        world = rng.choice(_WORLDS)(rng)
        if world is None:
            continue
        size = world.image.size
        asked = [a for a in world.asked if _is_fair(a, size)]
        small = [a for a in asked if a.box and too_small(a.text_px, size)]
        if small and rng.random() < _SMALL:
            asked = small
        if not asked:
            continue
        kind = rng.choice(sorted({a.kind for a in asked}))
        one = rng.choice([a for a in asked if a.kind == kind])
        facts = {"text_px": round(one.text_px, 2), "texts": [t.text for s in world.sheets for t in s.texts]}
        box = one.box and grown(one.box, 2, size)
        if box:
            facts["block_box"] = list(block_around(box, size, 0.45, rng))
        return Scene(
            f"scene_text/{kind}", world.image, one.question, one.answer, box, box is not None and too_small(one.text_px, size), (),
            content_key("scene_text", world.sheets, size, one.question), facts, one.also, world.subject, one.evidence, one.working,
        )  # fmt: skip


def _is_fair(asked: Asked, size: tuple[int, int]) -> bool:
    """Whether the answer can be read, in the whole picture or in a crop."""
    if asked.text_px == 0 or not too_small(asked.text_px, size):
        return True
    box = asked.box
    return box is not None and asked.text_px >= READABLE_PX and not too_small(asked.text_px, (box[2] - box[0] + 80, box[3] - box[1] + 80))


def _wall(rng: random.Random, size: tuple[int, int]) -> np.ndarray:
    return rng.choice((brick, wood, plaster, lights))(rng, size)


def _board(rng: random.Random, size: tuple[int, int], color: Color) -> Sheet:
    """A painted board, with or without a rim, and screws."""
    sheet, ink = Sheet(size, color), ink_on(color)
    w, h = size
    if rng.random() < 0.6:
        rim = round(0.03 * min(size)) + 3
        sheet.rect((rim, rim, w - rim, h - rim), color, outline=ink, width=max(2, rim // 3), radius=rim)
    return sheet


def _signpost(rng: random.Random) -> World | None:
    """A direction sign by a road: arrows, towns, kilometres."""
    size = (rng.randint(850, 1350), rng.randint(640, 950))
    horizon = rng.uniform(0.5, 0.7)
    pixels = country(rng, size, horizon)
    road, middle = Sheet(size, (0, 0, 0)), size[0] * rng.uniform(0.35, 0.65)
    road.pixels = pixels
    y, grey = size[1] * (horizon + 0.03), rng.randint(78, 110)
    road.polygon([(middle - 12, y), (middle + 12, y), (size[0] * 0.95, size[1]), (size[0] * 0.1, size[1])], (grey, grey, grey + 4))
    road.polygon([(middle - 1, y), (middle + 1, y), (size[0] * 0.53, size[1]), (size[0] * 0.51, size[1])], (225, 225, 220))
    n, t = rng.randint(2, 5), rng.randint(21, 54)
    face = rng.choice(("sans-bold", "grotesk-bold", "sans"))
    color = rng.choice(((20, 92, 60), (24, 74, 150), (238, 238, 232), (236, 196, 60)))
    towns, kms = rng.sample(TOWNS, n), rng.sample(range(2, 199), n)
    ways = [rng.choice("<^>") for _ in range(n)]
    wide = max(text_width(s, face, t) for s in towns) + 5.6 * t
    sign = _board(rng, (round(wide), round((1.6 * n + 0.9) * t)), color)
    ink, boxes = ink_on(color), []
    for i, (town, km, way) in enumerate(zip(towns, kms, ways, strict=True)):
        row = (1.6 * i + 1.25) * t
        _arrow(sheet=sign, at=(1.3 * t, row), size=0.45 * t, way=way, color=ink)
        name = sign.text((2.3 * t, row), town, face=face, size_px=t, fill=ink, anchor="lm")
        far = sign.text((wide - 0.9 * t, row), str(km), face=face, size_px=t, fill=ink, anchor="rm")
        boxes.append(union(name, far, (0.8 * t, row, t, row)))  # with its arrow
    w, h = sign.size
    if not sign.is_clear() or w > 0.94 * size[0] or h > 0.75 * size[1]:
        return None
    x, top = rng.uniform(0.03 * size[0], 0.97 * size[0] - w), rng.uniform(0.05, 0.2) * size[1]
    for post in (0.2, 0.8):
        road.rect((x + post * w - 7, top + h / 2, x + post * w + 7, size[1]), (126, 128, 132), outline=(90, 92, 96))
    matrix = mount(pixels, sign.finish(), slanted((x, top, x + w, top + h), rng, 0.03), 0.2)
    places, px = [moved(b, matrix) for b in boxes], letter_height(face, t)
    i, j = rng.sample(range(n), 2) if n > 1 else (0, 0)
    near, far = min(range(n), key=kms.__getitem__), max(range(n), key=kms.__getitem__)
    whole = union(*places)
    if kms[i] < kms[j]:
        i, j = j, i
    names = ", ".join(f"{a} {b}" for a, b in zip(towns, kms, strict=True))
    asked = [
        Asked("read", f"How many kilometres is it to {towns[i]}?", str(kms[i]), (f"{kms[i]} km",), places[i], px,
              f"the line of {towns[i]} on the sign"),
        Asked("find", f"Which town is {kms[j]} km away?", towns[j], (), places[j], px, f"the line with {kms[j]} on the sign"),
        Asked("extreme", "Which town on the sign is the nearest?", towns[near], (), whole, px, "all lines of the sign",
              f"{names}: the smallest number is {kms[near]}"),
        Asked("extreme", "Which town on the sign is the farthest?", towns[far], (), whole, px, "all lines of the sign",
              f"{names}: the largest number is {kms[far]}"),
        Asked("compute", f"How many kilometres farther is it to {towns[i]} than to {towns[j]}?", str(kms[i] - kms[j]),
              (f"{kms[i] - kms[j]} km",), union(places[i], places[j]), px,
              f"the lines of {towns[i]} and {towns[j]}", f"{kms[i]} - {kms[j]} = {kms[i] - kms[j]}"),
        Asked("count", "How many towns does the sign name?", str(n), count_also(n), whole, px, "all lines of the sign",
              f"{', '.join(towns)}: that makes {n}"),
    ]  # fmt: skip
    words = {"<": "to the left", ">": "to the right", "^": "straight ahead"}
    k = rng.randrange(n)
    if ways.count(ways[k]) == 1:
        asked.append(Asked("direction", f"Which town is {words[ways[k]]}?", towns[k], (), places[k], px, f"the arrow {words[ways[k]]}"))
    return World(photograph(rng, pixels), [sign], f"a direction sign with {n} towns beside a road", asked)


def _arrow(sheet: Sheet, at: tuple[float, float], size: float, way: str, color: Color) -> None:
    x, y = at
    shape = [(-0.15, 1), (-0.15, -0.1), (-0.6, -0.1), (0, -1), (0.6, -0.1), (0.15, -0.1), (0.15, 1)]  # points up
    turned = {"^": shape, ">": [(-b, a) for a, b in shape], "<": [(b, a) for a, b in shape]}[way]
    sheet.polygon([(x + a * size, y + b * size) for a, b in turned], color)


def _poster(rng: random.Random) -> World | None:
    """A poster of an event on a wall: what, when, where, how much."""
    size = (rng.randint(750, 1300), rng.randint(700, 1100))
    pixels = _wall(rng, size)
    event, hall, town, host = rng.choice(_EVENTS), rng.choice(_HALLS), rng.choice(TOWNS), person(rng)
    when = f"{rng.choice(WEEKDAYS)}, {rng.randint(1, 28)} {rng.choice(MONTHS)}"
    hour = f"{rng.randint(9, 21)}:{rng.choice(('00', '15', '30', '45'))}"
    adults, children = sorted(rng.sample(range(3, 40), 2), reverse=True)
    high = size[1] * rng.uniform(0.55, 0.9)
    wide = high * rng.uniform(0.64, 0.8)
    t = max(19, round(high * rng.uniform(0.034, 0.05)))
    paper = rng.choice((*PAINTS, (246, 240, 220), (250, 250, 248), (240, 200, 190)))
    ink, face = ink_on(paper), rng.choice(("sans", "serif", "grotesk", "book"))
    sheet = Sheet((round(wide), round(high)), paper)
    accent = mix(paper, rng.choice(PAINTS), 0.55)
    _decorate(rng, sheet, accent)
    display = rng.choice(("poster", f"{face}-bold", "narrow"))
    words = event.split(" ")
    px = next((s for s in range(round(0.2 * wide), 20, -2) if max(text_width(v, display, s) for v in words) < 0.84 * wide), 20)
    y, titles, halo = 0.07 * high, [], paper
    for word in words:
        titles.append(sheet.text((wide / 2, y), word, face=display, size_px=px, fill=ink, anchor="ma", halo=halo))
        y += 1.02 * px
    prices = {"adults": f"Adults {adults}.00", "children": f"Children {children}.00"}
    rows = {"date": when, "time": f"starts at {hour}", "place": f"{hall}, {town}", **prices}
    y = max(y + t, 0.52 * high)
    step = min(1.75 * t, (0.9 * high - y - t) / len(rows))
    boxes = {}
    for name, text in rows.items():
        bold = f"{face}-bold" if name in ("date", "place") else face
        boxes[name] = sheet.text((wide / 2, y), text, face=bold, size_px=t, fill=ink, anchor="ma", halo=halo)
        y += step
    foot = sheet.text((wide / 2, 0.96 * high), f"with {host}", face=face, size_px=t, fill=ink, anchor="md", halo=halo)
    if step < 1.35 * t or not sheet.is_clear(4):
        return None
    if rng.random() < 0.5:
        sheet.line([(8, 8), (wide - 9, 8), (wide - 9, high - 9), (8, high - 9)], ink, 3, closed=True)
    x, top = rng.uniform(0.06, 0.94) * (size[0] - wide - 60) + 30, rng.uniform(0.1, 0.9) * (size[1] - high - 20) + 10
    if x < 20 or x + wide > size[0] - 20:
        return None
    matrix = mount(pixels, sheet.finish(), slanted((x, top, x + wide, top + high), rng, rng.choice((0.0, 0.02, 0.045))))
    places, body = {k: moved(b, matrix) for k, b in boxes.items()}, letter_height(face, t)
    k, both = rng.choice((2, 3, 4)), union(places["adults"], places["children"])
    asked = [
        Asked("title", "Which event does the poster announce?", event, (), moved(union(*titles), matrix), letter_height(display, px),
              "the title"),
        Asked("date", f"On what date is the {event}?", when, (when.split(", ")[1],), places["date"], body, "the line with the date"),
        Asked("time", f"At what time does the {event} start?", hour, (), places["time"], body, "the line with the time"),
        Asked("place", f"In which town is the {event}?", town, (), places["place"], body, "the line with the place"),
        Asked("place", f"Where in {town} is the {event}?", hall, (f"{hall}, {town}",), places["place"], body,
              "the line with the place"),
        Asked("host", "Who is named at the bottom of the poster?", host, (), moved(foot, matrix), body, "the last line"),
        Asked("price", "What does a ticket for adults cost?", f"{adults}.00", (str(adults),), places["adults"], body,
              "the price for adults"),
        Asked("compute", f"What do {k} tickets for children cost?", f"{k * children}.00", (str(k * children),), places["children"], body,
              "the price for children", f"{k} × {children} = {k * children}"),
        Asked("compute", "What do one adult and one child pay together?", f"{adults + children}.00", (str(adults + children),), both, body,
              "the two prices", f"{adults} + {children} = {adults + children}"),
    ]  # fmt: skip
    return World(photograph(rng, pixels), [sheet], f"a poster of the {event}", asked)


def _decorate(rng: random.Random, sheet: Sheet, accent: Color) -> None:
    """Something large and pale behind the print."""
    w, h = sheet.size
    soft = mix(sheet.paper, accent, 0.35)
    style = rng.randrange(4)
    if style == 0:
        sheet.disc((w * rng.uniform(0.3, 0.7), h * rng.uniform(0.3, 0.45)), 0.36 * w, soft)
    elif style == 1:
        for i in range(0, 12, 2):
            sheet.polygon([(w / 2, 0.4 * h), (w * (i / 6 - 0.6), h), (w * (i / 6 - 0.45), h)], soft)
    elif style == 2:
        for _ in range(14):
            center, radius = (rng.uniform(0, w), rng.uniform(0, h)), rng.uniform(0.02, 0.09) * w
            sheet.disc(center, radius, mix(sheet.paper, accent, rng.uniform(0.1, 0.35)))
    else:
        sheet.polygon([(0, 0.55 * h), (w, 0.42 * h), (w, h), (0, h)], soft)


_WORLDS = (_signpost, front, _poster, cars, stall)
