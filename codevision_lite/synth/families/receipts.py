"""Receipts, invoices and business letters: what was bought, what it cost, who wrote what about it.

A till receipt lies on a desk or fills the picture; invoices and letters are pages. All sums are in cents and add up.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial

from codevision_lite.records import Box
from codevision_lite.synth import words
from codevision_lite.synth.families import bills
from codevision_lite.synth.families.bills import Bill, Item
from codevision_lite.synth.families.drawing import Color, Sheet, mix, union
from codevision_lite.synth.families.letters import draw_letter
from codevision_lite.synth.families.paper import (
    ACCENTS,
    DESKS,
    INKS,
    PAPERS,
    age,
    bold,
    fit,
    lay_on_desk,
    money,
    pick,
    print_size,
    to_scene,
)  # fmt: skip
from codevision_lite.synth.scene import Scene
from codevision_lite.synth.typography import TEXT_FACES, letter_height

_WARES = {
    "Market": words.GOODS, "Deli": words.GOODS, "Pantry": words.GOODS, "Cafe": words.MEALS, "Kitchen": words.MEALS,
    "Hardware": words.TOOLS, "Garage": words.TOOLS, "Stationery": words.OFFICE, "Books": words.OFFICE,
}  # fmt: skip
_SIGNS = ("$", "€", "£")
_ON_RECEIPTS = (
    bills.ask_field, bills.ask_field, bills.ask_amount, bills.ask_amount, bills.ask_count, bills.ask_dearest, bills.ask_which_is_more,
    bills.ask_together,
)  # fmt: skip
_ON_INVOICES = (
    bills.ask_field, bills.ask_field, bills.ask_amount, bills.ask_in_row, bills.ask_in_row, bills.ask_count, bills.ask_dearest,
    bills.ask_together,
)  # fmt: skip


@dataclass(frozen=True)
class _Line:
    """A line of a receipt; `name`: under which its box is kept."""

    left: str = ""
    right: str = ""
    name: str = ""
    scale: float = 1.0
    is_bold: bool = False
    centered: bool = False
    rule: bool = False


def draw(rng: random.Random) -> Scene:
    """A receipt, an invoice or a letter with a question."""
    return rng.choices((_receipt, _invoice, draw_letter), (5, 3, 2))[0](rng)


def _items(rng: random.Random, names: tuple[str, ...], n: int, dear: bool = False) -> list[Item]:
    cents = (0, 20, 25, 49, 50, 75, 80, 90, 95, 99)
    top = 48 if dear else 14
    return [
        Item(name, rng.choice((1, 1, 1, 2, 3, 4)) if not dear else rng.randint(1, 12), 100 * rng.randint(1, top) + rng.choice(cents))
        for name in rng.sample(names, n)
    ]


def _receipt(rng: random.Random) -> Scene:
    kind = rng.choice(tuple(_WARES))
    face = rng.choice(("sans", "sans", "grotesk", "book"))
    size = print_size(rng, face)
    items = _items(rng, _WARES[kind], rng.choice((3, 4, 5, 5, 6, 7, 8, 10, 13)))
    shop = f"{rng.choice((*words.TOWNS, *words.LAST_NAMES))} {kind}"
    bill = Bill(shop, items, rng.choice(_SIGNS), letter_height(face, size))
    lines = _receipt_lines(rng, bill)
    width, step = round(size * rng.uniform(16, 21)), round(size * rng.uniform(1.3, 1.5))
    pad = round(size * rng.uniform(1.1, 1.8))
    barcode = rng.choice((0, 0, 2, 3)) * size
    height = round(sum(step * (line.scale if not line.rule else 0.8) for line in lines)) + 2 * pad + barcode
    on_desk = rng.random() < 0.6
    left, top, right, bottom = (round(size * rng.uniform(0.8, 6)) for _ in range(4)) if on_desk else (pad // 2,) * 4
    paper = rng.choice(PAPERS)
    sheet = Sheet((left + width + 2 * pad + right, top + height + bottom), rng.choice(DESKS) if on_desk else paper)
    x, y = left + pad, top + pad
    if on_desk:
        lay_on_desk(sheet, rng, (left, top, left + width + 2 * pad, top + height), paper, torn=rng.random() < 0.6)
    age(sheet, rng)
    ink = mix(rng.choice(INKS[:2]), paper, rng.choice((0, 0.1, 0.25)))
    y = _set_lines(sheet, bill, lines, (x, y), width=width, step=step, face=face, size=size, ink=ink)
    if barcode:
        _barcode(sheet, rng, (x + 0.12 * width, y + 0.3 * size, x + 0.88 * width, y + barcode - 0.2 * size), ink)
    ask = pick(rng, [partial(ask, rng, bill) for ask in _ON_RECEIPTS], sheet.size)
    return to_scene("receipt", sheet, ask, f"a receipt of the {shop}")


def _receipt_lines(rng: random.Random, bill: Bill) -> list[_Line]:
    """Head, articles, sums and foot; fills `bill.fields` with what is printed."""
    number, cashier = str(rng.randint(10000, 99999)), rng.choice(words.FIRST_NAMES)
    day = _shown(date(rng.randint(2016, 2026), 1, 1) + timedelta(days=rng.randrange(365)))
    time, card = f"{rng.randint(8, 21):02d}:{rng.randint(0, 59):02d}", str(rng.randint(1000, 9999))
    phone = f"0{rng.randint(20, 89)} {rng.randint(100, 999)} {rng.randint(100, 999)}"
    head = [
        _Line(bill.shop.upper() if rng.random() < 0.5 else bill.shop, name="shop", scale=1.5, is_bold=True, centered=True),
        _Line(f"{rng.randint(1, 98)} {rng.choice(words.STREETS)}, {rng.choice(words.TOWNS)}", centered=True),
    ]
    if rng.random() < 0.6:
        head.append(_Line(f"Phone {phone}", name="phone", centered=True))
        bill.fields["phone"] = ("What is the phone number of the shop?", phone)
    head += [_Line(rule=True), _Line(f"Date {day}", time, "when"), _Line(f"Receipt No. {number}", "", "number")]
    bill.fields["number"] = ("What is the number of the receipt?", number)
    bill.fields["when"] = rng.choice((("What date is printed on the receipt?", day), ("At what time was the receipt printed?", time)))
    if rng.random() < 0.6:
        head.append(_Line(f"Cashier: {cashier}", f"Till {rng.randint(1, 9)}", "cashier"))
        bill.fields["cashier"] = ("What is the name of the cashier?", cashier)
    body = [_Line(rule=True)]
    for item in bill.items:
        name = item.name if item.quantity == 1 else f"{item.quantity} x {item.name}"
        body.append(_Line(name, money(item.amount), item.name))
        if item.quantity > 1 and rng.random() < 0.5:
            body.append(_Line(f"      {item.quantity} at {money(item.unit)} each", scale=0.95))
    return [*head, *body, *_sum_lines(rng, bill, card), *_foot_lines(rng)]


def _sum_lines(rng: random.Random, bill: Bill, card: str) -> list[_Line]:
    lines, total = [_Line(rule=True)], bill.subtotal
    if rng.random() < 0.6:
        lines.append(_Line("Subtotal", money(total), "subtotal"))
        off = 50 * rng.randint(1, max(1, min(8, total // 100)))
        if rng.random() < 0.4 and off < total:
            lines.append(_Line("Discount", f"-{money(off)}", "discount"))
            bill.fields["discount"] = ("How much is the discount?", money(off))
            total -= off
        rate = rng.choice((5, 7, 8, 10, 19, 20))
        tax = round(total * rate / 100)
        lines.append(_Line(f"Tax {rate}%", money(tax), "tax"))
        bill.fields["tax"] = ("How much is the tax?", money(tax))
        total += tax
    lines.append(_Line("TOTAL", f"{bill.sign}{money(total)}", "total", scale=1.3, is_bold=True))
    bill.fields["total"] = ("What is the total of the receipt?", money(total))
    if rng.random() < 0.5:
        cash = -(-total // 1000) * 1000
        lines += [_Line("Cash", money(cash), "cash"), _Line("Change", money(cash - total), "change")]
        bill.fields["change"] = ("How much change was given?", money(cash - total))
    else:
        lines.append(_Line(f"Paid by card **** {card}", "", "card"))
        bill.fields["card"] = ("What are the last four digits of the card?", card)
    return lines


def _foot_lines(rng: random.Random) -> list[_Line]:
    thanks = ("Thank you for your visit!", "Please come again!", "Goods can be returned within 14 days", "Have a nice day")
    return [_Line(rule=True), *(_Line(text, centered=True) for text in rng.sample(thanks, rng.randint(1, 2)))]


def _set_lines(
    sheet: Sheet, bill: Bill, lines: list[_Line], xy: tuple[float, float], *, width: int, step: int, face: str, size: int, ink: Color
) -> float:  # fmt: skip
    """Write the lines from `xy` down; returns the y below them."""
    x, y = xy
    for line in lines:
        if line.rule:
            sheet.dashes((x, y + 0.4 * step), (x + width, y + 0.4 * step), ink, max(1, size / 14), size / 3)
            y += 0.8 * step
            continue
        shape = bold(face) if line.is_bold else face
        px = fit(line.left, shape, round(size * line.scale), width if line.centered else 0.78 * width)
        style = {"face": shape, "size_px": px, "fill": ink}
        if line.centered:
            box = sheet.text((x + width / 2, y), line.left, anchor="ma", **style)
        else:
            box = sheet.text((x, y), line.left, **style)
            if line.right:
                box = union(box, sheet.text((x + width, y), line.right, anchor="ra", **style))
        if line.name:
            bill.boxes[line.name] = box
        y += step * line.scale
    return y


def _barcode(sheet: Sheet, rng: random.Random, box: Box, ink: Color) -> None:
    x, unit = box[0], max(2, (box[2] - box[0]) / 95)
    while x < box[2] - 4 * unit:
        bar = unit * rng.randint(1, 3)
        sheet.rect((x, box[1], x + bar, box[3]), ink)
        x += bar + unit * rng.randint(1, 3)


def _invoice(rng: random.Random) -> Scene:
    face = rng.choice(TEXT_FACES)
    size = print_size(rng, face)
    names = rng.choice((words.GOODS, words.TOOLS, words.OFFICE))
    wide = rng.random() < 0.55
    items = _items(rng, names, rng.randint(3, 12 if wide else 5), dear=True)
    firm = f"{rng.choice(words.LAST_NAMES)} & {rng.choice(words.TOWNS)} Ltd"
    bill = Bill(firm, items, rng.choice(_SIGNS), letter_height(face, size), what="invoice")
    em = rng.uniform(36, 50) if wide else rng.uniform(28, 31)
    width, margin = round(size * em), round(size * rng.uniform(1.5, 3 if wide else 1.8))
    row = round(size * rng.uniform(1.55, 1.9))
    need = round(size * 17) + row * (len(bill.items) + 5)
    height = max(need, round(width * 1.414) if rng.random() < 0.4 and wide else need)
    paper, ink, accent = rng.choice(PAPERS), rng.choice(INKS), rng.choice(ACCENTS)
    sheet = Sheet((width, height), paper)
    age(sheet, rng)
    style = {"face": face, "size_px": size, "fill": ink}
    y = _invoice_head(sheet, rng, bill, margin, accent, style)
    y = _invoice_rows(sheet, rng, bill, (margin, y), row, accent, style)
    _invoice_sums(sheet, rng, bill, y + 0.4 * row, margin, row, style)
    note = f"Please pay to {rng.choice(words.TOWNS)} Bank, account {rng.randint(100, 999)} {rng.randint(1000, 9999)}"
    note_px = fit(note, face, size, width - 2 * margin)
    sheet.text((width / 2, height - 1.6 * size), note, face=face, size_px=note_px, fill=mix(ink, paper, 0.3), anchor="mm")
    ask = pick(rng, [partial(ask, rng, bill) for ask in _ON_INVOICES], sheet.size)
    return to_scene("receipt", sheet, ask, f"an invoice of {bill.shop}", accent)


def _invoice_head(sheet: Sheet, rng: random.Random, bill: Bill, margin: int, accent: Color, style: dict) -> float:
    """Sender, title, address and reference numbers; returns the y of the table."""
    width, size, face = sheet.size[0], style["size_px"], style["face"]
    y = float(margin)
    if rng.random() < 0.5:
        sheet.rect((0, 0, width, round(0.5 * size)), accent)
    sheet.disc((margin + 0.9 * size, y + 0.9 * size), 0.9 * size, accent)
    initial = {"face": bold(face), "size_px": round(1.2 * size), "fill": (255, 255, 255)}
    sheet.text((margin + 0.9 * size, y + 0.9 * size), bill.shop[0], anchor="mm", **initial)
    name_px = fit(bill.shop, bold(face), round(1.25 * size), 0.5 * width - margin)
    sheet.text((margin + 2.4 * size, y + 0.9 * size), bill.shop, face=bold(face), size_px=name_px, fill=accent, anchor="lm")
    sheet.text((width - margin, y + 0.9 * size), "INVOICE", face=bold(face), size_px=round(1.9 * size), fill=style["fill"], anchor="rm")
    y += 3.6 * size
    lines = [words.person(rng), f"{rng.randint(1, 98)} {rng.choice(words.STREETS)}", rng.choice(words.TOWNS)]
    sheet.text((margin, y), "Bill to", face=bold(face), size_px=size, fill=accent)
    client = [sheet.text((margin, y + 1.4 * size * (i + 1)), line, **style) for i, line in enumerate(lines)]
    bill.boxes["client"] = client[0]
    bill.fields["client"] = ("To whom is the invoice addressed?", lines[0])
    day = date(rng.randint(2016, 2026), 1, 1) + timedelta(days=rng.randrange(365))
    meta = (
        ("number", "Invoice no.", words.code(rng), "What is the number of the invoice?"),
        ("date", "Date", _shown(day), "What is the date of the invoice?"),
        ("due", "Due date", _shown(day + timedelta(days=rng.choice((10, 14, 21, 30)))), "On which date is the invoice due?"),
        ("order", "Order no.", str(rng.randint(10000, 99999)), "What is the order number on the invoice?"),
    )
    for i, (name, label, value, question) in enumerate(meta):
        at = y + 1.4 * size * i
        left = sheet.text((width - margin - 11.5 * size, at), label, face=bold(face), size_px=size, fill=style["fill"])
        bill.boxes[name] = union(left, sheet.text((width - margin, at), value, anchor="ra", **style))
        bill.fields[name] = (question, value)
    return y + 7.2 * size


def _invoice_rows(sheet: Sheet, rng: random.Random, bill: Bill, xy: tuple[float, float], row: int, accent: Color, style: dict) -> float:
    x1, y = xy
    width, face, size = sheet.size[0], style["face"], style["size_px"]
    x2 = width - x1
    span = x2 - x1
    rights = (x1 + 0.58 * span, x1 + 0.78 * span, x2 - 0.4 * size)
    filled, striped = rng.random() < 0.6, rng.random() < 0.5
    if filled:
        sheet.rect((x1, y, x2, y + row), accent)
    head = {"face": bold(face), "size_px": size, "fill": (255, 255, 255) if filled else style["fill"]}
    boxes = [sheet.text((x1 + 0.4 * size, y + row / 2), "Article", anchor="lm", **head)]
    boxes += [sheet.text((x, y + row / 2), text, anchor="rm", **head) for x, text in zip(rights, ("Qty", "Price", "Amount"), strict=True)]
    bill.boxes["head"] = union(*boxes)
    y += row
    for i, item in enumerate(bill.items):
        if striped and i % 2:
            sheet.rect((x1, y, x2, y + row), mix(sheet.paper, accent, 0.1))
        elif not striped:
            sheet.line([(x1, y), (x2, y)], mix(sheet.paper, style["fill"], 0.3), 1)
        left = sheet.text((x1 + 0.4 * size, y + row / 2), item.name, anchor="lm", **style)
        cells = (str(item.quantity), money(item.unit), money(item.amount))
        drawn = [sheet.text((x, y + row / 2), text, anchor="rm", **style) for x, text in zip(rights, cells, strict=True)]
        bill.boxes[item.name] = union(left, *drawn)
        y += row
    sheet.line([(x1, y), (x2, y)], style["fill"], 2)
    return y


def _invoice_sums(sheet: Sheet, rng: random.Random, bill: Bill, y: float, margin: int, row: int, style: dict) -> None:
    rate = rng.choice((5, 7, 10, 19, 20, 21))
    tax = round(bill.subtotal * rate / 100)
    sums = (("subtotal", "Subtotal", bill.subtotal), ("tax", f"VAT {rate}%", tax), ("total", f"Total {bill.sign}", bill.subtotal + tax))
    right = sheet.size[0] - margin - 0.4 * style["size_px"]
    for i, (name, label, cents) in enumerate(sums):
        shape = {**style, "face": bold(style["face"])} if name == "total" else style
        left = sheet.text((right - 12 * style["size_px"], y + row * (i + 0.5)), label, anchor="lm", **shape)
        bill.boxes[name] = union(left, sheet.text((right, y + row * (i + 0.5)), money(cents), anchor="rm", **shape))
    bill.fields["total"] = ("What is the total of the invoice?", money(sums[2][2]))
    bill.fields["tax"] = ("How much VAT is charged?", money(tax))
    bill.fields["subtotal"] = ("What is the subtotal of the invoice?", money(bill.subtotal))


def _shown(day: date) -> str:
    return day.strftime("%d/%m/%Y")
