"""RL rows in verl's Parquet layout: CodeVision-RL and MVToolBench as released, and the rows that we write for verl.

    prompt [{role, content}], images [{bytes}], data_source, reward_model {style, ground_truth}, extra_info {...}

`extra_info.bbox` (or bbox_2d) is in a frame that the released rows don't name: frames.py judges each one. Our own rows carry
the whole sample in extra_info.codevision_lite, as JSON text, and are read back from there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from codevision_lite.datasets.formats import BoxDefault, TransformIs
from codevision_lite.datasets.frames import find_frame
from codevision_lite.datasets.ours import build_record, picture
from codevision_lite.datasets.own import content_hash
from codevision_lite.datasets.pictures import Picture, gray
from codevision_lite.datasets.record import KEY, BadRow, Record, answers, box_numbers, json_object, text
from codevision_lite.datasets.transforms import read_transform, write_transform
from codevision_lite.protocol import SYSTEM_PROMPT, TOOL_NAME, user_text
from codevision_lite.records import Box

PLACEHOLDER = "<image>"
COLUMNS = ("data_source", "prompt", "images", "reward_model", "extra_info")


def parse_verl(
    row: dict[str, Any], folder: Path, *, transform_is: TransformIs = "damage", ambiguous_box: BoxDefault = "shown",
    source: str = "codevision-rl",
) -> Record:  # fmt: skip
    """One row. `ambiguous_box`: the frame of a box whose frame can't be told. Raises BadRow."""
    extra = json_object(row.get("extra_info"), "extra_info")
    if "images" not in row:
        raise BadRow("images", f"'images' is missing (columns: {', '.join(row)})")
    shown = picture(row["images"], folder, "images")
    asked = _prompt(row.get("prompt"))
    kept = json_object(extra.get(KEY), "extra_info")
    if kept:
        return build_record(kept["sample"], [shown], None, kept.get("extra", {}))
    transform = extra["transform"] if "transform" in extra else row.get("transform")
    damage, required = read_transform(transform, transform_is)
    question = text(extra, "question", asked or None)
    given = _ground_truth(row, extra)
    meta: dict[str, Any] = {key: extra[key] for key in ("index", "split", "dataset_name") if isinstance(extra.get(key), str | int)}
    if isinstance(row.get("data_source"), str):
        meta["data_source"] = row["data_source"]
    target = None
    field = "bbox" if extra.get("bbox") is not None else "bbox_2d"
    if (box := box_numbers(extra.get(field), field)) is not None:
        target, meta["box_frame"] = _target(box, field, shown, damage, ambiguous_box)
    label = "-".join(str(meta[key]) for key in ("dataset_name", "index") if key in meta)
    sample = {
        "id": "-".join(filter(None, (source, label, content_hash(question, shown.name, str(transform), *given)))), "question": question,
        "answers": list(given), "required_ops": list(required), "target_box": target and list(target), "damage": damage,
        "source": source, "meta": meta,
    }  # fmt: skip
    return build_record(sample, [shown], None, {})


def _target(box: Box, field: str, shown: Picture, damage: str, ambiguous_box: BoxDefault) -> tuple[Box, str]:
    """(the box in pixels of the shown picture, the verdict)."""
    found = find_frame(gray(shown), box, damage)
    if found is None:
        width, height = shown.size
        raise BadRow(field, f"{field!r} {box} reaches outside the picture of {width}x{height} pixels, as it is shown and undamaged")
    if found.verdict != "ambiguous":
        return found.box("shown"), found.verdict
    if ambiguous_box == "reject":
        raise BadRow(field, f"{field!r} {box}: its frame can't be told (evidence {found.evidence:.2f})")
    return found.box(ambiguous_box), "ambiguous"


def _prompt(prompt: Any) -> str:
    """The question as the prompt has it. Raises BadRow where it shows another number of pictures than one."""
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    turns = [t for t in prompt if isinstance(t, dict)] if isinstance(prompt, list) else []
    users = [t["content"] for t in turns if t.get("role") == "user" and isinstance(t.get("content"), str)]
    if not users:
        raise BadRow("prompt", "'prompt' must be a list of {role, content} with a user turn")
    if (shown := sum(said.count(PLACEHOLDER) for said in users)) > 1:
        raise BadRow("prompt", f"{shown} <image> placeholders for one picture")
    return users[-1].replace(PLACEHOLDER, "").strip()


def _ground_truth(row: dict[str, Any], extra: dict[str, Any]) -> tuple[str, ...]:
    """Every answer that counts as right: the ground truth, and extra_info's answer where it is another one."""
    reward = row.get("reward_model")
    truth = reward.get("ground_truth") if isinstance(reward, dict) else reward
    if isinstance(truth, dict):
        raise BadRow("reward_model", "'ground_truth' must be a text or a list of texts, got an object")
    given = answers(truth, "ground_truth")
    given = tuple(dict.fromkeys((*given, *answers(extra.get("answer") or None, "answer"))))
    if not given:
        raise BadRow("reward_model", "no answer: 'reward_model.ground_truth' and 'extra_info.answer' are missing, null or empty")
    return given


def write_verl(record: Record, index: int) -> dict[str, Any]:
    """The row of a sample (its trajectory, if any, is left out). `index`: its number in the file."""
    sample, shown = record.sample, record.pictures[0]
    question = user_text(sample.question, shown.size).replace(PLACEHOLDER, "< image>")
    split = sample.meta.get("split")
    return {
        "data_source": sample.source or "codevision_lite", "agent_name": "tool_agent",
        "prompt": [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": PLACEHOLDER + question}],
        "images": [{"bytes": shown.data, "path": shown.name}], "ability": "vqa",
        "reward_model": {"style": "rule", "ground_truth": list(sample.answers)},
        "extra_info": {
            "index": index, "split": split if isinstance(split, str) else "train", "question": sample.question,
            "answer": sample.answers[0], "transform": write_transform(sample.required_ops),
            "bbox": sample.target_box and list(sample.target_box), "dataset_name": sample.source or "codevision_lite",
            "need_tools_kwargs": True,
            "tools_kwargs": {TOOL_NAME: {"create_kwargs": {"ground_truth": sample.answers[0]}}},
            KEY: json.dumps({"sample": sample.to_json(""), "extra": _without_turns(record)}, ensure_ascii=False),
        },
    }  # fmt: skip


def _without_turns(record: Record) -> dict[str, Any]:
    return {key: value for key, value in record.extra.items() if record.trajectory is None or key not in ("type", "trained")}
