"""What is written is read back the same, through every format that can hold it; and other programs can read it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import product

import pytest
from dataset_rows import pixels, records
from pictures import picture, sample

from codevision_lite.agent import AgentLimits, dialogue_of, run_episodes
from codevision_lite.datasets.convert import convert
from codevision_lite.datasets.rows import load_training_rows, sample_row, trajectory_row
from codevision_lite.errors import UserError
from codevision_lite.files import append_jsonl, read_jsonl
from codevision_lite.models import ScriptedModel
from codevision_lite.protocol import IMAGE, render_reply
from codevision_lite.records import ToolCall

SUFFIX = {"jsonl": ".jsonl", "hf": ".parquet", "verl": ".parquet", "sharegpt": ".json"}
# Replies of trajectories that are hard to carry: placeholders in code and print, a malformed call, no action, an unfinished end.
SCRIPTS = {
    "plain": [render_reply("Turn.", ToolCall("result = image.rotate(90, expand=True)")), render_reply("I see.", answer="F")],
    "errors": [
        render_reply("Turn.", ToolCall("result = picture.rotate(90)")),
        '<think>Hm.</think>\n<tool_call>\n{"name": "code_image_tool", "arguments": {"code": \n</tool_call>',
        render_reply("Again.", ToolCall("print('<image> é 漢', image.size)\nresult = image.crop((0, 0, 9, 9))", "crop", 0)),
        render_reply("From the first.", ToolCall("result = image.rotate(180)", image_index=0)),
        render_reply("I see <image>.", answer="F <image>"),
    ],
    "no tool": [render_reply("It is upright.", answer="F")],
    "no action": ["Well.", "Well, well."],
    "too long": [render_reply("Turn.", ToolCall("result = image.rotate(90, expand=True)"))] * 3,
}


@pytest.fixture(scope="module")
def trajectories(sandbox, tmp_path_factory):
    """A JSONL of trajectories as synth and evaluation write them."""
    folder = tmp_path_factory.mktemp("ours")
    for number, (name, replies) in enumerate(SCRIPTS.items()):
        item = sample(
            40, 30, seed=number, required_ops=("rotate_90", "crop"), target_box=(1.0, 2.5, 30.0, 20.0), damage="rotate_270",
            question="What does <image> say?\n“Ça” 漢字 <|im_end|>", answers=("F", "f", "F"), source="synth",
            meta={"kind": name, "n": [1, None]},
        )  # fmt: skip
        (done,) = run_episodes(ScriptedModel(replies), sandbox, [item], AgentLimits(max_turns=len(replies)))
        turns = len(done.trajectory().turns)
        extra = {"type": name, "trained": [n > 0 for n in range(turns)]} if number % 2 == 0 else {}
        append_jsonl(folder / "in.jsonl", trajectory_row(folder, item, done.trajectory(), **extra))
    return folder / "in.jsonl"


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    for number in range(4):
        box = (1.25, 2.0, 30.0, 20.0) if number % 2 else None
        append_jsonl(folder / "in.jsonl", sample_row(folder, sample(40, 30, seed=number, target_box=box, meta={"split": "rl", "x": 0.5})))
    return folder / "in.jsonl"


def same(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert replace(a, pictures=()) == replace(b, pictures=())
        assert pixels(a) == pixels(b)


@pytest.mark.parametrize("first, second", [*product(("jsonl", "hf", "sharegpt"), repeat=2)])
def test_trajectories_come_back_the_same_through_two_formats(trajectories, tmp_path, first, second):
    convert(trajectories, tmp_path / f"a{SUFFIX[first]}", first)
    convert(tmp_path / f"a{SUFFIX[first]}", tmp_path / "b" / f"b{SUFFIX[second]}", second)
    same(records(tmp_path / "b" / f"b{SUFFIX[second]}"), records(trajectories))


@pytest.mark.parametrize("first, second", [*product(("jsonl", "hf", "verl"), repeat=2)])
def test_samples_come_back_the_same_through_two_formats(samples, tmp_path, first, second):
    convert(samples, tmp_path / f"a{SUFFIX[first]}", first)
    convert(tmp_path / f"a{SUFFIX[first]}", tmp_path / "b" / f"b{SUFFIX[second]}", second)
    same(records(tmp_path / "b" / f"b{SUFFIX[second]}"), records(samples))


@pytest.mark.parametrize("to", ["hf", "sharegpt"])
def test_our_own_file_comes_back_byte_for_byte(trajectories, tmp_path, to):
    convert(trajectories, tmp_path / f"there{SUFFIX[to]}", to)
    convert(tmp_path / f"there{SUFFIX[to]}", tmp_path / "back" / "in.jsonl", "jsonl")
    assert (tmp_path / "back" / "in.jsonl").read_bytes() == trajectories.read_bytes()
    images = [{p.name: p.read_bytes() for p in (folder / "images").iterdir()} for folder in (tmp_path / "back", trajectories.parent)]
    assert images[0] == images[1]


def test_what_comes_back_trains_as_before(trajectories, tmp_path):
    convert(trajectories, tmp_path / "there.json", "sharegpt")
    convert(tmp_path / "there.json", tmp_path / "back.jsonl", "jsonl")
    for before, after in zip(load_training_rows(trajectories), load_training_rows(tmp_path / "back.jsonl"), strict=True):
        texts = [[s.text for s in dialogue_of(row.sample, row.trajectory).segments] for row in (before, after)]
        assert texts[0] == texts[1]
        assert before.trained == after.trained


def test_verl_takes_the_samples_and_says_that_trajectories_are_left_out(trajectories, tmp_path):
    summary = convert(trajectories, tmp_path / "rl.parquet", "verl")
    assert (summary.kept, summary.left_out) == (len(SCRIPTS), len(SCRIPTS))
    assert [r.sample for r in records(tmp_path / "rl.parquet")] == [r.sample for r in records(trajectories)]


def test_sharegpt_refuses_samples_without_a_trajectory(samples, tmp_path):
    with pytest.raises(UserError, match="none of its 4 rows can be used, most often because of trajectory: a sample without a trajectory"):
        convert(samples, tmp_path / "x.json", "sharegpt")


def test_sharegpt_rows_are_what_llama_factory_wants(trajectories, tmp_path):
    convert(trajectories, tmp_path / "sft.json", "sharegpt")
    rows = json.loads((tmp_path / "sft.json").read_text())
    info = json.loads((tmp_path / "dataset_info.json").read_text())["sft"]
    assert (info["file_name"], info["formatting"], info["columns"]["images"]) == ("sft.json", "sharegpt", "images")
    tags = info["tags"]
    for row in rows:
        turns = row[info["columns"]["messages"]]
        roles = [turn[tags["role_tag"]] for turn in turns]
        assert len(turns) % 2 == 0  # it skips a conversation that does not end with the model
        assert set(roles[2::2]) <= {tags["observation_tag"]} and set(roles[1::2]) == {tags["assistant_tag"]}
        assert sum(turn[tags["content_tag"]].count("<image>") for turn in turns) == len(row["images"])
        assert all((tmp_path / path).is_file() for path in row["images"])


def test_sharegpt_renders_to_our_dialogue(trajectories, tmp_path):
    """LLaMA-Factory's qwen2_vl template: system, user, and observations as user turns in <tool_response>; <image> becomes vision tokens."""
    convert(trajectories, tmp_path / "sft.json", "sharegpt")
    rows = json.loads((tmp_path / "sft.json").read_text())
    for row, ours in zip(rows, load_training_rows(trajectories), strict=True):
        if "<image>" in ours.trajectory.turns[-1].text:
            continue  # written with a space, "< image>": LLaMA-Factory would count it
        text = f"<|im_start|>system\n{row['system']}<|im_end|>\n"
        for turn in row["conversations"]:
            said = turn["value"].replace("<image>", IMAGE)
            if turn["from"] == "gpt":
                text += f"{said}<|im_end|>\n"
            else:
                said = f"<tool_response>\n{said}\n</tool_response>" if turn["from"] == "tool" else said
                text += f"<|im_start|>user\n{said}<|im_end|>\n<|im_start|>assistant\n"
        dialogue = "".join(
            f"{s.text}<|im_end|>" if s.role == "reply" else s.text for s in dialogue_of(ours.sample, ours.trajectory).segments
        )
        assert text.rstrip("\n") == re.sub(r"<(?=image>)", "< ", dialogue)


