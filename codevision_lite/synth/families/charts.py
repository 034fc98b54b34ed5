"""Charts whose values can be read off exactly: bars (upright, lying, grouped), lines and pies, with value labels or gridlines."""

from __future__ import annotations

import random
from typing import NamedTuple

from codevision_lite.synth.families.chart_layout import Chart, Look, Topic, lay_out
from codevision_lite.synth.families.drawing import block_around, content_key, grown, union
from codevision_lite.synth.scene import Scene, too_small
from codevision_lite.synth.typography import letter_height
from codevision_lite.synth.words import FIRST_NAMES, GOODS, MONTHS, STREETS, TOWNS, WEEKDAYS, count_also, shop

_KINDS = {"read": 0.30, "find": 0.22, "extreme": 0.12, "compare": 0.12, "compute": 0.14, "count": 0.10}
_SMALL = 0.5  # of the questions about one mark: how often the print is too small for the whole view
_SERIES = (("2023", "2024"), ("2019", "2022", "2025"), ("North", "South"), ("East", "West", "Centre"))
_OF_PEOPLE = (("Adults", "Children"), ("Men", "Women"))  # series that suit what people do
_AREAS = ("Schools", "Roads", "Parks", "Health", "Water", "Culture", "Housing", "Sport", "Transport")
_CLUBS = ("Chess", "Choir", "Drama", "Football", "Hockey", "Judo", "Rowing", "Sailing", "Tennis")
_TOPICS = (
    Topic("Rainfall in {town}", "rainfall", "in", "month", MONTHS, "mm", (5, 10, 20), True),
    Topic("Sunshine in {town}", "sunshine", "in", "month", MONTHS, "hours", (10, 20, 50), True),
    Topic("Visitors of {town} Museum", "number of visitors", "on", "day", WEEKDAYS, "", (20, 50, 100), True),
    Topic("Books lent in {town}", "number of books lent", "in", "month", MONTHS, "", (50, 100, 200), True),
    Topic("Energy use of {town} School", "energy use", "in", "year", tuple(map(str, range(2014, 2026))), "MWh", (10, 20, 50), True),
    Topic("Boxes sold by {shop}", "number of boxes sold", "of", "product", GOODS, "", (10, 20, 50)),
    Topic("Harvest around {town}", "harvest", "of", "crop", GOODS, "t", (5, 10, 20)),
    Topic("Trains a day from {town}", "number of trains", "to", "town", TOWNS, "", (2, 5, 10)),
    Topic("Bicycles counted in {town}", "number of bicycles", "in", "street", STREETS, "", (20, 50, 100)),
    Topic("Points in the {town} quiz", "score", "of", "player", FIRST_NAMES, "", (2, 5, 10)),
    Topic("Club members in {town}", "number of members", "of", "club", _CLUBS, "", (5, 10, 20)),
)
_SHARES = (
    Topic("Budget of {town}", "share", "of", "area", _AREAS, "%", (1,)),
    Topic("Sales of {shop}", "share", "of", "product", GOODS, "%", (1,)),
    Topic("Favourite clubs in {town}", "share", "of", "club", _CLUBS, "%", (1,)),
    Topic("Votes in {town}", "share", "of", "candidate", FIRST_NAMES, "%", (1,)),
)


class _Asked(NamedTuple):
    """A question about the marks (series, category) that must be seen; no marks: the whole chart."""

    question: str
    answer: str
    also: tuple[str, ...]
    marks: list[tuple[int, int]]
    evidence: str
    working: str


def draw(rng: random.Random) -> Scene:
    """Draw one chart with one question."""
    while True:  # until everything has its place
        kind = rng.choices(tuple(_KINDS), tuple(_KINDS.values()))[0]
        small = kind in ("read", "find") and rng.random() < _SMALL
        chart = _make(rng, kind, small)
        look = lay_out(rng, chart, small)
        if look and (scene := _ask(rng, kind, chart, look)) and scene.needs_crop == small:
            return scene


