"""Things of a street, drawn face on and photographed: a shop front, parked cars, a market stall; each with what can be asked."""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
from PIL import Image

from codevision_lite.records import Box
from codevision_lite.synth.families.drawing import Sheet, ink_on, mix, union
from codevision_lite.synth.families.surfaces import PAINTS, brick, country, lights, photograph, plaster, wood
from codevision_lite.synth.typography import letter_height, text_width
from codevision_lite.synth.words import COLORS, WEEKDAYS, count_also, shop

_MINUTES = ("00", "15", "30", "45")
_FRUIT = {  # round ware -> its colour
    "Apples": (186, 46, 42), "Cherries": (140, 20, 40), "Figs": (88, 58, 92), "Garlic": (232, 226, 214), "Grapes": (92, 60, 120),
    "Lemons": (240, 216, 70), "Onions": (190, 140, 90), "Oranges": (238, 142, 40), "Peaches": (240, 170, 120), "Pears": (176, 186, 80),
    "Peppers": (200, 40, 36), "Plums": (84, 44, 86), "Potatoes": (178, 146, 102), "Tomatoes": (208, 52, 44), "Walnuts": (150, 112, 76),
}  # fmt: skip


class Asked(NamedTuple):
    """A question about what is in the picture; no box: the whole of it."""

    kind: str
    question: str
    answer: str
    also: tuple[str, ...]
    box: Box | None
    text_px: float  # letter height; 0: nothing has to be read
    evidence: str
    working: str = ""


class World(NamedTuple):
    image: Image.Image
    sheets: list[Sheet]
    subject: str
    asked: list[Asked]


