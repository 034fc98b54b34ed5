"""What a receipt or an invoice says and where, and the questions that can be asked about it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from codevision_lite.records import Box
from codevision_lite.synth.families.drawing import union
from codevision_lite.synth.families.paper import Ask, money, money_also
from codevision_lite.synth.stories import join


@dataclass(frozen=True)
class Item:
    name: str
    quantity: int
    unit: int  # cents

    @property
    def amount(self) -> int:
        return self.quantity * self.unit


@dataclass
class Bill:
    """What a receipt or an invoice says, and where."""

    shop: str
    items: list[Item]
    sign: str
    text_px: float
    boxes: dict[str, Box] = field(default_factory=dict)
    fields: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> (question, what is printed)
    what: str = "receipt"

    @property
    def rows(self) -> Box:
        return union(*(self.boxes[item.name] for item in self.items))

    @property
    def subtotal(self) -> int:
        return sum(item.amount for item in self.items)


_EVIDENCE = {
    "when": "the line with the date and the time", "card": "the line about the card", "number": "the line with the number",
    "client": "the name in the address", "due": "the line with the due date", "order": "the line with the order number",
    "phone": "the phone number under the name", "cashier": "the line with the cashier and the till",
}  # fmt: skip
_SUMS = ("total", "subtotal", "tax", "change", "discount")


def ask_field(rng: random.Random, bill: Bill) -> Ask:
    name = rng.choice(tuple(bill.fields))
    question, shown = bill.fields[name]
    also = (f"{bill.sign}{shown}",) if name in _SUMS else (shown.replace(" ", ""),) if name == "phone" else ()
    return Ask(
        "read", question, shown, (bill.boxes[name],), bill.text_px, _EVIDENCE.get(name, f"the line with the {name}"), _band(bill, name),
        also=also, facts={"field": name, "shown": shown},
    )  # fmt: skip


def ask_amount(rng: random.Random, bill: Bill) -> Ask:
    item = rng.choice(bill.items)
    question = rng.choice(("How much was charged for {}?", "What amount stands in the line of {}?", "How much was paid for {} in all?"))
    if bill.what == "invoice":
        question = "What amount is charged for {} in all?"
    return Ask(
        "locate", question.format(item.name), money(item.amount), (bill.boxes[item.name],), bill.text_px,
        f"the line of {item.name}", bill.rows, also=money_also(item.amount, bill.sign), facts=_facts(bill, item),
    )  # fmt: skip


def ask_in_row(rng: random.Random, bill: Bill) -> Ask:
    """About a column that only the header tells apart, on invoices."""
    item = rng.choice(bill.items)
    if rng.random() < 0.5:
        question, answer, also = f"What quantity of {item.name} is on the invoice?", str(item.quantity), ()
    else:
        question, answer = f"What is the price of one unit of {item.name}?", money(item.unit)
        also = money_also(item.unit, bill.sign)
    return Ask(
        "locate", question, answer, (bill.boxes["head"], bill.boxes[item.name]), bill.text_px, f"the row of {item.name} under the header",
        union(bill.boxes["head"], bill.rows), also=also, facts=_facts(bill, item),
    )  # fmt: skip


def ask_count(rng: random.Random, bill: Bill) -> Ask | None:
    amounts = sorted(item.amount for item in bill.items)
    limit = -(-rng.choice(amounts[:-1]) // 100) * 100
    if rng.random() < 0.5:
        question, found = f"How many different articles are listed on the {bill.what}?", bill.items
        working = f"The articles are {join([item.name for item in found])}: {len(found)}"
    else:
        question = f"For how many articles on the {bill.what} is the amount more than {money(limit)}?"
        found = [item for item in bill.items if item.amount > limit]
        if limit in amounts or not found:
            return None
        working = f"More than {money(limit)}: {join([f'{item.name} {money(item.amount)}' for item in found])}, so {len(found)}"
    return Ask(
        "count", question, str(len(found)), (bill.rows,), bill.text_px, "the list of articles", working=working,
        facts={**_facts(bill, *bill.items), "counted": [item.name for item in found]},
    )  # fmt: skip


def ask_dearest(rng: random.Random, bill: Bill) -> Ask | None:
    most = rng.random() < 0.6
    order = sorted(bill.items, key=lambda item: item.amount, reverse=most)
    if order[0].amount == order[1].amount:
        return None
    word = "largest" if most else "smallest"
    return Ask(
        "compare", f"Which article has the {word} amount on the {bill.what}?", order[0].name, (bill.rows,), bill.text_px,
        "the list of articles", working=f"The {word} amount is {money(order[0].amount)}, for {order[0].name}",
        facts=_facts(bill, *bill.items),
    )  # fmt: skip


def ask_which_is_more(rng: random.Random, bill: Bill) -> Ask | None:
    a, b = _near_pair(rng, bill)
    if a.amount == b.amount:
        return None
    more, less = (a, b) if a.amount > b.amount else (b, a)
    return Ask(
        "compare", f"For which was more charged, {a.name} or {b.name}?", more.name, (bill.boxes[a.name], bill.boxes[b.name]), bill.text_px,
        f"the lines of {a.name} and {b.name}", bill.rows,
        working=f"{more.name} {money(more.amount)} is more than {less.name} {money(less.amount)}", facts=_facts(bill, a, b),
    )  # fmt: skip


def ask_together(rng: random.Random, bill: Bill) -> Ask:
    a, b = _near_pair(rng, bill)
    total = a.amount + b.amount
    return Ask(
        "compute", f"How much is charged for {a.name} and {b.name} together?", money(total), (bill.boxes[a.name], bill.boxes[b.name]),
        bill.text_px, f"the lines of {a.name} and {b.name}", bill.rows,
        working=f"{money(a.amount)} + {money(b.amount)} = {money(total)}", also=money_also(total, bill.sign), facts=_facts(bill, a, b),
    )  # fmt: skip


def _band(bill: Bill, name: str) -> Box:
    """The box of a line with what stands near it."""
    order = sorted(bill.boxes.values(), key=lambda b: b[1])
    at = order.index(bill.boxes[name])
    return union(*order[max(0, at - 3) : at + 4])


def _near_pair(rng: random.Random, bill: Bill) -> tuple[Item, Item]:
    """Two articles that are at most four lines apart, in their order on the page."""
    at = rng.randrange(len(bill.items) - 1)
    return bill.items[at], bill.items[min(len(bill.items) - 1, at + rng.randint(1, 4))]


def _facts(bill: Bill, *items: Item) -> dict[str, Any]:
    return {"sign": bill.sign, "items": [[item.name, item.quantity, item.unit] for item in items]}
