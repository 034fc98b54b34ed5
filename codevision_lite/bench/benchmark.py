"""What a benchmark is: rows of the user's own copy of its files, its official rule, and its headline numbers.

Each benchmark is a module of this package that holds a `Benchmark`. The runner knows nothing but this file. Nothing is
downloaded; docs/BENCHMARKS.md says which file each benchmark reads and where its rule comes from.
"""

from __future__ import annotations

import difflib
import importlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codevision_lite.errors import UserError
from codevision_lite.records import Sample

# name -> "module:attribute"; a module is imported when its benchmark is asked for.
BENCHMARKS: dict[str, str] = {
    "ocrbench": "codevision_lite.bench.ocrbench:BENCHMARK",
    "chartqapro": "codevision_lite.bench.chartqapro:BENCHMARK",
    "mvtoolbench": "codevision_lite.bench.mvtoolbench:BENCHMARK",
    "vstar": "codevision_lite.bench.vstar:BENCHMARK",
    "hrbench4k": "codevision_lite.bench.hrbench:HRBENCH_4K",
    "hrbench8k": "codevision_lite.bench.hrbench:HRBENCH_8K",
    "signs": "codevision_lite.bench.builtin:SIGNS",
    "pages": "codevision_lite.bench.builtin:PAGES",
    "orientation": "codevision_lite.bench.diagnosis:BENCHMARK",
}


@dataclass(frozen=True)
class BadRow:
    """A row that can't be used: counted and named, never dropped silently."""

    file: str
    row: int  # from 1, of a table without its header; 0: the file as a whole
    reason: str

    def __str__(self) -> str:
        return f"{self.file} row {self.row}: {self.reason}" if self.row else f"{self.file}: {self.reason}"


@dataclass(frozen=True)
class Scored:
    """What the rule says about one prediction."""

    value: float  # in [0, 1]; what the benchmark averages
    correct: bool  # fully right: value is 1
    how: str  # which part of the rule decided: "substring", "anls 0.86", "no option can be inferred", ...


@dataclass(frozen=True)
class Row:
    """One scored sample, for `aggregate`."""

    sample: Sample
    prediction: str | None
    scored: Scored


@dataclass(frozen=True)
class Switch:
    """A named choice where implementations of a rule differ, or where a file can be read in two ways."""

    default: str
    values: tuple[str, ...]  # what is allowed; empty: any whole number >= 0
    help: str  # one line
    is_of_load: bool = False  # changes what is read or asked; the others change the score alone, so that old answers can be scored again


@dataclass(frozen=True)
class Benchmark:
    """One benchmark. `switches` of a call are complete and checked: make them with `read_switches`.

    load(path, switches): the samples of a file or folder, in the order of its rows, and the rows that can't be used. `path` is
        None for built-in sets (`needs_file` False). `Sample.image` is a path or a `StoredPicture` (tables.py), which is decoded
        when `imaging.open_image` opens it: a list of samples holds no pixels. Ids are unique. `Sample.meta` has "benchmark",
        "category" (a row of the benchmark's own tables) and "group" (equal for rows that are not independent: those of one
        picture; what intervals are clustered by). Raises UserError where nothing can be read at all.
    score(sample, prediction, switches): the official rule on the text of the final answer; None: there was none.
    aggregate(rows, switches): the benchmark's own numbers, as JSON: "headline" (float, None where nothing was measured), its "unit"
        ("%", "of 1000"), "n", "parts" {name: {"value" in the same sense, "n"}} in the order to show them, and more of its own.
    subset(samples, n, seed): at most `n` of them, the same for the same seed, in file order, spread over the categories.
    """

    name: str
    title: str
    load: Callable[[Path | None, Mapping[str, str]], Iterator[Sample | BadRow]]
    score: Callable[[Sample, str | None, Mapping[str, str]], Scored]
    aggregate: Callable[[Sequence[Row], Mapping[str, str]], dict[str, Any]]
    switches: Mapping[str, Switch] = field(default_factory=dict)
    subset: Callable[[Sequence[Sample], int, int], list[Sample]] = lambda samples, n, seed: stratified(samples, n, seed)
    needs_file: bool = True
    is_official: bool = True  # whether the default switches follow the benchmark's own rule to the letter
    prompt_note: str = ""  # what the question text adds to the file's own, and the official prompt where it is another one
    chance: float | None = None  # the headline number of guessing, where options are given


