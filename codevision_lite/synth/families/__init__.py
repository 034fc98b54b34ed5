"""Families of drawn scenes; each module has one function `draw(rng) -> Scene`. sources.py lists them."""