def front(rng: random.Random) -> World | None:
    """A shop: its name over window and door, the number of the house, opening hours."""
    size = (rng.randint(850, 1350), rng.randint(700, 1050))
    (w, h), name, paint = size, shop(rng), rng.choice(PAINTS)
    sheet = Sheet(size, paint)
    sheet.pixels = rng.choice((brick, plaster))(rng, size)
    face = rng.choice(("poster", "serif-bold", "sans-bold", "book-bold", "grotesk-bold"))
    sheet.rect((0, 0.93 * h, w, h), (128, 126, 122))
    sheet.line([(0, 0.93 * h), (w, 0.93 * h)], (88, 86, 84), 4)
    band = (0.06 * w, 0.1 * h, 0.94 * w, 0.27 * h)
    sheet.rect((band[0] + 6, band[1] + 10, band[2] + 6, band[3] + 12), (60, 52, 48))  # its shadow
    sheet.rect(band, paint, outline=mix(paint, (0, 0, 0), 0.35), width=4)
    t = next((s for s in range(round(0.12 * h), 20, -2) if text_width(name, face, s) < 0.82 * w), 20)
    title = sheet.text((w / 2, 0.185 * h), name, face=face, size_px=t, fill=ink_on(paint), anchor="mm")
    door_left = rng.random() < 0.5
    x = 0.1 * w if door_left else 0.66 * w
    door = (x, 0.36 * h, x + 0.24 * w, 0.93 * h)
    pane = (0.43 * w, 0.36 * h, 0.92 * w, 0.78 * h) if door_left else (0.08 * w, 0.36 * h, 0.57 * w, 0.78 * h)
    frame = mix(paint, (0, 0, 0), 0.3)
    inside = lights(rng, (round(pane[2] - pane[0]), round(pane[3] - pane[1])))
    sheet.rect(tuple(v + d for v, d in zip(pane, (-9, -9, 9, 9), strict=True)), frame)
    sheet.pixels[round(pane[1]) : round(pane[1]) + inside.shape[0], round(pane[0]) : round(pane[0]) + inside.shape[1]] = inside
    sheet.rect((door[0] - 8, door[1] - 8, door[2] + 8, door[3]), frame)
    sheet.rect(door, mix(paint, (255, 255, 255), 0.12) if sum(paint) < 500 else mix(paint, (80, 60, 40), 0.35))
    sheet.rect((door[0] + 0.03 * w, door[1] + 0.03 * h, door[2] - 0.03 * w, door[3] - 0.12 * h), (52, 62, 72))
    sheet.disc((door[2] - 0.015 * w, (door[1] + door[3]) / 2 + 0.05 * h), 8, (214, 180, 90))
    number = str(rng.randint(2, 198))
    plate_px = rng.randint(26, 40)
    cx = (door[0] + door[2]) / 2
    at = (0.615 * w, 0.43 * h) if not door_left else (0.385 * w, 0.43 * h)
    wide = text_width(number, "serif-bold", plate_px)
    plate = (at[0] - wide / 2 - 10, at[1] - 0.75 * plate_px, at[0] + wide / 2 + 10, at[1] + 0.75 * plate_px)
    sheet.rect(plate, (32, 66, 130), outline=(240, 240, 240))
    house = sheet.text(at, number, face="serif-bold", size_px=plate_px, fill=(245, 245, 245), anchor="mm")
    small, days = rng.randint(19, 23), WEEKDAYS[: rng.randint(5, 6)]
    hours = {d: (f"{rng.randint(7, 10)}:{rng.choice(_MINUTES)}", f"{rng.randint(14, 20)}:{rng.choice(_MINUTES)}") for d in days}
    card_w = door[2] - door[0] - 0.07 * w
    lines = [f"{d[:3]} {a} - {b}" for d, (a, b) in hours.items()]
    if max(text_width(s, "sans", small) for s in lines) > card_w - 14:
        return None
    card = (cx - card_w / 2, door[1] + 0.07 * h, cx + card_w / 2, door[1] + 0.07 * h + (len(lines) + 2.0) * 1.25 * small)
    sheet.rect(card, (246, 243, 232), outline=(120, 110, 100))
    sheet.text((cx, card[1] + 0.9 * small), "OPEN", face="sans-bold", size_px=small + 3, fill=(150, 30, 30), anchor="mm")
    rows = [
        sheet.text((cx, card[1] + (i + 2.1) * 1.25 * small), s, face="sans", size_px=small, fill=(30, 30, 30), anchor="mm")
        for i, s in enumerate(lines)
    ]
    phone = f"{rng.randint(20, 98)}{rng.randint(0, 9)} {rng.randint(10, 99)} {rng.randint(10, 99)}"
    glass = rng.randint(22, 46)
    phone_text = f"Tel. {phone}"
    under = ((pane[0] + pane[2]) / 2, pane[3] - 1.4 * glass)
    call = sheet.text(under, phone_text, face="sans-bold", size_px=glass, fill=(248, 244, 230), anchor="mm")
    if not sheet.is_clear() or call[0] < pane[0] + 8 or call[2] > pane[2] - 8 or card[3] > door[3] - 0.13 * h:
        return None
    d = rng.choice(days)
    i, px = days.index(d), letter_height("sans", small)
    open_at, close_at = hours[d]
    asked = [
        Asked("read", "What is the name of the shop?", name, (), title, letter_height(face, t), "the name over the window"),
        Asked("number", "What is the number of the house?", number, (), house, letter_height("serif-bold", plate_px),
              "the blue plate beside the door"),
        Asked("phone", "What is the phone number of the shop?", phone, (phone_text, phone.replace(" ", "")), call,
              letter_height("sans-bold", glass), "the phone number on the window"),
        Asked("hours", f"At what time does the shop open on {d}?", open_at, _clock(open_at), rows[i], px,
              f"the line {d[:3]} of the opening hours"),
        Asked("hours", f"At what time does the shop close on {d}?", close_at, _clock(close_at), rows[i], px,
              f"the line {d[:3]} of the opening hours"),
    ]  # fmt: skip
    return World(photograph(rng, np.asarray(sheet.finish())), [sheet], f"the front of a shop, {name}", asked)


def _clock(time: str) -> tuple[str, ...]:
    """The other spelling of 7:30."""
    return (f"0{time}",) if len(time) == 4 else ()


