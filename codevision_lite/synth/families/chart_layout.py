"""How a chart is laid out: axes, marks, labels and legend, and where each mark can be read. charts.py asks about it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from codevision_lite.records import Box
from codevision_lite.synth.families.drawing import Color, Point, Sheet, around, ink_on, mix, polar, union
from codevision_lite.synth.typography import TEXT_FACES, text_width
from codevision_lite.synth.words import TOWNS

_PAPERS = ((255, 255, 255), (250, 247, 238), (240, 244, 248), (236, 236, 232), (28, 32, 44), (38, 44, 40), (255, 250, 240))
PALETTES = (
    ((52, 101, 164), (224, 123, 45), (78, 154, 68), (192, 57, 62), (128, 94, 168), (140, 98, 70), (218, 165, 32), (70, 160, 170)),
    ((38, 84, 124), (239, 71, 111), (235, 185, 60), (6, 170, 130), (120, 80, 150), (250, 140, 70), (90, 180, 220), (130, 130, 130)),
    ((230, 85, 75), (75, 130, 190), (110, 180, 90), (160, 90, 170), (245, 165, 50), (150, 110, 80), (240, 140, 190), (80, 170, 165)),
    ((20, 110, 105), (205, 140, 50), (150, 50, 75), (90, 135, 200), (120, 165, 75), (95, 85, 150), (225, 110, 90), (130, 120, 105)),
)


@dataclass(frozen=True)
class Topic:
    title: str
    noun: str  # what is measured
    by: str  # preposition between the noun and a category
    category: str
    labels: tuple[str, ...]
    unit: str
    steps: tuple[int, ...]  # distances of gridlines that suit
    in_order: bool = False


@dataclass(frozen=True)
class Chart:
    """What is shown: values[series][category]."""

    shape: str  # "bars", "lying bars", "line" or "pie"
    topic: Topic
    title: str
    categories: tuple[str, ...]
    series: tuple[str, ...]  # ("",) where there is one
    values: tuple[tuple[int, ...], ...]
    step: int
    top: int
    labelled: bool  # the values are written at the marks; otherwise they lie on gridlines


@dataclass
class Look:
    """How it is shown, and where its parts come to lie."""

    sheet: Sheet
    face: str
    text: int  # px of all print that is asked about
    ink: Color
    grid: Color
    colors: tuple[Color, ...]
    regions: dict[tuple[int, int], Box] = field(default_factory=dict)  # (series, category) -> what shows its value and name
    ticks: list[Box] = field(default_factory=list)

    def write(self, xy: Point, text: str, anchor: str, **more: Any) -> Box:
        return self.sheet.text(xy, text, anchor=anchor, **{"face": self.face, "size_px": self.text, "fill": self.ink, **more})


def lay_out(rng: random.Random, chart: Chart, small: bool) -> Look | None:
    """The chart on a sheet, or None where something does not fit."""
    width = rng.randint(1000, 1400) if small else rng.randint(620, 1250)
    size = (width, round(width * rng.uniform(0.62, 0.95)))
    text = rng.randint(18, 23) if small else max(19, round(rng.uniform(0.031, 0.037) * (size[0] * size[1]) ** 0.5))
    paper = rng.choice(_PAPERS)
    ink = ink_on(paper)
    colors = list(rng.choice(PALETTES))
    rng.shuffle(colors)
    if sum(paper) < 200:
        colors = [mix(c, (255, 255, 255), 0.2) for c in colors]
    look = Look(Sheet(size, paper), rng.choice(TEXT_FACES), text, ink, mix(paper, ink, rng.uniform(0.14, 0.28)), tuple(colors))
    area = _frame(rng, chart, look)
    {"bars": _bars, "lying bars": _lying_bars, "line": _line, "pie": _pie}[chart.shape](rng, chart, look, area)
    fits = look.sheet.is_clear(gap=3) and min(area[2] - area[0], area[3] - area[1]) > 8 * text
    return look if fits and len(look.regions) == len(chart.values) * len(chart.categories) else None


def _frame(rng: random.Random, chart: Chart, look: Look) -> Box:
    """Title, unit, legend and source note; returns what is left for the chart."""
    (width, height), t = look.sheet.size, look.text
    margin = round(rng.uniform(1.0, 1.8) * t)
    bold = f"{look.face}-bold"
    title_px = next((s for s in range(round(1.7 * t), t - 1, -1) if text_width(chart.title, bold, s) < width - 2 * margin), t)
    if rng.random() < 0.25:  # a slide's header
        band = mix(look.colors[-1], (0, 0, 0), 0.25)
        look.sheet.rect((0, 0, width, 2.2 * title_px), band)
        look.write((margin, 1.1 * title_px), chart.title, "lm", face=bold, size_px=title_px, fill=ink_on(band))
        y = 2.2 * title_px + 0.4 * t
    else:
        x, anchor = rng.choice(((margin, "la"), (width / 2, "ma")))
        look.write((x, 0.7 * margin), chart.title, anchor, face=bold, size_px=title_px)
        y = 0.7 * margin + 1.3 * title_px
    if chart.topic.unit and rng.random() < 0.85:
        look.write((margin, y + 0.15 * t), f"in {'percent' if chart.topic.unit == '%' else chart.topic.unit}", "la")
        y += 1.5 * t
    bottom = height - margin
    if rng.random() < 0.3:
        note = rng.choice((f"Source: {rng.choice(TOWNS)} Council", f"Figure {rng.randint(1, 19)}", f"Survey of {rng.randint(2015, 2025)}"))
        box = look.write((margin, height - 0.5 * margin), note, "ld", size_px=max(15, round(0.75 * t)))
        bottom = box[1] - 0.4 * t
    if rng.random() < 0.3:
        look.sheet.line([(2, 2), (width - 3, 2), (width - 3, height - 3), (2, height - 3)], look.grid, 3, closed=True)
    return (margin, y + 0.3 * t, width - margin, bottom)


def _legend(look: Look, names: tuple[str, ...], area: Box) -> tuple[list[Box], Box]:
    """A row of names with their colours above the chart; returns the entries and the area below it."""
    x, y, t = area[0], area[1], look.text
    entries = []
    for name, color in zip(names, look.colors, strict=False):
        look.sheet.rect((x, y + 0.15 * t, x + 0.9 * t, y + 1.05 * t), color)
        box = look.write((x + 1.2 * t, y + 0.6 * t), name, "lm")
        entries.append(union(box, (x, y, x + t, y + 1.05 * t)))
        x = box[2] + 1.2 * t
    return entries, (area[0], y + 1.8 * t, area[2], area[3])


def _axes(rng: random.Random, chart: Chart, look: Look, area: Box, flat: bool, right: float = 0.0) -> Box:
    """Gridlines with their values; returns the plot: x1, y1 (top value), x2, y2 (zero); `flat`: values run to the right."""
    t, sheet = look.text, look.sheet
    shown = not chart.labelled or rng.random() < 0.5
    numbers = [str(v) for v in range(0, chart.top + 1, chart.step)]
    wide = max(text_width(s, look.face, t) for s in numbers)
    if flat:
        names = max(text_width(c, look.face, t) for c in chart.categories)
        plot = (area[0] + names + 0.6 * t, area[1] + 0.4 * t, area[2] - max(wide, right), area[3] - (1.6 * t if shown else 0.2 * t))
    else:
        plot = (area[0] + (wide + 0.6 * t if shown else 0), area[1] + 1.3 * t, area[2], area[3] - 1.6 * t)
    x1, y1, x2, y2 = plot
    if rng.random() < 0.3:
        sheet.rect(plot, mix(sheet.paper, look.grid, 0.3))
    lines = range(0, chart.top + 1, chart.step)
    if not chart.labelled and any(v % chart.step for row in chart.values for v in row):
        for v in range(chart.step // 2, chart.top, chart.step):
            x, y = x1 + v / chart.top * (x2 - x1), y2 - v / chart.top * (y2 - y1)
            sheet.line([(x, y1), (x, y2)] if flat else [(x1, y), (x2, y)], mix(sheet.paper, look.grid, 0.55), 1)
    for v in lines if shown else ():
        at = v / chart.top
        if flat:
            x = x1 + at * (x2 - x1)
            sheet.line([(x, y1), (x, y2)], look.grid, 2)
            look.ticks.append(look.write((x, y2 + 0.4 * t), str(v), "ma"))
        else:
            y = y2 - at * (y2 - y1)
            sheet.line([(x1, y), (x2, y)], look.grid, 2)
            look.ticks.append(look.write((x1 - 0.4 * t, y), str(v), "rm"))
    return plot


def _bars(rng: random.Random, chart: Chart, look: Look, area: Box) -> None:
    t, sheet = look.text, look.sheet
    entries, area = _legend(look, chart.series, area) if len(chart.series) > 1 else ([], area)
    x1, y1, x2, y2 = _axes(rng, chart, look, area, flat=False)
    slot, gap, varied = (x2 - x1) / len(chart.categories), rng.uniform(0.2, 0.45), len(chart.series) == 1 and rng.random() < 0.3
    bar = slot * (1 - gap) / len(chart.series)
    edge = rng.random() < 0.25
    for c, name in enumerate(chart.categories):
        left = x1 + slot * (c + gap / 2)
        label = look.write((x1 + slot * (c + 0.5), y2 + 0.35 * t), name, "ma")
        for s, row in enumerate(chart.values):
            box = (round(left + bar * s), y2 - row[c] / chart.top * (y2 - y1), round(left + bar * (s + 1)) - (len(chart.series) > 1), y2)
            color = look.colors[c % len(look.colors)] if varied else look.colors[s]
            sheet.rect(box, color, outline=look.ink if edge else None)
            region = union(box, label)
            if chart.labelled:
                region = union(region, look.write(((box[0] + box[2]) / 2, box[1] - 0.25 * t), str(row[c]), "md", halo=sheet.paper))
            else:
                region = union(region, _nearest(look.ticks, box[1], flat=False))
            look.regions[s, c] = union(region, entries[s]) if entries else region
    sheet.line([(x1, y2), (x2, y2)], look.ink, 2)


def _lying_bars(rng: random.Random, chart: Chart, look: Look, area: Box) -> None:
    t, sheet = look.text, look.sheet
    entries, area = _legend(look, chart.series, area) if len(chart.series) > 1 else ([], area)
    widest = max(text_width(str(v), look.face, t) for row in chart.values for v in row) + 0.6 * t
    x1, y1, x2, y2 = _axes(rng, chart, look, area, flat=True, right=widest)
    slot, gap, varied = (y2 - y1) / len(chart.categories), rng.uniform(0.2, 0.45), len(chart.series) == 1 and rng.random() < 0.3
    bar = slot * (1 - gap) / len(chart.series)
    for c, name in enumerate(chart.categories):
        top = y1 + slot * (c + gap / 2)
        label = look.write((x1 - 0.4 * t, y1 + slot * (c + 0.5)), name, "rm")
        for s, row in enumerate(chart.values):
            box = (x1, round(top + bar * s), x1 + row[c] / chart.top * (x2 - x1), round(top + bar * (s + 1)) - (len(chart.series) > 1))
            sheet.rect(box, look.colors[c % len(look.colors)] if varied else look.colors[s])
            region = union(box, label)
            if chart.labelled:
                region = union(region, look.write((box[2] + 0.3 * t, (box[1] + box[3]) / 2), str(row[c]), "lm", halo=sheet.paper))
            else:
                region = union(region, _nearest(look.ticks, box[2], flat=True))
            look.regions[s, c] = union(region, entries[s]) if entries else region
    sheet.line([(x1, y1), (x1, y2)], look.ink, 2)


def _line(rng: random.Random, chart: Chart, look: Look, area: Box) -> None:
    t, sheet = look.text, look.sheet
    entries, area = _legend(look, chart.series, area) if len(chart.series) > 1 else ([], area)
    x1, y1, x2, y2 = _axes(rng, chart, look, area, flat=False)
    slot, radius = (x2 - x1) / len(chart.categories), max(4.0, 0.24 * t)
    labels = [look.write((x1 + slot * (c + 0.5), y2 + 0.35 * t), name, "ma") for c, name in enumerate(chart.categories)]
    for s, row in enumerate(chart.values):
        points = [(x1 + slot * (c + 0.5), y2 - v / chart.top * (y2 - y1)) for c, v in enumerate(row)]
        if len(chart.values) == 1 and rng.random() < 0.3:
            sheet.polygon([(points[0][0], y2), *points, (points[-1][0], y2)], mix(sheet.paper, look.colors[s], 0.3))
        sheet.line(points, look.colors[s], max(3, t // 7))
        for c, (x, y) in enumerate(points):
            sheet.disc((x, y), radius, look.colors[s], outline=sheet.paper, width=2)
            region = union((x - radius, y - radius, x + radius, y + radius), labels[c])
            if chart.labelled:  # off the line: under a valley, else above and away from the neighbour that is higher
                higher = [d for d in (-1, 1) if 0 <= c + d < len(row) and row[c + d] > row[c]]
                valley = len(higher) == sum(0 <= c + d < len(row) for d in (-1, 1)) and y + 2 * t < y2
                aside = 0 if len(higher) != 1 or valley else -0.45 * higher[0] * text_width(str(row[c]), look.face, t)
                at = (x + aside, y + radius + 0.2 * t) if valley else (x + aside, y - radius - 0.2 * t)
                region = union(region, look.write(at, str(row[c]), "ma" if valley else "md", halo=sheet.paper))
            else:
                region = union(region, _nearest(look.ticks, y, flat=False))
            look.regions[s, c] = union(region, entries[s]) if entries else region
    sheet.line([(x1, y2), (x2, y2)], look.ink, 2)


def _pie(rng: random.Random, chart: Chart, look: Look, area: Box) -> None:
    """Names at the slices, or shares at the slices and names in a legend of colours."""
    t, sheet = look.text, look.sheet
    names = [f"{c} {v}%" for c, v in zip(chart.categories, chart.values[0], strict=True)]
    with_legend = t >= 0.03 * (sheet.size[0] * sheet.size[1]) ** 0.5 and rng.random() < 0.4
    x1, y1, x2, y2 = area
    side = max(text_width(c if with_legend else n, look.face, t) for c, n in zip(chart.categories, names, strict=True)) + 1.5 * t
    if with_legend:
        x2 -= side + 2 * t
    else:
        x1, x2, y1, y2 = x1 + side, x2 - side, y1 + t, y2 - t
    radius = min(x2 - x1, y2 - y1) / 2 - 1.2 * t * with_legend
    if radius < 4 * t:
        return
    center, angle = ((x1 + x2) / 2, (y1 + y2) / 2), rng.uniform(60, 120)
    for c, (name, share) in enumerate(zip(chart.categories, chart.values[0], strict=True)):
        sweep, color = 3.6 * share, look.colors[c]
        sheet.polygon([center, *around(center, radius, angle, angle - sweep)], color, outline=sheet.paper, width=3)
        middle = angle - sweep / 2
        if with_legend:
            value = look.write(polar(center, radius + 1.2 * t, middle), f"{share}%", "mm")
            y = area[1] + (c + 1) * 1.8 * t
            sheet.rect((x2 + t, y - 0.45 * t, x2 + 1.9 * t, y + 0.45 * t), color)
            label = look.write((x2 + 2.2 * t, y), name, "lm")
            inside = polar(center, 0.8 * radius, middle)  # the slice's colour must be seen
            look.regions[0, c] = union(value, label, (x2 + t, y - 0.45 * t, x2 + 1.9 * t, y + 0.45 * t), (*inside, *inside))
        else:
            a, (x, y) = polar(center, radius, middle), polar(center, radius + 0.7 * t, middle)
            sheet.line([a, (x, y)], look.ink, 2)
            side = 0 if abs(x - center[0]) < 0.35 * radius else 1 if x > center[0] else -1
            anchor = {1: "lm", -1: "rm", 0: "md" if y < center[1] else "ma"}[side]
            look.regions[0, c] = look.write((x + 0.3 * side * t, y), names[c], anchor)
        angle -= sweep
    if rng.random() < 0.3:
        sheet.disc(center, radius * 0.5, sheet.paper)


def _nearest(ticks: list[Box], at: float, flat: bool) -> Box:
    """The tick that a gridline at `at` leads to."""
    return min(ticks, key=lambda b: abs(((b[0] + b[2]) if flat else (b[1] + b[3])) / 2 - at))
