"""Pages of equal panels: catalogues of toys and handouts of slides."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from codevision_lite.records import Box
from codevision_lite.synth import words
from codevision_lite.synth.families.drawing import Color, Sheet, ink_on, mix, union
from codevision_lite.synth.families.paper import (
    ACCENTS,
    INKS,
    PAPERS,
    Ask,
    age,
    bold,
    fit,
    money,
    money_also,
    pick,
    print_size,
    to_scene,
)
from codevision_lite.synth.families.pictograms import THINGS, draw_thing, with_article
from codevision_lite.synth.scene import Scene
from codevision_lite.synth.stories import join
from codevision_lite.synth.typography import letter_height, text_width

_PROJECTS = ("Harbour", "Orchard", "Lighthouse", "Meadow", "Bridge", "Fountain", "Station", "Tower", "Garden", "Mill", "Canal", "Market")


@dataclass(frozen=True)
class _Grid:
    """Panels of one size in rows; sizes in px."""

    face: str
    size: int
    n_columns: int
    n_rows: int
    panel: tuple[int, int]
    gap: int
    margin: int
    head_px: int
    ink: Color
    accent: Color

    @property
    def page(self) -> tuple[int, int]:
        width = 2 * self.margin + self.n_columns * self.panel[0] + (self.n_columns - 1) * self.gap
        return width, 2 * self.margin + self.head_px + self.n_rows * self.panel[1] + (self.n_rows - 1) * self.gap

    @property
    def text_px(self) -> float:
        return letter_height(self.face, self.size)

    def box(self, index: int) -> Box:
        row, column = divmod(index, self.n_columns)
        x = self.margin + column * (self.panel[0] + self.gap)
        y = self.margin + self.head_px + row * (self.panel[1] + self.gap)
        return float(x), float(y), float(x + self.panel[0]), float(y + self.panel[1])


@dataclass
class _Toy:
    name: str
    thing: str
    code: str
    cents: int
    age: int
    place: int  # of its panel
    panel: Box | None = None
    lines: dict[str, Box] | None = None  # "name", "code", "price", "age"


@dataclass
class _Slide:
    title: str
    values: dict[str, str]  # bullet -> value
    thing: str
    panel: Box | None = None
    head: Box | None = None
    number: Box | None = None
    bullets: dict[str, Box] | None = None
    frame: Box | None = None


def _grid(rng: random.Random, shape: tuple[int, int], panel_em: tuple[float, float], texts: list[str], beside_em: float) -> _Grid:
    """`shape`: columns and rows; a panel is made as wide as its `texts` and `beside_em` beside them need."""
    face = rng.choice(("sans", "grotesk", "sans", "book", "serif"))
    n_columns, n_rows = shape
    size = print_size(rng, face, (19, 20, 20, 21, 22, 24), large=0.0 if n_columns * n_rows > 6 else 0.06)
    gap, margin = round(size * rng.uniform(0.6, 1.4)), round(size * rng.uniform(0.9, 1.8))
    width = max(size * panel_em[0], max(text_width(text, bold(face), size) for text in texts) + beside_em * size)
    panel = (round(width), round(size * panel_em[1]))
    return _Grid(face, size, n_columns, n_rows, panel, gap, margin, round(2.8 * size), rng.choice(INKS[:3]), rng.choice(ACCENTS))


def _head(sheet: Sheet, grid: _Grid, title: str) -> None:
    width = sheet.size[0] - 2 * grid.margin
    px = fit(title, bold(grid.face), round(1.8 * grid.size), width)
    sheet.text((grid.margin, grid.margin + 0.9 * grid.size), title, face=bold(grid.face), size_px=px, fill=grid.accent, anchor="lm")


# a catalogue


def draw_catalogue(rng: random.Random, family: str) -> Scene:
    """Toys with a picture, a name, a number and a price, and a question."""
    shape = rng.choice(((2, 2), (2, 2), (3, 2), (2, 3), (3, 2), (3, 3), (4, 3), (5, 3)))
    n = shape[0] * shape[1]
    things = rng.choices(rng.sample(tuple(THINGS), min(len(THINGS), max(3, n - 3))), k=n)
    names = [f"{thing.capitalize()} {name}" for thing, name in zip(things, rng.sample(words.FIRST_NAMES, n), strict=True)]
    cents = [rng.randint(3, 79) * 100 + rng.choice((0, 50, 90, 95)) for _ in range(n)]
    toys = [_Toy(names[i], things[i], words.code(rng), cents[i], rng.randint(2, 9), i) for i in range(n)]
    grid = _grid(rng, shape, (rng.uniform(9, 11.5), rng.uniform(12.5, 15)), [*names, "No. MW-8888", "from 8 years"], 1.2)
    sign, title = rng.choice(("$", "€", "£")), rng.choice(("Wooden toys", "Toys for every day", "New this spring", "The toy chest"))
    sheet = Sheet(grid.page, rng.choice(PAPERS))
    age(sheet, rng)
    _head(sheet, grid, title)
    has_boxes, left = rng.random() < 0.6, rng.random() < 0.5
    for toy in toys:
        toy.panel, toy.lines = grid.box(toy.place), {}
        _draw_toy(sheet, rng, grid, toy, sign, (has_boxes, left))
    askers = [partial(ask, rng, grid, toys, sign) for ask in _ON_CATALOGUES]
    return to_scene(family, sheet, pick(rng, askers, sheet.size), f'a page of the catalogue "{title}"', [t.thing for t in toys], grid)


def _draw_toy(sheet: Sheet, rng: random.Random, grid: _Grid, toy: _Toy, sign: str, style: tuple[bool, bool]) -> None:
    (x1, y1, x2, y2), size, (has_box, left) = toy.panel, grid.size, style
    if has_box:
        sheet.rect(toy.panel, mix(sheet.paper, (255, 255, 255), 0.5), outline=mix(sheet.paper, grid.ink, 0.35), width=1)
    pad = 0.5 * size
    draw_thing(sheet, rng, toy.thing, (x1 + pad, y1 + pad, x2 - pad, y2 - 6.2 * size), framed=rng.random() < 0.7)
    at, anchor = (x1 + pad, "lm") if left else ((x1 + x2) / 2, "mm")
    lines = (
        ("name", toy.name, bold(grid.face), grid.ink), ("code", f"No. {toy.code}", grid.face, grid.ink),
        ("age", f"from {toy.age} years", grid.face, grid.ink), ("price", f"{sign}{money(toy.cents)}", bold(grid.face), grid.accent),
    )  # fmt: skip
    for i, (name, text, face, fill) in enumerate(lines):
        toy.lines[name] = sheet.text((at, y2 - (5.4 - 1.4 * i) * size), text, face=face, size_px=size, fill=fill, anchor=anchor)


def _toy_facts(*toys: _Toy) -> dict[str, Any]:
    return {"toys": [[t.name, t.code, t.cents, t.age] for t in toys]}


def _of_toy(rng: random.Random, grid: _Grid, toys: list[_Toy], sign: str) -> Ask:
    toy = rng.choice(toys)
    name, question, answer, also = rng.choice((
        ("price", f"What is the price of {toy.name}?", money(toy.cents), money_also(toy.cents, sign)),
        ("code", f"What is the article number of {toy.name}?", toy.code, ()),
        ("age", f"From how many years of age is {toy.name}?", str(toy.age), (f"{toy.age} years", f"from {toy.age} years")),
    ))  # fmt: skip
    return Ask("locate", question, answer, (toy.lines["name"], toy.lines[name]), grid.text_px, f"the text below the picture of {toy.name}",
               toy.panel, also=also, facts=_toy_facts(toy))  # fmt: skip


def _with_code(rng: random.Random, grid: _Grid, toys: list[_Toy], sign: str) -> Ask:
    toy = rng.choice(toys)
    return Ask("reverse", f"Which toy has the article number {toy.code}?", toy.name, (toy.lines["name"], toy.lines["code"]), grid.text_px,
               f"the panel with the number {toy.code}", toy.panel, facts=_toy_facts(toy))  # fmt: skip


def _neighbours(rng: random.Random, grid: _Grid, toys: list[_Toy]) -> tuple[_Toy, _Toy]:
    """Side by side."""
    place = rng.choice([t.place for t in toys if t.place % grid.n_columns < grid.n_columns - 1])
    return toys[place], toys[place + 1]


def _prices(*toys: _Toy) -> tuple[Box, ...]:
    return tuple(toy.lines[name] for toy in toys for name in ("name", "price"))


def _cheaper(rng: random.Random, grid: _Grid, toys: list[_Toy], sign: str) -> Ask | None:
    a, b = _neighbours(rng, grid, toys)
    if a.cents == b.cents:
        return None
    less, more = (a, b) if a.cents < b.cents else (b, a)
    return Ask("compare", f"Which is cheaper, {a.name} or {b.name}?", less.name, _prices(a, b), grid.text_px,
               f"the panels of {a.name} and {b.name}", union(a.panel, b.panel),
               working=f"{less.name} at {money(less.cents)} is cheaper than {more.name} at {money(more.cents)}",
               facts=_toy_facts(a, b))  # fmt: skip


def _cheapest(rng: random.Random, grid: _Grid, toys: list[_Toy], sign: str) -> Ask | None:
    """Over the whole page: only where its print can be read at once."""
    word, best = rng.choice((("cheapest", min(t.cents for t in toys)), ("most expensive", max(t.cents for t in toys))))
    found = [t for t in toys if t.cents == best]
    if len(found) != 1:
        return None
    return Ask("compare", f"Which is the {word} toy on the page?", found[0].name, (), grid.text_px, "all panels",
               working=f"The {word} costs {money(best)}: {found[0].name}", facts={**_toy_facts(*toys), "word": word})  # fmt: skip


def _toys_together(rng: random.Random, grid: _Grid, toys: list[_Toy], sign: str) -> Ask:
    a, b = _neighbours(rng, grid, toys)
    total = a.cents + b.cents
    return Ask("compute", f"What do {a.name} and {b.name} cost together?", money(total), _prices(a, b), grid.text_px,
               f"the panels of {a.name} and {b.name}", union(a.panel, b.panel),
               working=f"{money(a.cents)} + {money(b.cents)} = {money(total)}", also=money_also(total, sign),
               facts=_toy_facts(a, b))  # fmt: skip


def _toys_shown(rng: random.Random, grid: _Grid, toys: list[_Toy], sign: str) -> Ask:
    """Pictures are large: they can be counted on the whole page."""
    thing = rng.choice(toys).thing
    found = [t for t in toys if t.thing == thing]
    height = min(grid.panel[0], grid.panel[1] - 7 * grid.size)
    shown = join([f"number {t.place + 1}" for t in found])
    return Ask("count", f"How many pictures on the page show {with_article(thing)}?", str(len(found)), (), round(height / 5, 1),
               "the pictures", working=f"Counted row by row, the panels are {shown}: {len(found)}",
               facts={"things": [t.thing for t in toys], "thing": thing})  # fmt: skip


_ON_CATALOGUES = (_of_toy, _of_toy, _with_code, _cheaper, _toys_together, _toys_shown, _cheapest)


# slides


def draw_slides(rng: random.Random, family: str) -> Scene:
    """Slides with a title, bullets and a picture, and a question."""
    shape = rng.choice(((1, 2), (1, 2), (1, 3), (2, 2), (2, 2), (2, 3), (3, 2), (3, 3)))
    n = shape[0] * shape[1]
    slides = []
    for title, thing, lead in zip(rng.sample(_PROJECTS, n), rng.sample(tuple(THINGS), n), words.people(rng, n), strict=True):
        values = {
            "Budget": f"{rng.randint(12, 980)},000", "Lead": lead, "Start": f"{rng.choice(words.MONTHS)} {rng.randint(2018, 2028)}",
            "Team": f"{rng.randint(3, 48)} people", "Place": rng.choice(words.TOWNS),
        }  # fmt: skip
        slides.append(_Slide(title, {name: values[name] for name in rng.sample(tuple(values), rng.randint(3, 4))}, thing))
    bullets = [f"{name}: {value}" for slide in slides for name, value in slide.values.items()]
    grid = _grid(rng, shape, (15.5, rng.uniform(10.5, 12.5)), bullets, 6.2)
    title = f"Projects {rng.randint(2016, 2027)}"
    sheet = Sheet(grid.page, mix(rng.choice(PAPERS), (90, 96, 104), rng.choice((0, 0.15, 0.3))))
    age(sheet, rng)
    _head(sheet, grid, title)
    dark = rng.random() < 0.3
    paper, style = (mix(grid.accent, (10, 10, 14), 0.55) if dark else (255, 255, 255)), rng.choice(("bar", "line", "side"))
    for i, slide in enumerate(slides):
        slide.panel, slide.bullets = grid.box(i), {}
        _draw_slide(sheet, rng, grid, slide, i + 1, (paper, style))
    ask = pick(rng, [partial(ask, rng, grid, slides) for ask in _ON_SLIDES], sheet.size)
    return to_scene(family, sheet, ask, f'a handout of slides, "{title}"', [s.thing for s in slides], grid, style, dark)


def _draw_slide(sheet: Sheet, rng: random.Random, grid: _Grid, slide: _Slide, number: int, look: tuple[Color, str]) -> None:
    (x1, y1, x2, y2), size, (paper, style) = slide.panel, grid.size, look
    sheet.rect((x1 + 3, y1 + 4, x2 + 3, y2 + 4), mix(sheet.paper, (0, 0, 0), 0.3))
    sheet.rect(slide.panel, paper)
    ink = ink_on(paper)
    if style == "bar":
        sheet.rect((x1, y1, x2, y1 + 2.2 * size), grid.accent)
    elif style == "side":
        sheet.rect((x1, y1, x1 + 0.4 * size, y2), grid.accent)
    else:
        sheet.line([(x1 + 0.8 * size, y1 + 2.2 * size), (x2 - 0.8 * size, y1 + 2.2 * size)], grid.accent if ink[0] < 100 else ink, 2)
    title_ink = ink_on(grid.accent) if style == "bar" else ink
    head = {"size_px": round(1.3 * size), "fill": title_ink}
    slide.head = sheet.text((x1 + 0.8 * size, y1 + 1.1 * size), slide.title, face=bold(grid.face), anchor="lm", **head)
    slide.number = sheet.text((x2 - 0.5 * size, y1 + 1.1 * size), str(number), face=grid.face, anchor="rm", **head)
    for i, (name, value) in enumerate(slide.values.items()):
        y = y1 + (3.4 + 1.65 * i) * size
        sheet.disc((x1 + 1.1 * size, y), 0.17 * size, grid.accent if ink[0] < 100 else ink)
        slide.bullets[name] = sheet.text((x1 + 1.7 * size, y), f"{name}: {value}", face=grid.face, size_px=size, fill=ink, anchor="lm")
    slide.frame = (x2 - 4.5 * size, y2 - 4.7 * size, x2 - 0.6 * size, y2 - 0.8 * size)
    draw_thing(sheet, rng, slide.thing, slide.frame)


def _slide_facts(*slides: _Slide) -> dict[str, Any]:
    return {"slides": [[s.title, s.values] for s in slides]}


def _asked_of(name: str, slide: _Slide) -> tuple[str, str, tuple[str, ...]]:
    """Question, answer and its other spellings for one bullet."""
    value, where = slide.values[name], f'On the slide "{slide.title}"'
    if name == "Budget":
        return f"{where}, how large is the budget?", value, (value.replace(",", ""),)
    if name == "Team":
        return f"{where}, how many people are in the team?", value.split()[0], (value,)
    asked = {"Lead": "who is the lead", "Start": "when does the project start", "Place": "which place is named"}
    return f"{where}, {asked[name]}?", value, ()


def _bullet(rng: random.Random, grid: _Grid, slides: list[_Slide]) -> Ask:
    slide = rng.choice(slides)
    name = rng.choice(tuple(slide.values))
    question, answer, also = _asked_of(name, slide)
    return Ask("locate", question, answer, (slide.head, slide.bullets[name]), grid.text_px,
               f"the line {name} on the slide {slide.title}", slide.panel, also=also, facts=_slide_facts(slide))  # fmt: skip


def _slide_with(rng: random.Random, grid: _Grid, slides: list[_Slide]) -> Ask | None:
    slide = rng.choice(slides)
    name = rng.choice(tuple(slide.values))
    value = slide.values[name]
    if sum(value in s.values.values() for s in slides) != 1:
        return None
    question = f'What is the title of the slide that says "{name}: {value}"?'
    return Ask("reverse", question, slide.title, (slide.head, slide.bullets[name]), grid.text_px,
               f"the slide that says {name}: {value}", slide.panel, facts=_slide_facts(*slides))  # fmt: skip


def _larger(rng: random.Random, grid: _Grid, slides: list[_Slide]) -> Ask | None:
    """The budgets of two slides, side by side or one below the other."""
    pairs = [(a, b) for a, b in pairwise(slides) if "Budget" in a.values and "Budget" in b.values]
    if not pairs:
        return None
    a, b = rng.choice(pairs)
    one, two = (int(s.values["Budget"].replace(",", "")) for s in (a, b))
    boxes, block = (a.head, a.bullets["Budget"], b.head, b.bullets["Budget"]), union(a.panel, b.panel)
    common = {"block": block, "facts": _slide_facts(a, b)}
    evidence = f"the budgets on the slides {a.title} and {b.title}"
    if one != two and rng.random() < 0.5:
        more, less = (a, b) if one > two else (b, a)
        question = f'Which slide names the larger budget, "{a.title}" or "{b.title}"?'
        return Ask("compare", question, more.title, boxes, grid.text_px, evidence,
                   working=f"{more.values['Budget']} is more than {less.values['Budget']}", **common)  # fmt: skip
    total = f"{one + two:,}"
    question = f'What is the sum of the budgets on the slides "{a.title}" and "{b.title}"?'
    return Ask("compute", question, total, boxes, grid.text_px, evidence,
               working=f"{a.values['Budget']} + {b.values['Budget']} = {total}", also=(str(one + two),), **common)  # fmt: skip


def _title_of(rng: random.Random, grid: _Grid, slides: list[_Slide]) -> Ask:
    at = rng.randrange(len(slides))
    slide = slides[at]
    return Ask("read", f"What is the title of slide {at + 1}?", slide.title, (slide.head, slide.number),
               letter_height(grid.face, round(1.3 * grid.size)), f"the top of slide {at + 1}", slide.panel,
               facts={"titles": [s.title for s in slides], "slide": at + 1})  # fmt: skip


def _slide_showing(rng: random.Random, grid: _Grid, slides: list[_Slide]) -> Ask:
    slide = rng.choice(slides)
    thing, title_px = with_article(slide.thing), letter_height(bold(grid.face), round(1.3 * grid.size))
    return Ask("figure", f"What is the title of the slide with the picture of {thing}?", slide.title, (slide.head, slide.frame), title_px,
               f"the slide with {thing}", slide.panel, facts={"shown": [[s.title, s.thing] for s in slides]})  # fmt: skip


_ON_SLIDES = (_bullet, _bullet, _bullet, _slide_with, _larger, _title_of, _slide_showing)
