"""CodeVision-SFT as released, and LLaMA-Factory's sharegpt: conversations of human, gpt and tool turns, pictures by path.

    {"conversations": [{"from": "human|gpt|tool", "value": "..."}], "images": ["..."], "system": "...", "metadata": "{...}"}

Every "<image>" in a value stands for the next of `images`. The tool's outputs are in the file, so nothing is executed.
What we write renders, with LLaMA-Factory's qwen2_vl template, to the text that protocol.py renders; what the format has no
field for (operations, frames, times, which replies are trained) is in metadata under "codevision_lite".
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codevision_lite.datasets.formats import TransformIs
from codevision_lite.datasets.ours import build_record, picture
from codevision_lite.datasets.own import content_hash
from codevision_lite.datasets.pictures import Picture
from codevision_lite.datasets.record import KEY, BadRow, Record, answers, box_numbers, json_object
from codevision_lite.datasets.transforms import read_transform
from codevision_lite.protocol import image_line, parse_reply, system_text, user_text

PLACEHOLDER = "<image>"
_ROLES = {
    **dict.fromkeys(("human", "user"), "human"), **dict.fromkeys(("gpt", "assistant", "function_call"), "gpt"),
    **dict.fromkeys(("tool", "observation", "tool_response", "function_response"), "tool"),
}  # fmt: skip
# What the released rows say after every tool result. It asks for <tool_calls>, a tag that isn't the format's.
_FOLLOW_UP = re.compile(r"\s*Here is the processed image\..{0,400}?</answer> tags\.\s*\Z", re.S)
_MEDIA = re.compile(r"<(image|video|audio)>")

# For LLaMA-Factory's data/dataset_info.json; {name: this with its file_name}.
DATASET_INFO = {
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "images": "images", "system": "system"},
    "tags": {
        "role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt", "observation_tag": "tool",
        "function_tag": "function_call",
    },
}  # fmt: skip


def parse_sharegpt(row: dict[str, Any], folder: Path, transform_is: TransformIs = "damage", source: str = "codevision-sft") -> Record:
    """A row of either file. Raises BadRow."""
    paths = row.get("images")
    if not isinstance(paths, list) or not paths:
        raise BadRow("images", "'images' must be a list of paths, one for every <image>")
    human, exchanges = _exchanges(row.get("conversations"))
    metadata = json_object(row.get("metadata"), "metadata")
    kept = json_object(metadata.get(KEY), "metadata")
    places = [human, *(value for _, value in exchanges if value is not None)]
    found = sum(value.count(PLACEHOLDER) for value in places)
    if found != len(paths):
        raise BadRow("conversations", f"{found} <image> placeholders for {len(paths)} pictures")
    if human.count(PLACEHOLDER) != 1:
        raise BadRow("conversations", f"the first turn shows {human.count(PLACEHOLDER)} pictures; one is needed")
    pictures = [picture(path, _image_folder(folder, path), "images") for path in paths]
    turns = kept["turns"] if kept else [None] * len(exchanges)
    if not isinstance(turns, list) or len(turns) != len(exchanges):
        raise BadRow("metadata", f"'metadata' describes other turns than the {len(exchanges)} replies: the conversation was edited")
    trajectory = _trajectory(exchanges, turns, pictures, kept)
    sample = kept["sample"] if kept else _sample(human, trajectory, metadata, pictures, transform_is, source)
    return build_record(sample, pictures, {**trajectory, "sample_id": sample.get("id")}, kept.get("extra", {}) if kept else {})


def _exchanges(conversations: Any) -> tuple[str, list[tuple[str, str | None]]]:
    """(what the user asks, [(reply, what the tool said or None)])."""
    if not isinstance(conversations, list) or not conversations:
        raise BadRow("conversations", "'conversations' must be a list of turns")
    values: list[tuple[str, str]] = []
    for number, turn in enumerate(conversations):
        said = turn.get("value") if isinstance(turn, dict) else None
        role = _ROLES.get(str(turn.get("from"))) if isinstance(turn, dict) else None
        if role is None or not isinstance(said, str):
            raise BadRow("conversations", f"turn {number} must be {{'from': human|gpt|tool, 'value': text}}, got {str(turn)[:80]}")
        values.append((role, said))
    if values[0][0] != "human" or len(values) < 2:
        raise BadRow("conversations", "a human turn and then at least one gpt turn are needed")
    exchanges: list[tuple[str, str | None]] = []
    for number, (role, said) in enumerate(values[1:], 1):
        wanted = "gpt" if number % 2 else "tool"
        if role != wanted and not (wanted == "tool" and role == "human" and "<tool_response>" in said):
            raise BadRow("conversations", f"turn {number} is from {role}, {wanted} is needed: gpt and tool turns alternate")
        if wanted == "gpt":
            exchanges.append((said, None))
        else:
            exchanges[-1] = (exchanges[-1][0], said)
    return values[0][1], exchanges


def _trajectory(
    exchanges: list[tuple[str, str | None]], kept: Sequence[Any], pictures: list[Picture], whole: dict[str, Any]
) -> dict[str, Any]:
    """The JSON of a Trajectory without its pictures and its id."""
    turns, shown, last = [], 1, len(exchanges) - 1
    for number, ((said, heard), more) in enumerate(zip(exchanges, kept, strict=True)):
        reply_text = more["text"] if more and "text" in more else said
        reply = parse_reply(reply_text)
        index = shown if heard is not None and PLACEHOLDER in heard else None
        if heard is not None and heard.count(PLACEHOLDER) > 1:
            raise BadRow("conversations", f"tool turn {number} shows {heard.count(PLACEHOLDER)} pictures; one is needed")
        if not more:
            _check_reply(number, reply, heard, number == last)
        turns.append({
            "text": reply_text, "think": reply.think, "call": reply.call and vars(reply.call), "answer": reply.answer,
            "observation": more["observation"] if more else _observation(heard, reply, index, pictures),
            "well_formed": more["well_formed"] if more else reply.well_formed, "n_tokens": more["n_tokens"] if more else 0,
        })  # fmt: skip
        shown += index is not None
    return {
        "turns": turns, "answer": whole.get("answer") if whole else turns[-1]["answer"],
        "end_reason": whole["end_reason"] if whole else "answer", "seconds": whole["seconds"] if whole else 0.0,
    }  # fmt: skip


def _check_reply(number: int, reply: Any, heard: str | None, is_last: bool) -> None:
    if reply.error is not None:
        raise BadRow("conversations", f"reply {number}: {reply.error.split(' Reply with ')[0]}")
    if is_last and reply.answer is None:
        raise BadRow("conversations", f"reply {number} is the last and has no <answer>")
    if not is_last and reply.answer is not None:
        raise BadRow("conversations", f"reply {number} answers, but the conversation goes on")
    if reply.call is not None and heard is None:
        raise BadRow("conversations", f"reply {number} calls the tool, but no tool turn follows")


def _observation(heard: str | None, reply: Any, index: int | None, pictures: list[Picture]) -> dict[str, Any] | None:
    """What the agent loop would have recorded; the released follow-up sentence is left out, and sizes are said as it says them."""
    if heard is None:
        return None
    said = _FOLLOW_UP.sub("", heard.replace(PLACEHOLDER, ""))
    said = re.sub(r"</?tool_response>", "", said).strip()
    message = said
    if index is not None:
        message = image_line(index, pictures[index].size) + (f"\nPrinted: {said}" if said else "")
    elif not said:
        message = "The tool gave no picture."
    source = reply.call.image_index
    if not 0 <= source < len(pictures):
        raise BadRow("conversations", f"'image_index' {source} is outside the {len(pictures)} pictures")
    status = "ok" if index is not None else "error"
    return {
        "status": status, "message": message, "image_index": index, "source_index": source, "ops": [], "frame": None,
        "stdout": said if index is not None else "", "seconds": 0.0,
    }  # fmt: skip


def _sample(
    human: str, trajectory: dict[str, Any], metadata: dict[str, Any], pictures: list[Picture], transform_is: TransformIs, source: str
) -> dict[str, Any]:
    question = human.replace(PLACEHOLDER, "").strip()
    question = re.sub(r"\A" + re.escape(image_line(0, pictures[0].size)) + r"\n", "", question)
    if not question:
        raise BadRow("conversations", "the first turn asks nothing")
    meta = {key: value for key, value in metadata.items() if key in ("sample_id", "source_dataset", "source_sample_id")}
    try:
        damage, required = read_transform(metadata.get("transform"), transform_is)
    except BadRow:  # a trajectory to imitate is good without it
        damage, required = "none", ()
        meta["unknown_transform"] = metadata["transform"]
    given = answers(metadata.get("answer"), "metadata") or (trajectory["answer"],)
    name = content_hash(question, *(p.name for p in pictures), *(turn["text"] for turn in trajectory["turns"]))
    label = metadata.get("sample_id")
    return {
        "id": f"{source}-{label}-{name}" if isinstance(label, str | int) else f"{source}-{name}", "question": question,
        "answers": list(given), "required_ops": list(required), "damage": damage, "source": source, "meta": meta,
        "target_box": box_numbers(metadata.get("bbox"), "metadata"),
    }  # fmt: skip


def _image_folder(folder: Path, path: Any) -> Path:
    """The folder of the JSON, or the one above where the JSON lies in the folder that the paths begin with."""
    first = Path(path).parts[0] if isinstance(path, str) and Path(path).parts else ""
    return folder.parent if folder.name == first and not (folder / path).is_file() else folder


def write_sharegpt(record: Record, names: Sequence[str]) -> dict[str, Any]:
    """The row of a trajectory; `names`: the paths of its pictures. The caller leaves out samples without one."""
    sample, trajectory = record.sample, record.trajectory
    assert trajectory is not None, f"{sample.id}: sharegpt holds trajectories only"
    conversations = [{"from": "human", "value": PLACEHOLDER + _plain(user_text(sample.question, record.pictures[0].size))}]
    kept = []
    for turn in trajectory.turns:
        conversations.append({"from": "gpt", "value": _plain(turn.text)})
        seen = turn.observation
        if seen is not None:
            shown = f"\n{PLACEHOLDER}" if seen.image_index is not None else ""
            conversations.append({"from": "tool", "value": _plain(seen.message) + shown})
        more = {"observation": seen and seen.to_json(), "well_formed": turn.well_formed, "n_tokens": turn.n_tokens}
        kept.append({**more, "text": turn.text} if _MEDIA.search(turn.text) else more)
    order = [0, *(t.observation.image_index for t in trajectory.turns if t.observation and t.observation.image_index is not None)]
    if order != list(range(len(names))):
        raise BadRow("trajectory", f"its pictures are not shown one after another ({order}); sharegpt can hold them in that order only")
    metadata = {
        "sample_id": sample.id, "answer": list(sample.answers),
        KEY: {
            "sample": sample.to_json(""), "turns": kept, "extra": record.extra, "answer": trajectory.answer,
            "end_reason": trajectory.end_reason, "seconds": trajectory.seconds,
        },
    }  # fmt: skip
    return {
        "conversations": conversations, "images": list(names), "system": system_text(),
        "metadata": json.dumps(metadata, ensure_ascii=False),
    }  # fmt: skip


def _plain(said: str) -> str:
    """The text without the placeholders that LLaMA-Factory counts; the true text is in the metadata."""
    return _MEDIA.sub(r"< \1>", said)
