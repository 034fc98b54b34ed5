"""What large canvases show: the plan of a floor, the shelves of a shop, a circuit board (canvas_maps.py: a map, a star chart).

Each function draws one world full of named things with a value written beside them, in tiny print; canvases.py asks about them.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from codevision_lite.records import Box
from codevision_lite.synth.families.drawing import Color, Sheet, around, ink_on, mix, union
from codevision_lite.synth.families.surfaces import wood
from codevision_lite.synth.typography import text_width

_PACKED = {  # ware -> its package
    **dict.fromkeys(("Apple juice", "Grape juice", "Lemonade", "Cider", "Syrup", "Olive oil", "Vinegar", "Milk", "Soy sauce"), "bottle"),
    **dict.fromkeys(("Beans", "Peas", "Tuna", "Corn", "Tomatoes", "Peaches", "Coffee", "Cocoa", "Soup", "Pears"), "can"),
    **dict.fromkeys(("Honey", "Apricot jam", "Pickles", "Mustard", "Olives", "Pesto", "Plum jam", "Capers"), "jar"),
    **dict.fromkeys(("Rice", "Pasta", "Oats", "Flour", "Sugar", "Salt", "Black tea", "Soap", "Cereal", "Biscuits", "Crackers"), "box"),
    **dict.fromkeys(("Raisins", "Candles", "Yeast", "Lentils", "Barley", "Mint tea", "Noodles", "Napkins"), "box"),
}  # fmt: skip


class Thing(NamedTuple):
    """Something with a name and a value, each written in the picture."""

    name: str
    value: str  # as in an answer: without its unit
    name_box: Box
    value_box: Box
    room: Box  # around it, with no other print inside: where a ring or a frame may be drawn
    pins: int = 0  # of a chip
    extent: Box | None = None  # where more than the print must be seen


class Words(NamedTuple):
    """How to ask about the things of a world; {name}, {value}, {a}, {b} are filled in. Empty: can't be asked."""

    thing: str  # "the peak {name}"
    valued: str  # "the peak with {value}"
    read: str
    find: str
    marked: str
    compare: str = ""  # the higher value is the answer
    compute: str = ""  # value of a minus value of b
    unit: str = ""


class World(NamedTuple):
    sheet: Sheet
    subject: str
    things: list[Thing]
    words: Words
    face: str
    text: int  # px of the things' print
    mark: str = "red ring"  # drawn around what is asked about; a "... frame" is rectangular
    mark_color: Color = (220, 30, 40)


