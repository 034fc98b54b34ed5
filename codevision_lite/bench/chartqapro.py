"""ChartQAPro: 1,948 questions about charts; relaxed accuracy over numbers, years, texts and lists.

Files: HF ahmed-masry/ChartQAPro (`Question, Answer, Question Type, image, Year, Paragraph`) or VLMEvalKit's ChartQAPro.tsv (lower
case, lists as texts). The rule is that of the authors' evaluate_predictions.py, with what its code really does: see
docs/BENCHMARKS.md. Lists must be Python lists with straight quotes; anything else is one text.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from codevision_lite.bench.benchmark import BadRow, Benchmark, Row, Scored, Switch, mean_percent, parts_by
from codevision_lite.bench.table_rows import Layout, TableRow
from codevision_lite.bench.tables import load_samples
from codevision_lite.datasets import record
from codevision_lite.records import Sample
from codevision_lite.reward.answer import levenshtein

TYPES = ("Factoid", "Conversational", "Fact Checking", "Multi Choice", "Hypothetical")
_EXACT_TYPES = ("Fact Checking", "Multi Choice")
_TOLERANCE = 0.05  # relative to the reference
_ANLS_BELOW = 0.5  # a distance of exactly half is already too far
_MAX_CHARS = 10_000  # of a prediction: comparing stays cheap, and nothing longer can be right
_BARE_WORD = re.compile(r"(?<!['\w])\w[\w']*")
_FORM = (
    "\nAnswer with the value alone. Several values: a Python list of strings in straight quotes, such as ['a', 'b']. "
    "Fact checking: True or False. Options: the letter. Numbers: digits without thousands separators or units."
)

_LAYOUT = Layout(
    "chartqapro", required=(("question",), ("answer",), ("question_type",), ("year",)), optional=("paragraph",), hints=("chartqapro",)
)  # fmt: skip


def load(path: Path | None, switches: Mapping[str, str]) -> Iterator[Sample | BadRow]:
    return load_samples(path, _LAYOUT, lambda row: _parse(row, switches))


def _parse(row: TableRow, switches: Mapping[str, str]) -> Sample:
    questions, answers, years = row.texts("question"), row.texts("answer"), row.texts("year")
    kind = row.text("question_type").strip()
    if len(answers) < len(questions):
        raise record.BadRow("answer", f"{len(answers)} answers to {len(questions)} questions")
    question = _question(questions, answers, row.text("paragraph", default="")) + (_FORM if switches["form"] == "on" else "")
    meta = {
        "benchmark": "chartqapro", "category": kind, "group": row.digest, "index": row.index,
        "year": list(years[-1:] if kind == "Conversational" else years),
    }  # fmt: skip
    return Sample(f"chartqapro-{row.index}", question, row.picture, (answers[-1],), source="chartqapro", meta=meta)


def _question(questions: Sequence[str], answers: Sequence[str], paragraph: str) -> str:
    """The last question, after the turns before it with their answers."""
    parts = [f"Text that belongs to the chart:\n{paragraph.strip()}"] if paragraph.strip() else []
    turns = [f"Question: {q}\nAnswer: {a}" for q, a in zip(questions[:-1], answers, strict=False)]
    parts += ["The conversation so far:", *turns, f"Question: {questions[-1]}"] if turns else [questions[-1]]
    return "\n".join(parts)


def score(sample: Sample, prediction: str | None, switches: Mapping[str, str]) -> Scored:
    """Relaxed accuracy in [0, 1] of the last answer."""
    if prediction is None:
        return Scored(0.0, False, "no answer")
    is_exact = switches["exact"] == "types" and sample.meta["category"] in _EXACT_TYPES
    value, how = relaxed(sample.answers[0], prediction, sample.meta["year"], is_exact=is_exact, quotes=switches["quotes"])
    return Scored(value, value == 1.0, how)


def relaxed(
    reference: str, prediction: str, years: Sequence[str], *, is_exact: bool = False, quotes: str = "straight"
) -> tuple[float, str]:  # fmt: skip
    """(score in [0, 1], how). Items are compared by position up to the longer list; a missing or a surplus one counts 0.

    `years`: "YES" for each item that must be equal; too few are repeated. `is_exact`: all must be equal. `quotes`: "any" reads
    curly quotes of the prediction as straight ones (not official).

    >>> relaxed("[A, B]", "['A', 'B']", ["NO"])[0], relaxed("100", "105", ["NO"])[0]
    (1.0, 1.0)
    """
    reference, prediction = _ends(reference), _ends(prediction[:_MAX_CHARS])
    if quotes == "any":
        prediction = prediction.translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'})
    expected = _list(_with_quotes(reference)) or [reference]
    given = _list(prediction) or [prediction]
    flags = list(years) * len(expected) if len(years) < len(expected) else years
    must_equal = [is_exact or flag.upper() == "YES" for flag in flags]
    scored = [
        (0.0, "missing") if said is None else (0.0, "surplus") if want is None else _item(want, said, must_equal[at])
        for at, (want, said) in enumerate(zip_longest(expected, given))
    ]
    return sum(value for value, _ in scored) / len(scored), "; ".join(how for _, how in scored)


def _item(want: str, said: str, is_exact: bool) -> tuple[float, str]:
    if is_exact:
        same = want.strip().lower() == said.strip().lower()
        return float(same), "exact" if same else "not exactly equal"
    want, said = want.strip().strip("%").strip(), said.strip().strip("%").strip()
    number, given = _number(want), _number(said)
    if number is not None and given is not None:
        right = given == 0.0 if number == 0.0 else abs(given - number) / abs(number) <= _TOLERANCE
        return float(right), "number within 5 %" if right else "another number"
    value = _anls(said, want)
    return value, f"ANLS {value:.3f}"


def _anls(said: str, want: str) -> float:
    """1 - distance / longer length where that share is below one half, else 0; case and runs of spaces folded."""
    said, want = (" ".join(text.lower().split()) for text in (said, want))
    longer = max(len(said.upper()), len(want.upper()))  # upper case, as the official package counts: ß is two letters
    if not longer:
        return 1.0
    if abs(len(said) - len(want)) >= _ANLS_BELOW * longer:  # the distance is no less than this
        return 0.0
    share = levenshtein(said, want) / longer
    return 1.0 - share if share < _ANLS_BELOW else 0.0


def _number(text: str) -> float | None:
    """As Python reads it: no thousands separators, no currency; 1e3, inf and 1_000 are numbers."""
    try:
        return float(text.strip().strip("%"))
    except ValueError:
        return None


def _ends(text: str) -> str:
    """Without full stops at the ends, then without line ends; in this order, so "a.\\n" keeps its stop."""
    return text.strip(".").strip("\n")


def _with_quotes(text: str) -> str:
    """A list of bare words with its words quoted: "[A, B]" -> "['A', 'B']"; any other text, and what stays no list, as it is.

    Each run of word characters gets quotes of its own, so that "[New York]" becomes the list of "NewYork" (Python joins
    texts that stand side by side). That is what the official script does.
    """
    found = re.match(r"\[(.*)\]$", text.strip())
    if not found:
        return text
    quoted = "[" + _BARE_WORD.sub(r"'\g<0>'", found[1]) + "]"
    return quoted if _list(quoted) is not None else text


def _list(text: str) -> list[str] | None:
    """The items of a Python list, as texts without spaces and single quotes at their ends; None where it isn't one."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return [str(item).strip(" '") for item in value] if isinstance(value, list) else None


def aggregate(rows: Sequence[Row], switches: Mapping[str, str]) -> dict[str, Any]:
    """Mean relaxed accuracy over all questions and for each type, in percent."""
    return {
        "headline": mean_percent([r.scored.value for r in rows]), "unit": "%", "n": len(rows), "parts": parts_by(rows, order=TYPES),
        "fully_right": mean_percent([r.scored.correct for r in rows]),
    }  # fmt: skip


BENCHMARK = Benchmark(
    name="chartqapro", title="ChartQAPro", load=load, score=score, aggregate=aggregate,
    switches={
        "exact": Switch("years", ("years", "types"), "years: as the official script; types: fact checking and options, too, as lmms-eval"),
        "quotes": Switch("straight", ("straight", "any"), "straight: official; any: curly quotes in a predicted list count (not official)"),
        "form": Switch("on", ("on", "off"), "on: one line on the form of answers, in our words, follows the question", True),
    },
    prompt_note="paragraph, earlier turns with their answers, the question and one line on the form of answers, in our words; the "
    "official prompts are longer and differ by question type",
)  # fmt: skip
