"""Figures of a mathematics page: each function draws one into an area, true to scale, and asks one question about it.

They return None where the area is too small for what was drawn by lot. Lines of numbers, grids and fractions: figure_scales.py.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any, NamedTuple

from codevision_lite.records import Box
from codevision_lite.synth.families.drawing import Color, Point, Sheet, mix, polar, union
from codevision_lite.synth.typography import text_width

_TRIPLES = ((3, 4, 5), (5, 12, 13), (8, 15, 17), (20, 21, 29))


@dataclass
class Pen:
    sheet: Sheet
    face: str
    text: int  # px
    ink: Color
    colors: tuple[Color, ...]
    stroke: int

    def write(self, xy: Point, text: str, anchor: str = "mm", **more: Any) -> Box:
        return self.sheet.text(xy, text, anchor=anchor, **{"face": self.face, "size_px": self.text, "fill": self.ink, **more})


class Figure(NamedTuple):
    """What was drawn and what is asked about it; the question starts in lower case, as after "In figure 2, "."""

    name: str
    box: Box
    kind: str
    question: str
    answer: str
    also: tuple[str, ...]
    given: list[int]  # numbers that the answer follows from
    working: str


def angle(rng: random.Random, pen: Pen, area: Box) -> Figure | None:
    """A triangle with two of its angles, or a full circle of angles, with one left out."""
    t = pen.text
    if rng.random() < 0.3:
        parts = _angles(rng, 360, rng.choice((3, 4)), 50, 170)
        center, radius = middle_of(area), 0.46 * min(area[2] - area[0], area[3] - area[1])
        turn, missing, boxes = rng.uniform(0, 360), rng.randrange(len(parts)), [box_around(center, radius)]
        for i, part in enumerate(parts):
            pen.sheet.line([center, polar(center, radius, turn)], pen.ink, pen.stroke)
            pen.sheet.arc(center, 1.1 * t, turn + 4, turn + part - 4, pen.colors[i], pen.stroke)
            pen.write(polar(center, 2.3 * t, turn + part / 2), "x" if i == missing else f"{part}°")
            turn += part
        if radius < 3.4 * t:
            return None
        given, whole, name = [p for i, p in enumerate(parts) if i != missing], 360, "angles around a point"
    else:
        parts = _angles(rng, 180, 3, 28, 110)
        corners, missing = _fit(_triangle(parts, rng.uniform(0, 360)), _inner(area, 0.3 * t, 0.3 * t)), rng.randrange(3)
        pen.sheet.polygon(corners, mix(pen.sheet.paper, pen.colors[0], rng.choice((0, 0.15))), outline=pen.ink, width=pen.stroke)
        center = _centroid(corners)
        for i, (corner, part) in enumerate(zip(corners, parts, strict=True)):
            one, two = (math.degrees(math.atan2(corner[1] - p[1], p[0] - corner[0])) for p in corners if p != corner)
            low, high = (one, two) if (two - one) % 360 < 180 else (two, one)
            high = low + (high - low) % 360
            label = "x" if i == missing else f"{part}°"
            away = max(2.1 * t, (0.5 * t + 0.25 * text_width(label, pen.face, t)) / math.sin(math.radians(part / 2)))
            if away > 0.85 * math.dist(corner, center):
                return None
            pen.sheet.arc(corner, away - 1.0 * t, low, high, pen.colors[1], pen.stroke)
            pen.write(polar(corner, away, (low + high) / 2), label)
        boxes = [box_around(c, 2) for c in corners]
        given, whole, name = [p for i, p in enumerate(parts) if i != missing], 180, "triangle"
    x = whole - sum(given)
    working = f"{whole} - {' - '.join(map(str, given))} = {x}"
    question = rng.choice(("how many degrees has the angle x?", "what is the size of the angle x in degrees?"))
    return Figure(name, union(*boxes), "angle", question, str(x), (f"{x}°", f"{x} degrees"), given, working)


def side(rng: random.Random, pen: Pen, area: Box) -> Figure | None:
    """A right triangle of whole sides with one of them left out."""
    triple, k = rng.choice(_TRIPLES), rng.choice((1, 1, 2, 3))
    sides = [v * (k if triple[2] < 20 else 1) for v in triple]
    missing = rng.randrange(3)
    flip = rng.choice((-1, 1))
    corners = [(0.0, 0.0), (flip * sides[0], 0.0), (0.0, rng.choice((-1, 1)) * sides[1])]
    labels = ["x" if i == missing else str(v) for i, v in enumerate(sides)]
    drawn = _labelled_polygon(pen, area, corners, [labels[0], labels[2], labels[1]], mix(pen.sheet.paper, pen.colors[2], 0.14))
    if drawn is None:
        return None
    box, points = drawn
    square, t = points[0], 0.8 * pen.text
    u, v = (_towards(square, p, t) for p in points[1:])
    pen.sheet.line([u, (u[0] + v[0] - square[0], u[1] + v[1] - square[1]), v], pen.ink, max(1, pen.stroke - 1))
    x, given = sides[missing], [s for i, s in enumerate(sides) if i != missing]
    if missing == 2:
        working = f"{given[0]}² + {given[1]}² = {x * x} = {x}²"
    else:
        working = f"{given[1]}² - {given[0]}² = {x * x} = {x}²"
    question = rng.choice(("how long is the side x of the right triangle?", "what is the length of the side x?"))
    return Figure("right triangle", box, "side", question, str(x), (), given, working)


def perimeter(rng: random.Random, pen: Pen, area: Box) -> Figure | None:
    """A polygon with its sides in cm, named at the corners: a side is read, or the perimeter or the area found."""
    letters = rng.choice(("ABCD", "KLMN", "PQRS", "EFGH"))
    fill = mix(pen.sheet.paper, pen.colors[0], rng.choice((0, 0.16)))
    if rng.random() < 0.5:
        h = rng.randint(4, 20)
        w = rng.choice([n for n in range(5, 31) if h / 2 < n < 2.4 * h and n != h])
        corners, sides, name = [(0.0, 0.0), (w, 0.0), (w, h), (0.0, h)], [w, h], "rectangle"
        labels = [f"{w} cm", f"{h} cm", "", ""]
        if rng.random() < 0.5:
            kind, x, working = "area", w * h, f"{w} × {h} = {w * h}"
            question, also = "what is the area of the rectangle in square centimetres?", (f"{x} cm²",)
        else:
            kind, x, working = "perimeter", 2 * (w + h), f"2 × ({w} + {h}) = {2 * (w + h)}"
            question, also = "what is the perimeter of the rectangle in cm?", (f"{2 * (w + h)} cm",)
    else:
        middle = rng.randint(9, 27)
        sides = [middle, round(middle * rng.uniform(0.6, 0.9)), round(middle * rng.uniform(1.1, 1.35))]
        rng.shuffle(sides)
        a, b, c = sides
        x3 = (a * a + c * c - b * b) / (2 * a)
        turn = rng.uniform(0, 360)
        corners = [_turned(p, turn) for p in ((0.0, 0.0), (float(a), 0.0), (x3, math.sqrt(c * c - x3 * x3)))]
        letters, name, labels = letters[:3], "triangle", [f"{s} cm" for s in sides]
        if rng.random() < 0.5:
            i = rng.randrange(3)
            kind, x, working, sides = "read", sides[i], "", [sides[i]]
            question = f"how long is the side {letters[i]}{letters[(i + 1) % 3]} in cm?"
        else:
            kind, x, working = "perimeter", sum(sides), f"{a} + {b} + {c} = {a + b + c}"
            question = "what is the perimeter of the triangle in cm?"
        also = (f"{x} cm",)
    drawn = _labelled_polygon(pen, area, corners, labels, fill, letters)
    return drawn and Figure(name, drawn[0], kind, question, str(x), also, sides, working)


def circle(rng: random.Random, pen: Pen, area: Box) -> Figure | None:
    """A circle with its radius or its diameter."""
    t, sheet, n = pen.text, pen.sheet, rng.randint(3, 48)
    center, radius = middle_of(area), rng.uniform(0.36, 0.47) * min(area[2] - area[0], area[3] - area[1])
    through = rng.random() < 0.5
    n = 2 * n if through else n
    label = f"{n} cm"
    wide = text_width(label, pen.face, t)
    if wide > (1.7 if through else 0.8) * radius:
        return None
    sheet.disc(center, radius, mix(sheet.paper, pen.colors[3], rng.choice((0, 0.16))) or None, outline=pen.ink, width=pen.stroke)
    tilt = rng.uniform(-18, 18)
    ends = (polar(center, radius, 180 + tilt) if through else center, polar(center, radius, tilt))
    sheet.line(ends, pen.colors[0], pen.stroke)
    sheet.disc(center, max(3, pen.stroke), pen.ink)
    middle = ((ends[0][0] + ends[1][0]) / 2, (ends[0][1] + ends[1][1]) / 2)
    pen.write((middle[0], middle[1] - 0.8 * t - abs(math.tan(math.radians(tilt))) * wide / 2), label, "mm")
    if through:
        return Figure("circle", box_around(center, radius), "circle", "what is the radius of the circle in cm?", str(n // 2),
                      (f"{n // 2} cm",), [n], f"{n} / 2 = {n // 2}")  # fmt: skip
    return Figure("circle", box_around(center, radius), "circle", "what is the diameter of the circle in cm?", str(2 * n),
                  (f"{2 * n} cm",), [n], f"2 × {n} = {2 * n}")  # fmt: skip


def _angles(rng: random.Random, whole: int, n: int, low: int, high: int) -> list[int]:
    """`n` whole angles that add up to `whole`, each from `low` to `high` degrees."""
    while True:
        parts = [rng.randint(low, high) for _ in range(n - 1)]
        if low <= whole - sum(parts) <= high:
            return [*parts, whole - sum(parts)]


def _triangle(angles: list[int], turn_deg: float) -> list[Point]:
    """Corners on a unit circle: a central angle is twice the angle at the corner opposite to it."""
    a, b, _ = angles
    return [polar((0, 0), 1, turn_deg + v) for v in (0, 360 - 2 * (180 - a - b), 360 - 2 * (180 - a - b) - 2 * a)]


def _labelled_polygon(
    pen: Pen, area: Box, corners: list[Point], labels: list[str], fill: Color, letters: str = ""
) -> tuple[Box, list[Point]] | None:
    """A polygon with a label outside each side and a letter at each corner; None where the area is too small for it."""
    t = pen.text
    wide = max(text_width(s, pen.face, t) for s in labels)
    inner = _inner(area, wide + 0.8 * t, 1.8 * t)
    if inner[2] - inner[0] < 4 * t or inner[3] - inner[1] < 3 * t:
        return None
    points = _fit(corners, inner)
    pen.sheet.polygon(points, fill, outline=pen.ink, width=pen.stroke)
    middle, boxes = _centroid(points), [box_around(p, pen.stroke) for p in points]
    for i, (p, label) in enumerate(zip(points, labels, strict=True)):
        q = points[(i + 1) % len(points)]
        length = math.dist(p, q)
        if length < 3 * t:
            return None
        normal = ((q[1] - p[1]) / length, (p[0] - q[0]) / length)
        at = ((p[0] + q[0]) / 2, (p[1] + q[1]) / 2)
        if normal[0] * (at[0] - middle[0]) + normal[1] * (at[1] - middle[1]) < 0:
            normal = (-normal[0], -normal[1])
        away = 0.3 * t + abs(normal[0]) * text_width(label, pen.face, t) / 2 + abs(normal[1]) * 0.5 * t
        if label:
            boxes.append(pen.write((at[0] + normal[0] * away, at[1] + normal[1] * away), label))
    for p, letter in zip(points, letters, strict=False):
        boxes.append(pen.write(_towards(p, middle, -0.75 * t), letter, face=f"{pen.face}-bold"))
    return union(*boxes), points


def _fit(points: list[Point], area: Box) -> list[Point]:
    """Scaled and moved to fill the area as far as it goes."""
    xs, ys = zip(*points, strict=True)
    scale = min((area[2] - area[0]) / (max(xs) - min(xs)), (area[3] - area[1]) / (max(ys) - min(ys)))
    x, y = middle_of(area)
    mx, my = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    return [(x + (px - mx) * scale, y + (py - my) * scale) for px, py in points]


def _turned(p: Point, angle_deg: float) -> Point:
    cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    return p[0] * cos - p[1] * sin, p[0] * sin + p[1] * cos


def _towards(a: Point, b: Point, distance: float) -> Point:
    """From `a` on the way to `b`; backwards where the distance is negative."""
    share = distance / math.dist(a, b)
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share


def middle_of(area: Box) -> Point:
    return (area[0] + area[2]) / 2, (area[1] + area[3]) / 2


def _centroid(points: list[Point]) -> Point:
    return sum(p[0] for p in points) / len(points), sum(p[1] for p in points) / len(points)


def _inner(area: Box, dx: float, dy: float) -> Box:
    return area[0] + dx, area[1] + dy, area[2] - dx, area[3] - dy


def box_around(center: Point, radius: float) -> Box:
    return center[0] - radius, center[1] - radius, center[0] + radius, center[1] + radius
