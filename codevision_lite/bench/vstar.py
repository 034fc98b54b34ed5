"""V*: 191 questions about small things in large photographs, two categories, two or four options.

Files: HF lmms-lab/vstar-bench or the authors' test_questions.jsonl (`image, text, category, label, question_id`, options within
the text as "(A) ..."), or VLMEvalKit's VStarBench.tsv (`question, A, B, ..., answer`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from codevision_lite.bench.benchmark import BadRow, Benchmark, Row, mean_percent, parts_by
from codevision_lite.bench.multiple_choice import LETTERS, SWITCHES, options_of, prompt, right_letter, score_option
from codevision_lite.bench.table_rows import Layout, TableRow
from codevision_lite.bench.tables import load_samples
from codevision_lite.datasets import record
from codevision_lite.records import Sample

CATEGORIES = ("direct_attributes", "relative_position")
_OPTION = re.compile(r"(?:^|\s)\(([A-Z])\)\s*")
_ORDER = re.compile(r"\s*(?:\n|\bAnswer with the option)")  # where the last option ends: the order to answer by letter

_LAYOUT = Layout(
    "vstar", required=(("text", "question"), ("label", "answer"), ("category",)),
    optional=("hint", *(letter.lower() for letter in LETTERS)), hints=("vstarbench", "vstar_bench", "test_questions", "vstar"),
)  # fmt: skip


def load(path: Path | None, switches: Mapping[str, str]) -> Iterator[Sample | BadRow]:
    return load_samples(path, _LAYOUT, lambda row: _parse(row, switches))


def _parse(row: TableRow, switches: Mapping[str, str]) -> Sample:
    category = row.text("category").strip()
    if category not in CATEGORIES:
        raise record.BadRow("category", f"{category!r} is neither of {' and '.join(CATEGORIES)}")
    is_official, text = switches["prompt"] == "official", row.text("text", "question")
    if row.value.get("a") is not None:
        options, question = options_of(row), text
        asked = prompt(question, options, row.text("hint", default=""), is_official)
    else:
        question, options = split_options(text)
        asked = text if is_official else prompt(question, options, official=False)
    letter = right_letter(row.text("label", "answer"), options, "label")
    meta = {
        "benchmark": "vstar", "category": category, "group": row.digest, "index": row.index, "options": options,
        "answer": letter, "choices": list(options.values()),
    }  # fmt: skip
    return Sample(f"vstar-{row.index}", asked, row.picture, (letter,), source="vstar", meta=meta)


def split_options(text: str) -> tuple[str, dict[str, str]]:
    """(the question, {letter: option}) of a text with its options in it. Raises record.BadRow where there are fewer than two.

    >>> split_options("Which?\\n(A) the left\\n(B) the right\\nAnswer with the option's letter.")
    ('Which?', {'A': 'the left', 'B': 'the right'})
    """
    marks = []
    for mark in _OPTION.finditer(text):
        if mark[1] == LETTERS[len(marks)]:
            marks.append(mark)
    if len(marks) < 2:
        raise record.BadRow("text", "no options (A) and (B) in the text")
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    options = {m[1]: text[m.end() : end].strip() for m, end in zip(marks, ends, strict=True)}
    last = marks[-1][1]
    if found := _ORDER.search(options[last]):
        options[last] = options[last][: found.start()]
    return text[: marks[0].start()].strip(), options


def aggregate(rows: Sequence[Row], switches: Mapping[str, str]) -> dict[str, Any]:
    """Accuracy over all questions, and of the two categories, in percent."""
    return {
        "headline": mean_percent([r.scored.value for r in rows]), "unit": "%", "n": len(rows), "parts": parts_by(rows, order=CATEGORIES),
        "chance": mean_percent([1 / len(r.sample.meta["options"]) for r in rows]),
    }  # fmt: skip


BENCHMARK = Benchmark(
    name="vstar", title="V*", load=load, score=score_option, aggregate=aggregate, switches=SWITCHES,
    prompt_note="the file's text with its options and its order to answer by letter; of a TSV VLMEvalKit's prompt",
)  # fmt: skip
