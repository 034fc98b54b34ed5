"""From rows to results.json: accuracy for each damage and category with intervals, drops, the benchmark's own numbers, tool use.

Pure: the same rows give the same numbers, with or without the model. What was not scored (rows of the file that can't be used, items
that failed) is counted and named beside the numbers, and never counted as right or wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from codevision_lite.bench.benchmark import Benchmark, Row, Scored
from codevision_lite.bench.metrics import drop, score_row
from codevision_lite.bench.published import published_rows
from codevision_lite.bench.settings import BenchConfig, Loaded
from codevision_lite.bench.tool_use import tool_summary
from codevision_lite.bench.variants import UNDAMAGED
from codevision_lite.geometry import ORIENTATIONS
from codevision_lite.records import Sample

_NAMED = 50  # of bad rows and of failed items, how many results.json names; all of them are counted
Result = dict[str, Any]


def summarise(
    benchmark: Benchmark, config: BenchConfig, ids: Sequence[str], rows: Sequence[Result], failures: dict[str, Result],
    known: Collection[str] | None = None,
) -> Result:  # fmt: skip
    """The numbers of a run; `ids` are the samples of its subset in order, `known` the operations of the SFT data."""
    by_id = {row["id"]: row for row in rows}
    of_damage = {d: [by_id[key] for i in ids if (key := f"{i}@{d}") in by_id] for d in config.damages}
    failed = [failures.get(key) or _not_run(key) for d in config.damages for i in ids if (key := f"{i}@{d}") not in by_id]
    source = of_damage.get(UNDAMAGED, [])
    conditions = [
        {
            "condition": damage, **score_row(found), "n_failed": len(ids) - len(found),
            "drop": drop(source, found, config.seed) if damage != UNDAMAGED else None,
            "official": benchmark.aggregate([_row(r) for r in found], config.switches), "tools": tool_summary(found, known),
        }
        for damage, found in of_damage.items()
    ]  # fmt: skip
    orientations = [of_damage[damage] for damage in ORIENTATIONS if damage in of_damage]
    turned = [row for found in orientations for row in found] if len(orientations) > 1 else []
    means = {c["condition"]: c["accuracy"] for c in conditions}
    return {
        "benchmark": benchmark.name, "title": benchmark.title, "model": config.label, "conditions": conditions,
        "orientations": _pooled(turned, source, config.seed, known) if turned else None,
        "paper_average": _paper_average(means),  # of the source and the five orientations, as Table 1 of the paper averages
        "categories": _categories(of_damage), "chance": benchmark.chance, "is_official": benchmark.is_official and benchmark.needs_file,
        "untagged": sum(not row["tagged"] and row["prediction"] is not None for row in rows),
        "published": published_rows(benchmark.name),
        "failures": {
            "n": len(failed), "by_kind": dict(Counter(f["failure"]["kind"] for f in failed)),
            "items": [{"id": f["id"], **f["failure"]} for f in failed[:_NAMED]],
        },
        "n_items": len(ids) * len(config.damages), "n_scored": sum(map(len, of_damage.values())), "ids": list(ids),
    }  # fmt: skip


def file_facts(loaded: Loaded) -> Result:
    """What the benchmark's file held, for results.json."""
    return {
        "n_in_file": loaded.n_in_file, "n_samples": len(loaded.samples),
        "bad_rows": {"n": len(loaded.bad_rows), "rows": [str(row) for row in loaded.bad_rows[:_NAMED]]},
    }  # fmt: skip


def _pooled(rows: Sequence[Result], source: Sequence[Result], seed: int, known: Collection[str] | None) -> Result:
    """The orientations together; an item's variants are clustered with it, which McNemar's test can't do."""
    return {**score_row(rows), "drop": {**drop(source, rows, seed), "p_value": None}, "tools": tool_summary(rows, known)}


def _paper_average(means: dict[str, float | None]) -> float | None:
    six = [means.get(name) for name in (UNDAMAGED, *ORIENTATIONS)]
    return None if None in six else sum(six) / len(six)


def _categories(of_damage: dict[str, list[Result]]) -> dict[str, dict[str, Result]]:
    """category -> condition -> accuracy with its interval; nothing where there is one category."""
    names = list(dict.fromkeys(row["category"] for rows in of_damage.values() for row in rows))
    if len(names) < 2:
        return {}
    return {
        name: {damage: score_row([row for row in rows if row["category"] == name]) for damage, rows in of_damage.items()}
        for name in sorted(names)
    }


def _row(row: Result) -> Row:
    return Row(Sample.from_json(row["sample"]), row["prediction"], Scored(row["value"], row["correct"], row["how"]))


def _not_run(key: str) -> Result:
    return {"id": key, "failure": {"kind": "not run", "reason": "the run was stopped before it"}}