def _make(rng: random.Random, kind: str, small: bool) -> Chart:
    shape = rng.choices(("bars", "lying bars", "line", "pie"), (0.35, 0.22, 0.23, 0.2))[0]
    topic = rng.choice(_SHARES if shape == "pie" else [t for t in _TOPICS if t.in_order or shape != "line"])
    place = shop(rng) if "{shop}" in topic.title else rng.choice(TOWNS)
    title = topic.title.format(town=place, shop=place)
    n = rng.randint(3, 7) if shape == "pie" else rng.randint(4, 8 if shape == "lying bars" else 12)
    n = min(n, len(topic.labels))
    if topic.in_order:
        start = rng.randint(0, len(topic.labels) - n)
        categories = topic.labels[start : start + n]
        if topic.labels in (MONTHS, WEEKDAYS) and (n > 5 or rng.random() < 0.6) and shape != "lying bars":
            categories = tuple(c[:3] for c in categories)
    else:
        categories = tuple(rng.sample([c for c in topic.labels if c not in place], min(n, len(topic.labels) - 1)))
    grouped = shape != "pie" and kind != "find" and not small and rng.random() < 0.35
    several = _OF_PEOPLE if topic.category in ("day", "club") else [s for s in _SERIES if topic.category != "year" or not s[0].isdigit()]
    series = rng.choice(several) if grouped else ("",)
    if shape == "pie":
        return Chart(shape, topic, title, categories, ("",), (_shares(rng, len(categories)),), 1, 100, True)
    labelled = small or (rng.random() < 0.55 and not (grouped and shape == "line"))
    step, lines = rng.choice(topic.steps), rng.randint(5, 8)
    half = not labelled and step % 2 == 0 and rng.random() < 0.4
    pool = range(step, step * lines + 1, step // 2 if half else step)
    if labelled:
        pool = range(max(2, step * lines // 9), step * lines)
    values = tuple(_pick(rng, pool, len(categories)) for _ in series)
    if shape == "line" and any(len(set(column)) < len(column) for column in zip(*values, strict=True)):
        return _make(rng, kind, small)  # two lines through one point
    top = step * max(4, -(-max(map(max, values)) // step))
    return Chart(shape, topic, title, categories, series, values, step, top, labelled)


def _pick(rng: random.Random, pool: range, n: int) -> tuple[int, ...]:
    return tuple(rng.sample(pool, n)) if len(pool) >= n else tuple(rng.choices(pool, k=n))


def _shares(rng: random.Random, n: int) -> tuple[int, ...]:
    """`n` different whole percentages of at least 5 that add up to 100."""
    while True:
        cuts = sorted(rng.sample(range(5, 96), n - 1))
        parts = [b - a for a, b in zip([0, *cuts], [*cuts, 100], strict=True)]
        if min(parts) >= 5 and len(set(parts)) == n:
            return tuple(parts)


def _ask(rng: random.Random, kind: str, chart: Chart, look: Look) -> Scene | None:
    """The scene with a question of this kind; None where the chart has none of it."""
    s = rng.randrange(len(chart.series))
    asked = _ASK[kind](rng, chart, s)
    if asked is None:
        return None
    size, sheet = look.sheet.size, look.sheet
    box = grown(union(*(look.regions[m] for m in asked.marks)), 2, size) if asked.marks else None
    text_px = letter_height(look.face, look.text)
    facts = {
        "text_px": text_px, "shape": chart.shape, "categories": list(chart.categories), "series": list(chart.series),
        "values": [list(row) for row in chart.values], "labelled": chart.labelled, "unit": chart.topic.unit,
    }  # fmt: skip
    if box:
        facts["block_box"] = list(block_around(box, size, 0.5, rng))
    name = {"bars": "a bar chart", "lying bars": "a bar chart", "line": "a line chart", "pie": "a pie chart"}[chart.shape]
    return Scene(
        f"chart/{kind}", sheet.finish(), asked.question, asked.answer, box, box is not None and too_small(text_px, size), (),
        content_key("chart", [sheet], chart, asked.question), facts, asked.also, f"{name} with the title {chart.title}",
        asked.evidence, asked.working,
    )  # fmt: skip


def _phrase(chart: Chart, s: int, c: int) -> str:
    """ "rainfall in March", "rainfall in March for 2024" """
    return f"{chart.topic.noun} {chart.topic.by} {chart.categories[c]}" + (f" for {chart.series[s]}" if chart.series[s] else "")


def _mark(chart: Chart) -> str:
    return {"line": "point", "pie": "slice"}.get(chart.shape, "bar")


def _of(chart: Chart, s: int) -> str:
    return f" for {chart.series[s]}" if chart.series[s] else ""


def _amount(chart: Chart, value: int) -> str:
    return f"{value}{'' if chart.topic.unit == '%' else ' '}{chart.topic.unit}".strip()


def _numbers(chart: Chart, value: int) -> tuple[str, ...]:
    return (_amount(chart, value),) if chart.topic.unit else ()


def _long(name: str) -> tuple[str, ...]:
    """The other spelling of a month or day."""
    return tuple(n if name == n[:3] else n[:3] for n in (*MONTHS, *WEEKDAYS) if name in (n, n[:3]) and n[:3] != n)


def _read(rng: random.Random, chart: Chart, s: int) -> _Asked:
    c = rng.randrange(len(chart.categories))
    value, what = chart.values[s][c], _phrase(chart, s, c)
    question = rng.choice((f"What is the {what}?", f"According to the chart, what is the {what}?", f"Read the {what} from the chart."))
    return _Asked(question, str(value), _numbers(chart, value), [(s, c)], f"the {_mark(chart)} of {chart.categories[c]}{_of(chart, s)}", "")


def _find(rng: random.Random, chart: Chart, s: int) -> _Asked | None:
    single = [c for c, v in enumerate(chart.values[s]) if chart.values[s].count(v) == 1]
    if not single:
        return None
    c = rng.choice(single)
    value = _amount(chart, chart.values[s][c])
    question = rng.choice(
        (f"Which {chart.topic.category} has the value {value}?", f"For which {chart.topic.category} does the chart show {value}?")
    )
    return _Asked(question, chart.categories[c], _long(chart.categories[c]), [(s, c)], f"the {_mark(chart)} with the value {value}", "")


def _extreme(rng: random.Random, chart: Chart, s: int) -> _Asked | None:
    row, word, best = chart.values[s], *rng.choice((("highest", max), ("lowest", min)))
    if row.count(best(row)) != 1:
        return None
    c = row.index(best(row))
    question = f"Which {chart.topic.category} has the {word} {chart.topic.noun}{_of(chart, s)}?"
    working = f"Of {', '.join(map(str, row))}, the {word} is {row[c]}, {chart.categories[c]}"
    evidence = f"the values of all {_mark(chart)}s{_of(chart, s)}"
    return _Asked(question, chart.categories[c], _long(chart.categories[c]), [], evidence, working)


def _compare(rng: random.Random, chart: Chart, s: int) -> _Asked | None:
    n = len(chart.categories)
    if len(chart.series) > 1 and rng.random() < 0.5:
        c, (s1, s2) = rng.randrange(n), rng.sample(range(len(chart.series)), 2)
        marks, names, tail = [(s1, c), (s2, c)], (chart.series[s1], chart.series[s2]), f" {chart.topic.by} {chart.categories[c]}"
        where = f" of {chart.categories[c]}"
    else:
        c1, c2 = rng.sample(range(n), 2)
        marks, names, tail, where = [(s, c1), (s, c2)], (chart.categories[c1], chart.categories[c2]), _of(chart, s), _of(chart, s)
    a, b = (chart.values[i][j] for i, j in marks)
    if a == b:
        return None
    more = rng.random() < 0.6
    won = names[0] if (a > b) == more else names[1]
    question = f"Which has the {'higher' if more else 'lower'} {chart.topic.noun}{tail}: {names[0]} or {names[1]}?"
    working = f"{names[0]} has {a} and {names[1]} has {b}: {won} has the {'higher' if more else 'lower'} value"
    return _Asked(question, won, _long(won), marks, f"the {_mark(chart)}s of {names[0]} and {names[1]}{where}", working)


def _compute(rng: random.Random, chart: Chart, s: int) -> _Asked | None:
    c1, c2 = rng.sample(range(len(chart.categories)), 2)
    a, b = chart.values[s][c1], chart.values[s][c2]
    one, two = chart.categories[c1], chart.categories[c2]
    evidence = f"the {_mark(chart)}s of {one} and {two}{_of(chart, s)}"
    if rng.random() < 0.4:
        question = f"What is the {chart.topic.noun} {chart.topic.by} {one} and {two} together{_of(chart, s)}?"
        value, working = a + b, f"{a} + {b} = {a + b}"
    else:
        if a == b:
            return None
        if a < b:
            (a, one), (b, two) = (b, two), (a, one)
        question = f"By how much is the {chart.topic.noun} {chart.topic.by} {one} higher than {chart.topic.by} {two}{_of(chart, s)}?"
        value, working = a - b, f"{a} - {b} = {a - b}"
    return _Asked(question, str(value), _numbers(chart, value), [(s, c1), (s, c2)], evidence, working)


def _count(rng: random.Random, chart: Chart, s: int) -> _Asked | None:
    row = chart.values[s]
    limits = [v for v in range(min(row) + 1, max(row)) if v not in row and (v % 5 == 0 or chart.top < 30)]
    if not limits:
        return None
    limit, above = rng.choice(limits), rng.random() < 0.6
    found = [str(v) for v in row if (v > limit) == above]
    word = "above" if above else "below"
    plural = {"day": "days", "category": "categories"}.get(chart.topic.category, f"{chart.topic.category}s")
    question = f"For how many {plural} is the {chart.topic.noun} {word} {_amount(chart, limit)}{_of(chart, s)}?"
    working = f"{word.capitalize()} {limit}: {', '.join(found)}; that makes {len(found)}"
    evidence = f"the values of all {_mark(chart)}s{_of(chart, s)}"
    return _Asked(question, str(len(found)), count_also(len(found)), [], evidence, working)


_ASK = {"read": _read, "find": _find, "extreme": _extreme, "compare": _compare, "compute": _compute, "count": _count}
