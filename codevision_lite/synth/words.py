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


def person(rng: random.Random) -> str:
    return f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"


def shop(rng: random.Random) -> str:
    return f"{rng.choice((*TOWNS, *LAST_NAMES))} {rng.choice(SHOPS)}"


def code(rng: random.Random) -> str:
    """A reference such as "KD-4183": letters that can't be taken for digits."""
    return f"{''.join(rng.choice('ACDEFHJKLMNPRTUVWXY') for _ in range(2))}-{rng.randrange(1000, 10000)}"


def date(rng: random.Random) -> str:
    return f"{rng.randint(1, 28)} {rng.choice(MONTHS)} {rng.randint(2015, 2026)}"
