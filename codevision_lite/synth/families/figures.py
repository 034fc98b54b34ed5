"""Pages of a mathematics book: one figure or several numbered ones, true to scale, with questions as in school."""

from __future__ import annotations

import random

from codevision_lite.records import Box
from codevision_lite.synth.families.chart_layout import PALETTES
from codevision_lite.synth.families.drawing import Sheet, block_around, content_key, grown, ink_on, mix, union
from codevision_lite.synth.families.figure_scales import fraction, number_line, plot, polygons
from codevision_lite.synth.families.figure_shapes import Figure, Pen, angle, circle, perimeter, side
from codevision_lite.synth.scene import Scene, too_small
from codevision_lite.synth.typography import TEXT_FACES, letter_height, text_width
from codevision_lite.synth.words import count_also

_FIGURES = (angle, side, perimeter, circle, number_line, plot, polygons, fraction)
_PAPERS = {
    "white": (255, 255, 255), "cream": (250, 246, 232), "graph paper": (252, 253, 255), "blackboard": (38, 62, 52), "slate": (44, 48, 56),
    "blueprint": (28, 62, 120), "grey": (238, 239, 240),
}  # fmt: skip
_SHAPES = {  # (columns, rows) -> range of height / width
    (1, 1): (0.65, 1.0), (2, 1): (0.55, 0.7), (1, 2): (1.0, 1.3), (2, 2): (0.72, 0.9), (3, 2): (0.68, 0.82), (2, 3): (1.05, 1.25),
}  # fmt: skip
_GRIDS = {1: ((1, 1),), 2: ((2, 1), (1, 2)), 4: ((2, 2),), 6: ((3, 2), (2, 3))}  # figures -> (columns, rows)
_HEADINGS = ("Exercise {n}", "Worksheet {n}", "Geometry, page {n}", "Test {n}", "Chapter {n}: figures", "Homework {n}")
_SMALL = 0.4  # how often the print of a page of several figures is too small for the whole view


def draw(rng: random.Random) -> Scene:
    """Draw a page with one question, about a figure of it or about the page."""
    while True:  # until everything has its place
        small = rng.random() < _SMALL
        n = rng.choice((4, 6)) if small else rng.choices((1, 2, 4, 6), (0.5, 0.2, 0.15, 0.15))[0]
        count = n >= 4 and not small and rng.random() < 0.4
        scene = _page(rng, n, small, count)
        if scene and scene.needs_crop == small:
            return scene


def _page(rng: random.Random, n: int, small: bool, count: bool) -> Scene | None:
    columns, rows = rng.choice(_GRIDS[n])
    width = rng.randint(1050, 1400) if small else rng.randint(560, 1000) if n == 1 else rng.randint(800, 1250)
    size = (width, round(width * rng.uniform(*_SHAPES[columns, rows])))
    if size[1] > 1500:
        return None
    paper_name = rng.choice(tuple(_PAPERS))
    paper = _PAPERS[paper_name]
    ink = ink_on(paper)
    text = rng.randint(18, 22) if small else max(19, round(rng.uniform(0.031, 0.036) * (size[0] * size[1]) ** 0.5))
    colors = list(rng.choice(PALETTES))
    rng.shuffle(colors)
    if sum(paper) < 300:
        colors = [mix(c, (255, 255, 255), 0.35) for c in colors]
    sheet = Sheet(size, paper)
    pen = Pen(sheet, rng.choice(TEXT_FACES), text, ink, tuple(colors), max(2, round(text / rng.uniform(8, 11))))
    if paper_name in ("graph paper", "blueprint"):
        _rule(sheet, text, mix(paper, (90, 140, 220) if paper_name == "graph paper" else ink, 0.22))
    cells, heading = _cells(rng, pen, columns, rows)
    figures = []
    makers = [rng.choice(_FIGURES) for _ in range(n)] if count else rng.sample(_FIGURES, n)
    for i, cell in enumerate(cells):
        figure = makers[i](rng, pen, cell)
        if figure is None:
            return None
        figures.append(figure)
    if not sheet.is_clear(gap=3):
        return None
    subject = f"a page headed {heading} with {n} figures" if heading else f"a page with {n} numbered figures"
    if n == 1:
        subject = f"a figure with {_a(figures[0].name)}" + (f", headed {heading}" if heading else "")
    return _count(rng, pen, figures, subject) if count else _ask(rng, pen, figures, subject)


def _rule(sheet: Sheet, cell: int, color: tuple[int, int, int]) -> None:
    sheet.pixels[::cell] = color
    sheet.pixels[:, ::cell] = color


