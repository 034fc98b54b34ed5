"""Writes Parquet: rows for verl, and tables whose picture columns Hugging Face `datasets` reads as its Image feature.

Needs pyarrow only. A row group is written when it is full, so memory doesn't grow with the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codevision_lite.datasets.record import KEY, Record
from codevision_lite.protocol import TOOL_NAME

GROUP_BYTES = 32 << 20  # of pictures in a row group; also what a reader without streaming has to hold
GROUP_ROWS = 512

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # as `datasets` stores its Image feature
_TEXTS = pa.list_(pa.string())
_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])

HF_SCHEMA = pa.schema(
    [
        ("id", pa.string()), ("question", pa.string()), ("image", _IMAGE), ("answers", _TEXTS), ("required_ops", _TEXTS),
        ("target_box", pa.list_(pa.float64())), ("damage", pa.string()), ("source", pa.string()), ("meta", pa.string()),
        ("tool_images", pa.list_(_IMAGE)), ("trajectory", pa.string()), ("extra", pa.string()),
    ]
)  # fmt: skip

VERL_SCHEMA = pa.schema(
    [
        ("data_source", pa.string()), ("agent_name", pa.string()), ("prompt", pa.list_(_MESSAGE)), ("images", pa.list_(_IMAGE)),
        ("ability", pa.string()), ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", _TEXTS)])),
        ("extra_info", pa.struct([
            ("index", pa.int64()), ("split", pa.string()), ("question", pa.string()), ("answer", pa.string()), ("transform", _TEXTS),
            ("bbox", pa.list_(pa.float64())), ("dataset_name", pa.string()), ("need_tools_kwargs", pa.bool_()),
            ("tools_kwargs", pa.struct([
                (TOOL_NAME, pa.struct([("create_kwargs", pa.struct([("ground_truth", pa.string())]))]))
            ])),
            (KEY, pa.string()),
        ])),
    ]
)  # fmt: skip


def _feature(kind: pa.DataType) -> dict[str, Any] | list[Any]:
    """How `datasets` spells a column's type in the schema's metadata ("Sequence": understood before and after its version 4)."""
    if kind == _IMAGE:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"_type": "Sequence", "feature": _feature(kind.value_type)}
    if pa.types.is_struct(kind):
        return {kind.field(i).name: _feature(kind.field(i).type) for i in range(kind.num_fields)}
    return {"_type": "Value", "dtype": str(kind).replace("double", "float64")}


def with_features(schema: pa.Schema) -> pa.Schema:
    """The schema with the metadata from which `datasets.load_dataset("parquet", ...)` takes its features."""
    features = {field.name: _feature(field.type) for field in schema}
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def hf_row(record: Record) -> dict[str, Any]:
    """A row of HF_SCHEMA. What has no fixed shape (meta, trajectory, extra) is JSON text."""
    sample, trajectory = record.sample, record.trajectory
    images = [{"bytes": picture.data, "path": picture.name} for picture in record.pictures]
    return {
        "id": sample.id, "question": sample.question, "image": images[0], "answers": list(sample.answers),
        "required_ops": list(sample.required_ops), "target_box": sample.target_box and list(sample.target_box),
        "damage": sample.damage, "source": sample.source, "meta": json.dumps(sample.meta, ensure_ascii=False),
        "tool_images": images[1:], "trajectory": trajectory and json.dumps(trajectory.to_json([]), ensure_ascii=False),
        "extra": json.dumps(record.extra, ensure_ascii=False) if record.extra else None,
    }  # fmt: skip


class ParquetRows:
    """A Parquet file that grows row by row; a context manager, because its last part is written at the end."""

    def __init__(self, path: Path, schema: pa.Schema):
        self._schema = with_features(schema)
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, row: dict[str, Any], n_bytes: int) -> None:
        """Append a row whose pictures have `n_bytes`."""
        self._rows.append(row)
        self._bytes += n_bytes
        if self._bytes >= GROUP_BYTES or len(self._rows) >= GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema), row_group_size=len(self._rows))
        self._rows, self._bytes = [], 0

    def __enter__(self) -> ParquetRows:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()
