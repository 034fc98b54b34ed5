"""The numpy that code sees: arrays, their attributes, and the module numpy with its submodules linalg, fft and random.

Stops: files (load, save, fromfile, memmap, genfromtxt), raw memory (ndarray(), frombuffer over others' memory, data, ctypes, strides),
object and structured dtypes, allocations beyond the limit. How traces move is in numpy_trace.py, what allocates in numpy_make.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from codevision_lite.sandbox import numpy_extra as extra
from codevision_lite.sandbox import numpy_join as join
from codevision_lite.sandbox import numpy_make as make
from codevision_lite.sandbox import numpy_more as more
from codevision_lite.sandbox import numpy_trace as nt
from codevision_lite.sandbox.array_trace import blank, keep, lose
from codevision_lite.sandbox.checks import small
from codevision_lite.sandbox.facade import ATTRIBUTES, PASSIVE, Attr, Box, Fn, Meth, Module, Rule, SafeType, forward, session
from codevision_lite.sandbox.guards import EXCEPTION_TYPES
from codevision_lite.sandbox.numpy_make import check_dtype, fromarray_input
from codevision_lite.sandbox.operators import spend_work
from codevision_lite.sandbox.stops import RefusedCall

ELEMENTWISE = (
    "add subtract multiply divide true_divide floor_divide power float_power mod remainder fmod sqrt square cbrt abs absolute fabs exp "
    "exp2 "
    "expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan arctan2 sinh cosh tanh hypot maximum minimum fmax fmin clip round "
    "around rint "
    "floor ceil trunc fix sign negative positive reciprocal logical_and logical_or logical_not logical_xor bitwise_and bitwise_or "
    "bitwise_xor "
    "bitwise_not invert left_shift right_shift greater greater_equal less less_equal equal not_equal isnan isinf isfinite isclose where "
    "nan_to_num deg2rad rad2deg radians degrees real imag angle conj conjugate heaviside sinc i0 copysign logaddexp gcd lcm isin in1d "
    "real_if_close signbit digitize interp acos asin atan atan2 pow bitwise_invert divmod modf arcsinh arccosh arctanh acosh asinh atanh "
    "isneginf isposinf isreal iscomplex ldexp frexp bitwise_count cross"
).split()
REDUCTIONS = (
    "sum mean std var min max amin amax ptp median average percentile quantile nanmean nanmedian nanstd nanvar nanmin nanmax nansum prod "
    "nanpercentile any all argmax argmin count_nonzero nanargmax nanargmin nanprod"
).split()
SCRAMBLING = (  # the geometry of their results is not followed
    "sort argsort unique bincount cumsum cumprod nonzero argwhere flatnonzero searchsorted trapezoid diff ediff1d cov corrcoef "
    "histogram_bin_edges union1d intersect1d setdiff1d setxor1d partition argpartition lexsort roll "
    "compress extract take_along_axis packbits unpackbits triu tril trim_zeros polyval polyder polyint roots poly gradient unravel_index "
    "ravel_multi_index ix_ resize delete insert put_along_axis array_equal allclose array_equiv isscalar ndim shape size may_share_memory "
    "shares_memory iscomplexobj isrealobj result_type can_cast promote_types issubdtype unwrap apply_over_axes "
    "trace diagonal nancumsum cumulative_sum"
).split()
VIEWS = (
    "rot90 flip fliplr flipud transpose swapaxes moveaxis rollaxis squeeze expand_dims atleast_1d atleast_2d atleast_3d ravel "
    "matrix_transpose permute_dims"
).split()
FIELDS = "shape ndim size dtype T itemsize nbytes real imag strides".split()
REDUCING_METHODS = "sum mean std var min max prod any all argmax argmin".split()
SCRAMBLING_METHODS = "cumsum cumprod argsort nonzero trace diagonal searchsorted compress argpartition".split()
SCALAR_METHODS = "item tolist round sum mean min max astype copy any all conj conjugate clip is_integer bit_count std".split()
SCALAR_TYPES = (
    "uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64 complex64 complex128 bool_ intp uintp int_ uint double "
    "single "
    "byte ubyte short ushort half longlong ulonglong float128 longdouble"
).split()
CLASSES = "integer floating number generic signedinteger unsignedinteger inexact complexfloating".split()
CONSTANTS = {
    "pi": np.pi,
    "e": np.e,
    "inf": np.inf,
    "nan": np.nan,
    "newaxis": None,
    "euler_gamma": np.euler_gamma,
    "Inf": np.inf,
    "NaN": np.nan,
}


def forwarded(name: str, rule: Rule) -> Fn:
    return Fn(f"np.{name}", getattr(np, name), rule)


def method(name: str, rule: Rule) -> Meth:
    return Meth(getattr(np.ndarray, name), rule)


def astype(array: np.ndarray, dtype: Any, *args: Any, **kwargs: Any) -> np.ndarray:
    itemsize = check_dtype(dtype)
    session.budget.spend_bytes(array.size * itemsize, "this array")
    return array.astype(dtype, copy=kwargs.get("copy", True))


def view(array: np.ndarray, dtype: Any = None) -> np.ndarray:
    if dtype is None or dtype is np.ndarray:
        return array.view()
    check_dtype(dtype)
    return array.view(dtype)


def tolist(array: np.ndarray) -> Any:
    session.budget.spend_bytes(40 * array.size)
    spend_work(1000.0 * array.size, "this list")
    return array.tolist()


def tobytes(array: np.ndarray, *order: Any) -> bytes:
    session.budget.spend_bytes(array.nbytes)
    return array.tobytes()


def fill(array: np.ndarray, value: Any) -> None:
    array.fill(value)


def in_place(name: str) -> Meth:
    """A method that changes the array in a way that is not followed."""
    return Meth(getattr(np.ndarray, name), Rule(trace=nt.spoiled))


def array_table() -> dict[str, Attr | Meth]:
    bounded = make.elementwise_check
    return {
        **{n: Attr(lambda a, n=n: getattr(a, n)) for n in FIELDS},
        "flat": Attr(lambda a: a.reshape(-1)), "mT": Attr(lambda a: a.mT),
        "astype": Meth(astype, Rule(trace=keep)), "copy": method("copy", Rule(check=bounded, trace=keep)),
        "view": Meth(view, Rule(trace=nt.viewed)),
        **{n: method(n, Rule(check=bounded, trace=keep)) for n in ("clip", "round", "conj", "conjugate", "byteswap")},
        **{n: method(n, Rule(check=bounded, trace=nt.reduced)) for n in REDUCING_METHODS},
        "ptp": Meth(lambda a, *args, **k: np.ptp(a, *args, **k), Rule(check=bounded, trace=nt.reduced)),
        **{n: method(n, Rule(check=bounded, trace=lose)) for n in SCRAMBLING_METHODS},
        **{n: method(n, Rule(trace=nt.viewed)) for n in "transpose swapaxes reshape squeeze ravel flatten".split()},
        "sort": in_place("sort"), "partition": in_place("partition"),
        "repeat": Meth(join.repeat, Rule(trace=nt.repeated)), "take": Meth(join.take, Rule(trace=nt.taken)),
        "dot": Meth(join.dot, Rule(trace=nt.dotted)), "put": Meth(extra.in_place(extra.put), Rule()),
        "tolist": Meth(tolist, Rule()), "tobytes": Meth(tobytes, Rule()), "item": method("item", Rule()), "fill": Meth(fill, Rule()),
    }  # fmt: skip


def scalar_table() -> dict[str, Attr | Meth]:
    return {
        **{n: Attr(lambda v, n=n: getattr(v, n)) for n in ("dtype", "shape", "ndim", "size", "real", "imag", "itemsize", "T")},
        **{n: Meth(forward(n), Rule()) for n in SCALAR_METHODS},
        "tobytes": Meth(forward("tobytes"), Rule()),
    }  # fmt: skip


def make_numpy() -> dict[str, Any]:
    elementwise = Rule(check=make.elementwise_check, trace=keep)
    table: dict[str, Any] = {n: forwarded(n, elementwise) for n in ELEMENTWISE if hasattr(np, n)}
    table |= {n: forwarded(n, Rule(check=make.slow_check, trace=keep)) for n in ("i0", "isin")}
    table |= {n: forwarded(n, Rule(check=make.elementwise_check, trace=nt.reduced)) for n in REDUCTIONS if hasattr(np, n)}
    checks = make.SCRAMBLING_CHECKS
    table |= {n: forwarded(n, Rule(check=checks.get(n, make.scrambling_check), trace=lose)) for n in SCRAMBLING if hasattr(np, n)}
    table |= {n: forwarded(n, Rule(trace=nt.viewed)) for n in VIEWS if hasattr(np, n)}
    table |= {n: forwarded(n, Rule(check=checks[n], trace=nt.split)) for n in "split array_split hsplit vsplit".split()}
    table |= {n: Fn(f"np.{n}", f, rule) for n, (f, rule) in join.FUNCTIONS.items()} | extra.functions()
    for n in SCALAR_TYPES:
        if hasattr(np, n):
            kind = getattr(np, n)
            table[n] = SafeType(f"numpy.{kind.__name__}", kind, scalar_maker(kind), elementwise)
            ATTRIBUTES[kind] = scalar_table()
    table |= {n: SafeType(f"numpy.{n}", getattr(np, n)) for n in CLASSES}
    table |= {"float": SafeType("float", float, float), "int": SafeType("int", int, int), "bool": SafeType("bool", bool, bool)}
    table["ndarray"] = SafeType("numpy.ndarray", np.ndarray)
    table["str_"] = SafeType("numpy.str_", np.str_, str)
    table["dtype"] = SafeType("numpy.dtype", np.dtype, make.make_dtype, Rule())
    table |= {"iinfo": Fn("np.iinfo", make.iinfo, Rule()), "finfo": Fn("np.finfo", make.finfo, Rule())}
    aliases = {"product": "prod", "trapz": "trapezoid", "in1d": "isin", "row_stack": "vstack", "cumproduct": "cumprod",
               "asfarray": "asarray",
               "alltrue": "all", "sometrue": "any", "round_": "round", "concat": "concatenate"}  # fmt: skip
    table |= {old: table[now] for old, now in aliases.items() if now in table}
    return table | CONSTANTS


def scalar_maker(kind: Any) -> Any:
    def run(value: Any = 0) -> Any:
        if isinstance(value, np.ndarray | list | tuple):
            return np.asarray(value).astype(kind)
        return kind(value)

    return run


class Errstate(Box):
    """np.errstate(...): warnings are off in the sandbox anyway."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


