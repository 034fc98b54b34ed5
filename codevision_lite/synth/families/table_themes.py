"""What tables are about: titles, rows and columns, and how a cell is asked for."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from codevision_lite.synth import words


@dataclass(frozen=True)
class Column:
    header: str
    make: Callable[[random.Random], str]
    asked: str = "the {header} of {key}"  # noun phrase for one cell
    is_number: bool = False  # can be compared and added
    unit: str = ""
    few: bool = False  # values repeat: rows can be counted by them


@dataclass(frozen=True)
class Theme:
    """`rows`: what a row is, singular; `keys`: gives the wanted number of different row labels."""

    titles: tuple[str, ...]
    rows: str
    key: str  # header of the first column
    keys: Callable[[random.Random, int], list[str]]
    columns: tuple[Column, ...]


def _number(low: int, high: int, step: int = 1) -> Callable[[random.Random], str]:
    return lambda rng: str(rng.randrange(low, high + 1, step))


def _decimal(low: float, high: float, digits: int = 1) -> Callable[[random.Random], str]:
    return lambda rng: f"{rng.uniform(low, high):.{digits}f}"


def _one_of(*values: str) -> Callable[[random.Random], str]:
    return lambda rng: rng.choice(values)


def _sample(values: tuple[str, ...]) -> Callable[[random.Random, int], list[str]]:
    return lambda rng, n: rng.sample(values, min(n, len(values)))


def _clock(rng: random.Random) -> str:
    return f"{rng.randint(5, 23):02d}:{rng.randint(0, 59):02d}"


def _daytime(rng: random.Random) -> str:
    return f"{rng.randint(9, 20):02d}:{rng.choice(('00', '15', '30', '45'))}"


THEMES = (
    Theme(("Departures", "Departures from {town}", "Winter timetable"), "train to", "Destination", _sample(words.TOWNS), (
        Column("Time", _clock, "the departure time of the train to {key}"),
        Column("Train", lambda rng: f"{rng.choice(('R', 'IC', 'S'))} {rng.randint(10, 989)}", "the number of the train to {key}"),
        Column("Platform", _number(1, 6), "the platform of the train to {key}", few=True),
        Column("Minutes", _number(12, 240), "the travel time in minutes to {key}", True),
        Column("Fare", _decimal(4, 89, 2), "the fare to {key}", True),
        Column("Stops", _number(1, 19), "the number of stops to {key}", True),
    )),
    Theme(("Price list", "Prices {year}", "Weekly offers"), "article", "Article", _sample(words.GOODS), (
        Column("Code", words.code, "the code of {key}"),
        Column("Price", _decimal(0.4, 24, 2), "the price of {key}", True),
        Column("Pack", _one_of("100 g", "250 g", "500 g", "1 kg", "2 kg"), "the pack size of {key}", few=True),
        Column("Stock", _number(3, 480), "the stock of {key}", True),
        Column("Origin", lambda rng: rng.choice(words.TOWNS), "the origin of {key}"),
        Column("Shelf", _one_of("A", "B", "C", "D", "E"), "the shelf of {key}", few=True),
    )),
    Theme(("Staff", "Staff list", "Who is where"), "person", "Name", words.people, (
        Column("Room", lambda rng: f"{rng.choice('ABC')}{rng.randint(101, 429)}", "the room of {key}"),
        Column("Phone", _number(2000, 9899), "the phone number of {key}"),
        Column("Team", _one_of("Sales", "Design", "Support", "Finance", "Legal"), "the team of {key}", few=True),
        Column("Since", _number(1998, 2025), "the year since which {key} has been there"),
        Column("Hours", _number(16, 40), "the weekly hours of {key}", True),
        Column("Town", lambda rng: rng.choice(words.TOWNS), "the town of {key}"),
    )),
    Theme(("League table", "Standings after week {few}", "Second division"), "team", "Team", _sample(words.TOWNS), (
        Column("Played", _number(20, 30), "the number of matches played by {key}", True),
        Column("Won", _number(0, 10), "the number of wins of {key}", True),
        Column("Lost", _number(0, 10), "the number of defeats of {key}", True),
        Column("Goals", _number(9, 84), "the number of goals of {key}", True),
        Column("Cards", _number(2, 58), "the number of cards of {key}", True),
        Column("Coach", lambda rng: rng.choice(words.LAST_NAMES), "the name of the coach of {key}"),
    )),
    Theme(("Weather report", "Weather on {weekday}", "Measured at noon"), "station", "Station", _sample(words.TOWNS), (
        Column("Temp. °C", _decimal(-9, 36), "the temperature in {key}", True, " °C"),
        Column("Rain mm", _decimal(0, 48), "the rain in {key}", True, " mm"),
        Column("Wind km/h", _number(2, 110), "the wind speed in {key}", True, " km/h"),
        Column("Sky", _one_of("clear", "cloudy", "fog", "rain", "snow"), "the sky in {key}", few=True),
        Column("Height m", _number(4, 2900), "the height of the station {key}", True, " m"),
        Column("Observer", lambda rng: rng.choice(words.LAST_NAMES), "the name of the observer in {key}"),
    )),
    Theme(("Examination results", "Marks of class {few}B", "Spring term"), "student", "Student", words.people, (
        Column("Maths", _number(20, 100), "the mark of {key} in Maths", True),
        Column("History", _number(20, 100), "the mark of {key} in History", True),
        Column("Music", _number(20, 100), "the mark of {key} in Music", True),
        Column("Biology", _number(20, 100), "the mark of {key} in Biology", True),
        Column("Group", _one_of("red", "blue", "green"), "the group of {key}", few=True),
        Column("Seat", _number(11, 99), "the seat of {key}"),
    )),
    Theme(("Inventory", "Tool store", "Stock on {date}"), "tool", "Tool", _sample(words.TOOLS), (
        Column("No.", words.code, "the number of the tool {key}"),
        Column("Pieces", _number(1, 96), "the number of pieces of {key}", True),
        Column("Weight g", _number(40, 4800, 5), "the weight of {key}", True, " g"),
        Column("State", _one_of("new", "good", "worn", "broken"), "the state of {key}", few=True),
        Column("Checked", words.date, "the date on which {key} was checked"),
        Column("Place", lambda rng: f"{rng.choice('KLMN')}{rng.randint(1, 40)}", "the place of {key}"),
    )),
    Theme(("Course programme", "Our courses", "Programme {year}"), "course", "Course", _sample((
        "Archery", "Baking", "Ballet", "Basketry", "Beekeeping", "Calligraphy", "Chess", "Drawing", "First aid", "Gardening", "Guitar",
        "Italian", "Judo", "Knitting", "Photography", "Piano", "Pottery", "Rowing", "Sewing", "Singing", "Swimming", "Yoga",
    )), (
        Column("Day", lambda rng: rng.choice(words.WEEKDAYS), "the day of the course {key}", few=True),
        Column("Time", _daytime, "the time of the course {key}"),
        Column("Teacher", lambda rng: rng.choice(words.LAST_NAMES), "the name of the teacher of the course {key}"),
        Column("Room", _number(1, 12), "the room of the course {key}", few=True),
        Column("Fee", _number(20, 320, 5), "the fee of the course {key}", True),
        Column("Places", _number(6, 40), "the number of places in the course {key}", True),
    )),
)  # fmt: skip
