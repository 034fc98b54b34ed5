"""The standard library that image code uses: math, itertools, functools, collections, json, re, random, time and a few more.

Paths are text, os and matplotlib are thin stand-ins. Everything lazy is a ticking generator.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from codevision_lite.sandbox.facade import Fn, Module, Rule, session
from codevision_lite.sandbox.stops import TooLarge


def small_ints(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    for a in args:
        if isinstance(a, int) and abs(a) > 1 << 64:
            raise TooLarge("the number is too large")


def limited(limit: int) -> Any:
    def check(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if any(isinstance(a, int | np.integer) and abs(int(a)) > limit for a in args):
            raise TooLarge(f"the number is too large (at most {limit})")

    return check


def prod(values: Any, *, start: Any = 1) -> Any:
    from codevision_lite.sandbox.builtin_types import accounted
    from codevision_lite.sandbox.operators import binary

    for value in accounted(values, 0):
        session.budget.tick()
        start = binary("*", start, value)
    return start


def folded(f: Any) -> Any:
    def run(*values: int) -> int:
        if sum(int(v).bit_length() for v in values if isinstance(v, int | np.integer)) > 50_000:
            raise TooLarge("the numbers are too large")
        return f(*values)

    return run


def make_math() -> dict[str, Any]:
    names = [n for n in dir(math) if not n.startswith("_") and callable(getattr(math, n))]
    bounded = {"factorial": 2000, "comb": 5000, "perm": 2000, "isqrt": 1 << 200, "pow": 1 << 64, "ldexp": 1 << 64}
    table: dict[str, Any] = {n: Fn(f"math.{n}", getattr(math, n), Rule(check=limited(bounded[n]) if n in bounded else None)) for n in names}
    table |= {"prod": Fn("math.prod", prod, Rule(any_value=True)), "lcm": Fn("math.lcm", folded(math.lcm), Rule(any_value=True)),
              "gcd": Fn("math.gcd", folded(math.gcd), Rule(any_value=True))}  # fmt: skip
    return table | {n: getattr(math, n) for n in ("pi", "e", "tau", "inf", "nan")}


def install() -> dict[str, Module]:
    from codevision_lite.sandbox import stdlib_more

    return {"math": Module("math", make_math()), **stdlib_more.install()}
