"""time, random, datetime, os, io, base64 and copy as code sees them. Paths are text; there are no files."""

from __future__ import annotations

import base64
import datetime
import math
import posixpath
import random
import time
from typing import Any

import numpy as np
from PIL import Image

from codevision_lite.sandbox.builtin_types import growing
from codevision_lite.sandbox.facade import (
    ATTRIBUTES,
    Attr,
    Box,
    Fn,
    Meth,
    Module,
    Rule,
    SafeType,
    UserMeta,
    forward,
    forward_inner,
    session,
)
from codevision_lite.sandbox.lookup import attribute
from codevision_lite.sandbox.stdlib_iter import functions
from codevision_lite.sandbox.stops import Refused, TooLarge
from codevision_lite.sandbox.text import check_tree
from codevision_lite.sandbox.virtual import Buffer


def sleep(seconds: float) -> None:
    end = min(time.perf_counter() + max(0.0, float(seconds)), session.budget.deadline + 0.01)
    while time.perf_counter() < end:
        time.sleep(min(0.02, max(0.0, end - time.perf_counter())))
    session.budget.look()


def own_random() -> random.Random:
    if session.random is None:
        session.random = random.Random(session.seed)
    return session.random


class OwnRandom(Box):
    """random.Random(seed)."""

    __slots__ = ("inner",)

    def __init__(self, seed: Any = None) -> None:
        self.inner = random.Random(seed if isinstance(seed, int | float | str) else session.seed)


def make_random() -> dict[str, Any]:
    def sampler(name: str) -> Any:
        def run(source: random.Random, *args: Any, **kwargs: Any) -> Any:
            args = tuple(list(growing(a)) if not isinstance(a, int | float | list | str | tuple) and a is not None else a for a in args)
            if name == "choices" and int(kwargs.get("k", 1)) > 10_000_000:
                raise TooLarge("too many choices")
            if not all(math.isfinite(a) for a in args if isinstance(a, float)):
                raise ValueError("the arguments must be finite")  # some of the loops never end otherwise
            if any(isinstance(a, int) and abs(a) > 1 << 70 for a in args) or (name == "getrandbits" and args[0] > 100_000):
                raise TooLarge("the number is too large")
            if name == "sample" and len(args) > 1 and args[1] > 1_000_000:
                raise TooLarge("the sample is too large")
            return getattr(source, name)(*args, **kwargs)

        return run

    def shuffle(source: random.Random, items: Any) -> None:
        if type(items) is not list:
            raise TypeError("shuffle needs a list")
        source.shuffle(items)

    def seed(source: random.Random, value: Any = None) -> None:
        source.seed(value if isinstance(value, int | float | str) else session.seed)

    names = (
        "random randint randrange uniform choice choices sample gauss normalvariate triangular betavariate expovariate getrandbits".split()
    )
    table = {n: sampler(n) for n in names} | {"shuffle": shuffle, "seed": seed}
    def of_object(f: Any) -> Meth:
        return Meth(lambda obj, *args, **kwargs: f(obj.inner, *args, **kwargs))

    def of_run(f: Any) -> Any:
        return lambda *args, **kwargs: f(own_random(), *args, **kwargs)

    ATTRIBUTES[OwnRandom] = {n: of_object(f) for n, f in table.items()}
    made = functions("random", {n: of_run(f) for n, f in table.items()})
    return made | {"Random": SafeType("random.Random", OwnRandom, OwnRandom)}


def make_time() -> dict[str, Any]:
    table = {n: getattr(time, n) for n in "time perf_counter monotonic process_time time_ns perf_counter_ns".split()}
    strftime = lambda fmt="%Y-%m-%d", *a: time.strftime(fmt[:100])  # noqa: E731
    return functions("time", table | {"sleep": sleep, "strftime": strftime, "ctime": lambda *a: time.ctime()})


