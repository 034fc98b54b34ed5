"""Handwriting-like pages: shopping and to-do lists, expenses, week plans, notes and books of notes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from codevision_lite.records import Box
from codevision_lite.synth import words
from codevision_lite.synth.families.drawing import union
from codevision_lite.synth.families.hand import Hand, start, write_title
from codevision_lite.synth.families.paper import Ask, money, pick, to_scene
from codevision_lite.synth.scene import Scene
from codevision_lite.synth.stories import NOTES, Fact, Story, join, ordinal, tell
from codevision_lite.synth.typography import text_width


def draw(rng: random.Random) -> Scene:
    """A handwritten list, account, week plan or note, and a question."""
    return rng.choice((_list, _list, _list, _expenses, _expenses, _plan, _note, _note, _book, _book))(rng)


def _finish(hand: Hand, ask: Ask, subject: str, *shown: object) -> Scene:
    style = (hand.face, hand.size, hand.ink, round(hand.slant, 3), hand.content, hand.sheet.size, hand.sheet.paper)
    return to_scene("handwriting", hand.sheet, ask, subject, style, *shown)


def _block(hand: Hand, *names: str) -> Box:
    """The lines named and those near them."""
    order = [name for name in hand.lines if name != "title"]
    at = [order.index(name) for name in names]
    return union(*(hand.lines[name] for name in order[max(0, min(at) - 2) : max(at) + 3]))


# a list of goods or things to do

_TASKS = (
    "Call the dentist", "Water the plants", "Buy stamps", "Fix the bike", "Return the books", "Pay the rent", "Clean the oven",
    "Write to Grandma", "Book the train", "Pick up the suit", "Feed the fish", "Order firewood", "Mow the lawn", "Change the lamp",
    "Find the passport", "Bake a cake", "Renew the ticket", "Sort the photos", "Wash the car", "Sweep the yard",
)  # fmt: skip
_AMOUNTS = ("1 kg", "2 kg", "3 kg", "500 g", "250 g", "2 bags", "3 boxes", "4 jars", "6", "12", "5 tins", "1 sack", "2 litres")


@dataclass(frozen=True)
class _Entry:
    text: str
    amount: str = ""
    crossed: bool = False


def _list(rng: random.Random) -> Scene:
    n, shopping = rng.choice((4, 5, 6, 7, 8, 10, 12)), rng.random() < 0.6
    names = rng.sample(words.GOODS if shopping else _TASKS, n)
    crossed = set(rng.sample(range(n), rng.randint(1, max(1, n // 2)))) if rng.random() < 0.7 else set()
    entries = [_Entry(name, rng.choice(_AMOUNTS) if shopping else "", i in crossed) for i, name in enumerate(names)]
    rows = [f"- {e.text}    {e.amount}" for e in entries]
    title = rng.choice(("Shopping", "To buy", "Market list", "Groceries") if shopping else ("To do", "This week", "Don't forget"))
    hand, x, y, step = start(rng, [*rows, title + " xxx"], head=True)
    write_title(hand, title, (x, y - 1.9 * hand.size))
    mark = rng.choice(("-", "box", ""))
    for i, entry in enumerate(entries):
        at = (x + (1.3 * hand.size if mark else 0), y + i * step)
        if mark == "box":
            _tick_box(hand, (x, at[1]))
        elif mark:
            hand.stroke((x + 2, at[1] - 0.3 * hand.size), (x + 0.6 * hand.size, at[1] - 0.33 * hand.size))
        written = entry.text if not entry.amount else f"{entry.text} {entry.amount}"
        box = hand.write(written, at, entry.text)
        if entry.crossed:
            middle = at[1] - 0.28 * hand.size
            hand.stroke((box[0] - 3, middle), (box[2] + 4, middle - rng.uniform(-2, 2)), hand.size / 16)
    askers = [partial(ask, rng, hand, entries) for ask in (_entry, _count_entries, _next_entry, *((_amount,) * 3 if shopping else ()))]
    return _finish(hand, pick(rng, askers, hand.sheet.size), f'a handwritten list with the title "{title}"', sorted(crossed), mark)


def _tick_box(hand: Hand, xy: tuple[float, float]) -> None:
    side, (x, y) = 0.7 * hand.size, xy
    for a, b in pairwise([(x, y), (x + side, y), (x + side, y - side), (x, y - side), (x, y)]):
        hand.stroke(a, b, hand.size / 16)


def _list_facts(entries: list[_Entry]) -> dict[str, Any]:
    return {"entries": [[e.text, e.amount, e.crossed] for e in entries]}


def _entry(rng: random.Random, hand: Hand, entries: list[_Entry]) -> Ask:
    """The n-th entry: all up to it must be seen."""
    at = rng.randrange(min(9, len(entries)))
    is_last = at == len(entries) - 1
    text, amount, place = entries[at].text, entries[at].amount, "last" if is_last else ordinal(at + 1)
    boxes = tuple(hand.lines[e.text] for e in (entries[at:] if is_last else entries[: at + 1]))
    return Ask("read", f"What is the {place} entry of the list, below its title?", text, boxes, hand.text_px, f"the {place} entry",
               _block(hand, text), also=_also(text, amount), facts=_list_facts(entries))  # fmt: skip


def _next_entry(rng: random.Random, hand: Hand, entries: list[_Entry]) -> Ask:
    at = rng.randrange(len(entries) - 1)
    one, two = entries[at].text, entries[at + 1].text
    return Ask("locate", f'What is written directly below "{one}"?', two, (hand.lines[one], hand.lines[two]), hand.text_px,
               f"the lines from {one} on", _block(hand, one, two), also=_also(two, entries[at + 1].amount),
               facts=_list_facts(entries))  # fmt: skip


def _also(text: str, amount: str) -> tuple[str, ...]:
    return (f"{text} {amount}", f"{amount} {text}") if amount else ()


def _count_entries(rng: random.Random, hand: Hand, entries: list[_Entry]) -> Ask:
    crossed = [e.text for e in entries if e.crossed]
    if crossed:
        question, found, start = "How many entries of the list are crossed out?", crossed, "Crossed out are"
    else:
        question, found, start = "How many entries does the list have, without its title?", [e.text for e in entries], "The list has"
    return Ask("count", question, str(len(found)), tuple(hand.lines[e.text] for e in entries), hand.text_px, "the list",
               working=f"{start} {join(found)}: {len(found)}", facts=_list_facts(entries))  # fmt: skip


def _amount(rng: random.Random, hand: Hand, entries: list[_Entry]) -> Ask | None:
    entry = rng.choice(entries)
    if entry.crossed:
        return None
    return Ask("locate", f"How much or how many of {entry.text} does the list ask for?", entry.amount, (hand.lines[entry.text],),
               hand.text_px, f"the line of {entry.text}", _block(hand, entry.text), facts=_list_facts(entries))  # fmt: skip


# what was spent


def _expenses(rng: random.Random) -> Scene:
    n = rng.choice((3, 4, 5, 6, 7, 8, 10))
    names = rng.sample(("Bus", "Lunch", "Stamps", "Books", "Fuel", "Hotel", "Taxi", "Coffee", "Museum", "Gifts", "Train", "Phone", "Dinner",
                        "Parking", "Tools", "Paint", "Shoes", "Cinema", "Rent", "Ferry"), n)  # fmt: skip
    spent = {name: rng.randint(2, 90) * 100 + rng.choice((0, 0, 50, 20, 80)) for name in names}
    title = f"{rng.choice(('Trip to', 'Costs in', 'Weekend in'))} {rng.choice(words.TOWNS)}"
    hand, x, y, step = start(rng, ["m" * rng.randint(9, 13), title + " xxx", *names], head=True)
    width = max(text_width(name, hand.face, hand.size) for name in names) + 2.2 * hand.size
    write_title(hand, title, (x, y - 1.9 * hand.size))
    for i, (name, cents) in enumerate(spent.items()):
        left = hand.write(name, (x, y + i * step))
        right = hand.write(money(cents), (x + width + rng.uniform(0, 0.3) * hand.size, y + i * step))
        hand.lines[name] = union(left, right)
    if rng.random() < 0.5:
        under = y + (n - 1) * step + 0.5 * hand.size
        hand.stroke((x + width - 4, under), (x + width + 3 * hand.size, under))
        hand.lines["sum"] = hand.write(f"Sum {money(sum(spent.values()))}", (x + width - 1.7 * hand.size, y + n * step + 0.3 * hand.size))
    asked = (_spent, _more_spent, _spent_together, _spent_together, _most_spent)
    ask = pick(rng, [partial(ask, rng, hand, spent) for ask in asked], hand.sheet.size)
    return _finish(hand, ask, f'a handwritten account with the title "{title}"')


def _spent_facts(spent: dict[str, int], *names: str) -> dict[str, Any]:
    return {"spent": [[name, spent[name]] for name in names]}


def _spent(rng: random.Random, hand: Hand, spent: dict[str, int]) -> Ask:
    name = rng.choice(tuple(spent))
    return Ask("locate", f'What amount is noted for "{name}"?', money(spent[name]), (hand.lines[name],), hand.text_px, f"the line {name}",
               _block(hand, name), facts=_spent_facts(spent, name))  # fmt: skip


def _near_names(rng: random.Random, spent: dict[str, int]) -> tuple[str, str]:
    names = list(spent)
    at = rng.randrange(len(names) - 1)
    return names[at], names[min(len(names) - 1, at + rng.randint(1, 3))]


def _more_spent(rng: random.Random, hand: Hand, spent: dict[str, int]) -> Ask | None:
    a, b = _near_names(rng, spent)
    if spent[a] == spent[b]:
        return None
    more, less = (a, b) if spent[a] > spent[b] else (b, a)
    return Ask("compare", f"On which was more spent, {a} or {b}?", more, (hand.lines[a], hand.lines[b]), hand.text_px,
               f"the lines {a} and {b}", _block(hand, a, b),
               working=f"{money(spent[more])} for {more} is more than {money(spent[less])} for {less}",
               facts=_spent_facts(spent, a, b))  # fmt: skip


def _most_spent(rng: random.Random, hand: Hand, spent: dict[str, int]) -> Ask | None:
    most = max(spent, key=spent.__getitem__)
    if list(spent.values()).count(spent[most]) > 1:
        return None
    return Ask("compare", "Which was the largest expense?", most, tuple(hand.lines[name] for name in spent), hand.text_px, "the account",
               working=f"The largest amount is {money(spent[most])}, for {most}", facts=_spent_facts(spent, *spent))  # fmt: skip


def _spent_together(rng: random.Random, hand: Hand, spent: dict[str, int]) -> Ask:
    a, b = _near_names(rng, spent)
    total = money(spent[a] + spent[b])
    return Ask("compute", f"How much was spent on {a} and {b} together?", total, (hand.lines[a], hand.lines[b]), hand.text_px,
               f"the lines {a} and {b}", _block(hand, a, b), working=f"{money(spent[a])} + {money(spent[b])} = {total}",
               facts=_spent_facts(spent, a, b))  # fmt: skip


# the days of a week

_PASTIMES = (
    "piano", "dentist", "swimming", "choir", "football", "library", "cinema", "dinner", "market", "chess", "yoga", "garden", "museum",
    "cooking", "French", "running",
)  # fmt: skip


def _plan(rng: random.Random) -> Scene:
    days = sorted(rng.sample(range(7), rng.randint(3, 7)))
    things = rng.sample(_PASTIMES, len(days))
    times = [f"{rng.randint(7, 20)}:{rng.choice(('00', '15', '30', '45'))}" for _ in days]
    plan = [(words.WEEKDAYS[day], thing, time) for day, thing, time in zip(days, things, times, strict=True)]
    rows = [f"{day}: {thing} at {time}" for day, thing, time in plan]
    title = rng.choice(("Week plan", f"Week {rng.randint(1, 52)}", f"{rng.choice(words.FIRST_NAMES)}'s week"))
    hand, x, y, step = start(rng, [*rows, title + " xxx"], head=True)
    write_title(hand, title, (x, y - 1.9 * hand.size))
    for i, ((day, _, _), row) in enumerate(zip(plan, rows, strict=True)):
        hand.write(row, (x, y + i * step), day)
    ask = pick(rng, [partial(ask, rng, hand, plan) for ask in (_on_day, _when, _earliest)], hand.sheet.size)
    return _finish(hand, ask, f'a handwritten plan with the title "{title}"')


def _on_day(rng: random.Random, hand: Hand, plan: list[tuple[str, str, str]]) -> Ask:
    day, thing, time = rng.choice(plan)
    question, answer = rng.choice(((f"What is planned for {day}?", thing), (f"At what time does the entry for {day} begin?", time)))
    also = (f"{thing} at {time}",) if answer == thing else ()
    return Ask("read", question, answer, (hand.lines[day],), hand.text_px, f"the line for {day}", _block(hand, day), also=also,
               facts={"plan": [list(entry) for entry in plan]})  # fmt: skip


def _when(rng: random.Random, hand: Hand, plan: list[tuple[str, str, str]]) -> Ask:
    day, thing, _ = rng.choice(plan)
    return Ask("locate", f'On which day is "{thing}" planned?', day, (hand.lines[day],), hand.text_px, f"the line with {thing}",
               _block(hand, day), facts={"plan": [list(entry) for entry in plan]})  # fmt: skip


def _earliest(rng: random.Random, hand: Hand, plan: list[tuple[str, str, str]]) -> Ask | None:
    at = rng.randrange(len(plan) - 1)
    a, b = plan[at], plan[min(len(plan) - 1, at + rng.randint(1, 3))]
    minutes = [int(h) * 60 + int(m) for h, m in (entry[2].split(":") for entry in (a, b))]
    if minutes[0] == minutes[1]:
        return None
    first, second = (a, b) if minutes[0] < minutes[1] else (b, a)
    return Ask("compare", f"Which begins at an earlier time of day, {a[1]} or {b[1]}?", first[1], (hand.lines[a[0]], hand.lines[b[0]]),
               hand.text_px, f"the lines for {a[0]} and {b[0]}", _block(hand, a[0], b[0]),
               working=f"{first[2]} is earlier than {second[2]}", facts={"plan": [list(entry) for entry in plan]})  # fmt: skip


# a note to someone, or a book of them


def _rows_of(story: Story, n_chars: int) -> list[tuple[str, Fact]]:
    """Every sentence begins a row, as in a hasty note."""
    rows = []
    for fact in story.facts:
        line = ""
        for word in fact.sentence.split():
            if line and len(line) + len(word) > n_chars:
                rows.append((line, fact))
                line = ""
            line = f"{line} {word}".strip()
        rows.append((line, fact))
    return rows


def _note(rng: random.Random) -> Scene:
    story = tell(rng, rng.choice(NOTES), rng.randint(3, 5))
    to, by = rng.sample(words.FIRST_NAMES, 2)
    greeting, end = f"{rng.choice(('Dear', 'Hi', 'Hello'))} {to},", f"{rng.choice(('Love,', 'Yours,', 'Thanks,'))} {by}"
    rows = _rows_of(story, rng.randint(26, 48))
    hand, x, y, step = start(rng, [greeting, *(text for text, _ in rows), end], head=False)
    hand.write(greeting, (x, y), "greeting")
    boxes: dict[str, list[Box]] = {}
    for i, (text, fact) in enumerate(rows, start=1):
        boxes.setdefault(fact.sentence, []).append(hand.write(text, (x, y + i * step)))
    hand.write(end, (x, y + (len(rows) + 1) * step), "end")
    whole = union(*hand.lines.values(), *(box for part in boxes.values() for box in part))
    ask = partial(_in_note, rng, hand, story, boxes, whole, f"In the note about {story.topic}", "after the greeting")
    who = [partial(_who, hand, to, by, name, whole) for name in ("greeting", "end")]
    return _finish(hand, pick(rng, [ask, ask, ask, *who], hand.sheet.size), "a handwritten note")


def _book(rng: random.Random) -> Scene:
    """A page with an entry for each of several days."""
    plots, n_chars = rng.sample(NOTES, rng.randint(2, 4)), rng.randint(32, 46)
    days = [words.WEEKDAYS[d] for d in sorted(rng.sample(range(7), len(plots)))]
    stories = [tell(rng, plot, rng.randint(3, 5)) for plot in plots]
    parts = [_rows_of(story, n_chars) for story in stories]
    rows = [text for part in parts for text in ("", *(text for text, _ in part), "")]
    hand, x, y, step = start(rng, rows, head=False)
    boxes: list[dict[str, list[Box]]] = []
    for day, part in zip(days, parts, strict=True):
        write_title(hand, day, (x, y), day)
        boxes.append({})
        for i, (text, fact) in enumerate(part, start=1):
            boxes[-1].setdefault(fact.sentence, []).append(hand.write(text, (x, y + i * step)))
        y += (len(part) + 2) * step
    wholes = [union(hand.lines[day], *(b for part in entry.values() for b in part)) for day, entry in zip(days, boxes, strict=True)]
    at = rng.randrange(len(days))
    ask = partial(_in_note, rng, hand, stories[at], boxes[at], wholes[at], f"In the entry of {days[at]}", f"under {days[at]}")
    askers = [ask, ask, partial(_entries, hand, days)]
    return _finish(hand, pick(rng, askers, hand.sheet.size), "a handwritten page with an entry for each day")


def _in_note(
    rng: random.Random, hand: Hand, story: Story, boxes: dict[str, list[Box]], whole: Box, where: str, place: str
) -> Ask:  # fmt: skip
    at, fact = rng.choice([(i, f) for i, f in enumerate(story.facts, start=1) if f.question])
    return Ask("paragraph", f"{where}, {fact.question}", fact.answer, tuple(boxes[fact.sentence]), hand.text_px,
               f"the {ordinal(at)} sentence {place}", whole, also=fact.also, facts={"sentence": fact.sentence})  # fmt: skip


def _entries(hand: Hand, days: list[str]) -> Ask:
    """The underlined names of days are large: they can be counted on the whole page."""
    return Ask("count", "For how many days does the page have an entry?", str(len(days)), (), 1.25 * hand.text_px, "the underlined days",
               working=f"There are entries for {join(days)}: {len(days)}", facts={"days": days})  # fmt: skip


def _who(hand: Hand, to: str, by: str, name: str, whole: Box) -> Ask:
    question, answer = ("To whom is the note written?", to) if name == "greeting" else ("Who wrote the note?", by)
    where = "the greeting" if name == "greeting" else "the last line"
    return Ask("read", question, answer, (hand.lines[name],), hand.text_px, where, whole, facts={"to": to, "by": by})
