"""Small data sets in every format that is read, for the tests of datasets/."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pictures import picture
from PIL import Image

from codevision_lite.datasets.convert import Reading, convert, read_records
from codevision_lite.datasets.record import Record, Reject

FOLLOW_UP = (
    "Here is the processed image. Now, analyze the returned results. Please think, call tools inside the <tool_calls></tool_calls> tags, "
    "or answer within the <answer></answer> tags."
)


def png(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def sft_row(number: int, folder: Path, **changes: Any) -> dict[str, Any]:
    """A CodeVision-SFT row as released: a wrong turn, then a mirror, then the answer; its pictures go to `folder`."""
    shown = picture(60, 40, seed=number)
    steps = [shown, shown.transpose(Image.Transpose.ROTATE_180), shown.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    images = folder / "codevision_images"
    images.mkdir(exist_ok=True)
    for step, image in enumerate(steps):
        image.save(images / f"sample{number}_{step}.png")

    def call(code: str, index: int = 0) -> str:
        asked = {"name": "code_image_tool", "arguments": {"code": code, "description": "turn it", "image_index": index}}
        return f"<think>It is turned.</think>\n<tool_call>\n{json.dumps(asked)}\n</tool_call>"

    row = {
        "conversations": [
            {"from": "human", "value": f"<image>What is bar {number}?"},
            {"from": "gpt", "value": call("result = image.rotate(180)")},
            {"from": "tool", "value": f"<image>{FOLLOW_UP}"},
            {"from": "gpt", "value": call("result = ImageOps.mirror(image)")},
            {"from": "tool", "value": f"<image>size: 60\n\n{FOLLOW_UP}"},
            {"from": "gpt", "value": f"<think>Now it reads well.</think>\n<answer>{number}</answer>"},
        ],
        "images": [f"codevision_images/sample{number}_{step}.png" for step in range(3)],
        "system": "You are a helpful assistant.",
        "metadata": json.dumps({"sample_id": number, "transform": "flip_horizontal"}),
    }
    return row | changes


def rl_row(number: int, **changes: Any) -> dict[str, Any]:
    """A CodeVision-RL row as released. The keys of `extra_info` and `reward_model` can be changed by their own names."""
    row: dict[str, Any] = {
        "data_source": "chart",
        "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": f"<image>\nWhat is bar {number}?"}],
        "images": [{"bytes": png(picture(60, 40, seed=number))}], "reward_model": {"style": "rule", "ground_truth": [f"{number}", "x"]},
        "extra_info": {
            "index": number, "split": "train", "question": f"What is bar {number}?", "answer": f"{number}",
            "transform": ["crop", "rotate_90"], "bbox": [10.0, 50.0, 20.0, 59.0], "dataset_name": "chartqa",
        },
    }  # fmt: skip
    for key, value in changes.items():
        home = next((row[part] for part in ("extra_info", "reward_model") if key in row[part]), row)
        (row["extra_info"] if key == "bbox_2d" else home)[key] = value
    return row


def own_row(number: int, folder: Path, **changes: Any) -> dict[str, Any]:
    name = f"own{number}.png"
    picture(60, 40, seed=number).save(folder / name)
    return {"image": name, "question": f"What is in picture {number}?", "answer": f"{number}", "box": [5, 5, 20, 20]} | changes


def write_rows(path: Path, rows: list[Any]) -> Path:
    """Rows as JSONL, as a JSON list or as Parquet, by the suffix; bytes and texts are taken as they are."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    coded = [row if isinstance(row, bytes) else row.encode() if isinstance(row, str) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"[\n" + b",\n".join(coded) + b"\n]\n" if path.suffix == ".json" else b"\n".join(coded) + b"\n")
    return path


def records(path: Path, source: str = "auto", **reading: Any) -> list[Record]:
    """All records of a file; a refused row fails the test."""
    items = list(read_records(path, source, Reading(**reading)))
    assert [item for item in items if isinstance(item, Reject)] == []
    return items


def pixels(record: Record) -> list[tuple[tuple[int, int], bytes]]:
    return [(p.size, p.open().tobytes()) for p in record.pictures]


__all__ = ["FOLLOW_UP", "convert", "own_row", "pixels", "png", "records", "rl_row", "sft_row", "write_rows"]
