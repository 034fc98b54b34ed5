"""itertools, functools and collections as code sees them: everything lazy ticks, everything that grows is accounted for."""

from __future__ import annotations

import itertools
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from functools import cmp_to_key
from typing import Any

from codevision_lite.sandbox.builtin_types import gathered, growing
from codevision_lite.sandbox.facade import ATTRIBUTES, Fn, Meth, Rule, SafeType, session
from codevision_lite.sandbox.guards import ITERABLE, READABLE, WRITABLE, call, iterate, key_of, keyed, ticking
from codevision_lite.sandbox.stops import RefusedCall, TooLarge
from codevision_lite.sandbox.text import check_tree

ANY = Rule(any_value=True)


def functions(prefix: str, table: dict[str, Any]) -> dict[str, Any]:
    return {n: Fn(f"{prefix}.{n}", f, ANY) for n, f in table.items()}


def lazy(f: Any) -> Any:
    """An itertools function whose iterables are checked and whose result ticks."""
    return lambda *args, **kwargs: ticking(f(*[iterate(a) if not isinstance(a, int | float) else a for a in args], **kwargs))


def pooled(f: Any) -> Any:
    """product, permutations, combinations keep a copy of their inputs."""

    def run(*args: Any, **kwargs: Any) -> Any:
        args = tuple(tuple(growing(a)) if not isinstance(a, int) else a for a in args)
        for n in (*args, *kwargs.values()):  # product's repeat, combinations' r: so many pools or indices are kept
            if isinstance(n, int) and n > 100_000:
                raise TooLarge("the number is too large (at most 100,000)")
        return ticking(f(*args, **kwargs))

    return run


def with_function(f: Any) -> Any:
    return lambda function, *args: ticking(f(lambda *v: call(function, *v), *[iterate(a) for a in args]))


def tee(obj: Any, n: int = 2) -> Any:
    items = list(growing(obj))
    return tuple(ticking(iter(items)) for _ in range(min(n, 16)))


def groupby(obj: Any, key: Any = None) -> Any:
    groups = itertools.groupby(iterate(obj), key_of if key is None else keyed(key))
    return ticking((k, ticking(iter(list(growing(ticking(g)))))) for k, g in groups)


def accumulate(obj: Any, func: Any = None, *, initial: Any = None) -> Any:
    from codevision_lite.sandbox.operators import binary

    step = (lambda a, b: binary("+", a, b)) if func is None else (lambda a, b: call(func, a, b))
    return ticking(itertools.accumulate(iterate(obj), step, initial=initial))


def repeat(obj: Any, *times: int) -> Any:
    return ticking(itertools.repeat(obj, *times))


def make_itertools() -> dict[str, Any]:
    names = "chain islice zip_longest pairwise compress count cycle"
    table = {n: lazy(getattr(itertools, n)) for n in names.split()}
    table |= {n: pooled(getattr(itertools, n)) for n in ("product", "permutations", "combinations", "combinations_with_replacement")}
    table |= {n: with_function(getattr(itertools, n)) for n in ("takewhile", "dropwhile", "filterfalse", "starmap")}
    made = functions("itertools", table | {"tee": tee, "groupby": groupby, "accumulate": accumulate, "repeat": repeat})
    from_iterable = Fn("chain.from_iterable", lambda o: ticking(x for part in iterate(o) for x in iterate(part)), ANY)
    made["chain"] = SafeType("itertools.chain", itertools.chain, table["chain"], members={"from_iterable": from_iterable})
    return made


def reduce(function: Any, obj: Any, *initial: Any) -> Any:
    items = iter(iterate(obj))
    value = initial[0] if initial else next(items)
    for item in items:
        session.budget.tick()
        value = call(function, value, item)
    return value


def partial(f: Any, *args: Any, **kwargs: Any) -> Fn:
    return Fn("partial", lambda *more, **extra: call(f, *args, *more, **{**kwargs, **extra}), ANY)