def make_datetime() -> dict[str, Any]:
    fields = "year month day hour minute second microsecond days seconds".split()
    members: dict[str, Any] = {}
    for name in ("datetime", "date", "time", "timedelta"):
        kind = getattr(datetime, name)
        table: dict[str, Any] = {f: Attr(lambda d, f=f: getattr(d, f)) for f in fields if hasattr(kind, f)}
        for m in "isoformat strftime weekday isoweekday timestamp date time total_seconds replace toordinal".split():
            if hasattr(kind, m):
                table[m] = Meth(forward(m), Rule(check=short_texts))
        ATTRIBUTES[kind] = table
        makers = {
            n: Fn(n, getattr(kind, n), Rule())
            for n in ("now", "today", "fromisoformat", "strptime", "utcnow", "fromtimestamp")
            if hasattr(kind, n)
        }
        members[name] = SafeType(f"datetime.{name}", kind, kind, Rule(), members=makers)
    return members


def short_texts(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if any(isinstance(a, str) and len(a) > 100 for a in (*args, *kwargs.values())):
        raise TooLarge("the format is too long")


PATH_TEXT = "basename dirname splitext split isabs normpath".split()


def seems_there(path: Any) -> bool:
    """Pictures are there under any name (they open as the current picture), and so is what the code saved; nothing else."""
    return str(path) in session.files or str(path).lower().endswith((".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif"))


def make_os() -> dict[str, Module]:
    path = functions("os.path", {n: getattr(posixpath, n) for n in PATH_TEXT})
    path |= functions("os.path", {"join": lambda *p: posixpath.join(*map(str, p)), "exists": seems_there, "isfile": seems_there,
                                  "isdir": lambda p: False, "abspath": lambda p: str(p), "expanduser": lambda p: str(p)})  # fmt: skip
    module = Module("os.path", path)
    table = functions("os", {"makedirs": lambda *a, **k: None, "mkdir": lambda *a, **k: None})
    return {"os": Module("os", table | {"path": module, "sep": "/"}, "files and processes do not exist in the sandbox"), "os.path": module}


def make_buffers() -> dict[str, Any]:
    table: dict[str, Any] = {
        n: Meth(forward_inner(n), Rule()) for n in "read getvalue tell close truncate readline".split()
    }
    table |= {
        "write": Meth(Buffer.write, Rule()),
        "seek": Meth(Buffer.seek, Rule()),
        "getbuffer": Meth(lambda b: b.inner.getvalue(), Rule()),
    }
    ATTRIBUTES[Buffer] = table
    return {
        "BytesIO": SafeType("io.BytesIO", Buffer, Buffer, Rule()),
        "StringIO": SafeType("io.StringIO", Buffer, lambda text="": Buffer(text, True), Rule()),
    }


def make_base64() -> dict[str, Any]:
    names = "b64encode b64decode standard_b64encode standard_b64decode urlsafe_b64encode urlsafe_b64decode b16encode b32encode".split()
    return {n: Fn(f"base64.{n}", getattr(base64, n), Rule(check=spend_text)) for n in names}


def spend_text(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    for value in args:
        if isinstance(value, str | bytes):
            if len(value) > 64 << 20:
                raise TooLarge("the text is too long")
            session.budget.spend_bytes(2 * len(value))


def deep_copy(obj: Any) -> Any:
    session.budget.tick()  # objects that share their parts are copied as often as they are met
    if isinstance(obj, Image.Image):
        return attribute(obj, "copy")()
    if isinstance(obj, np.ndarray):
        return attribute(obj, "copy")()
    if type(obj) in (list, tuple, dict, set):
        check_tree(obj)
        if isinstance(obj, dict):
            return {k: deep_copy(v) for k, v in obj.items()}
        return type(obj)(deep_copy(v) for v in obj)
    if isinstance(obj, int | float | str | bytes | bool | None):
        return obj
    if isinstance(type(obj), UserMeta):
        new = object.__new__(type(obj))
        new.__dict__.update({k: deep_copy(v) for k, v in obj.__dict__.items()})
        return new
    raise Refused(f"a {type(obj).__name__} can not be copied in the sandbox")


def shallow_copy(obj: Any) -> Any:
    if type(obj) in (list, dict, set):
        return obj.copy()
    return deep_copy(obj)