def test_an_edited_conversation_is_read_as_edited(trajectories, tmp_path):
    convert(trajectories, tmp_path / "sft.json", "sharegpt")
    rows = json.loads((tmp_path / "sft.json").read_text())
    rows[0]["conversations"][1]["value"] = rows[0]["conversations"][1]["value"].replace("Turn.", "It lies on its side.")
    (tmp_path / "sft.json").write_text(json.dumps(rows))
    assert records(tmp_path / "sft.json")[0].trajectory.turns[0].think == "It lies on its side."


def test_verl_rows_have_the_fields_that_verl_reads(samples, tmp_path):
    import pyarrow.parquet as pq

    convert(samples, tmp_path / "rl.parquet", "verl")
    row = pq.read_table(tmp_path / "rl.parquet").to_pylist()[1]
    assert row["agent_name"] == "tool_agent"
    assert [turn["role"] for turn in row["prompt"]] == ["system", "user"]
    assert row["prompt"][1]["content"].count("<image>") == len(row["images"]) == 1
    assert row["reward_model"] == {"style": "rule", "ground_truth": ["F"]}
    extra = row["extra_info"]
    assert (extra["index"], extra["question"], extra["answer"], extra["bbox"]) == (1, "What is written here?", "F", [1.25, 2.0, 30.0, 20.0])
    assert extra["need_tools_kwargs"] and extra["tools_kwargs"]["code_image_tool"]["create_kwargs"] == {"ground_truth": "F"}