def _cells(rng: random.Random, pen: Pen, columns: int, rows: int) -> tuple[list[Box], str]:
    """The areas for figures, each with its number written beside it, and the heading ("" where there is none)."""
    (width, height), t = pen.sheet.size, pen.text
    top, heading = 0.8 * t, ""
    if rng.random() < (0.4 if columns * rows == 1 else 0.75):
        heading = rng.choice(_HEADINGS).format(n=rng.randint(1, 60))
        x, anchor = rng.choice(((t, "la"), (width / 2, "ma")))
        px = round(rng.uniform(1.1, 1.5) * t)
        if text_width(heading, f"{pen.face}-bold", px) > width - 2 * t:
            px = t
        top = pen.write((x, 0.8 * t), heading, anchor, face=f"{pen.face}-bold", size_px=px)[3] + 0.5 * t
        if rng.random() < 0.4:
            pen.sheet.line([(t, top), (width - t, top)], mix(pen.sheet.paper, pen.ink, 0.5), 2)
            top += 0.5 * t
    framed, style = rng.random() < 0.4, rng.choice(("{i}", "Fig. {i}", "({i})", "{i})"))
    w, h = (width - 2 * t) / columns, (height - top - t) / rows
    cells = []
    for i in range(columns * rows):
        x, y = t + w * (i % columns), top + h * (i // columns)
        if columns * rows == 1:
            return [(x, y, x + w, y + h)], heading
        if framed:
            corners = [(x + 4, y + 4), (x + w - 4, y + 4), (x + w - 4, y + h - 4), (x + 4, y + h - 4)]
            pen.sheet.line(corners, mix(pen.sheet.paper, pen.ink, 0.4), 2, closed=True)
        pen.write((x + 0.5 * t, y + 0.5 * t), style.format(i=i + 1), "la", face=f"{pen.face}-bold")
        cells.append((x + 0.7 * t, y + 2.0 * t, x + w - 0.7 * t, y + h - 0.7 * t))
    return cells, heading


def _ask(rng: random.Random, pen: Pen, figures: list[Figure], subject: str) -> Scene:
    i = rng.randrange(len(figures))
    figure, size = figures[i], pen.sheet.size
    single = len(figures) == 1
    question = figure.question[0].upper() + figure.question[1:] if single else f"In figure {i + 1}, {figure.question}"
    box = grown(figure.box, 3, size)
    text_px = letter_height(pen.face, pen.text)
    near = [union(f.box, figure.box) for f in figures if f is not figure and _share(union(f.box, figure.box), size) < 0.6]
    block = grown(rng.choice(near), 8, size) if near else block_around(box, size, 0.7, rng)
    facts = {"text_px": text_px, "figures": [f.name for f in figures], "asked": i, "given": figure.given, "block_box": list(block)}
    return Scene(
        f"figure/{figure.kind}", pen.sheet.finish(), question, figure.answer, box, too_small(text_px, size), (),
        content_key("figure", [pen.sheet], facts, question), facts, figure.also, subject,
        f"the {figure.name}" if single else f"figure {i + 1}, the {figure.name}", figure.working,
    )  # fmt: skip


def _count(rng: random.Random, pen: Pen, figures: list[Figure], subject: str) -> Scene | None:
    """How many figures of the page are of one sort; the whole page must be seen."""
    one = rng.choice([f.name for f in figures])
    names = {"triangle", "right triangle"} if "triangle" in one else {one}
    plural = "triangles" if "triangle" in one else {"circle": "circles", "rectangle": "rectangles", "number line": "number lines",
                                                   "coordinate grid": "coordinate grids"}.get(one)  # fmt: skip
    if plural is None:
        return None
    found = [str(i + 1) for i, f in enumerate(figures) if f.name in names]
    text_px = letter_height(pen.face, pen.text)
    facts = {"text_px": text_px, "figures": [f.name for f in figures], "given": []}
    question = f"How many of the {len(figures)} figures show {plural}?"
    return Scene(
        "figure/how_many", pen.sheet.finish(), question, str(len(found)), None, False, (),
        content_key("figure", [pen.sheet], facts, question), facts, count_also(len(found)), subject, "all figures of the page",
        f"Figures {', '.join(found)}: that makes {len(found)}",
    )  # fmt: skip


def _share(box: Box, size: tuple[int, int]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1]) / (size[0] * size[1])


def _a(name: str) -> str:
    return name if name.endswith("s") or name.startswith(("angles", "bars", "discs")) else f"a {name}"