def floor_plan(rng: random.Random, size: tuple[int, int]) -> World:
    """The plan of a floor: numbered rooms with their areas, true to scale, doors and furniture."""
    w, h = size
    paper, wall = rng.choice((((252, 252, 250), (40, 42, 48)), ((32, 66, 120), (226, 236, 248)), ((244, 240, 228), (60, 48, 40))))
    sheet, face, t = Sheet(size, paper), rng.choice(("sans", "grotesk", "book")), rng.randint(18, 20)
    faint, margin, scale = mix(paper, wall, 0.35), 110, rng.uniform(0.014, 0.02)  # metres per px
    floor, letter = rng.randint(1, 9), rng.choice("ABCDE")
    title = f"Floor {floor}, wing {letter}"
    sheet.text((margin, 36), title, face=f"{face}-bold", size_px=44, fill=wall)
    corridor, bands = 0.05 * h, rng.randint(3, 4)
    deep = (h - 2 * margin - corridor * (bands // 2)) / bands
    y, number, rooms = float(margin), 1, []
    for band in range(bands):
        x = float(margin)
        while x < w - margin - 1:
            wide = rng.uniform(0.07, 0.17) * w
            if w - margin - x - wide < 0.07 * w:
                wide = w - margin - x
            rooms.append((round(x), round(y), round(x + wide), round(y + deep), band % 2 == 0))
            x += wide
        y += deep + (corridor if band % 2 == 0 else 0)
    seen: set[str] = set()
    things = []
    for x1, y1, x2, y2, door_below in rooms:
        _room(rng, sheet, (x1, y1, x2, y2), door_below, wall, faint)
        name, area = f"{floor}{number:02d}", f"{(x2 - x1) * (y2 - y1) * scale * scale:.1f}"
        number += rng.choice((1, 1, 1, 2))
        cx, cy = x1 + (x2 - x1) * rng.uniform(0.4, 0.6), y1 + (y2 - y1) * rng.uniform(0.4, 0.6)
        one = sheet.text((cx, cy - 0.65 * t), name, face=f"{face}-bold", size_px=t, fill=wall, anchor="mm")
        two = sheet.text((cx, cy + 0.65 * t), f"{area} m²", face=face, size_px=t, fill=wall, anchor="mm")
        if area not in seen:
            things.append(Thing(name, area, one, two, (cx - 52, cy - 52, cx + 52, cy + 52)))
        else:
            things = [thing for thing in things if thing.value != area]
        seen.add(area)
    words = Words(
        "the room {name}", "the room with {value} m²", "What is the area of room {name} in square metres?",
        "Which room has an area of {value} m²?", "What is the area of the room in the {mark}, in square metres?",
        "Which room is larger: {a} or {b}?", "By how many square metres is room {a} larger than room {b}?", "m²",
    )  # fmt: skip
    mark, color = ("red ring", (220, 30, 40)) if sum(paper) > 400 else ("orange ring", (255, 160, 30))
    return World(sheet, f"the plan of a floor, {title}", things, words, face, t, mark, color)


def _room(rng: random.Random, sheet: Sheet, box: Box, door_below: bool, wall: Color, faint: Color) -> None:
    """Walls, a door to the corridor and some furniture along the walls, away from the middle."""
    x1, y1, x2, y2 = box
    sheet.line([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], wall, 9, closed=True)
    door, y = x1 + (x2 - x1) * rng.uniform(0.15, 0.3), y2 if door_below else y1
    sheet.rect((door, y - 6, door + 58, y + 6), sheet.paper)
    up = -1 if door_below else 1
    sheet.line([(door, y), (door, y + up * 58)], wall, 3)
    sheet.line(around((door, y), 58, 0, -90 * up), faint, 2)
    for at in rng.sample((0.0, 0.5, 1.0), rng.randint(1, 3)):  # left corner, middle, right corner
        a, b = rng.uniform(28, 52), rng.uniform(26, 44)
        left = x1 + 14 + at * (x2 - x1 - 28 - a)
        top = y1 + 14 if door_below else y2 - 14 - b
        if rng.random() < 0.3:
            sheet.disc((left + a / 2, top + b / 2), 0.5 * b, None, outline=faint, width=2)
        else:
            sheet.rect((left, top, left + a, top + b), sheet.paper, outline=faint)
            sheet.line([(left, top + b / 3), (left + a, top + b / 3)], faint, 2)


def shelves(rng: random.Random, size: tuple[int, int]) -> World:
    """The shelves of a shop: rows of goods, and a tag with name and price below each."""
    w, h = size
    sheet, face, t = Sheet(size, (0, 0, 0)), rng.choice(("sans-bold", "grotesk-bold", "sans")), rng.randint(18, 20)
    back = rng.choice(((226, 222, 214), (206, 212, 216), (196, 186, 172)))
    sheet.pixels[:] = back
    plank, rows = wood(rng, (w, 60)), rng.randint(4, 6)
    columns = round(w / rng.uniform(260, 330))
    names = rng.sample(sorted(_PACKED), min(rows * columns, len(_PACKED)))
    prices = rng.sample(range(49, 1999, 5), len(names))
    places = sorted(rng.sample(range(rows * columns), len(names)))
    cw, ch, things = w / columns, h / rows, []
    tag = rng.choice(((255, 255, 250), (255, 238, 130)))
    for row in range(rows):
        base = round(ch * (row + 1)) - 64
        sheet.pixels[base - 12 : base] = mix(back, (0, 0, 0), 0.25)  # shade at the foot of the goods
        sheet.pixels[base : base + 60] = plank
    for place, name, price in zip(places, names, prices, strict=True):
        x, base = cw * (place % columns), round(ch * (place // columns + 1)) - 64
        _goods(rng, sheet, _PACKED[name], (x + 0.05 * cw, base - 0.68 * ch, x + 0.95 * cw, base))
        value = f"{price / 100:.2f}"
        cx, wide = x + cw / 2, max(text_width(name, face, t), text_width(value, face, t)) + 18
        sheet.rect((cx - wide / 2, base + 2, cx + wide / 2, base + 57), tag, outline=(90, 80, 70))
        one = sheet.text((cx, base + 16), name, face=face, size_px=t, fill=(30, 30, 30), anchor="mm")
        two = sheet.text((cx, base + 42), value, face=face, size_px=t, fill=(150, 20, 24), anchor="mm")
        things.append(Thing(name, value, one, two, (cx - wide / 2 - 14, base - 6, cx + wide / 2 + 14, base + 62)))
    words = Words(
        "the tag of {name}", "the tag with {value}", "What is the price on the tag of {name}?", "Which product has the price {value}?",
        "What is the price on the tag in the {mark}?", "Which has the higher price: {a} or {b}?",
        "How much more is the price of {a} than that of {b}?",
    )  # fmt: skip
    return World(sheet, f"the shelves of a shop in {rows} rows", things, words, face, t, "blue frame", (30, 70, 220))


def _goods(rng: random.Random, sheet: Sheet, shape: str, box: Box) -> None:
    """Several equal packages side by side."""
    x1, y1, x2, y2 = box
    color = tuple(rng.randint(40, 225) for _ in range(3))
    label, n = mix(color, ink_on(color), 0.75), rng.randint(3, 5)
    unit, tall = (x2 - x1) / n, (y2 - y1) * rng.uniform(0.6, 1.0)
    top = y2 - tall
    for k in range(n):
        a, b = x1 + unit * k + 3, x1 + unit * (k + 1) - 3
        middle, dark = (a + b) / 2, mix(color, (0, 0, 0), 0.4)
        if shape == "box":
            sheet.rect((a, top, b, y2), color, outline=dark)
            sheet.rect((a + 4, top + 0.2 * tall, b - 4, top + 0.5 * tall), label)
        elif shape == "bottle":
            sheet.rect((middle - 0.17 * unit, top, middle + 0.17 * unit, top + 0.4 * tall), color, outline=dark)
            sheet.rect((a, top + 0.3 * tall, b, y2), color, outline=dark, radius=0.2 * unit)
            sheet.rect((a + 2, top + 0.5 * tall, b - 2, top + 0.8 * tall), label)
        else:
            top = y2 - 0.7 * tall
            sheet.rect((a, top, b, y2), color, outline=dark, radius=0.15 * unit)
            sheet.rect((a + 2, top + 0.18 * tall, b - 2, top + 0.45 * tall), label)
            sheet.rect((a + 3, top - 6, b - 3, top + 6), (190, 192, 196) if shape == "can" else mix(label, (0, 0, 0), 0.3), outline=dark)


def circuit_board(rng: random.Random, size: tuple[int, int]) -> World:
    """A circuit board: chips and resistors with names in white print and markings on their bodies."""
    w, h = size
    base = rng.choice(((20, 96, 62), (24, 60, 128), (36, 38, 44), (120, 30, 40)))
    sheet, face, t = Sheet(size, base), rng.choice(("sans-bold", "grotesk-bold")), rng.randint(18, 20)
    copper, gold, white = mix(base, (210, 220, 160), 0.22), (206, 176, 96), (236, 240, 236)
    for _ in range(110):
        x, y = rng.uniform(0, w), rng.uniform(0, h)
        points = [(x, y)]
        for _ in range(rng.randint(2, 5)):
            dx, dy = rng.choice(((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1)))
            far = rng.uniform(50, 300)
            points.append((points[-1][0] + dx * far, points[-1][1] + dy * far))
        sheet.line(points, copper, rng.choice((4, 4, 6, 9)))
        sheet.disc(points[0], 11, gold)
        sheet.disc(points[0], 5, mix(base, (0, 0, 0), 0.5))
    for x, y in ((60, 60), (w - 60, 60), (60, h - 60), (w - 60, h - 60)):
        sheet.disc((x, y), 40, gold)
        sheet.disc((x, y), 24, (232, 232, 228))
        sheet.blocked.append((x - 50, y - 50, x + 50, y + 50))
    things: list[Thing] = []
    codes = rng.sample(range(1000, 9999), 60)
    letters = rng.sample("ACDEFHJKLMNPRTUVWXY", 12)
    taken: list[Box] = list(sheet.blocked)
    for k in range(160):
        chip = k < 40
        pins = 2 * rng.randint(4, 12) if chip else 2
        bw, bh = (pins / 2 * 26 + 20, rng.uniform(90, 130)) if chip else (96.0, 34.0)
        x, y = rng.uniform(90, w - 90 - bw), rng.uniform(100, h - 140 - bh)
        room = (x - 26, y - 58, x + bw + 26, y + bh + 34)
        if len(things) >= 46 or any(room[0] < b[2] and b[0] < room[2] and room[1] < b[3] and b[1] < room[3] for b in taken):
            continue
        taken.append(room)
        name = f"{'U' if chip else 'R'}{sum(1 for thing in things if bool(thing.pins) == chip) + 1}"
        code = f"{rng.choice(letters)}{rng.choice(letters)}{codes[len(things)]}" if chip else str(codes[len(things)])
        (_chip if chip else _resistor)(sheet, (x, y, x + bw, y + bh), pins)
        one = sheet.text((x + bw / 2, y - (24 if chip else 8)), name, face=face, size_px=t, fill=white, anchor="md", halo=base)
        fill = (206, 208, 206) if chip else (30, 30, 30)
        two = sheet.text((x + bw / 2, y + bh / 2), code, face=face, size_px=t, fill=fill, anchor="mm")
        extent = union(one, (x, y - 18, x + bw, y + bh + 18))
        things.append(Thing(name, code, one, two, room, pins if chip else 0, extent))
    words = Words(
        "the part {name}", "the part with the marking {value}", "What is printed on the part {name}?",
        "Which part carries the marking {value}?", "What is printed on the part in the {mark}?",
    )  # fmt: skip
    return World(sheet, "a circuit board with chips and resistors", things, words, face, t, "yellow frame", (255, 220, 60))


def _chip(sheet: Sheet, box: Box, pins: int) -> None:
    x1, y1, _, y2 = box
    for k in range(pins // 2):
        x = x1 + 10 + 26 * k + 13
        for a, b in ((y1 - 18, y1 + 4), (y2 - 4, y2 + 18)):
            sheet.rect((x - 6, a, x + 6, b), (196, 198, 200), outline=(120, 122, 124), width=1)
    sheet.rect(box, (28, 28, 32), outline=(62, 62, 66))
    sheet.disc((x1 + 14, y2 - 14), 6, (70, 70, 74))


def _resistor(sheet: Sheet, box: Box, pins: int) -> None:
    x1, y1, x2, y2 = box
    sheet.rect((x1 - 20, y1 + 4, x2 + 20, y2 - 4), (198, 200, 202))
    sheet.rect(box, (222, 214, 196), outline=(120, 112, 96))
