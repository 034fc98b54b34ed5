"""typing, matplotlib and small modules as code sees them, and the table of all standard modules."""

from __future__ import annotations

import bisect
import colorsys
import heapq
import json
import statistics
import string
import textwrap
import uuid
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

from codevision_lite.sandbox import stdlib_classes, stdlib_stand_ins
from codevision_lite.sandbox.builtin_types import gathered
from codevision_lite.sandbox.facade import ATTRIBUTES, PASSIVE, Attr, Box, Fn, Meth, Module, Rule, SafeType
from codevision_lite.sandbox.guards import EXCEPTION_TYPES, Typing, getitem, key_of, keyed
from codevision_lite.sandbox.operators import binary, compare
from codevision_lite.sandbox.stdlib_iter import ANY, functions, make_collections, make_functools, make_itertools
from codevision_lite.sandbox.stdlib_misc import (
    deep_copy,
    make_base64,
    make_buffers,
    make_datetime,
    make_os,
    make_random,
    make_time,
    own_random,
    shallow_copy,
)
from codevision_lite.sandbox.stdlib_text import dumps, loads, make_re
from codevision_lite.sandbox.stops import TooLarge
from codevision_lite.sandbox.text import check_tree
from codevision_lite.sandbox.virtual import add_output


class Plot(Box):
    """matplotlib.pyplot, a figure and its axes: pictures that are shown become outputs, everything else is ignored."""

    __slots__ = ("shown",)

    def __init__(self) -> None:
        self.shown: list[Any] = []