@pytest.mark.parametrize("to", ["hf", "verl"])
def test_hugging_face_datasets_reads_the_pictures_as_images(trajectories, tmp_path, to):
    import datasets

    convert(trajectories, tmp_path / "train.parquet", to)
    loaded = datasets.load_dataset("parquet", data_files=str(tmp_path / "train.parquet"), split="train", cache_dir=str(tmp_path / "cache"))
    ours = records(trajectories)
    assert len(loaded) == len(ours)
    if to == "hf":
        assert isinstance(loaded.features["image"], datasets.Image)
        assert [row["image"].tobytes() for row in loaded] == [r.pictures[0].open().tobytes() for r in ours]
        assert [len(row["tool_images"]) for row in loaded] == [len(r.pictures) - 1 for r in ours]
        assert loaded[0]["answers"] == ["F", "f", "F"] and loaded[0]["target_box"] == [1.0, 2.5, 30.0, 20.0]
    else:
        assert loaded[0]["images"][0].tobytes() == ours[0].pictures[0].open().tobytes()


def test_equal_input_gives_equal_bytes(trajectories, tmp_path):
    for to in SUFFIX:
        for name in "ab":
            convert(trajectories, tmp_path / name / f"x{SUFFIX[to]}", to)
        assert (tmp_path / "a" / f"x{SUFFIX[to]}").read_bytes() == (tmp_path / "b" / f"x{SUFFIX[to]}").read_bytes()


def test_a_limit_stops_after_so_many_good_rows(samples, tmp_path):
    assert convert(samples, tmp_path / "x.jsonl", "jsonl", limit=2).kept == 2
    assert len(read_jsonl(tmp_path / "x.jsonl")) == 2


def test_a_file_that_is_not_ours_beside_the_output_stays(samples, tmp_path):
    (tmp_path / "dataset_info.json").write_text('{"other": {"file_name": "o.json"}}')
    (tmp_path / "images").mkdir()
    picture().save(tmp_path / "images" / "mine.png")
    convert(samples, tmp_path / "x.jsonl", "jsonl")
    assert json.loads((tmp_path / "dataset_info.json").read_text()) == {"other": {"file_name": "o.json"}}
    assert (tmp_path / "images" / "mine.png").is_file()
