"""Tables: timetables, price lists, staff lists, results, measurements, stock, marks.

Every table has a key column whose entries are unique; numbers are aligned to the right; styles vary from ruled to striped.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
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
    n_lines,
    pick,
    print_size,
    to_scene,
    write_prose,
)  # fmt: skip
from codevision_lite.synth.families.table_themes import THEMES, Column, Theme
from codevision_lite.synth.scene import Scene
from codevision_lite.synth.stories import join, tell_news
from codevision_lite.synth.typography import TEXT_FACES, letter_height, text_width


@dataclass
class _Table:
    theme: Theme
    columns: list[Column]
    keys: list[str]
    cells: list[list[str]]  # [row][column], without the key
    text_px: float
    head_boxes: list[Box] = field(default_factory=list)  # the key's header first
    cell_boxes: list[list[Box]] = field(default_factory=list)  # [row][column], the key first

    @property
    def whole(self) -> Box:
        return union(*self.head_boxes, *(box for row in self.cell_boxes for box in row))

    def values(self, column: int) -> list[str]:
        return [row[column] for row in self.cells]

    def row_box(self, row: int) -> Box:
        return union(*self.cell_boxes[row])

    def column_boxes(self, column: int) -> tuple[Box, ...]:
        """Of the keys and one column, with their headers."""
        return tuple(box for boxes in (self.head_boxes, *self.cell_boxes) for box in (boxes[0], boxes[column + 1]))


@dataclass(frozen=True)
class _Style:
    face: str
    size: int
    ink: Color
    accent: Color
    rules: str  # "grid" | "lines" | "stripes" | "book" | "plain"
    head: str  # "filled" | "bold" | "tinted"
    row_px: int
    pad_px: int


def draw(rng: random.Random) -> Scene:
    """A table with a title and notes, alone or between the paragraphs of a page, and a question."""
    theme, face, with_prose = rng.choice(THEMES), rng.choice(TEXT_FACES), rng.random() < 0.4
    n_rows = rng.choice((4, 5, 6, 7, 8, 10, 12, 15, 18, 21))
    size = print_size(rng, face, large=0.0 if n_rows > 12 or with_prose else 0.12)
    columns = sorted(rng.sample(theme.columns, rng.choice((2, 3, 3, 4, 4, 5, 6))), key=theme.columns.index)
    keys = theme.keys(rng, n_rows)
    table = _Table(theme, columns, keys, [[c.make(rng) for c in columns] for _ in keys], letter_height(face, size))
    style = _Style(
        face, size, rng.choice(INKS), rng.choice(ACCENTS), rng.choice(("grid", "lines", "stripes", "book", "plain")),
        rng.choice(("filled", "bold", "tinted")), round(size * rng.uniform(1.5, 2.0)), round(size * rng.uniform(0.5, 1.0)),
    )  # fmt: skip
    title = rng.choice(theme.titles).format(
        town=rng.choice(words.TOWNS), year=rng.randint(2015, 2026), few=rng.randint(3, 14), weekday=rng.choice(words.WEEKDAYS),
        date=words.date(rng),
    )  # fmt: skip
    stories = tell_news(rng, rng.choice((1, 2, 3)), 4, 3) if with_prose else []
    sheet = _draw_page(rng, table, style, title, [[fact.sentence for fact in story.facts] for story in stories])
    ask = pick(rng, [partial(ask, rng, table) for ask in _ASKED], sheet.size)
    return to_scene("table", sheet, ask, f'the table "{title}"', style)


def _draw_page(rng: random.Random, table: _Table, style: _Style, title: str, prose: list[list[str]]) -> Sheet:
    """The table below its title, notes below it; one paragraph above and the others below."""
    size, face, widths = style.size, style.face, _column_widths(table, style)
    margin = round(size * rng.choice((1.2, 1.6, 2.5, 4)))
    inner = round(max(sum(widths), size * (26 if prose else 16)))
    notes = rng.sample(_NOTES, rng.choice((0, 1, 1, 2)))
    title_px = fit(title, bold(face), round(size * rng.uniform(1.3, 1.8)), inner)
    heights = [round(1.4 * size * n_lines(p, face, size, inner) + 1.2 * size) for p in prose]
    table_px = style.row_px * (len(table.keys) + 1)
    height = 2 * margin + sum(heights) + round(1.8 * title_px + (1.6 * len(notes) + 1.6) * size) + table_px
    sheet = Sheet((inner + 2 * margin, height), rng.choice(PAPERS))
    age(sheet, rng)
    y = float(margin)
    for i, paragraph in enumerate([*prose[:1], [], *prose[1:]] if prose else [[]]):
        if paragraph:
            write_prose(sheet, (margin, y), paragraph, face=face, size_px=size, width=inner, fill=style.ink, leading=1.4)
            y += heights[max(0, i - 1)]
            continue
        x = rng.choice((margin, margin + (inner - sum(widths)) // 2))
        sheet.text((x, y), title, face=bold(face), size_px=title_px, fill=rng.choice((style.ink, style.accent)))
        y += round(1.8 * title_px)
        _draw_table(sheet, table, style, (x, round(y)), widths)
        y += table_px + 0.8 * size
        for note in notes:
            px = fit(note, face, size, margin + inner - x)
            sheet.text((x, y), note, face=face, size_px=px, fill=mix(style.ink, sheet.paper, 0.25))
            y += 1.6 * size
        y += 0.8 * size
    return sheet


_NOTES = (
    "All figures without guarantee.", "Source: own survey.", "Changes are possible at short notice.", "Please check before use.",
    "Figures have been rounded.", "Printed on recycled paper.", "For internal use only.",
)  # fmt: skip


def _column_widths(table: _Table, style: _Style) -> list[int]:
    """Of the key column and the others, in px."""
    texts = [[table.theme.key, *table.keys], *([c.header, *table.values(i)] for i, c in enumerate(table.columns))]
    return [round(max(text_width(t, bold(style.face), style.size) for t in column)) + 2 * style.pad_px for column in texts]


def _draw_table(sheet: Sheet, table: _Table, style: _Style, xy: tuple[int, int], widths: list[int]) -> None:
    x1, y1 = xy
    x2, row = x1 + sum(widths), style.row_px
    y2 = y1 + row * (len(table.keys) + 1)
    faint = mix(sheet.paper, style.ink, 0.3)
    head_fill = {"filled": style.accent, "tinted": mix(sheet.paper, style.accent, 0.18), "bold": None}[style.head]
    if head_fill:
        sheet.rect((x1, y1, x2, y1 + row), head_fill)
    for i in range(len(table.keys)):
        y = y1 + row * (i + 1)
        if style.rules == "stripes" and i % 2:
            sheet.rect((x1, y, x2, y + row), mix(sheet.paper, style.accent, 0.1))
        if style.rules in ("grid", "lines"):
            sheet.line([(x1, y), (x2, y)], faint, 1)
    if style.rules == "grid":
        xs = [x1 + sum(widths[:i]) for i in range(len(widths) + 1)]
        for x in xs:
            sheet.line([(x, y1), (x, y2)], faint, 1)
    if style.rules in ("book", "grid"):
        sheet.line([(x1, y1), (x2, y1)], style.ink, 2)
    if style.head != "filled":
        sheet.line([(x1, y1 + row), (x2, y1 + row)], style.ink, 1 if style.rules == "book" else 2)
    if style.rules != "plain":
        sheet.line([(x1, y2), (x2, y2)], style.ink, 2)
    head_ink = ink_on(head_fill) if head_fill else style.ink
    write = partial(_write_row, sheet, table, style, widths)
    table.head_boxes = write((x1, y1), [table.theme.key, *(c.header for c in table.columns)], bold(style.face), head_ink)
    for i, (key, cells) in enumerate(zip(table.keys, table.cells, strict=True)):
        table.cell_boxes.append(write((x1, y1 + row * (i + 1)), [key, *cells], style.face, style.ink))


def _write_row(
    sheet: Sheet, table: _Table, style: _Style, widths: list[int], xy: tuple[int, int], texts: list[str], face: str, ink: Color
) -> list[Box]:  # fmt: skip
    x, y, boxes = xy[0], xy[1] + style.row_px / 2, []
    for i, (text, width) in enumerate(zip(texts, widths, strict=True)):
        right = i > 0 and table.columns[i - 1].is_number
        at = (x + width - style.pad_px, y) if right else (x + style.pad_px, y)
        boxes.append(sheet.text(at, text, face=face, size_px=style.size, fill=ink, anchor="rm" if right else "lm"))
        x += width
    return boxes


def _any_column(rng: random.Random, table: _Table, wanted: Callable[[Column], bool]) -> int | None:
    found = [i for i, column in enumerate(table.columns) if wanted(column)]
    return rng.choice(found) if found else None


def _facts(table: _Table, column: int, rows: list[int]) -> dict[str, Any]:
    return {"column": table.columns[column].header, "cells": [[table.keys[r], table.cells[r][column]] for r in rows]}


def _cell(rng: random.Random, table: _Table) -> Ask:
    """Which value stands in a row, under a header."""
    row, column = rng.randrange(len(table.keys)), rng.randrange(len(table.columns))
    asked = table.columns[column]
    phrase = asked.asked.format(key=table.keys[row])
    boxes = (table.head_boxes[column + 1], table.cell_boxes[row][0], table.cell_boxes[row][column + 1])
    value = table.cells[row][column]
    return Ask(
        "locate", f"What is {phrase}?", value, boxes, table.text_px, f"the row of {table.keys[row]} under the header {asked.header}",
        table.whole, also=_also(value, asked), facts=_facts(table, column, [row]),
    )  # fmt: skip


def _also(value: str, column: Column) -> tuple[str, ...]:
    return (value + column.unit,) if column.unit else ()


def _which(rng: random.Random, table: _Table) -> Ask | None:
    """The row of a value that occurs once."""
    row, column = rng.randrange(len(table.keys)), rng.randrange(len(table.columns))
    value, header = table.cells[row][column], table.columns[column].header
    if table.values(column).count(value) != 1:
        return None
    noun = "destination" if table.theme.rows == "train to" else table.theme.rows
    boxes = (table.head_boxes[column + 1], table.cell_boxes[row][0], table.cell_boxes[row][column + 1])
    return Ask(
        "reverse", f'Which {noun} has "{value}" in the column "{header}"?', table.keys[row], boxes, table.text_px,
        f"the column {header} and the row with {value}", table.whole, facts=_facts(table, column, list(range(len(table.keys)))),
    )  # fmt: skip


def _count(rng: random.Random, table: _Table) -> Ask | None:
    """How many rows have a value, or lie above one."""
    column = _any_column(rng, table, lambda c: c.few or c.is_number)
    if column is None:
        return None
    header, values = table.columns[column].header, table.values(column)
    if table.columns[column].few:
        wanted = rng.choice(values)
        question, found = f'How many rows have "{wanted}" in the column "{header}"?', [i for i, v in enumerate(values) if v == wanted]
        working = f"{wanted} stands in the rows of {join([table.keys[i] for i in found])}: {len(found)}"
    else:
        wanted = rng.choice(values)
        found = [i for i, v in enumerate(values) if float(v) > float(wanted)]
        question = f'How many rows have more than {wanted} in the column "{header}"?'
        if not found:
            return None
        working = f"More than {wanted} have {join([f'{table.keys[i]} ({values[i]})' for i in found])}: {len(found)}"
    facts = {**_facts(table, column, list(range(len(table.keys)))), "wanted": wanted}
    return Ask("count", question, str(len(found)), table.column_boxes(column), table.text_px, f"the column {header}", table.whole,
               working=working, facts=facts)  # fmt: skip


def _extreme(rng: random.Random, table: _Table) -> Ask | None:
    column = _any_column(rng, table, lambda c: c.is_number)
    if column is None:
        return None
    header, numbers = table.columns[column].header, [float(v) for v in table.values(column)]
    word, best = rng.choice((("highest", max(numbers)), ("lowest", min(numbers))))
    if numbers.count(best) != 1:
        return None
    row = numbers.index(best)
    noun = "destination" if table.theme.rows == "train to" else table.theme.rows
    return Ask(
        "compare", f'Which {noun} has the {word} number in the column "{header}"?', table.keys[row], table.column_boxes(column),
        table.text_px, f"the column {header}", table.whole,
        working=f"The {word} number is {table.cells[row][column]}, for {table.keys[row]}",
        facts={**_facts(table, column, list(range(len(numbers)))), "word": word},
    )  # fmt: skip


def _two_rows(rng: random.Random, table: _Table) -> tuple[int, int]:
    """At most five rows apart."""
    first = rng.randrange(len(table.keys) - 1)
    return first, min(len(table.keys) - 1, first + rng.randint(1, 5))


def _two_cells(table: _Table, column: int, rows: tuple[int, int]) -> tuple[Box, ...]:
    return (table.head_boxes[column + 1], *(table.cell_boxes[r][c] for r in rows for c in (0, column + 1)))


def _more(rng: random.Random, table: _Table) -> Ask | None:
    column = _any_column(rng, table, lambda c: c.is_number)
    if column is None:
        return None
    rows, header = _two_rows(rng, table), table.columns[column].header
    a, b = rows
    if float(table.cells[a][column]) == float(table.cells[b][column]):
        return None
    more, less = (a, b) if float(table.cells[a][column]) > float(table.cells[b][column]) else (b, a)
    return Ask(
        "compare", f'Which has the higher number in the column "{header}", {table.keys[a]} or {table.keys[b]}?', table.keys[more],
        _two_cells(table, column, rows), table.text_px, f"the rows of {table.keys[a]} and {table.keys[b]}", table.whole,
        working=f"{table.cells[more][column]} is more than {table.cells[less][column]}",
        facts={**_facts(table, column, [a, b]), "word": "highest"},
    )  # fmt: skip


def _difference(rng: random.Random, table: _Table) -> Ask | None:
    column = _any_column(rng, table, lambda c: c.is_number)
    if column is None:
        return None
    rows, header = _two_rows(rng, table), table.columns[column].header
    a, b = sorted(rows, key=lambda r: -float(table.cells[r][column]))
    one, two = table.cells[a][column], table.cells[b][column]
    digits = len(one.partition(".")[2])
    if one == two or "-" in one + two:
        return None
    add = rng.random() < 0.5
    result = f"{float(one) + float(two) if add else float(one) - float(two):.{digits}f}"
    verb, sign = ("the sum of the numbers of {a} and {b}", "+") if add else ("the difference between the numbers of {a} and {b}", "-")
    asked = verb.format(a=table.keys[a], b=table.keys[b])
    return Ask(
        "compute", f'In the column "{header}", what is {asked}?', result, _two_cells(table, column, rows), table.text_px,
        f"the rows of {table.keys[a]} and {table.keys[b]}", table.whole, working=f"{one} {sign} {two} = {result}",
        also=_also(result, table.columns[column]), facts={**_facts(table, column, [a, b]), "sign": sign},
    )  # fmt: skip


def _below(rng: random.Random, table: _Table) -> Ask:
    row = rng.randrange(len(table.keys) - 1)
    return Ask(
        "read", f"Which entry of the first column stands directly below {table.keys[row]}?", table.keys[row + 1],
        (table.cell_boxes[row][0], table.cell_boxes[row + 1][0]), table.text_px, f"the first column at {table.keys[row]}",
        union(*table.cell_boxes[max(0, row - 3)], *table.cell_boxes[min(len(table.keys) - 1, row + 4)]),
        facts={"keys": table.keys, "row": row},
    )  # fmt: skip


_ASKED = (_cell, _cell, _cell, _which, _which, _count, _extreme, _more, _difference, _below)
