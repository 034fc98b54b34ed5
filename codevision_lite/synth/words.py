"""Words for drawn pages: names, goods, places. Invented or everyday; no real companies or people."""

from __future__ import annotations

import random

FIRST_NAMES = (
    "Ada", "Amir", "Anna", "Bela", "Chen", "Clara", "Dario", "Dilan", "Elif", "Emil", "Fatma", "Femi", "Greta", "Hana", "Hugo", "Ines",
    "Ivan", "Jonas", "Kaito", "Lena", "Luca", "Maren", "Mila", "Nadia", "Nils", "Omar", "Petra", "Quinn", "Rosa", "Sami", "Tariq", "Uma",
    "Vera", "Wanda", "Yusuf", "Zoe",
)  # fmt: skip
LAST_NAMES = (
    "Abara", "Berg", "Castel", "Dorn", "Eklund", "Farkas", "Grau", "Holm", "Iwata", "Janka", "Keller", "Lind", "Moreau", "Novak", "Okoye",
    "Petrov", "Quist", "Ribeiro", "Sato", "Tanaka", "Ulrich", "Varga", "Weiss", "Yilmaz", "Zeller",
)  # fmt: skip
GOODS = (
    "Apples", "Apricot jam", "Bananas", "Barley", "Basil", "Black tea", "Bread", "Butter", "Candles", "Carrots", "Cheddar", "Cherries",
    "Coffee", "Cucumber", "Dates", "Eggs", "Figs", "Flour", "Garlic", "Ginger", "Grapes", "Honey", "Lemons", "Lentils", "Mangoes", "Milk",
    "Mint", "Mushrooms", "Oats", "Olive oil", "Onions", "Oranges", "Paper bags", "Pasta", "Peaches", "Pears", "Peppers", "Plums",
    "Potatoes", "Raisins", "Rice", "Salt", "Soap", "Spinach", "Sugar", "Tomatoes", "Vinegar", "Walnuts", "Yeast", "Yogurt",
)  # fmt: skip
HARVEST = ("apples", "barley", "carrots", "cherries", "grapes", "lentils", "oats", "onions", "pears", "plums", "potatoes", "walnuts")
MEALS = (
    "Apple cake", "Bean soup", "Cheese toast", "Cold brew", "Fish pie", "Fruit salad", "Ginger tea", "Green salad", "Hot chocolate",
    "Lemonade", "Lentil stew", "Mint tea", "Mushroom tart", "Noodle soup", "Omelette", "Onion soup", "Orange juice", "Pancakes",
    "Potato salad", "Rice bowl", "Tomato soup", "Vegetable curry", "Waffle", "Walnut bread",
)  # fmt: skip
TOOLS = (
    "Battery pack", "Bucket", "Chisel", "Clamp", "Door handle", "Duct tape", "Extension cord", "Hammer", "Hand saw", "Hinges", "Ladder",
    "Light bulb", "Masking tape", "Nails", "Paint brush", "Paint roller", "Pliers", "Rope", "Sandpaper", "Screwdriver", "Screws",
    "Spirit level", "Tape measure", "Wall plugs", "Wood glue", "Work gloves", "Wrench",
)  # fmt: skip
OFFICE = (
    "Binder", "Calendar", "Desk lamp", "Desk pad", "Envelopes", "Eraser", "Fountain pen", "Glue stick", "Ink bottle", "Letter tray",
    "Marker set", "Notebook", "Paper clips", "Pencil case", "Pencil set", "Printer paper", "Ring folder", "Ruler", "Scissors",
    "Sketchbook", "Stapler", "Sticky notes", "Tape roll", "Whiteboard",
)  # fmt: skip
TOWNS = (
    "Alderby", "Brixen", "Callow", "Dunmere", "Eastvale", "Fernhill", "Glenor", "Harwick", "Inverlay", "Jasper Bay", "Kestrel", "Larkfield",
    "Millbrook", "Northam", "Oakridge", "Penrow", "Quarry Hill", "Rosedale", "Stonegate", "Thornby", "Upwell", "Vinter", "Westport",
    "Yarrow",
)  # fmt: skip
SHOPS = ("Bakery", "Books", "Cafe", "Cycles", "Deli", "Flowers", "Garage", "Hardware", "Market", "Pharmacy", "Records", "Tailor")
STREETS = ("Birch Lane", "Canal Road", "Church Street", "Elm Way", "Harbour Street", "Mill Road", "Park Avenue", "Station Road")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
COLORS = {
    "red": (200, 40, 45), "orange": (235, 130, 30), "yellow": (230, 190, 40), "green": (45, 145, 70), "blue": (40, 95, 190),
    "purple": (125, 60, 160), "brown": (120, 80, 50), "pink": (230, 120, 160), "grey": (120, 125, 130), "teal": (25, 140, 145),
}  # fmt: skip

NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip


def person(rng: random.Random) -> str:
    return f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"


def people(rng: random.Random, n: int) -> list[str]:
    """Names of `n` people, no first name twice."""
    return [f"{first} {rng.choice(LAST_NAMES)}" for first in rng.sample(FIRST_NAMES, n)]


def shop(rng: random.Random) -> str:
    return f"{rng.choice((*TOWNS, *LAST_NAMES))} {rng.choice(SHOPS)}"


def code(rng: random.Random) -> str:
    """A reference such as "KD-4183": letters that can't be taken for digits."""
    return f"{''.join(rng.choice('ACDEFHJKLMNPRTUVWXY') for _ in range(2))}-{rng.randrange(1000, 10000)}"


def date(rng: random.Random) -> str:
    return f"{rng.randint(1, 28)} {rng.choice(MONTHS)} {rng.randint(2015, 2026)}"


def count_also(n: int) -> tuple[str, ...]:
    """The other spelling of a count.

    >>> count_also(5)
    ('five',)
    """
    return NUMBERS[n : n + 1]
