"""Small files in the exact layouts of the public benchmarks, with pictures that this project draws; nothing is taken from them.

Run `python tests/bench_fixtures.py FOLDER` to write all of them, for trying the command line.
"""

from __future__ import annotations

import base64
import csv
import functools
import io
import json
import random
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from codevision_lite.bench.ocrbench import HME, SECTIONS
from codevision_lite.synth import samples
from codevision_lite.synth.glyphs import ASYMMETRIC
from codevision_lite.synth.scene import Scene
from codevision_lite.synth.signs import draw_scene

CYCLES = 4


@functools.lru_cache(maxsize=64)
def scene(number: int, kind: str | None = None) -> Scene:
    return draw_scene(random.Random(f"fixture/{number}"), kind)


def encoded(image: Image.Image, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def base64_of(image: Image.Image, kind: str = "JPEG") -> str:
    return base64.b64encode(encoded(image, kind)).decode()


# ---------------------------------------------------------------- rows, as each benchmark's Parquet file has them


def ocrbench_rows(n: int = 20) -> list[dict[str, Any]]:
    kinds = [kind for kinds in SECTIONS.values() for kind in kinds]
    return [
        {
            "dataset": "HME100k" if (kind := kinds[k % len(kinds)]) == HME else "IIIT5K", "question": "what is written in the image?",
            "question_type": kind, "answer": [drawn.answer, f"{drawn.answer} again"],
            "image": {"bytes": encoded(drawn.image), "path": None},
        }
        for k in range(n) for drawn in [scene(k, "word" if k % 2 else "sign")]
    ]  # fmt: skip


def chartqapro_rows(n: int = 10) -> list[dict[str, Any]]:
    rows = []
    for k in range(n):
        drawn = scene(k, "count")
        kind = ("Factoid", "Conversational", "Fact Checking", "Multi Choice", "Hypothetical")[k % 5]
        row = {"Question": [drawn.question], "Answer": [drawn.answer], "Year": ["NO"], "Paragraph": ""}
        if kind == "Conversational":
            row |= {"Question": ["Is it bright?", drawn.question], "Answer": ["Yes", drawn.answer], "Year": ["YES", "NO"]}
        if kind == "Fact Checking":
            row |= {"Question": [f"There are {drawn.answer} symbols. True or False?"], "Answer": ["True"]}
        if kind == "Multi Choice":
            row |= {"Question": [f"{drawn.question} a) {drawn.answer} b) 17"], "Answer": ["a"]}
        if kind == "Hypothetical":
            row |= {"Answer": ["[2010, 2012]"], "Year": ["YES", "YES"], "Paragraph": "Sales rose."}
        rows.append({**row, "Question Type": kind, "image": encoded(drawn.image, "PNG")})
    return rows


def _choices(number: int) -> tuple[Scene, list[str]]:
    """A scene whose answer is one of four symbols; the right one comes first."""
    drawn = scene(number, "sign")
    wrong = random.Random(number).sample([s for s in ASYMMETRIC if s.lower() != drawn.answer.lower()], 3)
    return drawn, [f"symbol {text}" for text in (drawn.answer, *wrong)]


def vstar_rows(n: int = 8) -> list[dict[str, Any]]:
    rows = []
    for k in range(n):
        drawn, options = _choices(k)
        options = options[:2] if k % 2 else options
        at = k % len(options)
        options = options[1:][:at] + options[:1] + options[1:][at:]
        text = "\n".join(["Which symbol is shown?", *(f"({letter}) {o}" for letter, o in zip("ABCD", options, strict=False))])
        rows.append({
            "image": {"bytes": encoded(drawn.image), "path": None},
            "text": f"{text}\nAnswer with the option's letter from the given choices directly.",
            "category": ("direct_attributes", "relative_position")[k % 2], "label": "ABCD"[at], "question_id": str(k),
        })  # fmt: skip
    return rows


def vstar_tsv_rows(n: int = 8) -> list[dict[str, Any]]:
    rows = []
    for row in vstar_rows(n):
        lines = row["text"].split("\n")
        options = {line[1]: line[4:] for line in lines[1:-1]}
        rows.append({
            "index": row["question_id"], "image": base64.b64encode(row["image"]["bytes"]).decode(), "question": lines[0],
            **{letter: options.get(letter, "") for letter in "ABCD"}, "answer": row["label"], "category": row["category"],
        })  # fmt: skip
    return rows


def hrbench_rows(n_items: int = 4, *, references: bool = False) -> list[dict[str, Any]]:
    """`n_items` questions, each with its options shifted four times; `references`: only the first cycle holds the picture."""
    rows = []
    for k in range(n_items):
        drawn, options = _choices(k)
        picture = base64_of(drawn.image)
        for cycle in range(CYCLES):
            shifted = options[-cycle:] + options[:-cycle] if cycle else options
            rows.append({
                "index": k * CYCLES + cycle, "question": "Which symbol is shown?", "answer": "ABCD"[cycle],
                "category": ("single", "cross")[k % 2], **dict(zip("ABCD", shifted, strict=True)), "cycle_category": f"cycle_{cycle}",
                "image": str(k * CYCLES) if references and cycle else picture,
            })  # fmt: skip
    return rows


def mvtoolbench_rows(n: int = 6) -> list[dict[str, Any]]:
    rows = []
    items = samples.make_items("fixture", "test", n, {"orientation+crop": 1.0})
    for k, item in enumerate(items):
        sample = item.sample
        rows.append({
            "data_source": "hiertext",
            "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": f"<image>\n{sample.question}"}],
            "images": [{"bytes": encoded(sample.image, "PNG"), "path": None}],
            "reward_model": {"style": "rule", "ground_truth": list(sample.answers)},
            "extra_info": {
                "answer": sample.answers[0], "bbox": list(sample.target_box), "dataset_name": "hiertext", "index": k,
                "question": sample.question, "split": "train", "transform": ["crop", sample.damage],
            },
        })  # fmt: skip
    return rows


