"""Pages set in columns: newspaper fronts and reports, with articles or sections, and pictures with captions between them.

What a page holds is stacked into the column that is shortest so far, so nothing can overlap. cards.py has the other pages.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial

from codevision_lite.records import Box
from codevision_lite.synth import words
from codevision_lite.synth.families.drawing import Color, Sheet, mix, union
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
)
from codevision_lite.synth.families.pictograms import THINGS, draw_thing, with_article
from codevision_lite.synth.scene import Scene
from codevision_lite.synth.stories import Story, join, ordinal, tell_news
from codevision_lite.synth.typography import letter_height, wrap

_PAPER_NAMES = ("The {} Courier", "{} Daily", "The {} Observer", "{} Post", "The {} Herald", "{} Gazette")
_AT = ("{thing_} near {town}", "{thing_} seen in {town}", "{thing_} by {person}", "{thing_}, drawn by {person}", "{thing_} from {town}")


@dataclass
class _Article:
    story: Story
    headline: str
    author: str
    head: Box | None = None
    byline: Box | None = None
    sentences: list[Box] = field(default_factory=list)

    @property
    def whole(self) -> Box:
        return union(self.head, *((self.byline,) if self.byline else ()), *self.sentences)


@dataclass
class _Picture:
    thing: str
    caption: str
    number: int  # of "Figure 2"; 0: without
    aspect: float  # height by width
    frame: Box | None = None
    text: Box | None = None


@dataclass(frozen=True)
class _Type:
    """How a page is set; sizes in px."""

    face: str
    size: int
    head_face: str
    head_size: int
    ink: Color
    accent: Color
    column: int
    gutter: int

    @property
    def text_px(self) -> float:
        return letter_height(self.face, self.size)


def draw_columns(rng: random.Random, family: str) -> Scene:
    """A newspaper front or a report, with a question about an article, a picture or the page."""
    is_news = rng.random() < 0.55
    face = rng.choice(("serif", "book", "serif", "sans")) if is_news else rng.choice(("sans", "grotesk", "book", "serif"))
    n_columns = rng.choice((2, 2, 2, 3, 4) if is_news else (1, 2, 2))
    size = print_size(rng, face, large=0.08 if n_columns == 2 else 0.0)
    head_face = bold(rng.choice((face, face, "serif" if is_news else "sans")))
    column = round(size * (rng.uniform(27, 33) if n_columns == 1 else rng.uniform(12.5, 15.5)))
    head_size = round(size * rng.uniform(1.25, 1.7))
    kind = _Type(face, size, head_face, head_size, rng.choice(INKS[:3]), rng.choice(ACCENTS), column, round(1.6 * size))
    n_stories = rng.choice((2, 2, 3)) if n_columns < 3 else rng.randint(4, 6)
    stories = tell_news(rng, n_stories, rng.randint(3, 5), rng.randint(0, 1 if n_columns < 3 else 4))
    articles = [
        _Article(story, story.headline if is_news else f"{i}  {story.headline}", author if is_news and rng.random() < 0.8 else "")
        for i, (story, author) in enumerate(zip(stories, words.people(rng, n_stories), strict=True), start=1)
    ]
    pictures = _pictures(rng, n_columns, is_news)
    blocks: list[_Article | _Picture] = [*articles]
    for at, picture in zip(sorted(rng.choices(range(1, len(articles) + 1), k=len(pictures)), reverse=True), pictures[::-1], strict=True):
        blocks.insert(at, picture)  # from the last on, so that figures are numbered in order
    sheet, top, subject = _page(rng, kind, blocks, n_columns, is_news)
    _stack(sheet, rng, kind, blocks, n_columns, top)
    askers = [partial(_ask_article, rng, kind, articles)] * 4 + [partial(_ask_author, rng, kind, articles)] * 2
    askers += [partial(ask, rng, kind, pictures) for ask in (_ask_caption, _ask_thing, _ask_count)]
    askers.append(partial(_ask_headlines, kind, articles))
    return to_scene(family, sheet, pick(rng, askers, sheet.size), subject, [(p.thing, p.frame) for p in pictures], kind)


def _pictures(rng: random.Random, n_columns: int, is_news: bool) -> list[_Picture]:
    """Different things with different captions; numbered in a report."""
    n = rng.choice((1, 1, 2)) if n_columns < 3 else rng.randint(2, 4)
    shown = zip(rng.sample(tuple(THINGS), n), rng.sample(words.TOWNS, n), words.people(rng, n), strict=True)
    pictures = []
    for i, (thing, town, person) in enumerate(shown, start=1):
        caption = rng.choice(_AT).format(thing_=f"A{with_article(thing)[1:]}", town=town, person=person)
        pictures.append(_Picture(thing, caption if is_news else f"Figure {i}: {caption}", 0 if is_news else i, rng.uniform(0.5, 0.8)))
    return pictures


def _height(kind: _Type, block: _Article | _Picture) -> int:
    """Px that a block takes in its column, with the space after it."""
    size = kind.size
    if isinstance(block, _Picture):
        lines = len(wrap(block.caption, kind.face, size, kind.column))
        return round(min(kind.column, 17 * size) * block.aspect + 0.5 * size + 1.3 * size * lines + 1.5 * size)
    head = len(wrap(block.headline, kind.head_face, kind.head_size, kind.column)) * round(1.2 * kind.head_size)
    body = n_lines([f.sentence for f in block.story.facts], kind.face, size, kind.column) * round(1.35 * size)
    return head + round((1.7 if block.author else 0.4) * size) + body + round(1.7 * size)


def _plan(kind: _Type, blocks: list, n_columns: int) -> tuple[list[int], int]:
    """The column of each block, and the height of the longest column."""
    used, at = [0] * n_columns, []
    for block in blocks:
        at.append(used.index(min(used)))
        used[at[-1]] += _height(kind, block)
    return at, max(used)


def _page(rng: random.Random, kind: _Type, blocks: list, n_columns: int, is_news: bool) -> tuple[Sheet, int, str]:
    """The sheet with its head; also the y of the columns and what the page is."""
    size, margin = kind.size, round(kind.size * rng.uniform(1.2, 2.2))
    inner = n_columns * kind.column + (n_columns - 1) * kind.gutter
    town = rng.choice(words.TOWNS)
    name = rng.choice(_PAPER_NAMES).format(town) if is_news else f"{rng.choice(('Yearly', 'Monthly', 'Spring', 'Town'))} report, {town}"
    name_px = fit(name, kind.head_face, round(size * (rng.uniform(2.2, 3.2) if is_news else 1.9)), inner)
    top = margin + round(1.4 * name_px) + round(2.4 * size)
    _, height = _plan(kind, blocks, n_columns)
    sheet = Sheet((inner + 2 * margin, top + height + round(0.4 * size)), rng.choice(PAPERS[:5] if not is_news else PAPERS[1:]))
    age(sheet, rng)
    width = sheet.size[0]
    if is_news:
        sheet.text((width / 2, margin), name, face=kind.head_face, size_px=name_px, fill=kind.ink, anchor="ma")
    else:
        sheet.rect((0, 0, round(0.45 * size), sheet.size[1]), kind.accent)
        sheet.text((margin, margin), name, face=kind.head_face, size_px=name_px, fill=kind.accent)
    y = margin + round(1.4 * name_px)
    if is_news:
        for at in (y, y + 1.7 * size):
            sheet.line([(margin, at), (width - margin, at)], kind.ink, 1)
        style = {"face": kind.face, "size_px": size, "fill": kind.ink}
        sheet.text((margin, y + 0.85 * size), f"{rng.choice(words.WEEKDAYS)}, {words.date(rng)}", anchor="lm", **style)
        sheet.text((width - margin, y + 0.85 * size), f"No. {rng.randint(10, 400)}", anchor="rm", **style)
    else:
        sheet.text((margin, y), f"by {words.person(rng)}", face=kind.face, size_px=size, fill=mix(kind.ink, sheet.paper, 0.3))
    return sheet, top, f'the front page of "{name}"' if is_news else f'a page of the "{name}"'


def _stack(sheet: Sheet, rng: random.Random, kind: _Type, blocks: list, n_columns: int, top: int) -> None:
    at, height = _plan(kind, blocks, n_columns)
    left = (sheet.size[0] - n_columns * kind.column - (n_columns - 1) * kind.gutter) // 2
    ys = [float(top)] * n_columns
    with_rules = rng.random() < 0.5
    for block, column in zip(blocks, at, strict=True):
        x = left + column * (kind.column + kind.gutter)
        draw = _draw_picture if isinstance(block, _Picture) else _draw_article
        draw(sheet, rng, kind, block, (x, ys[column]))
        ys[column] += _height(kind, block)
    for column in range(n_columns):
        x, room = left + column * (kind.column + kind.gutter), top + height - ys[column] - 1.5 * kind.size
        if room > 6 * kind.size:
            _advertise(sheet, rng, kind, (x, ys[column], x + kind.column, ys[column] + min(room, 14 * kind.size)))
        if with_rules and column:
            sheet.line([(x - kind.gutter / 2, top), (x - kind.gutter / 2, top + height - kind.size)], mix(sheet.paper, kind.ink, 0.35), 1)


def _advertise(sheet: Sheet, rng: random.Random, kind: _Type, box: Box) -> None:
    """Fill an empty end of a column."""
    size = kind.size
    sheet.rect(box, mix(sheet.paper, kind.accent, 0.14), outline=kind.accent, width=2)
    words_of_praise = rng.choice(("Open every day", "Come and see", "New in town", "Since 1962"))
    lines = [(words.shop(rng), bold(kind.face), round(1.3 * size)), (words_of_praise, kind.face, size)]
    y = (box[1] + box[3]) / 2 - 0.9 * size
    for text, face, size_px in lines:
        px = fit(text, face, size_px, box[2] - box[0] - size)
        sheet.text(((box[0] + box[2]) / 2, y), text, face=face, size_px=px, fill=kind.ink, anchor="mm")
        y += 2 * size


def _draw_article(sheet: Sheet, rng: random.Random, kind: _Type, article: _Article, xy: tuple[float, float]) -> None:
    x, y = xy
    heads = []
    for line in wrap(article.headline, kind.head_face, kind.head_size, kind.column):
        heads.append(sheet.text((x, y), line, face=kind.head_face, size_px=kind.head_size, fill=kind.ink))
        y += round(1.2 * kind.head_size)
    article.head = union(*heads)
    if article.author:
        shown = mix(kind.ink, sheet.paper, 0.25)
        article.byline = sheet.text((x, y + 0.15 * kind.size), f"By {article.author}", face=kind.face, size_px=kind.size, fill=shown)
        y += 1.3 * kind.size
    sentences = [fact.sentence for fact in article.story.facts]
    article.sentences, _ = write_prose(
        sheet, (x, y + 0.4 * kind.size), sentences, face=kind.face, size_px=kind.size, width=kind.column, fill=kind.ink
    )  # fmt: skip


def _draw_picture(sheet: Sheet, rng: random.Random, kind: _Type, picture: _Picture, xy: tuple[float, float]) -> None:
    x, y = xy
    width = min(kind.column, 17 * kind.size)
    picture.frame = (x, y, x + width, y + round(width * picture.aspect))
    draw_thing(sheet, rng, picture.thing, picture.frame)
    y = picture.frame[3] + 0.5 * kind.size
    lines = []
    for line in wrap(picture.caption, kind.face, kind.size, kind.column):
        lines.append(sheet.text((x, y), line, face=kind.face, size_px=kind.size, fill=mix(kind.ink, kind.accent, 0.5)))
        y += 1.3 * kind.size
    picture.text = union(*lines)


def _ask_article(rng: random.Random, kind: _Type, articles: list[_Article]) -> Ask:
    article = rng.choice(articles)
    found = [(n, f, b) for n, (f, b) in enumerate(zip(article.story.facts, article.sentences, strict=True), start=1) if f.question]
    n, fact, box = rng.choice(found)
    where = f"the {ordinal(n)} sentence" if n <= 9 else "a sentence"
    return Ask(
        "paragraph", f"In the text about {article.story.topic}, {fact.question}", fact.answer, (box,), kind.text_px,
        f'{where} below the heading "{article.story.headline}"', article.whole, also=fact.also, facts={"sentence": fact.sentence},
    )  # fmt: skip


def _ask_author(rng: random.Random, kind: _Type, articles: list[_Article]) -> Ask | None:
    """Who wrote an article, or the other way round."""
    signed = [a for a in articles if a.author]
    if not signed:
        return None
    article = rng.choice(signed)
    boxes, facts = (article.head, article.byline), {"headline": article.headline, "author": article.author}
    if rng.random() < 0.5:
        return Ask("locate", f'Who wrote the article "{article.headline}"?', article.author, boxes, kind.text_px,
                   "the line below the heading", article.whole, facts=facts)  # fmt: skip
    return Ask("read", f"What is the heading of the article by {article.author}?", article.headline, boxes, kind.text_px,
               "the heading of that article", article.whole, facts=facts)  # fmt: skip


def _ask_headlines(kind: _Type, articles: list[_Article]) -> Ask:
    """Headings are large: they can be counted on the whole page."""
    shown = [a.story.headline for a in articles]
    question = "How many texts with a heading of their own are on the page, without captions and advertisements?"
    return Ask("count", question, str(len(shown)), (),
               letter_height(kind.head_face, kind.head_size), "the headings", working=f"The headings are {join(shown)}: {len(shown)}",
               facts={"headlines": shown})  # fmt: skip


def _ask_caption(rng: random.Random, kind: _Type, pictures: list[_Picture]) -> Ask:
    picture = rng.choice(pictures)
    caption = picture.caption.partition(": ")[2] or picture.caption
    return Ask(
        "locate", f"What does the caption of the picture of {with_article(picture.thing)} say?", caption, (picture.text,), kind.text_px,
        f"the caption below the {picture.thing}", union(picture.frame, picture.text), also=(picture.caption,) if picture.number else (),
        facts={"thing": picture.thing, "caption": picture.caption},
    )  # fmt: skip


def _ask_thing(rng: random.Random, kind: _Type, pictures: list[_Picture]) -> Ask | None:
    """Which figure shows a thing: its picture and its number must be seen."""
    picture = rng.choice(pictures)
    if not picture.number or len(pictures) < 2:
        return None
    thing = with_article(picture.thing)
    return Ask(
        "figure", f"What is the number of the figure that shows {thing}?", str(picture.number), (picture.frame, picture.text), kind.text_px,
        f"the picture of {thing} and its caption", also=(f"Figure {picture.number}",),
        facts={"thing": picture.thing, "number": picture.number},
    )  # fmt: skip


def _ask_count(rng: random.Random, kind: _Type, pictures: list[_Picture]) -> Ask:
    """Pictures are large: they can be counted on the whole page."""
    height = min(p.frame[3] - p.frame[1] for p in pictures)
    things = [p.thing for p in pictures]
    return Ask("count", "How many drawn pictures are on the page?", str(len(things)), (), round(height / 6, 1), "the pictures",
               working=f"They show {join([with_article(t) for t in things])}: {len(things)}", facts={"things": things})  # fmt: skip