def get_benchmark(name: str) -> Benchmark:
    """The benchmark of that name. Raises UserError naming the nearest."""
    if name not in BENCHMARKS:
        near = difflib.get_close_matches(name, BENCHMARKS, 1)
        raise UserError(f"unknown benchmark {name!r}. Use {'one of ' + ', '.join(BENCHMARKS) if not near else near[0]}")
    module, attribute = BENCHMARKS[name].split(":")
    return getattr(importlib.import_module(module), attribute)


def read_switches(benchmark: Benchmark, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """All switches with their defaults. Raises UserError for a name or a value that the benchmark doesn't have."""
    resolved = {name: switch.default for name, switch in benchmark.switches.items()}
    for name, value in (given or {}).items():
        if name not in resolved:
            raise UserError(f"{benchmark.name} has no switch {name!r}. It has: {', '.join(resolved) or 'none'}")
        switch, value = benchmark.switches[name], str(value)
        if switch.values and value not in switch.values:
            raise UserError(f"{benchmark.name}: {name}={value} is not known. Use {' or '.join(switch.values)}")
        if not switch.values and not (value.isascii() and value.isdigit()):
            raise UserError(f"{benchmark.name}: {name} must be a whole number >= 0, got {value!r}")
        resolved[name] = value
    return resolved


def mean_percent(values: Sequence[float]) -> float | None:
    """Mean of values in [0, 1], in percent; None of nothing."""
    return 100 * sum(values) / len(values) if values else None


def parts_by(rows: Sequence[Row], key: str = "category", order: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """{"value": mean score in percent, "n"} for each value of a meta key; those of `order` first, the others by name."""
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(str(row.sample.meta[key]), []).append(row.scored.value)
    names = [n for n in order if n in values] + sorted(values.keys() - set(order))
    return {name: {"value": mean_percent(values[name]), "n": len(values[name])} for name in names}


def stratified(samples: Sequence[Sample], n: int, seed: int, unit: Callable[[Sample], str] | None = None) -> list[Sample]:
    """`n` of the samples, each category as often as its share of the whole (largest remainders), in their order.

    `unit`: samples of one unit are kept together (the cycles of HR-Bench); then at most `n` samples, and whole units only.
    Raises UserError where `n` is less than the smallest unit.
    """
    if n >= len(samples):
        return list(samples)
    units: dict[str, list[int]] = {}
    for at, sample in enumerate(samples):
        units.setdefault(unit(sample) if unit else str(at), []).append(at)
    smallest = min(map(len, units.values()))
    if n < smallest:
        raise UserError(f"--n {n} is less than one whole item of {smallest} rows. Use --n {smallest} or more")
    categories: dict[str, list[list[int]]] = {}
    for rows in units.values():
        categories.setdefault(str(samples[rows[0]].meta["category"]), []).append(rows)
    rng = random.Random(f"subset/{seed}")
    for places in categories.values():
        rng.shuffle(places)
    chosen, left = [], n
    shares = {name: n * sum(map(len, places)) / len(samples) for name, places in categories.items()}
    taken = dict.fromkeys(categories, 0)
    while open_ := [c for c, places in categories.items() if places and len(places[-1]) <= left]:
        name = max(open_, key=lambda c: shares[c] - taken[c])  # the category that is owed most; the first of equals
        rows = categories[name].pop()
        chosen += rows
        taken[name] += len(rows)
        left -= len(rows)
    return [samples[at] for at in sorted(chosen)]
