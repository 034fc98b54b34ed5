"""Short texts with facts that can be asked about: news, business letters, notes left on a kitchen table.

A plot is a handful of sentences with slots; a story is a plot with its slots filled, no two with the same words. Each
fact says which question its sentence answers. Nothing is drawn here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from codevision_lite.synth import words


@dataclass(frozen=True)
class Fact:
    """One sentence and, where `question` is not empty, what it answers; the question is meant within the story."""

    sentence: str
    question: str = ""
    answer: str = ""
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Story:
    topic: str  # completes "the article about ..."
    headline: str
    facts: tuple[Fact, ...]  # in reading order


@dataclass(frozen=True)
class Plot:
    """`facts`: (sentence, question, slot that answers it, unit that may follow the answer)."""

    topic: str
    headlines: tuple[str, ...]
    facts: tuple[tuple[str, str, str, str], ...]


_SLOTS: dict[str, Callable[[random.Random], str]] = {
    "person": words.person,
    "first": lambda rng: rng.choice(words.FIRST_NAMES),
    "town": lambda rng: rng.choice(words.TOWNS),
    "street": lambda rng: rng.choice(words.STREETS),
    "shop": words.shop,
    "date": lambda rng: f"{rng.randint(1, 28)} {rng.choice(words.MONTHS)}",
    "month": lambda rng: rng.choice(words.MONTHS),
    "weekday": lambda rng: rng.choice(words.WEEKDAYS),
    "time": lambda rng: f"{rng.randint(8, 20)}:{rng.choice(('00', '15', '30', '45'))}",
    "few": lambda rng: str(rng.randint(3, 14)),
    "tens": lambda rng: str(rng.randint(15, 98)),
    "hundreds": lambda rng: str(rng.randint(110, 990)),
    "thousands": lambda rng: f"{rng.randint(2, 48)},{rng.randint(1, 9)}00",
    "price": lambda rng: f"{rng.randint(3, 39)}.{rng.choice(('20', '50', '80', '90'))}",
    "year": lambda rng: str(rng.randint(1880, 2014)),
    "code": words.code,
    "good": lambda rng: rng.choice(words.HARVEST),
    "place": lambda rng: rng.choice(("library", "museum", "swimming pool", "market hall", "concert hall", "music school", "youth centre")),
    "feast": lambda rng: rng.choice(("lantern festival", "jazz festival", "harvest fair", "book fair", "kite festival", "street market")),
    "animal": lambda rng: rng.choice(("otter", "tortoise", "owl", "lynx", "seal", "stork", "badger")),
    "color": lambda rng: rng.choice(tuple(words.COLORS)),
    "room": lambda rng: f"{rng.choice('ABC')}{rng.randint(101, 429)}",
}

NEWS = (
    Plot("the new {place} in {town}", ("{town} gets its {place}", "A {place} for {town}", "Doors open at the new {place}"), (
        ("After years of planning, the new {place} in {town} opens on {date}.", "on which date does the {place} open?", "date", ""),
        ("It was designed by {person}, who grew up nearby.", "who designed the {place}?", "person", ""),
        ("The work took {few} months longer than planned.", "by how many months was the work late?", "few", "months"),
        ("In all it cost {hundreds2} thousand euros.", "how many thousand euros did the {place} cost?", "hundreds2", "thousand euros"),
        ("{person2} will be its first director.", "who will be the first director?", "person2", ""),
        ("On the first day {hundreds} guests are expected.", "how many guests are expected on the first day?", "hundreds", "guests"),
        ("The old building on {street} will be sold.", "on which street is the old building?", "street", ""),
    )),
    Plot("the storm in {town}", ("Storm sweeps through {town}", "A night of wind in {town}", "Storm leaves {town} in the dark"), (
        ("A heavy storm crossed {town} in the night of {date}.", "on which date did the storm come?", "date", ""),
        ("The wind brought down {tens} trees.", "how many trees fell?", "tens", "trees"),
        ("{street} was closed until the morning.", "which street was closed?", "street", ""),
        ("Some houses had no power for {few} hours.", "for how many hours did houses have no power?", "few", "hours"),
        ("Nobody was hurt, said fire chief {person}.", "what is the name of the fire chief?", "person", ""),
        ("Helpers filled {hundreds} bags with sand.", "how many bags were filled with sand?", "hundreds", "bags"),
    )),
    Plot("the {feast} in {town}", ("{town} looks forward to its {feast}", "Three days of {feast}", "All set for the {feast}"), (
        ("The {feast} in {town} begins on {date}.", "on which date does the {feast} begin?", "date", ""),
        ("This year there are {tens} stands.", "how many stands are there?", "tens", "stands"),
        ("The gates open each day at {time}.", "at what time do the gates open?", "time", ""),
        ("A day ticket costs {price} euros.", "how many euros does a day ticket cost?", "price", "euros"),
        ("The opening speech is given by {person}.", "who gives the opening speech?", "person", ""),
        ("Buses leave from {street}.", "from which street do the buses leave?", "street", ""),
        ("Last year {thousands} people came.", "how many people came last year?", "thousands", "people"),
    )),
    Plot("the match between {town} and {town2}", ("{town} beats {town2}", "Late goal decides the match", "{town} win at home"), (
        ("In front of {thousands} spectators {town} beat {town2}.", "how many spectators were there?", "thousands", "spectators"),
        ("{person} scored in minute {tens}.", "who scored?", "person", ""),
        ("Coach {person2} praised the defence.", "what is the name of the coach?", "person2", ""),
        ("The home side has now won {few} matches in a row.", "how many matches in a row have been won?", "few", "matches"),
        ("The next match is on {weekday}.", "on which weekday is the next match?", "weekday", ""),
        ("It will be played in {town3}.", "in which town will the next match be played?", "town3", ""),
    )),
    Plot("the works on {street}", ("Drivers must be patient", "Dust and diggers on {street}", "New pipes under {street}"), (
        ("From {date} on, {street} will be closed to cars.", "from which date on is the street closed?", "date", ""),
        ("The pipes below it date from {year}.", "from which year are the pipes?", "year", ""),
        ("Cars have to go along {street2}.", "along which street do cars have to go?", "street2", ""),
        ("The works will last {few} weeks.", "how many weeks will the works last?", "few", "weeks"),
        ("Questions are answered by {person} of the town hall.", "who answers questions?", "person", ""),
        ("The town pays {hundreds} thousand euros for it.", "how many thousand euros does the town pay?", "hundreds", "thousand euros"),
    )),
    Plot("the shop {shop}", ("{shop} opens its doors", "A new start on {street}", "Fresh ideas at {shop}"), (
        ("{shop} has opened on {street}.", "on which street is the shop?", "street", ""),
        ("It was founded by {person}.", "who founded the shop?", "person", ""),
        ("{few} people work there.", "how many people work there?", "few", "people"),
        ("It is closed on {weekday}.", "on which weekday is the shop closed?", "weekday", ""),
        ("On the first morning {hundreds} customers came.", "how many customers came on the first morning?", "hundreds", "customers"),
        ("The rooms were a stable in {year}.", "in which year were the rooms a stable?", "year", ""),
    )),
    Plot("the vote of the council", ("Council says yes", "A close vote in the town hall", "Councillors argue until late"), (
        ("The council of {town} voted on the new park.", "which town's council voted?", "town", ""),
        ("Mayor {person} spoke in favour of it.", "what is the name of the mayor?", "person", ""),
        ("The debate lasted {few} hours.", "how many hours did the debate last?", "few", "hours"),
        ("The park will have {hundreds} trees.", "how many trees will the park have?", "hundreds", "trees"),
        ("Work begins in {month}.", "in which month does the work begin?", "month", ""),
        ("{person2} had asked for a smaller plan.", "who had asked for a smaller plan?", "person2", ""),
    )),
    Plot("the {animal} of {town}", ("{animal_} found in a garden", "Visitors love the {animal}", "A home for the {animal}"), (
        ("A young {animal} was found in a garden in {town}.", "in which town was the {animal} found?", "town", ""),
        ("The keepers call it {first}.", "what is the {animal} called?", "first", ""),
        ("It eats {few} fish a day.", "how many fish does the {animal} eat a day?", "few", "fish"),
        ("{person} looks after it.", "who looks after the {animal}?", "person", ""),
        ("In {month} it will be set free.", "in which month will the {animal} be set free?", "month", ""),
        ("So far {thousands} people have come to see it.", "how many people have come to see the {animal}?", "thousands", "people"),
    )),
    Plot("the railway to {town}", ("More trains to {town}", "Faster to {town}", "New timetable for {town}"), (
        ("From {month} on, more trains run to {town}.", "from which month on do more trains run?", "month", ""),
        ("The trip takes {tens} minutes.", "how many minutes does the trip take?", "tens", "minutes"),
        ("A single ticket costs {price} euros.", "how many euros does a single ticket cost?", "price", "euros"),
        ("The first train leaves at {time}.", "at what time does the first train leave?", "time", ""),
        ("A new stop is built in {town2}.", "in which town is a new stop built?", "town2", ""),
        ("The line was opened in {year}.", "in which year was the line opened?", "year", ""),
    )),
    Plot("the harvest of {good}", ("A good year for {good}", "Farmers bring in the {good}", "Full barns, low prices"), (
        ("Around {town} the harvest of {good} is in.", "around which town is the harvest?", "town", ""),
        ("It began on {date}.", "on which date did the harvest begin?", "date", ""),
        ("Farmers brought home {hundreds} tonnes.", "how many tonnes were brought home?", "hundreds", "tonnes"),
        ("{person} owns the largest fields.", "who owns the largest fields?", "person", ""),
        ("The price fell by {tens} per cent.", "by how many per cent did the price fall?", "tens", "percent"),
        ("The last such year was {year}.", "which was the last such year?", "year", ""),
    )),
)  # fmt: skip

LETTERS = (
    Plot("a late delivery", ("Your order {code}", "Delay of order {code}"), (
        ("Unfortunately your order {code} will reach you later than planned.", "what is the number of the order?", "code", ""),
        ("The reason is a fire in our store in {town}.", "in which town was the fire?", "town", ""),
        ("We now expect to deliver on {date}.", "on which date is the delivery expected?", "date", ""),
        ("As a small compensation we take {price} euros off your bill.", "how many euros are taken off the bill?", "price", "euros"),
        ("If you would rather cancel, please call {person}.", "whom should the reader call to cancel?", "person", ""),
    )),
    Plot("a payment that is due", ("Reminder: invoice {code}", "Invoice {code} still open"), (
        ("We have not yet received your payment for invoice {code}.", "which invoice has not been paid?", "code", ""),
        ("The open amount is {hundreds} euros.", "how many euros are still open?", "hundreds", "euros"),
        ("Please transfer it by {date}.", "by which date should the amount be transferred?", "date", ""),
        ("After that a fee of {price} euros will be added.", "how many euros is the fee?", "price", "euros"),
        ("{person} in our accounts office can help with any question.", "who can help with questions?", "person", ""),
    )),
    Plot("a meeting", ("Yearly meeting in {town}", "Invitation to our meeting"), (
        ("We would like to invite you to our meeting in {town}.", "in which town is the meeting?", "town", ""),
        ("It takes place on {date}.", "on which date is the meeting?", "date", ""),
        ("Please come to room {room}.", "in which room is the meeting?", "room", ""),
        ("We begin at {time} with coffee.", "at what time does the meeting begin?", "time", ""),
        ("The talk will be given by {person}.", "who gives the talk?", "person", ""),
        ("{tens} guests have already agreed to come.", "how many guests have agreed to come?", "tens", "guests"),
    )),
    Plot("a post that is offered", ("Your application", "Offer of a post in {town}"), (
        ("We are pleased to offer you the post in our office in {town}.", "in which town is the office?", "town", ""),
        ("Your first day would be {date}.", "which date would be the first day?", "date", ""),
        ("You would work {tens} hours a week.", "how many hours a week is the work?", "tens", "hours"),
        ("{person} will show you around.", "who will show the reader around?", "person", ""),
        ("Please send the signed contract to {street} 12.", "to which street should the contract be sent?", "street", ""),
        ("You would have {few} weeks of holiday in the first year.", "how many weeks of holiday are there?", "few", "weeks"),
    )),
    Plot("a claim for a repair", ("Repair {code}", "Your heater, repair {code}"), (
        ("We have looked at the heater that you sent to us as {code}.", "under which number was the heater sent?", "code", ""),
        ("The pump has to be replaced, which takes {few} working days.", "how many working days does the repair take?", "few", "days"),
        ("The new part costs {price} euros.", "how many euros does the new part cost?", "price", "euros"),
        ("The work itself is covered until {month}.", "until which month is the work covered?", "month", ""),
        ("Our technician {person} will call you.", "what is the name of the technician?", "person", ""),
    )),
)  # fmt: skip

NOTES = (
    Plot("the house", ("",), (
        ("the plumber comes on {weekday} at {time}.", "on which weekday does the plumber come?", "weekday", ""),
        ("The key is under the {color} pot.", "what colour is the pot with the key?", "color", ""),
        ("Please feed the cat {few} spoons of food.", "how many spoons of food does the cat get?", "few", "spoons"),
        ("If it rains, call {first}.", "whom should one call if it rains?", "first", ""),
        ("I am back on {date}.", "on which date is the writer back?", "date", ""),
    )),
    Plot("the trip", ("",), (
        ("the bus to {town} leaves at {time}.", "at what time does the bus leave?", "time", ""),
        ("Your seat is number {tens}.", "what is the number of the seat?", "tens", ""),
        ("{first} waits for you on {street}.", "who waits at the end of the trip?", "first", ""),
        ("Take the {color} bag with you.", "what colour is the bag?", "color", ""),
        ("The ticket cost {price} euros.", "how many euros did the ticket cost?", "price", "euros"),
    )),
    Plot("the party", ("",), (
        ("the party for {first} is on {date}.", "for whom is the party?", "first", ""),
        ("We meet at {time} in the garden.", "at what time do they meet?", "time", ""),
        ("I asked {tens} people to come.", "how many people were asked to come?", "tens", "people"),
        ("Can you bring {few} chairs?", "how many chairs should be brought?", "few", "chairs"),
        ("The cake comes from {street}.", "from which street does the cake come?", "street", ""),
    )),
    Plot("the call", ("",), (
        ("{person} called while you were out.", "who called?", "person", ""),
        ("It is about order {code}.", "which order was the call about?", "code", ""),
        ("Please call back before {time}.", "before what time should one call back?", "time", ""),
        ("They want {few} boxes more.", "how many more boxes are wanted?", "few", "boxes"),
        ("The office is in {town} now.", "in which town is the office now?", "town", ""),
    )),
    Plot("the garden", ("",), (
        ("the {good} are ripe and can be picked.", "what is ripe?", "good", ""),
        ("I have planted {tens} bulbs by the fence.", "how many bulbs were planted?", "tens", "bulbs"),
        ("{first} borrowed the ladder.", "who borrowed the ladder?", "first", ""),
        ("Water the roses every {few} days.", "every how many days should the roses be watered?", "few", "days"),
        ("The new seeds come in {month}.", "in which month do the seeds come?", "month", ""),
    )),
    Plot("the car", ("",), (
        ("the car is parked on {street}.", "on which street is the car parked?", "street", ""),
        ("It must be at the garage by {time}.", "by what time must the car be at the garage?", "time", ""),
        ("The repair costs {hundreds} euros.", "how many euros does the repair cost?", "hundreds", "euros"),
        ("{first} has the second key.", "who has the second key?", "first", ""),
        ("There are {tens} litres in the tank.", "how many litres are in the tank?", "tens", "litres"),
    )),
    Plot("the parcel", ("",), (
        ("a parcel from {town} has come for you.", "from which town is the parcel?", "town", ""),
        ("{person} of next door has it.", "who has the parcel?", "person", ""),
        ("Its number is {code}.", "what is the number of the parcel?", "code", ""),
        ("You owe me {price} euros for it.", "how many euros are owed?", "price", "euros"),
        ("Fetch it before {weekday}.", "before which weekday should it be fetched?", "weekday", ""),
    )),
    Plot("the school", ("",), (
        ("the class visits the {place} on {date}.", "what does the class visit?", "place", ""),
        ("They meet in room {room}.", "in which room do they meet?", "room", ""),
        ("Every child needs {price} euros.", "how many euros does every child need?", "price", "euros"),
        ("{person} goes with them.", "who goes with them?", "person", ""),
        ("It rained last time, so take the {color} coat.", "what colour is the coat?", "color", ""),
    )),
)  # fmt: skip

_FILLERS = (
    "Many people had waited for this.", "Not everyone is happy about it.", "Neighbours speak of a great success.",
    "Others would have liked more time.", "The weather played its part.", "Nobody wants to say more for now.",
    "It was not the first attempt.", "The mood was good all the same.", "More will be known before long.",
    "Children liked it best of all.", "The costs are still being talked about.", "Some had come from far away.",
    "There was much applause.", "A second look is worth it.", "The rest is a matter of patience.", "So much is certain.",
)  # fmt: skip


def tell(rng: random.Random, plot: Plot, n_facts: int, *, fillers: Sequence[str] = ()) -> Story:
    """Fill a plot: `n_facts` of its facts in order, the first one always, with `fillers`, sentences without facts, between.

    What the topic or the headline gives away is not asked about.
    """
    slots = _fill(rng)
    topic, headline = plot.topic.format_map(slots), _capital(rng.choice(plot.headlines).format_map(slots))
    kept = sorted([0, *rng.sample(range(1, len(plot.facts)), min(n_facts, len(plot.facts)) - 1)])
    facts = [_fact(*plot.facts[i], slots) for i in kept]
    facts = [Fact(f.sentence) if f.answer in f"{topic} {headline}" else f for f in facts]
    for filler in fillers:
        facts.insert(rng.randint(1, len(facts)), Fact(filler))
    return Story(topic, headline, tuple(facts))


def tell_news(rng: random.Random, n_stories: int, n_facts: int, n_fillers: int) -> list[Story]:
    """Stories of different plots that share no topic and no filler; `n_fillers` for each, as long as there are some."""
    fillers = rng.sample(_FILLERS, len(_FILLERS))
    return [
        tell(rng, plot, n_facts, fillers=fillers[i * n_fillers : (i + 1) * n_fillers])
        for i, plot in enumerate(rng.sample(NEWS, n_stories))
    ]


def ordinal(n: int) -> str:
    """1 -> "first"; up to 9."""
    return ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")[n - 1]


def join(names: Sequence[str]) -> str:
    """ "A", "A and B", "A, B and C"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _fill(rng: random.Random) -> dict[str, str]:
    """A value for every slot, three of each ("town", "town2", "town3"), all different."""
    filled: dict[str, str] = {}
    for name, make in _SLOTS.items():
        for suffix in ("", "2", "3") if name in ("person", "town", "street", "hundreds") else ("",):
            value = make(rng)
            while value in filled.values():
                value = make(rng)
            filled[name + suffix] = value
    filled["animal_"] = f"{'An' if filled['animal'] == 'otter' or filled['animal'] == 'owl' else 'A'} {filled['animal']}"
    return filled


def _fact(sentence: str, question: str, slot: str, unit: str, slots: dict[str, str]) -> Fact:
    answer = slots[slot]
    also = (f"{answer} {unit}",) if unit else ()
    if "," in answer:
        also += (answer.replace(",", ""),)
    return Fact(_capital(sentence.format_map(slots)), question.format_map(slots), answer, also)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
