"""Everything that code can name without defining it: the import table, the preimported names, the hooks.

Built once per process; hooks() makes the namespace of one run.
"""

from __future__ import annotations

from typing import Any

import cv2

from codevision_lite.sandbox import (
    classes,
    cv2_facade,
    guards,
    numpy_facade,
    operators,
    pil_modules,
    python_types,  # noqa: F401  fills ATTRIBUTES
    stdlib_facade,
)
from codevision_lite.sandbox.budget import Budget
from codevision_lite.sandbox.builtins_ import make_builtins
from codevision_lite.sandbox.facade import Fn, Module, Rule, session
from codevision_lite.sandbox.stops import RefusedAttribute, RefusedImport
from codevision_lite.sandbox.text import formatted
from codevision_lite.sandbox.virtual import show_picture

MODULES: dict[str, Module] = {
    **pil_modules.install(), **numpy_facade.install(), **cv2_facade.install(), **stdlib_facade.install(),
}  # fmt: skip
PREIMPORTED = {  # names that models use without importing them
    "np": "numpy", "numpy": "numpy", "cv2": "cv2", "math": "math", "PIL": "PIL", "json": "json", "re": "re", "random": "random",
    **{n: f"PIL.{n}" for n in "Image ImageDraw ImageOps ImageFilter ImageEnhance ImageChops ImageFont ImageStat ImageColor".split()},
    "io": "io", "os": "os", "time": "time", "itertools": "itertools", "collections": "collections", "plt": "matplotlib.pyplot",
    "base64": "base64",
}  # fmt: skip
ALLOWED = (
    "PIL, numpy, cv2, math, json, re, random, itertools, functools, collections, dataclasses, statistics, time, datetime, io, base64, "
    "string, typing"
)
draw_on = pil_modules.draw_on


def module(name: str) -> Module:
    found = MODULES.get(name)
    if found is None:
        raise RefusedImport(f"module '{name}' is not available in the sandbox. Allowed: {ALLOWED}")
    return found


def import_(name: str, whole: bool) -> Any:
    found = module(name)
    return found if whole else module(name.partition(".")[0])


def import_from(name: str, member: str) -> Any:
    found = module(name)
    if member in found.members:
        return found.members[member]
    if f"{name}.{member}" in MODULES:
        return MODULES[f"{name}.{member}"]
    hint = f" ({found.hint})" if found.hint else ""
    raise RefusedImport(f"{name}.{member} is not available in the sandbox{hint}")


def type_name(obj: Any) -> str:
    """obj.__class__.__name__, for the code's own objects and for exceptions."""
    if not (guards.is_user(obj) or isinstance(obj, Exception)):
        raise RefusedAttribute("__class__ is not available in the sandbox; use type(x)")
    return type(obj).__name__


def seed(value: int) -> None:
    session.seed, session.np_random, session.random = value, None, None
    cv2.setRNGSeed(value)  # OpenCV has no generator objects; its state is per thread


def make_namespace() -> dict[str, Any]:
    names = {"__builtins__": make_builtins(), "__name__": "__main__"}
    names |= {alias: MODULES[target] for alias, target in PREIMPORTED.items() if target in MODULES}
    names["display"] = Fn("display", show_picture, Rule())
    names |= {
        "_getattr_": guards.attribute, "_callmethod_": guards.callmethod, "_call_": guards.call, "_getitem_": guards.getitem,
        "_write_": guards.Writer, "_star_": guards.star, "_kwargs_": guards.star_kwargs, "_key_": guards.key_of,
        "_binary_": operators.binary, "_unary_": operators.unary, "_compare_": operators.compare, "_chained_": operators.chained,
        "_in_": guards.contains, "_inplace_": operators.inplace, "_inplace_item_": operators.inplace_item,
        "_inplace_attr_": operators.inplace_attr, "_format_": formatted, "_unpack_": guards.unpack, "_getiter_": guards.iterate,
        "_except_": classes.caught, "_with_": classes.enter, "_decorator_": classes.decorator, "_Meta_": classes.make_class,
        "_super_": guards.Super, "_import_": import_, "_import_from_": import_from,
        "_type_name_": type_name,
    }  # fmt: skip
    return names


_namespace = make_namespace()


def hooks(budget: Budget) -> dict[str, Any]:
    """The global namespace of one run."""
    names = dict(_namespace)
    names["__builtins__"] = dict(_namespace["__builtins__"])

    def import_star(name: str) -> None:
        names.update({k: v for k, v in module(name).members.items() if not k.startswith("_")})

    def last(value: Any) -> Any:
        session.last = value
        return value

    names |= {"_tick_": budget.tick, "_last_": last, "_import_star_": import_star}
    return names