def install() -> dict[str, Module]:
    ATTRIBUTES[np.ndarray] = array_table()
    for code in "bBhHiIlLqQefdgFDG?":
        ATTRIBUTES[np.dtype(code).type] = scalar_table()
    ATTRIBUTES[np.bool_] = scalar_table()
    dtype_table = {n: Attr(lambda d, n=n: getattr(d, n)) for n in ("name", "itemsize", "kind", "char", "str")}
    for code in "bBhHiIlLqQefdgFDG?":
        ATTRIBUTES[type(np.dtype(code))] = dtype_table | {"type": Attr(lambda d: TYPE_OF.get(d.type, d.name))}
    ATTRIBUTES[make.NumberInfo] = {n: Attr(lambda i, n=n: getattr(i.info, n)) for n in ("min", "max", "bits", "eps", "tiny", "dtype")}
    PASSIVE.update(type(np.dtype(c)) for c in "bBhHiIlLqQefdgFDG?")
    EXCEPTION_TYPES.add(np.linalg.LinAlgError)
    table = make_numpy()
    TYPE_OF.update({s.real: s for s in table.values() if isinstance(s, SafeType)})
    table["errstate"] = SafeType("numpy.errstate", Errstate, Errstate, Rule())
    for quiet in ("seterr", "set_printoptions"):
        table[quiet] = Fn(f"np.{quiet}", lambda *a, **k: {}, Rule())
    submodules = {f"numpy.{n}": Module(f"numpy.{n}", members) for n, members in more.submodules().items()}
    table |= {n.partition(".")[2]: m for n, m in submodules.items()}
    table["mgrid"], table["ogrid"] = join.Grid(np.mgrid), join.Grid(np.ogrid)
    table["r_"], table["c_"] = join.Joiner(np.r_), join.Joiner(np.c_)
    table["s_"], table["index_exp"] = join.Slices(False), join.Slices(True)
    hint = "files and raw memory are not; use array functions"
    return {"numpy": Module("numpy", table, hint), **submodules}


TYPE_OF: dict[Any, SafeType] = {}
__all__ = ["Image", "RefusedCall", "blank", "fromarray_input", "install", "small"]
