"""Business letters: letterhead, address, subject, paragraphs with facts, signature."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from functools import partial

from codevision_lite.records import Box
from codevision_lite.synth import words
from codevision_lite.synth.families.drawing import Color, Sheet, union
from codevision_lite.synth.families.paper import (
    ACCENTS,
    INKS,
    PAPERS,
    Ask,
    age,
    bold,
    n_lines,
    pick,
    print_size,
    to_scene,
    write_prose,
)  # fmt: skip
from codevision_lite.synth.scene import Scene
from codevision_lite.synth.stories import LETTERS, ordinal, tell
from codevision_lite.synth.typography import TEXT_FACES, letter_height

_COURTESIES = (
    "We are sorry for the trouble.", "Thank you for your patience.", "Please let us know if this suits you.",
    "We look forward to hearing from you.", "All further details are in the enclosed leaflet.",
)  # fmt: skip


@dataclass
class _Letter:
    text_px: float
    fields: dict[str, tuple[str, str, Box]] = field(default_factory=dict)
    head: Box | None = None


def draw_letter(rng: random.Random) -> Scene:
    face = rng.choice(TEXT_FACES)
    size = print_size(rng, face)
    long = rng.random() < 0.5
    story = tell(rng, rng.choice(LETTERS), 6 if long else 4)
    cuts = [[f] for f in story.facts[: 3 if long else 2]]
    for fact in story.facts[len(cuts) :]:
        rng.choice(cuts[1:]).append(fact)
    paragraphs = [[f for f in story.facts if f in cut] for cut in cuts]
    for paragraph in paragraphs:
        if rng.random() < 0.6:
            paragraph.append(replace(story.facts[0], sentence=rng.choice(_COURTESIES), question=""))
    width, margin = round(size * (rng.uniform(36, 46) if long else rng.uniform(27, 30))), round(size * (3 if long else 1.8))
    inner = width - 2 * margin
    lines = sum(n_lines([f.sentence for f in p], face, size, inner) for p in paragraphs)
    height = round(size * (19.5 + 1.45 * lines + 1.1 * len(paragraphs))) + 2 * margin
    paper, ink, accent = rng.choice(PAPERS), rng.choice(INKS), rng.choice(ACCENTS)
    sheet = Sheet((width, height), paper)
    age(sheet, rng)
    letter, style = _Letter(letter_height(face, size)), {"face": face, "size_px": size, "fill": ink}
    firm, y = _head(sheet, rng, letter, story.headline, margin, accent, style)
    bodies: list[tuple[list, list[Box]]] = []
    for paragraph in paragraphs:
        boxes, y = write_prose(sheet, (margin, y), [f.sentence for f in paragraph], width=inner, leading=1.45, **style)
        bodies.append((paragraph, boxes))
        y += 1.1 * size
    _foot(sheet, rng, letter, y, margin, style)
    inside = partial(_ask_sentence, rng, letter, bodies, story.topic)
    askers = [partial(_ask_field, rng, letter), inside, inside, inside, partial(_ask_paragraphs, letter, bodies)]
    return to_scene("receipt", sheet, pick(rng, askers, sheet.size), f"a letter of {firm}", accent)


def _head(
    sheet: Sheet, rng: random.Random, letter: _Letter, subject: str, margin: int, accent: Color, style: dict
) -> tuple[str, float]:  # fmt: skip
    """Returns the firm's name and the y of the first paragraph."""
    size, face, width, y = style["size_px"], style["face"], sheet.size[0], float(margin)
    firm, client, date = words.shop(rng), words.person(rng), words.date(rng)
    name = sheet.text((margin, y), firm, face=bold(face), size_px=round(1.5 * size), fill=accent)
    sheet.line([(margin, y + 2.2 * size), (width - margin, y + 2.2 * size)], accent, 2)
    y += 3.2 * size
    lines = [client, f"{rng.randint(1, 98)} {rng.choice(words.STREETS)}", rng.choice(words.TOWNS)]
    address = [sheet.text((margin, y + 1.4 * size * i), line, **style) for i, line in enumerate(lines)]
    day = sheet.text((width - margin, y + 1.4 * size * 2), date, anchor="ra", **style)
    y += 5.6 * size
    about = sheet.text((margin, y), subject, face=bold(face), size_px=size, fill=style["fill"])
    sheet.text((margin, y + 2.2 * size), f"Dear {client},", **style)
    letter.fields |= {
        "client": ("To whom is the letter addressed?", client, address[0]),
        "date": ("What is the date of the letter?", date, day),
        "subject": ("What does the subject line of the letter say?", subject, about),
    }
    letter.head = union(name, *address, day, about)
    return firm, y + 4.2 * size


def _foot(sheet: Sheet, rng: random.Random, letter: _Letter, y: float, margin: int, style: dict) -> None:
    size, signer = style["size_px"], words.person(rng)
    sheet.text((margin, y + 0.4 * size), rng.choice(("Yours sincerely", "With kind regards", "Best regards")), **style)
    sheet.text((margin + 0.5 * size, y + 2.1 * size), signer, face="hand", size_px=round(1.5 * size), fill=(30, 50, 130))
    typed = sheet.text((margin, y + 4.4 * size), signer, **style)
    letter.fields["signer"] = ("Who signed the letter?", signer, typed)


def _ask_field(rng: random.Random, letter: _Letter) -> Ask:
    name = rng.choice(tuple(letter.fields))
    question, shown, box = letter.fields[name]
    where = {"client": "the first line of the address", "date": "the date", "subject": "the subject line"}
    evidence, block = where.get(name, "the name below the signature"), letter.head if name in where else None
    return Ask("read", question, shown, (box,), letter.text_px, evidence, block, facts={"field": name, "shown": shown})


def _ask_sentence(rng: random.Random, letter: _Letter, bodies: list, topic: str) -> Ask:
    found = [(n, fact, box, boxes) for n, (facts, boxes) in enumerate(bodies, start=1) for fact, box in zip(facts, boxes, strict=True)]
    at, fact, box, boxes = rng.choice([entry for entry in found if entry[1].question])
    return Ask(
        "paragraph", f"In the letter about {topic}, {fact.question}", fact.answer, (box,), letter.text_px,
        f"the {ordinal(at)} paragraph", union(*boxes), also=fact.also, facts={"sentence": fact.sentence},
    )  # fmt: skip


def _ask_paragraphs(letter: _Letter, bodies: list) -> Ask:
    whole = union(*(box for _, boxes in bodies for box in boxes))
    n = len(bodies)
    return Ask(
        "count", "How many paragraphs does the letter have between the greeting and the closing words?", str(n), (whole,), letter.text_px,
        "the body of the letter", working=f"There are {n} blocks of text", facts={"paragraphs": n},
    )  # fmt: skip
