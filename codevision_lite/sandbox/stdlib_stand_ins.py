"""Thin stand-ins for modules that programs import out of habit: pathlib, sys, logging, traceback, pprint, hashlib, IPython.display.

Paths are text, streams are the run's own printed text, logs go nowhere. Nothing of the real modules but pprint and hashlib is used.
"""

from __future__ import annotations

import hashlib
import posixpath
import pprint
import sys
from typing import Any

from codevision_lite.sandbox.builtins_ import print_
from codevision_lite.sandbox.facade import ATTRIBUTES, Attr, Box, Fn, Meth, Rule, SafeType, session
from codevision_lite.sandbox.messages import without_paths
from codevision_lite.sandbox.stdlib_iter import functions
from codevision_lite.sandbox.stdlib_misc import seems_there
from codevision_lite.sandbox.stops import RefusedCall
from codevision_lite.sandbox.text import check_tree, to_repr, to_text
from codevision_lite.sandbox.virtual import PathText, show_picture

TREE_CELLS = 20_000  # pprint is slow Python code: larger values are printed as they are


# -- pathlib ---------------------------------------------------------------------------------------------------------------


def make_path(*parts: Any) -> PathText:
    return PathText(posixpath.join(*[str(p) if isinstance(p, PathText) else p for p in parts])) if parts else PathText(".")


def with_name(path: PathText, name: str) -> PathText:
    return make_path(posixpath.dirname(path.text), name)


def path_table() -> dict[str, Attr | Meth]:
    base, split = posixpath.basename, posixpath.splitext
    nothing = Meth(lambda p, *a, **k: None)
    return {
        "name": Attr(lambda p: base(p.text)), "stem": Attr(lambda p: split(base(p.text))[0]),
        "suffix": Attr(lambda p: split(base(p.text))[1]), "parent": Attr(lambda p: PathText(posixpath.dirname(p.text) or ".")),
        "parts": Attr(lambda p: tuple(x for x in p.text.split("/") if x)), "mkdir": nothing,
        "joinpath": Meth(make_path), "with_name": Meth(with_name), "as_posix": Meth(lambda p: p.text),
        "with_suffix": Meth(lambda p, suffix: PathText(split(p.text)[0] + suffix)), "exists": Meth(lambda p: seems_there(p.text)),
        "is_file": Meth(lambda p: seems_there(p.text)), "is_dir": Meth(lambda p: False), "resolve": Meth(lambda p: p),
        "absolute": Meth(lambda p: p),
    }  # fmt: skip


# -- sys, logging, traceback ---------------------------------------------------------------------------------------------------


class Stream(Box):
    """sys.stdout and sys.stderr: both are the printed text of the run."""


class Logger(Box):
    """A logger that writes nowhere."""


def write(stream: Stream, text: Any) -> int:
    if type(text) is not str:
        raise TypeError("write() needs a str")
    session.budget.write(text)
    return len(text)


def make_logger(*args: Any, **kwargs: Any) -> Logger:
    return Logger()


def configure(*args: Any, **options: Any) -> None:
    if "filename" in options or "handlers" in options:
        raise RefusedCall("logs can not be written to files in the sandbox; use print")


def format_error(*args: Any) -> str:
    """The exception that is being handled, as one line."""
    error = sys.exc_info()[1]
    if error is None:
        return "NoneType: None\n"
    return without_paths(f"{type(error).__name__}: {to_text(error)[:1000]}\n")


# -- pprint, hashlib -----------------------------------------------------------------------------------------------------------


def pretty(value: Any, *args: Any, width: int = 80, **options: Any) -> str:
    if check_tree(value) > TREE_CELLS:
        return to_repr(value)
    to_repr(value)  # the bounds of a text
    return pprint.pformat(value, width=width)


class Digest(Box):
    __slots__ = ("inner",)

    def __init__(self, inner: Any) -> None:
        self.inner = inner


def digest(kind: Any) -> Any:
    def make(data: Any = b"", **options: Any) -> Digest:
        made = Digest(kind())
        update(made, data)
        return made

    return make


def update(made: Digest, data: Any) -> None:
    if type(data) not in (bytes, bytearray):
        raise TypeError("hashlib needs bytes")
    made.inner.update(data)


def modules() -> dict[str, dict[str, Any]]:
    ATTRIBUTES[PathText] = path_table()
    ATTRIBUTES[Stream] = {"write": Meth(write), "flush": Meth(lambda s: None)}
    quiet = Meth(lambda logger, *a, **k: None)
    ATTRIBUTES[Logger] = dict.fromkeys("debug info warning error critical exception log setLevel".split(), quiet)
    ATTRIBUTES[Digest] = {"hexdigest": Meth(lambda d: d.inner.hexdigest()), "digest": Meth(lambda d: d.inner.digest()),
                          "update": Meth(update)}  # fmt: skip
    log = {n: lambda *a, **k: None for n in "debug info warning error critical exception log disable".split()}
    levels = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
    printing = {"pprint": lambda v, *a, **k: print_(pretty(v, **k)), "pformat": pretty, "pp": lambda v, *a, **k: print_(pretty(v, **k))}
    tracing = {"format_exc": format_error, "print_exc": lambda *a, **k: session.budget.write(format_error())}
    return {
        "pathlib": {n: SafeType("pathlib.Path", PathText, make_path, Rule()) for n in ("Path", "PurePath")},
        "sys": {"stdout": Stream(), "stderr": Stream(), "maxsize": sys.maxsize, "version_info": tuple(sys.version_info[:3])},
        "logging": functions("logging", log | {"getLogger": make_logger, "basicConfig": configure}) | levels,
        "traceback": functions("traceback", tracing), "pprint": functions("pprint", printing),
        "hashlib": functions("hashlib", {n: digest(getattr(hashlib, n)) for n in ("md5", "sha1", "sha256")}),
        "IPython.display": {"display": Fn("display", show_picture, Rule())},
    }  # fmt: skip