# ---------------------------------------------------------------- files


def write_parquet(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def write_tsv(path: Path, rows: list[dict[str, Any]]) -> Path:
    """As pandas writes it: lists as their Python text."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return path


def ocrbench_tsv_rows(n: int = 20) -> list[dict[str, Any]]:
    return [
        {
            "index": k, "image": base64.b64encode(row["image"]["bytes"]).decode(), "question": row["question"], "answer": row["answer"],
            "category": row["question_type"],
        }
        for k, row in enumerate(ocrbench_rows(n), 1)
    ]  # fmt: skip


def chartqapro_tsv_rows(n: int = 10) -> list[dict[str, Any]]:
    rows = []
    for k, row in enumerate(chartqapro_rows(n), 1):
        cells = {key.lower().replace(" ", "_"): cell for key, cell in row.items()}
        rows.append({"index": k, **cells, "image": base64.b64encode(cells["image"]).decode()})
    return rows


def write_vstar_jsonl(folder: Path, n: int = 8) -> Path:
    """The authors' own layout: test_questions.jsonl beside the folders of its pictures."""
    rows = []
    for row in vstar_rows(n):
        name = f"{row['category']}/sa_{row['question_id']}.jpg"
        (folder / row["category"]).mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(row["image"]["bytes"])
        rows.append({**row, "image": name})
    path = folder / "test_questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_fixtures(folder: Path) -> dict[str, dict[str, Path]]:
    """Every layout of every benchmark: {benchmark: {layout: path}}."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {
        "ocrbench": {
            "parquet": write_parquet(folder / "ocrbench-test.parquet", ocrbench_rows()),
            "tsv": write_tsv(folder / "OCRBench.tsv", ocrbench_tsv_rows()),
        },
        "chartqapro": {
            "parquet": write_parquet(folder / "chartqapro-test.parquet", chartqapro_rows()),
            "tsv": write_tsv(folder / "ChartQAPro.tsv", chartqapro_tsv_rows()),
        },
        "mvtoolbench": {"parquet": write_parquet(folder / "mvtoolbench.parquet", mvtoolbench_rows())},
        "vstar": {
            "parquet": write_parquet(folder / "vstar-test.parquet", vstar_rows()),
            "tsv": write_tsv(folder / "VStarBench.tsv", vstar_tsv_rows()),
            "jsonl": write_vstar_jsonl(folder),
        },
    }
    for size in ("4k", "8k"):
        paths[f"hrbench{size}"] = {
            "tsv": write_tsv(folder / f"hr_bench_{size}.tsv", hrbench_rows()),
            "parquet": write_parquet(folder / f"hr_bench_{size}.parquet", hrbench_rows(), row_group_size=5),
            "references": write_tsv(folder / f"HRBench{size.upper()}_references.tsv", hrbench_rows(references=True)),
        }
    return paths


if __name__ == "__main__":
    for benchmark, layouts in write_fixtures(Path(sys.argv[1])).items():
        for layout, path in layouts.items():
            print(f"{benchmark:12} {layout:12} {path}")
