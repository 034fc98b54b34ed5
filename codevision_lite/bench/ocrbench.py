"""OCRBench: 1,000 questions about text in pictures; right where a reference stands anywhere in the prediction.

Files: HF echo840/OCRBench (`dataset, question, question_type, answer, image`) or VLMEvalKit's OCRBench.tsv (`category`, `answer` as
the text of a list). The rule rewards long predictions; here it is applied to the text of the final answer alone.
Source: VLMEvalKit's OCRBench class and lmms-eval's ocrbench task, whose rules differ in full-width characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from codevision_lite.bench.benchmark import BadRow, Benchmark, Row, Scored, Switch, mean_percent
from codevision_lite.bench.table_rows import Layout, TableRow
from codevision_lite.bench.tables import load_samples
from codevision_lite.datasets import record
from codevision_lite.records import Sample

HME = "Handwritten Mathematical Expression Recognition"
SECTIONS: dict[str, tuple[str, ...]] = {
    "Text Recognition": (
        "Regular Text Recognition", "Irregular Text Recognition", "Artistic Text Recognition", "Handwriting Recognition",
        "Digit String Recognition", "Non-Semantic Text Recognition",
    ),
    "Scene Text-centric VQA": ("Scene Text-centric VQA",), "Doc-oriented VQA": ("Doc-oriented VQA",),
    "Key Information Extraction": ("Key Information Extraction",), HME: (HME,),
}  # fmt: skip
_ROWS = dict(zip(SECTIONS, (300, 200, 200, 200, 100), strict=True))  # of the whole benchmark
_TYPES = {name: section for section, names in SECTIONS.items() for name in names}
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # ！ to ～
_SHORT = "\nPlease try to answer the question with short words or phrases if possible."

_LAYOUT = Layout(
    "ocrbench", required=(("question",), ("answer",), ("question_type", "category")), optional=("dataset",), hints=("ocrbench",)
)  # fmt: skip


def load(path: Path | None, switches: Mapping[str, str]) -> Iterator[Sample | BadRow]:
    return load_samples(path, _LAYOUT, lambda row: _parse(row, switches))


def _parse(row: TableRow, switches: Mapping[str, str]) -> Sample:
    kind = row.text("question_type", "category").strip()
    if kind not in _TYPES:
        raise record.BadRow("question_type", f"{kind!r} is none of OCRBench's ten question types")
    answers = row.texts("answer")
    if not all(answer.strip() for answer in answers):
        raise record.BadRow("answer", "an empty answer, which would be found in any prediction")
    question = row.text("question").strip() + (_SHORT if switches["suffix"] == "short" else "")
    dataset = row.text("dataset", default="")
    meta = {
        "benchmark": "ocrbench", "category": kind, "section": _TYPES[kind], "dataset": dataset, "group": row.digest, "index": row.index,
        "is_formula": kind == HME or dataset == "HME100k",
    }  # fmt: skip
    return Sample(f"ocrbench-{row.index}", question, row.picture, answers, source="ocrbench", meta=meta)


def score(sample: Sample, prediction: str | None, switches: Mapping[str, str]) -> Scored:
    """1 where any reference is a substring of the prediction, both folded as `fold` does; else 0."""
    if prediction is None:
        return Scored(0.0, False, "no answer")
    is_formula, wide = sample.meta["is_formula"], switches["full_width"] == "fold"
    said = fold(prediction, is_formula, wide)
    found = next((a for a in sample.answers if fold(a, is_formula, wide) in said), None)
    return Scored(0.0, False, "no reference in it") if found is None else Scored(1.0, True, f"holds {found!r}")


def fold(text: str, is_formula: bool, full_width: bool = False) -> str:
    """Formulas: no spaces, case kept. Other texts: lower case, line ends as spaces, the ends stripped; with `full_width` also
    the full-width forms of ASCII as ASCII.

    >>> fold(r" \\Frac {A}{b} ", True), fold(" Two\\nLines ", False)
    ('\\\\Frac{A}{b}', 'two lines')
    """
    if is_formula:
        return text.strip().replace("\n", " ").replace(" ", "")
    if full_width:
        text = text.translate(_FULL_WIDTH)
    return text.lower().strip().replace("\n", " ")


def aggregate(rows: Sequence[Row], switches: Mapping[str, str]) -> dict[str, Any]:
    """The score out of 1,000, as published, and its five sections with the ten types. Of a subset it is an estimate: each
    section's share of right answers times the section's size in the whole benchmark."""
    sections = {}
    for section, kinds in SECTIONS.items():
        mine = [r for r in rows if r.sample.meta["section"] == section]
        right = sum(r.scored.correct for r in mine)
        sections[section] = {
            "value": mean_percent([r.scored.value for r in mine]), "n": len(mine), "correct": right, "of": _ROWS[section],
            "types": {k: _counts([r for r in mine if r.sample.meta["category"] == k]) for k in kinds} if len(kinds) > 1 else {},
        }  # fmt: skip
    is_whole = all(part["n"] == part["of"] for part in sections.values())
    measured = {name: part for name, part in sections.items() if part["n"]}
    if is_whole:
        total: float | None = float(sum(part["correct"] for part in sections.values()))
    else:  # sections without rows: as good as the others
        seats = sum(part["of"] for part in measured.values())
        total = 1000 * sum(part["of"] * part["correct"] / part["n"] for part in measured.values()) / seats if seats else None
    return {
        "headline": total, "unit": "of 1000", "n": len(rows), "is_estimate": not is_whole, "parts": sections,
        "correct": sum(r.scored.correct for r in rows), "accuracy": mean_percent([r.scored.value for r in rows]),
    }  # fmt: skip


def _counts(rows: Sequence[Row]) -> dict[str, int]:
    return {"correct": sum(r.scored.correct for r in rows), "n": len(rows)}


BENCHMARK = Benchmark(
    name="ocrbench", title="OCRBench", load=load, score=score, aggregate=aggregate,
    switches={
        "full_width": Switch("keep", ("keep", "fold"), "keep: VLMEvalKit; fold: full-width ASCII becomes ASCII, as newer lmms-eval does"),
        "suffix": Switch("none", ("none", "short"), "short: ask for short words or phrases, as VLMEvalKit does for Qwen models", True),
    },
    prompt_note="the file's question; VLMEvalKit's Qwen models get a line more, asking for short words (suffix=short)",
)  # fmt: skip
