"""MVToolBench: about 500 questions about tiny text in turned or mirrored pictures; answering takes an orientation tool and a crop.

Files: HF kkwok/MVToolBench Parquet, verl's layout (datasets/verl.py). The paper scores by a rule and, where that fails, a language
model as judge, which are not part of the released files: here the answer is compared by this project's own judge-free rule
(reward/answer.py), so scores are comparable among runs of this project, and at or below what a lenient judge would give.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from codevision_lite.bench.benchmark import BadRow, Benchmark, Row, Scored, Switch, mean_percent, parts_by
from codevision_lite.bench.pictures import FilePicture, encoded_picture
from codevision_lite.bench.table_rows import Layout, TableRow
from codevision_lite.bench.tables import load_samples
from codevision_lite.datasets.formats import AMBIGUOUS_BOX, TRANSFORM_IS
from codevision_lite.datasets.verl import parse_verl
from codevision_lite.geometry import ORIENTATIONS
from codevision_lite.records import Sample
from codevision_lite.reward.answer import match

_LAYOUT = Layout(
    "mvtoolbench", required=(("prompt",), ("extra_info",), ("reward_model",)), optional=("data_source",), picture=("images",),
    hints=("mvtoolbench", "mvtool_bench"),
)  # fmt: skip


def load(path: Path | None, switches: Mapping[str, str]) -> Iterator[Sample | BadRow]:
    return load_samples(path, _LAYOUT, lambda row: _parse(row, switches))


def _parse(row: TableRow, switches: Mapping[str, str]) -> Sample:
    # The picture is decoded here once: the frame of a box is judged by its pixels.
    cell = row.picture.cell.read() if isinstance(row.picture, FilePicture) else row.picture
    reading = {"transform_is": switches["transform_is"], "ambiguous_box": switches["ambiguous_box"]}
    held = {"bytes": data} if isinstance(data := encoded_picture(cell, row.file.parent), bytes) else str(data)
    found = parse_verl({**row.value, "images": held}, row.file.parent, source="mvtoolbench", **reading).sample
    meta = {
        **found.meta, "benchmark": "mvtoolbench", "category": found.damage, "group": row.digest, "index": str(row.total),
        "needs_crop": "crop" in found.required_ops,
    }  # fmt: skip
    return replace(found, image=row.picture, meta=meta)


def score(sample: Sample, prediction: str | None, switches: Mapping[str, str]) -> Scored:
    """This project's judge-free comparison; graded only for long transcriptions, of which "graded" keeps the grade."""
    if prediction is None:
        return Scored(0.0, False, "no answer")
    judged = match(prediction, sample.answers, rule=switches["rule"])
    value = judged.value if switches["graded"] == "on" else float(judged.value == 1.0)
    return Scored(value, judged.value == 1.0, judged.reason)


def aggregate(rows: Sequence[Row], switches: Mapping[str, str]) -> dict[str, Any]:
    """Accuracy over all questions, and by what was done to the picture, in percent."""
    return {
        "headline": mean_percent([r.scored.value for r in rows]), "unit": "%", "n": len(rows),
        "parts": parts_by(rows, order=("none", *ORIENTATIONS)), "is_official": False,
    }  # fmt: skip


BENCHMARK = Benchmark(
    name="mvtoolbench", title="MVToolBench", load=load, score=score, aggregate=aggregate, is_official=False,
    switches={
        "rule": Switch("auto", ("auto", "text", "contains", "anls"), "the comparison (reward/answer.py); contains favours length"),
        "graded": Switch("on", ("on", "off"), "on: a nearly right transcription counts in part; off: right or wrong"),
        "transform_is": Switch("damage", TRANSFORM_IS, "what `transform` names: the damage that was done, or what undoes it", True),
        "ambiguous_box": Switch("shown", AMBIGUOUS_BOX, "the frame of a box whose frame can't be told from the pixels", True),
    },
    prompt_note="the row's question without its <image> mark",
)  # fmt: skip