def lru_cache(*args: Any, **kwargs: Any) -> Any:
    def decorate(f: Any) -> Fn:
        memory: dict[Any, Any] = {}

        def run(*call_args: Any, **call_kwargs: Any) -> Any:
            key = key_of((call_args, tuple(sorted(call_kwargs.items()))))
            if key not in memory:
                memory[key] = call(f, *call_args, **call_kwargs)
            return memory[key]

        return Fn("cached", run, ANY)

    return decorate(args[0]) if len(args) == 1 and not isinstance(args[0], int) and args[0] is not None else Fn("lru_cache", decorate, ANY)


def make_defaultdict(factory: Any = None, *args: Any, **kwargs: Any) -> defaultdict[Any, Any]:
    made: defaultdict[Any, Any] = defaultdict(None if factory is None else lambda: call(factory))
    for source in args:
        made.update(dict(source) if isinstance(source, dict) else {key_of(k): v for k, v in growing(source)})
    made.update(kwargs)
    return made


def make_counter(source: Any = (), **kwargs: Any) -> Counter[Any]:
    counter: Counter[Any] = Counter()
    counter.update(dict(source) if isinstance(source, dict) else [key_of(v) for v in growing(source)])
    counter.update(kwargs)
    return counter


def most_common(counter: Counter[Any], *n: Any) -> Any:
    check_tree(counter)  # the counts are compared
    return counter.most_common(*n)


def make_ordered(*sources: Any, **values: Any) -> OrderedDict[Any, Any]:
    return OrderedDict(((key_of(k), v) for s in sources for k, v in (s.items() if isinstance(s, dict) else growing(s))), **values)


def counter_update(counter: Counter[Any], source: Any) -> None:
    counter.update(dict(source) if isinstance(source, dict) else [key_of(v) for v in growing(source)])


def make_namedtuple(name: Any, fields: Any, *, defaults: Any = None) -> Any:
    names = fields.replace(",", " ").split() if isinstance(fields, str) else list(fields)
    if not (isinstance(name, str) and name.isidentifier() and name[0] != "_") or not all(
        isinstance(n, str) and n.isidentifier() and n[0] != "_" for n in names
    ):
        raise RefusedCall("namedtuple needs plain names")
    made = namedtuple(name, names, defaults=defaults)  # type: ignore[misc]
    return SafeType(name, made, made, ANY, shared=False)


def make_collections() -> dict[str, Any]:
    ATTRIBUTES[defaultdict] = ATTRIBUTES[dict]
    ATTRIBUTES[Counter] = ATTRIBUTES[dict] | {
        "most_common": Meth(most_common), "elements": Meth(lambda c: ticking(c.elements())),
        "update": Meth(counter_update), "total": Meth(lambda c: c.total()),
        "subtract": Meth(lambda c, o: c.subtract(dict(o) if isinstance(o, dict) else gathered(o))),
    }  # fmt: skip
    for kind in (defaultdict, Counter):
        READABLE.add(kind)
        WRITABLE.add(kind)
        ITERABLE.add(kind)
    return {
        "Counter": SafeType("collections.Counter", Counter, make_counter), "deque": SafeType("collections.deque", deque, make_deque),
        "defaultdict": SafeType("collections.defaultdict", defaultdict, make_defaultdict),
        "OrderedDict": SafeType("collections.OrderedDict", OrderedDict, make_ordered),
        "namedtuple": Fn("namedtuple", make_namedtuple, ANY),
    }  # fmt: skip


def make_deque(source: Any = (), maxlen: Any = None) -> deque[Any]:
    return deque(growing(source), maxlen)


def make_functools() -> dict[str, Any]:
    table = {"reduce": reduce, "partial": partial, "lru_cache": lru_cache, "cache": lru_cache}
    table["cmp_to_key"] = lambda f: cmp_to_key(lambda a, b: call(f, a, b))
    table["wraps"] = lambda f: Fn("wraps", lambda g: g, ANY)
    return functions("functools", table)