def cars(rng: random.Random) -> World | None:
    """Cars parked in a row, seen from behind, with number plates."""
    n = rng.randint(1, 4)
    size = (rng.randint(900, 1400), rng.randint(600, 900))
    w, h = size
    sheet, ground = Sheet(size, (0, 0, 0)), rng.uniform(0.6, 0.68)
    sheet.pixels = brick(rng, size) if rng.random() < 0.5 else country(rng, size, 0.5)
    grey = rng.randint(88, 120)
    road = plaster(rng, (w, h - round(ground * h)))
    sheet.pixels[round(ground * h) :] = (road // 3 + grey - 62).astype(np.uint8)
    sheet.rect((0, ground * h - 8, w, ground * h + 6), (150, 148, 142))
    names = rng.sample([c for c in COLORS if c not in ("pink", "brown", "teal")], n)
    slot = w / n
    wide = min(slot * rng.uniform(0.74, 0.86), 0.62 * h, rng.uniform(190, 500))
    plate_px = round(wide * rng.uniform(0.115, 0.13))
    plate_color, face = rng.choice(((250, 248, 240), (246, 206, 70), (250, 248, 240))), rng.choice(("sans-bold", "grotesk-bold"))
    boxes, codes = [], []
    for i, name in enumerate(names):
        x, y = slot * (i + 0.5) + rng.uniform(-0.04, 0.04) * slot, h * (ground + 0.26) + rng.uniform(-0.02, 0.02) * h
        codes.append(f"{_letters(rng)} {rng.choice((f'{rng.randint(100, 999)} {_letters(rng)}', rng.randint(1000, 9999)))}")
        boxes.append(_car(sheet, (x, y), wide, COLORS[name], codes[-1], plate_px, face, plate_color))
    if not sheet.is_clear() or plate_px < 18:
        return None
    px, i = letter_height(face, plate_px), rng.randrange(n)
    asked = [
        Asked("plate", f"What is the number plate of the {names[i] + ' ' if n > 1 else ''}car?", codes[i],
              (codes[i].replace(" ", ""),), boxes[i], px, f"the number plate of the {names[i]} car"),
        Asked("whose", f"What colour is the car with the number plate {codes[i]}?", names[i], (), boxes[i], px,
              f"the number plate {codes[i]}"),
        Asked("count", "How many cars are there?", str(n), count_also(n), None, 0.0, "the row of cars",
              f"Their colours are {', '.join(names)}: that makes {n}"),
    ]  # fmt: skip
    if n == 1:
        asked = asked[:1]
    else:
        order, k = rng.choice((("left", 0), ("right", n - 1)))
        asked.append(
            Asked("plate", f"What is the number plate of the car on the far {order}?", codes[k], (codes[k].replace(" ", ""),), boxes[k], px,
                  f"the number plate on the far {order}")
        )  # fmt: skip
    subject = f"a{'n' if names[0] == 'orange' else ''} {names[0]} car from behind" if n == 1 else f"{n} parked cars from behind"
    return World(photograph(rng, np.asarray(sheet.finish())), [sheet], subject, asked)


def _letters(rng: random.Random) -> str:
    return "".join(rng.choice("ACDEFHJKLMNPRTUVWXY") for _ in range(2))


def _car(sheet: Sheet, foot: tuple[float, float], wide: float, color, code: str, plate_px: int, face: str, plate_color) -> Box:
    """The back of a car standing on `foot`; returns the box of its number."""
    x, y, u = *foot, wide / 100  # a hundredth of its width
    dark, light = mix(color, (0, 0, 0), 0.35), mix(color, (255, 255, 255), 0.3)
    shadow = [(x - 54 * u, y + 1 * u), (x + 56 * u, y + 1 * u), (x + 50 * u, y + 7 * u), (x - 48 * u, y + 7 * u)]
    sheet.polygon(shadow, (58, 58, 62))
    for side in (-1, 1):
        sheet.rect((x + side * 38 * u - 9 * u, y - 16 * u, x + side * 38 * u + 9 * u, y + 4 * u), (30, 30, 32), radius=3 * u)
    roof = [(x - 36 * u, y - 72 * u), (x + 36 * u, y - 72 * u), (x + 46 * u, y - 44 * u), (x - 46 * u, y - 44 * u)]
    sheet.polygon(roof, color, outline=dark, width=2)
    glass = [(x - 31 * u, y - 68 * u), (x + 31 * u, y - 68 * u), (x + 38 * u, y - 46 * u), (x - 38 * u, y - 46 * u)]
    sheet.polygon(glass, (56, 66, 78), outline=dark, width=2)
    sheet.polygon([(x - 20 * u, y - 67 * u), (x - 6 * u, y - 67 * u), (x - 18 * u, y - 47 * u), (x - 34 * u, y - 47 * u)], (92, 104, 116))
    sheet.rect((x - 50 * u, y - 46 * u, x + 50 * u, y - 8 * u), color, outline=dark, radius=7 * u)
    sheet.line([(x - 44 * u, y - 42 * u), (x + 44 * u, y - 42 * u)], light, max(2, u))
    sheet.rect((x - 51 * u, y - 16 * u, x + 51 * u, y - 4 * u), dark, radius=4 * u)
    for side in (-1, 1):
        lamp = (x + side * 42 * u - 6 * u, y - 40 * u, x + side * 42 * u + 6 * u, y - 24 * u)
        sheet.rect(lamp, (176, 24, 28), outline=(90, 14, 18), radius=2 * u)
    half = text_width(code, face, plate_px) / 2 + 0.45 * plate_px
    plate = (x - half, y - 27 * u - 0.72 * plate_px, x + half, y - 27 * u + 0.72 * plate_px)
    sheet.rect(plate, plate_color, outline=(30, 30, 30), width=2, radius=3)
    return sheet.text((x, y - 27 * u), code, face=face, size_px=plate_px, fill=(22, 22, 26), anchor="mm")


def stall(rng: random.Random) -> World | None:
    """Crates of fruit and vegetables with price tags."""
    columns, rows = rng.choice(((2, 1), (3, 1), (2, 2), (3, 2), (4, 2)))
    size = (rng.randint(860, 1400), rng.randint(620, 1000))
    w, h = size
    sheet = Sheet(size, (0, 0, 0))
    sheet.pixels = wood(rng, size)
    n = columns * rows
    wares, prices = rng.sample(tuple(_FRUIT), n), [p / 100 for p in rng.sample(range(80, 900, 5), n)]
    t = max(20, round(min(w / columns, h / rows) * rng.uniform(0.075, 0.14)))
    face = rng.choice(("sans-bold", "poster", "serif-bold", "hand"))
    tag, cw, ch = rng.choice(((250, 248, 238), (36, 40, 38), (250, 226, 96))), w / columns, h / rows
    boxes = []
    for i, (ware, price) in enumerate(zip(wares, prices, strict=True)):
        x, y = cw * (i % columns), ch * (i // columns)
        crate = (x + 0.05 * cw, y + 0.06 * ch, x + 0.95 * cw, y + 0.94 * ch)
        _crate(rng, sheet, crate, _FRUIT[ware])
        label, cost = ware, f"{price:.2f}/kg"
        half = max(text_width(label, face, t), text_width(cost, face, round(1.2 * t))) / 2 + 0.6 * t
        cx, cy = (crate[0] + crate[2]) / 2 + rng.uniform(-0.08, 0.08) * cw, crate[3] - 2.0 * t
        board = (cx - half, cy - 1.6 * t, cx + half, cy + 1.6 * t)
        sheet.rect(tuple(v + d for v, d in zip(board, (5, 7, 5, 7), strict=True)), (48, 38, 30))
        sheet.rect(board, tag, outline=mix(tag, ink_on(tag), 0.5), width=2, radius=6)
        one = sheet.text((cx, cy - 0.7 * t), label, face=face, size_px=t, fill=ink_on(tag), anchor="mm")
        two = sheet.text((cx, cy + 0.65 * t), cost, face=face, size_px=round(1.2 * t), fill=ink_on(tag), anchor="mm")
        boxes.append(union(one, two))
    if not sheet.is_clear():
        return None
    px, (i, j) = letter_height(face, t), rng.sample(range(n), 2)
    if prices[i] < prices[j]:
        i, j = j, i
    one, two, more, less = wares[i], wares[j], f"{prices[i]:.2f}", f"{prices[j]:.2f}"
    best, pair = max(range(n), key=prices.__getitem__), union(boxes[i], boxes[j])
    total, gap, k = f"{prices[i] + prices[j]:.2f}", f"{prices[i] - prices[j]:.2f}", rng.choice((2, 3))
    shown = ", ".join(f"{a} {b:.2f}" for a, b in zip(wares, prices, strict=True))
    asked = [
        Asked("price", f"What does one kilogram of {one.lower()} cost?", more, (f"{more}/kg",), boxes[i], px,
              f"the price tag of the {one.lower()}"),
        Asked("find", f"What costs {less} a kilogram?", two, (), boxes[j], px, f"the price tag with {less}"),
        Asked("extreme", "What costs the most?", wares[best], (), None, px, "all price tags",
              f"{shown}: the highest is {prices[best]:.2f}"),
        Asked("compute", f"How much more does a kilogram of {one.lower()} cost than one of {two.lower()}?", gap, (), pair, px,
              f"the tags of {one.lower()} and {two.lower()}", f"{more} - {less} = {gap}"),
        Asked("compute", f"What do one kilogram of {one.lower()} and one of {two.lower()} cost together?", total, (), pair, px,
              f"the tags of {one.lower()} and {two.lower()}", f"{more} + {less} = {total}"),
        Asked("compute", f"What do {k} kg of {two.lower()} cost?", f"{k * prices[j]:.2f}", (), boxes[j], px,
              f"the price tag of the {two.lower()}", f"{k} × {less} = {k * prices[j]:.2f}"),
        Asked("compare", f"Which costs less: {one.lower()} or {two.lower()}?", two, (), pair, px,
              f"the tags of {one.lower()} and {two.lower()}",
              f"{one} cost {more} and {two} cost {less}"),
    ]  # fmt: skip
    return World(photograph(rng, np.asarray(sheet.finish())), [sheet], f"a market stall with {n} crates and price tags", asked)


def _crate(rng: random.Random, sheet: Sheet, box: Box, color) -> None:
    x1, y1, x2, y2 = box
    sheet.rect((x1 + 8, y1 + 10, x2 + 8, y2 + 10), (44, 34, 26))
    sheet.rect(box, (70, 52, 36))
    radius = min(x2 - x1, y2 - y1) * rng.uniform(0.09, 0.13)
    y = y1 + 0.9 * radius
    row = 0
    while y < y2 - 0.6 * radius:
        x = x1 + radius * (1.0 if row % 2 else 1.8)
        while x < x2 - 0.9 * radius:
            tone = mix(color, (0, 0, 0) if rng.random() < 0.5 else (255, 255, 255), rng.uniform(0, 0.16))
            sheet.disc((x, y), radius, tone, outline=mix(color, (0, 0, 0), 0.45), width=2)
            sheet.disc((x - 0.3 * radius, y - 0.35 * radius), 0.24 * radius, mix(tone, (255, 255, 255), 0.5))
            x += 1.75 * radius
        y, row = y + 1.5 * radius, row + 1
    slat, pale = 0.07 * (y2 - y1), (176, 138, 92)
    for top in (y1 - 0.2 * slat, y2 - slat):
        sheet.rect((x1 - 4, top, x2 + 4, top + 1.2 * slat), pale, outline=(110, 82, 52))
    for left in (x1 - 4, x2 - slat + 4):
        sheet.rect((left, y1, left + slat, y2), mix(pale, (0, 0, 0), 0.12), outline=(110, 82, 52))
