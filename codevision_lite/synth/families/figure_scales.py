"""More figures of a mathematics page: number lines, grids of coordinates, rows of polygons, fractions. See figure_shapes.py."""

from __future__ import annotations

import math
import random

from codevision_lite.records import Box
from codevision_lite.synth.families.drawing import around, mix, polar, union
from codevision_lite.synth.families.figure_shapes import Figure, Pen, box_around, middle_of
from codevision_lite.synth.words import count_also

_POLYGONS = {3: "triangle", 4: "square", 5: "pentagon", 6: "hexagon", 7: "heptagon", 8: "octagon"}


def number_line(rng: random.Random, pen: Pen, area: Box) -> Figure | None:
    """Points with letters on a number line: a point is read, or the distance of two found."""
    t, sheet = pen.text, pen.sheet
    step, minor = rng.choice(((5, 5), (10, 5), (10, 10), (2, 2), (20, 4), (50, 5)))
    n = rng.randint(3, 4)
    low = rng.choice((0, -step, -2 * step, step * rng.randint(1, 9)))
    x1, x2, y = area[0] + 1.2 * t, area[2] - 1.2 * t, (area[1] + area[3]) / 2
    unit = (x2 - x1) / (n * minor)
    if unit < max(6, 0.42 * t):
        return None
    sheet.line([(area[0], y), (area[2], y)], pen.ink, pen.stroke)
    sheet.polygon([(area[2], y), (area[2] - 0.6 * t, y - 0.3 * t), (area[2] - 0.6 * t, y + 0.3 * t)], pen.ink)
    boxes = [(area[0], y - 0.5 * t, area[2], y + 0.5 * t)]
    for i in range(n * minor + 1):
        x, major = x1 + i * unit, i % minor == 0
        sheet.line([(x, y - (0.45 if major else 0.25) * t), (x, y + (0.45 if major else 0.25) * t)], pen.ink, pen.stroke if major else 2)
        if major:
            boxes.append(pen.write((x, y + 0.7 * t), str(low + i // minor * step), "ma"))
    places = sorted(rng.sample(range(1, n * minor), rng.randint(2, 4)))
    letters = rng.sample("ABCDEFGHKMNPQRST", len(places))
    for i, letter in zip(places, letters, strict=True):
        x = x1 + i * unit
        sheet.disc((x, y), max(5, 0.26 * t), pen.colors[0], outline=sheet.paper, width=2)
        boxes.append(pen.write((x, y - 0.65 * t), letter, "md"))
    values = [low + i * step // minor for i in places]
    if rng.random() < 0.6:
        i = rng.randrange(len(values))
        question = f"which number does the point {letters[i]} mark?"
        return Figure("number line", union(*boxes), "number", question, str(values[i]), (), [values[i]], "")
    i, j = sorted(rng.sample(range(len(values)), 2))
    far, a = values[j] - values[i], f"({values[i]})" if values[i] < 0 else values[i]
    return Figure("number line", union(*boxes), "distance", f"how far apart are the points {letters[i]} and {letters[j]}?", str(far), (),
                  [values[i], values[j]], f"{values[j]} - {a} = {far}")  # fmt: skip


def plot(rng: random.Random, pen: Pen, area: Box) -> Figure | None:
    """Points with letters in a grid of coordinates."""
    t, sheet = pen.text, pen.sheet
    low, high = rng.choice(((-5, 5), (-4, 4), (0, 8), (-6, 6), (0, 10)))
    side = min(area[2] - area[0], area[3] - area[1]) - 1.4 * t
    unit = side / (high - low)
    every = 1 if unit > 1.9 * t else 2
    if unit * every < 1.25 * t or unit < 0.75 * t:
        return None
    cx, cy = middle_of(area)
    x0, y0 = cx - side / 2 + 0.5 * t - low * unit, cy + side / 2 - 0.5 * t + low * unit  # of the origin
    grid = mix(sheet.paper, pen.ink, 0.25)
    for v in range(low, high + 1):
        sheet.line([(x0 + v * unit, y0 - low * unit), (x0 + v * unit, y0 - high * unit)], grid, 1)
        sheet.line([(x0 + low * unit, y0 - v * unit), (x0 + high * unit, y0 - v * unit)], grid, 1)
    sheet.line([(x0 + low * unit, y0), (x0 + high * unit, y0)], pen.ink, pen.stroke)
    sheet.line([(x0, y0 - low * unit), (x0, y0 - high * unit)], pen.ink, pen.stroke)
    boxes = [(x0 + low * unit, y0 - high * unit, x0 + high * unit, y0 - low * unit)]
    for v in range(low, high + 1):
        if v and v % every == 0:
            boxes.append(pen.write((x0 + v * unit, y0 + 0.3 * t), str(v), "ma", halo=sheet.paper))
            boxes.append(pen.write((x0 - 0.3 * t, y0 - v * unit), str(v), "rm", halo=sheet.paper))
    free = [(x, y) for x in range(low + 1, high) for y in range(low + 1, high) if x * y]
    rng.shuffle(free)
    points: list[tuple[int, int]] = []
    for x, y in free:
        if len(points) < 6 and all(abs(x - a) + abs(y - b) > 2 for a, b in points):
            points.append((x, y))
    points = points[: rng.randint(3, 6)]
    letters = "ABCDEFGH"[: len(points)]
    for (x, y), letter in zip(points, letters, strict=True):
        at = (x0 + x * unit, y0 - y * unit)
        sheet.disc(at, max(5, 0.25 * t), pen.colors[0])
        boxes.append(pen.write((at[0] + 0.35 * t, at[1] - 0.25 * t), letter, "ld", halo=sheet.paper, face=f"{pen.face}-bold"))
    i = rng.randrange(len(points))
    x, y = points[i]
    kind = rng.choices(("coordinates", "point", "count"), (0.5, 0.3, 0.2))[0]
    box, name = union(*boxes), "coordinate grid"
    if kind == "coordinates":
        return Figure(name, box, kind, f"what are the coordinates of the point {letters[i]}?", f"({x}, {y})", (f"{x}, {y}",), [x, y], "")
    if kind == "point":
        return Figure(name, box, kind, f"which point has the coordinates ({x}, {y})?", letters[i], (), [x, y], "")
    axis, limit = rng.randrange(2), 0 if low < 0 else 4
    found = [letter for p, letter in zip(points, letters, strict=True) if p[axis] > limit]
    if not found or any(p[axis] == limit for p in points):
        return None
    question = f"how many of the lettered points have {'xy'[axis]} greater than {limit}?"
    working = f"{', '.join(found)}: that makes {len(found)}"
    return Figure(name, box, "count", question, str(len(found)), count_also(len(found)), [p[axis] for p in points], working)


def polygons(rng: random.Random, pen: Pen, area: Box) -> Figure | None:
    """A row of regular polygons with letters: one is found by its name, or its sides are counted."""
    t, n = pen.text, rng.randint(3, 4)
    wide = (area[2] - area[0]) / n
    radius = min(0.46 * wide, (area[3] - area[1] - 1.6 * t) / 2)
    if radius < 1.4 * t:
        return None
    corners, letters = rng.sample(tuple(_POLYGONS), n), rng.choice(("ABCD", "PQRS", "KLMN"))
    boxes = []
    for i, m in enumerate(corners):
        center, turn = (area[0] + wide * (i + 0.5), (area[1] + area[3]) / 2 - 0.8 * t), rng.uniform(0, 360)
        pen.sheet.polygon([polar(center, radius, turn + 360 * k / m) for k in range(m)], pen.colors[i], outline=pen.ink, width=pen.stroke)
        boxes += [box_around(center, radius), pen.write((center[0], center[1] + radius + 0.3 * t), letters[i], "ma")]
    i = rng.randrange(n)
    if rng.random() < 0.5:
        question, answer = f"which of the shapes is the {_POLYGONS[corners[i]]}?", letters[i]
        return Figure("polygons", union(*boxes), "shape", question, answer, (), [corners[i]], "")
    m = corners[i]
    return Figure("polygons", union(*boxes), "corners", f"how many corners has the shape {letters[i]}?", str(m), count_also(m), [m], "")


def fraction(rng: random.Random, pen: Pen, area: Box) -> Figure | None:
    """Bars or discs in equal parts, some of them shaded: a fraction is read, or two are compared."""
    t, sheet, n = pen.text, pen.sheet, rng.randint(2, 3)
    parts = [rng.randint(3, 10) for _ in range(n)]
    shaded = [rng.randint(1, p - 1) for p in parts]
    letters, discs = "ABC"[:n], rng.random() < 0.4
    boxes, clear = [], mix(sheet.paper, pen.ink, 0.06)
    for i, (part, full) in enumerate(zip(parts, shaded, strict=True)):
        if discs:
            wide = (area[2] - area[0]) / n
            radius = min(0.44 * wide, (area[3] - area[1] - 1.6 * t) / 2)
            center = (area[0] + wide * (i + 0.5), (area[1] + area[3]) / 2 - 0.8 * t)
            for k in range(part):
                wedge = [center, *around(center, radius, 90 - 360 * k / part, 90 - 360 * (k + 1) / part)]
                sheet.polygon(wedge, pen.colors[i] if k < full else clear, outline=pen.ink, width=2)
            boxes += [box_around(center, radius), pen.write((center[0], center[1] + radius + 0.3 * t), letters[i], "ma")]
        else:
            tall = (area[3] - area[1]) / n
            x1, y1, y2 = area[0] + 1.5 * t, area[1] + tall * (i + 0.16), area[1] + tall * (i + 0.84)
            unit = (area[2] - x1 - 4) / part
            for k in range(part):
                box = (x1 + unit * k, y1, x1 + unit * (k + 1), y2)
                sheet.rect(box, pen.colors[i] if k < full else clear, outline=pen.ink)
            boxes += [(x1, y1, area[2], y2), pen.write((area[0] + 0.6 * t, (y1 + y2) / 2), letters[i])]
    if min(boxes[0][2] - boxes[0][0], boxes[0][3] - boxes[0][1]) < 1.2 * t:
        return None
    what, i, j = "disc" if discs else "bar", *rng.sample(range(n), 2)
    if rng.random() < 0.65:
        k = math.gcd(shaded[i], parts[i])
        also = (f"{shaded[i] // k}/{parts[i] // k}",) if k > 1 else ()
        question = f"what fraction of the {what} {letters[i]} is shaded?"
        return Figure(f"{what}s in equal parts", union(*boxes), "fraction", question, f"{shaded[i]}/{parts[i]}", also,
                      [shaded[i], parts[i]], f"{shaded[i]} of {parts[i]} parts are shaded")  # fmt: skip
    a, b = shaded[i] / parts[i], shaded[j] / parts[j]
    if abs(a - b) < 0.08:
        return None
    best = letters[i] if a > b else letters[j]
    working = f"{letters[i]} has {shaded[i]}/{parts[i]} and {letters[j]} has {shaded[j]}/{parts[j]}: {best} has more"
    question = f"of which is a greater part shaded, of {what} {letters[i]} or {what} {letters[j]}?"
    given = [shaded[i], parts[i], shaded[j], parts[j]]
    return Figure(f"{what}s in equal parts", union(*boxes), "compare", question, best, (f"{what} {best}",), given, working)
