"""HR-Bench 4K and 8K: 200 questions about very large pictures, each asked four times with its options shifted.

Files: HF DreamMr/HR-Bench, hr_bench_4k or hr_bench_8k, .tsv or .parquet (`index, question, answer, category, A, B, C, D,
cycle_category, image` as base64 text). The score is the mean over the four cycles of each cycle's accuracy, as VLMEvalKit has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from codevision_lite.bench.benchmark import BadRow, Benchmark, Row, mean_percent, stratified
from codevision_lite.bench.multiple_choice import SWITCHES, options_of, prompt, right_letter, score_option
from codevision_lite.bench.table_rows import Layout, TableRow
from codevision_lite.bench.tables import load_samples
from codevision_lite.datasets.own import content_hash
from codevision_lite.records import Sample

CATEGORIES = ("single", "cross")
N_CYCLES = 4


def load(path: Path | None, switches: Mapping[str, str], *, size: str) -> Iterator[Sample | BadRow]:
    layout = Layout(
        f"hrbench{size}", required=(("question",), ("answer",), ("category",), ("cycle_category",), ("a",), ("b",)),
        optional=("hint", "c", "d"), hints=(f"hr_bench_{size}", f"hrbench{size}", size),
    )  # fmt: skip
    return load_samples(path, layout, lambda row: _parse(row, switches, size))


def _parse(row: TableRow, switches: Mapping[str, str], size: str) -> Sample:
    options, question = options_of(row), row.text("question").strip()
    letter = right_letter(row.text("answer"), options, "answer")
    meta = {
        "benchmark": f"hrbench{size}", "category": row.text("category").strip(), "cycle": row.text("cycle_category").strip(),
        "group": row.digest, "index": row.index, "options": options,
        "answer": letter, "choices": list(options.values()),
        "item": content_hash(row.digest, question, *sorted(options.values())),  # equal in the four cycles of one question
    }  # fmt: skip
    asked = prompt(question, options, row.text("hint", default=""), switches["prompt"] == "official")
    return Sample(f"hrbench{size}-{row.index}", asked, row.picture, (letter,), source=f"hrbench{size}", meta=meta)


def aggregate(rows: Sequence[Row], switches: Mapping[str, str]) -> dict[str, Any]:
    """Accuracy of each cycle, and its mean over the cycles, in percent: of all questions, of single and of cross.

    "all_cycles_right": the share of questions with four cycles that are right in each (not part of the official score)."""
    cycles = sorted({r.sample.meta["cycle"] for r in rows})
    names = [*CATEGORIES, *sorted({r.sample.meta["category"] for r in rows} - set(CATEGORIES))]
    accuracy = {
        name: {cycle: mean_percent([r.scored.value for r in rows if r.sample.meta["cycle"] == cycle and _is(r, name)]) for cycle in cycles}
        for name in ("all", *names)
    }
    items = Counter(r.sample.meta["item"] for r in rows)
    right = Counter(r.sample.meta["item"] for r in rows if r.scored.correct)
    whole = [item for item, n in items.items() if n == N_CYCLES]
    return {
        "headline": _over_cycles(accuracy["all"]), "unit": "%", "n": len(rows),
        "parts": {name: {"value": _over_cycles(accuracy[name]), "n": n} for name in names if (n := sum(_is(r, name) for r in rows))},
        "cycles": accuracy, "items": len(items), "items_without_all_cycles": len(items) - len(whole),
        "all_cycles_right": mean_percent([right[item] == N_CYCLES for item in whole]),
    }  # fmt: skip


def _is(row: Row, category: str) -> bool:
    return category in ("all", row.sample.meta["category"])


def _over_cycles(by_cycle: Mapping[str, float | None]) -> float | None:
    """Mean over the cycles that have rows."""
    values = [v for v in by_cycle.values() if v is not None]
    return sum(values) / len(values) if values else None


def subset(samples: Sequence[Sample], n: int, seed: int) -> list[Sample]:
    """Whole questions only: all cycles of a question, or none."""
    return stratified(samples, n, seed, unit=lambda sample: sample.meta["item"])


def _benchmark(size: str) -> Benchmark:
    return Benchmark(
        name=f"hrbench{size}", title=f"HR-Bench {size.upper()}", load=partial(load, size=size), score=score_option, aggregate=aggregate,
        switches=SWITCHES, subset=subset, chance=25.0, prompt_note="VLMEvalKit's: question, options one a line, an order to select",
    )  # fmt: skip


HRBENCH_4K, HRBENCH_8K = _benchmark("4k"), _benchmark("8k")
