"""The predictions of a run in the layouts that other harnesses read, so that their scorers can check ours.

VLMEvalKit: one workbook `MODEL_DATASET.xlsx` for each damage, its first sheet with a row for each item and a column `prediction`.
lmms-eval: one `samples_TASK.jsonl` for each damage with `doc_id`, `target`, `resps` and `filtered_resps`. Predictions are the text of the
final answer, without thoughts; an item without one has an empty prediction.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from codevision_lite.bench.run import ROWS
from codevision_lite.errors import UserError
from codevision_lite.files import read_jsonl, write_atomic

# benchmark -> (VLMEvalKit's data set, lmms-eval's task)
_NAMES = {
    "ocrbench": ("OCRBench", "ocrbench"), "chartqapro": ("ChartQAPro", "chartqapro"), "vstar": ("VStarBench", "vstar_bench"),
    "hrbench4k": ("HRBench4K", "hrbench4k"), "hrbench8k": ("HRBench8K", "hrbench8k"),
}  # fmt: skip
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # what XML can't hold
_MAX_CELL = 32_767  # characters of a cell of a workbook
_PARTS = {
    "[Content_Types].xml": (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType='
        '"application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/>'
        '<Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>'
        '<Override PartName="/xl/worksheets/sheet1.xml" ContentType='
        '"application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>'
    ),
    "_rels/.rels": (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type='
        '"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>'
    ),
    "xl/workbook.xml": (
        '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r='
        '"http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="Sheet1" sheetId="1" r:id="rId1"/>'
        "</sheets></workbook>"
    ),
    "xl/_rels/workbook.xml.rels": (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type='
        '"http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>'
    ),
}  # fmt: skip


def export(folder: Path, layout: str) -> str:
    """Write `folder`/export/LAYOUT/...; returns what was written, a line a file. Raises UserError where there are no rows."""
    if not (folder / ROWS).exists():
        raise UserError(f"{folder}: no rows there ({ROWS}). Make them with: codevision-lite bench NAME --out {folder}")
    by_damage: dict[str, list[dict[str, Any]]] = {}
    read_jsonl(folder / ROWS, lambda row: by_damage.setdefault(row["condition"], []).append(row), cut_tail=True)
    lines = []
    for damage, rows in by_damage.items():
        benchmark, model = rows[0]["sample"]["meta"].get("benchmark", "benchmark"), _file_name(rows[0]["stage"])
        dataset, task = _NAMES.get(benchmark, (benchmark, benchmark))
        suffix = "" if damage == "none" else f"_{_file_name(damage)}"
        rows = sorted(rows, key=lambda row: _index_key(row))
        if layout == "vlmevalkit":
            path = folder / "export" / layout / model / f"{model}_{dataset}{suffix}.xlsx"
            write_atomic(path, workbook(list(map(_vlmevalkit_row, rows))))
        else:
            path = folder / "export" / layout / model / f"samples_{task}{suffix}.jsonl"
            lined = (json.dumps(_lmms_row(n, row), ensure_ascii=False) + "\n" for n, row in enumerate(rows))
            write_atomic(path, "".join(lined))
        lines.append(f"{path}: {len(rows)} predictions")
    return "\n".join(lines)


def workbook(rows: Sequence[dict[str, Any]]) -> bytes:
    """An .xlsx file of one sheet: the keys of the rows as its head, texts and numbers below."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [_sheet_row(1, names), *(_sheet_row(n, [row.get(name) for name in names]) for n, row in enumerate(rows, 2))]
    sheet = f'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{"".join(lines)}</sheetData></worksheet>'
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in {**_PARTS, "xl/worksheets/sheet1.xml": sheet}.items():
            stamp = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # the same rows give the same bytes
            stamp.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(stamp, f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n{text}')
    return buffer.getvalue()


def _sheet_row(number: int, values: Iterable[Any]) -> str:
    cells = []
    for column, value in enumerate(values):
        at = f"{_letters(column)}{number}"
        if isinstance(value, int | float) and not isinstance(value, bool):
            cells.append(f'<c r="{at}"><v>{value}</v></c>')
        elif value is not None:
            text = escape(_CONTROL.sub(" ", str(value))[:_MAX_CELL])
            cells.append(f'<c r="{at}" t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>')
    return f'<row r="{number}">{"".join(cells)}</row>'


def _letters(column: int) -> str:
    """Name of a column, from 0.

    >>> _letters(0), _letters(25), _letters(26)
    ('A', 'Z', 'AA')
    """
    return (_letters(column // 26 - 1) if column >= 26 else "") + chr(65 + column % 26)


def _vlmevalkit_row(row: dict[str, Any]) -> dict[str, Any]:
    sample, meta = row["sample"], row["sample"]["meta"]
    options = meta.get("options") if isinstance(meta.get("options"), dict) else {}
    known = {"category": meta.get("category"), "cycle_category": meta.get("cycle"), "split": meta.get("split")}
    return {
        "index": _index(row), "question": sample["question"], **options, "answer": _gold(row), **{k: v for k, v in known.items() if v},
        "prediction": row["prediction"] or "",
    }  # fmt: skip


def _lmms_row(number: int, row: dict[str, Any]) -> dict[str, Any]:
    prediction, sample, index = row["prediction"] or "", row["sample"], _index(row)
    return {
        "doc_id": index if isinstance(index, int) else number,
        "doc": {"index": index, "question": sample["question"], "category": row["category"]},
        "target": _gold(row), "input": sample["question"], "resps": [[prediction]], "filtered_resps": [prediction],
    }  # fmt: skip


def _gold(row: dict[str, Any]) -> str:
    """As the files have it: a text, or the text of a list where several answers are right."""
    answers = row["sample"]["answers"]
    return answers[0] if len(answers) == 1 and row["sample"]["meta"].get("benchmark") != "ocrbench" else str(answers)


def _index(row: dict[str, Any]) -> Any:
    index = row["sample"]["meta"].get("index", row["item"])
    return int(index) if isinstance(index, str) and index.isascii() and index.isdigit() else index


def _index_key(row: dict[str, Any]) -> tuple[bool, int, str]:
    index = _index(row)
    return (not isinstance(index, int), index if isinstance(index, int) else 0, str(index))


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", text).strip("-")
