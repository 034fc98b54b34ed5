"""time, random, datetime, os, io, base64 and copy as code sees them. Paths are text; there are no files."""

from __future__ import annotations

import base64
import datetime
import posixpath
import random
import time
from typing import Any

import numpy as np
from PIL import Image

from codevision_lite.sandbox.builtin_types import growing
from codevision_lite.sandbox.facade import ATTRIBUTES, Attr, Fn, Meth, Module, Rule, SafeType, UserMeta, attribute, session
from codevision_lite.sandbox.stdlib_iter import functions
from codevision_lite.sandbox.stops import Refused, TooLarge
from codevision_lite.sandbox.text import check_tree, to_text
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


def make_random() -> dict[str, Any]:
    def sampler(name: str) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            args = tuple(list(growing(a)) if not isinstance(a, int | float | list | str | tuple) and a is not None else a for a in args)
            if name == "choices" and int(kwargs.get("k", 1)) > 10_000_000:
                raise TooLarge("too many choices")
            if any(isinstance(a, int) and abs(a) > 1 << 70 for a in args) or (name == "getrandbits" and args[0] > 100_000):
                raise TooLarge("the number is too large")
            if name == "sample" and len(args) > 1 and args[1] > 1_000_000:
                raise TooLarge("the sample is too large")
            return getattr(own_random(), name)(*args, **kwargs)

        return run

    names = (
        "random randint randrange uniform choice choices sample gauss normalvariate triangular betavariate expovariate getrandbits".split()
    )
    table = {n: sampler(n) for n in names}
    table["shuffle"] = lambda items: own_random().shuffle(items) if type(items) is list else _only_lists()
    table["seed"] = lambda value=None: own_random().seed(value if isinstance(value, int | float | str) else session.seed)
    return functions("random", table)


def _only_lists() -> None:
    raise TypeError("shuffle needs a list")


def make_time() -> dict[str, Any]:
    table = {n: getattr(time, n) for n in ("time", "perf_counter", "monotonic", "process_time")}
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
                table[m] = Meth(
                    lambda d, *a, m=m, **k: getattr(d, m)(*[to_text(x)[:100] if isinstance(x, str) else x for x in a], **k), Rule()
                )
        ATTRIBUTES[kind] = table
        makers = {
            n: Fn(n, getattr(kind, n), Rule())
            for n in ("now", "today", "fromisoformat", "strptime", "utcnow", "fromtimestamp")
            if hasattr(kind, n)
        }
        members[name] = SafeType(f"datetime.{name}", kind, kind, Rule(), members=makers)
    return members


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
        n: Meth(lambda b, *a, n=n: getattr(b.inner, n)(*a), Rule()) for n in "read getvalue tell close truncate readline".split()
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