def make_plot() -> dict[str, Any]:
    quiet = (
        "axis title show figure tight_layout savefig close set_title set_xlabel set_ylabel set_xticks set_yticks xticks yticks xlabel "
        "ylabel colorbar "
        "grid legend suptitle subplots_adjust clf cla set_axis_off axis_off plot bar hist scatter text xlim ylim set_xlim set_ylim "
        "add_patch imsave "
        "annotate axvline axhline invert_yaxis set_aspect gca gcf add_subplot subplot"
    ).split()

    def imshow(picture: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(picture, Image.Image | np.ndarray):
            add_output(picture)

    def subplots(nrows: int = 1, ncols: int = 1, **kwargs: Any) -> Any:
        rows, columns = int(nrows), int(ncols)
        if rows * columns > 100:
            raise TooLarge("too many subplots")
        if rows == columns == 1:
            return plot, plot
        axes: list[Any] = [plot] * (rows * columns) if 1 in (rows, columns) else [[plot] * columns for _ in range(rows)]
        return plot, Axes(axes)

    plot = Plot()
    ATTRIBUTES[Plot] = {n: Meth(lambda p, *a, **k: p, ANY) for n in quiet} | {"imshow": Meth(lambda p, *a, **k: imshow(*a, **k), ANY)}
    ATTRIBUTES[Axes] = {"flatten": Meth(lambda a: a.flat()), "ravel": Meth(lambda a: a.flat()), "flat": Attr(lambda a: a.flat())}
    table: dict[str, Any] = {n: Fn(f"plt.{n}", lambda *a, **k: plot, ANY) for n in quiet}
    return table | {"imshow": Fn("plt.imshow", imshow, ANY), "subplots": Fn("plt.subplots", subplots, ANY)}


class Axes(Box):
    """The array of axes that plt.subplots gives."""

    __slots__ = ("rows",)

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def read_item(self, key: Any) -> Any:
        if isinstance(key, tuple):
            return self.rows[key[0]][key[1]]
        item = self.rows[key]
        return Axes(item) if isinstance(item, list) else item

    def read_iter(self) -> Any:
        return iter([Axes(r) if isinstance(r, list) else r for r in self.rows])

    def flat(self) -> list[Any]:
        return [a for r in self.rows for a in (r if isinstance(r, list) else [r])]


TYPING = (
    "Any Union Optional List Tuple Dict Set Sequence Iterable Callable Iterator Mapping FrozenSet Literal Final ClassVar Type TypeVar"
).split()
STATISTICS = "mean median mode multimode stdev pstdev variance pvariance fmean harmonic_mean quantiles median_low median_high".split()


def install() -> dict[str, Module]:
    typing = {n: Typing() for n in TYPING} | stdlib_classes.TYPING_BASES | {"cast": Fn("cast", lambda kind, value: value, ANY)}
    statistics_table = {n: Fn(f"statistics.{n}", statistic(getattr(statistics, n)), ANY) for n in STATISTICS}
    ATTRIBUTES[Fraction] = {"numerator": Attr(lambda f: f.numerator), "denominator": Attr(lambda f: f.denominator)}
    ATTRIBUTES[uuid.UUID] = {"hex": Attr(lambda u: u.hex)}
    PASSIVE.add(uuid.UUID)
    uuids = functions("uuid", {n: lambda *a: uuid.UUID(int=own_random().getrandbits(128), version=4) for n in ("uuid1", "uuid4")})
    texts = {
        n: getattr(string, n)
        for n in ("ascii_letters", "ascii_lowercase", "ascii_uppercase", "digits", "punctuation", "whitespace", "hexdigits", "printable")
    }
    plot = Module("matplotlib.pyplot", make_plot(), "the sandbox can not plot; imshow returns the picture")
    modules = {
        "itertools": make_itertools(), "functools": make_functools() | functions(
            "functools", {"total_ordering": stdlib_classes.total_ordering, "cached_property": stdlib_classes.cached_property}),
        "collections": make_collections(), "re": make_re(),
        "json": functions("json", {"dumps": dumps, "loads": loads}) | {"JSONDecodeError": json.JSONDecodeError}, "random": make_random(),
        "time": make_time(), "datetime": make_datetime(), "io": make_buffers(), "base64": make_base64(), "statistics": statistics_table,
        "string": texts, "copy": functions("copy", {"copy": shallow_copy, "deepcopy": deep_copy}), "typing": typing, "uuid": uuids,
        "fractions": {"Fraction": SafeType("Fraction", Fraction, make_fraction, Rule())},
        "warnings": functions("warnings", {n: lambda *a, **k: None for n in ("filterwarnings", "simplefilter", "warn")} |
                              {"catch_warnings": lambda *a, **k: stdlib_classes.Context()}),
        "collections.abc": {n: Typing() for n in ("Sequence", "Iterable", "Callable", "Mapping")},
        "operator": make_operator(), **make_small(), **stdlib_classes.modules(), **stdlib_stand_ins.modules(),
    }  # fmt: skip
    EXCEPTION_TYPES.update({json.JSONDecodeError, statistics.StatisticsError})
    made = {n: Module(n, members) for n, members in modules.items()} | make_os()
    return made | {"matplotlib.pyplot": plot, "matplotlib": Module("matplotlib", {"pyplot": plot, "use": Fn("use", lambda *a: None, ANY)})}


def statistic(f: Any) -> Any:
    def run(data: Any, *, n: int = 4) -> Any:
        if n > 10_000:
            raise TooLarge("n is too large (at most 10,000)")
        return f(gathered(data), n=n) if f is statistics.quantiles else f(gathered(data))

    return run


def make_fraction(*args: Any) -> Fraction:
    if any(isinstance(a, str) and (len(a) > 40 or "e" in a.lower()) for a in args):
        raise TooLarge("write the fraction as two numbers")  # "1e999999999" would be computed
    return Fraction(*args)


def make_small() -> dict[str, dict[str, Any]]:
    """heapq, bisect, colorsys and textwrap."""

    def on_list(f: Any) -> Any:
        return lambda items, *value: f(checked_list(items), *map(key_of, value))

    def best(f: Any) -> Any:
        return lambda n, iterable, key=None: f(n, gathered(iterable), keyed(key))

    def wrap(f: Any) -> Any:
        return lambda text, width=70: f(text[:100_000], width)

    heaps = {n: on_list(getattr(heapq, n)) for n in "heappush heappop heapify heapreplace heappushpop".split()}
    heaps |= {n: best(getattr(heapq, n)) for n in ("nlargest", "nsmallest")}
    bisects = {n: on_list(getattr(bisect, n)) for n in "bisect bisect_left bisect_right insort insort_left insort_right".split()}
    wraps = {n: wrap(getattr(textwrap, n)) for n in ("wrap", "fill")}
    colours = {
        n: Fn(f"colorsys.{n}", getattr(colorsys, n), Rule()) for n in "rgb_to_hsv hsv_to_rgb rgb_to_hls hls_to_rgb rgb_to_yiq".split()
    }
    return {"heapq": functions("heapq", heaps), "bisect": functions("bisect", bisects), "colorsys": colours,
            "textwrap": functions("textwrap", wraps | {"dedent": lambda text: textwrap.dedent(text[:100_000])})}  # fmt: skip


def checked_list(items: Any) -> list[Any]:
    if type(items) is not list:
        raise TypeError("a list is needed")
    check_tree(items)
    return items


def make_operator() -> dict[str, Any]:
    signs = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%"}
    comparisons = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}

    def operation(f: Any, sign: str) -> Any:
        return lambda a, b: f(sign, a, b)

    table: dict[str, Any] = {n: operation(binary, s) for n, s in signs.items()}
    table |= {n: operation(compare, s) for n, s in comparisons.items()}
    table["itemgetter"] = lambda *keys: Fn(
        "itemgetter", lambda o: getitem(o, keys[0]) if len(keys) == 1 else tuple(getitem(o, k) for k in keys), ANY
    )
    return functions("operator", table)
