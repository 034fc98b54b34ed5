"""Rows on disk: what is written is read back, and what is wrong with a row is said in one line with file, row and field."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pictures import same, sample

from codevision_lite.agent import AgentLimits, dialogue_of, run_episodes
from codevision_lite.datasets.rows import load_samples, load_training_rows, sample_row, trajectory_row
from codevision_lite.errors import UserError
from codevision_lite.files import append_jsonl
from codevision_lite.imaging import open_image
from codevision_lite.models import ScriptedModel
from codevision_lite.protocol import render_reply
from codevision_lite.records import ToolCall

REPLIES = [
    render_reply("Turn.", ToolCall("result = picture.rotate(90)")),
    render_reply("Turn.", ToolCall("print('hm')\nresult = image.rotate(90, expand=True)")),
    render_reply("I see.", answer="F"),
]
SAMPLE = sample(40, 30, required_ops=("rotate_90", "crop"), target_box=(1.0, 2.0, 3.0, 4.0), damage="rotate_270", meta={"kind": "sign"})


@pytest.fixture(scope="module")
def episode(sandbox):
    (done,) = run_episodes(ScriptedModel(REPLIES), sandbox, [SAMPLE], AgentLimits())
    return done


@pytest.fixture
def written(tmp_path, episode):
    """A file of three rows of trajectories, and one of three samples."""
    for i in range(3):
        numbered = replace(SAMPLE, id=f"s{i}")
        row = trajectory_row(tmp_path, numbered, episode.trajectory(), type="error_handling", trained=(False, True, True))
        append_jsonl(tmp_path / "sft.jsonl", row)
        append_jsonl(tmp_path / "rl.jsonl", sample_row(tmp_path, numbered))
    return tmp_path


def test_samples_come_back_with_their_pictures(written):
    loaded = load_samples(written / "rl.jsonl")
    assert [s.id for s in loaded] == ["s0", "s1", "s2"]
    assert replace(loaded[0], image="") == replace(SAMPLE, image="")
    assert same(open_image(loaded[0].image), SAMPLE.image)


def test_trajectories_come_back_with_their_pictures(written, episode):
    row = load_training_rows(written / "sft.jsonl")[1]
    trajectory = episode.trajectory()
    assert replace(row.sample, image="") == replace(SAMPLE, id="s1", image="")
    assert replace(row.trajectory, images=(), seconds=0.0) == replace(trajectory, images=(), seconds=0.0)
    assert all(same(open_image(path), image) for path, image in zip(row.trajectory.images, trajectory.images, strict=True))
    assert row.trained == (False, True, True)


def test_a_file_of_trajectories_is_a_file_of_samples_too(written):
    assert [s.id for s in load_samples(written / "sft.jsonl")] == ["s0", "s1", "s2"]


def test_all_replies_are_trained_where_a_row_does_not_say(tmp_path, episode):
    append_jsonl(tmp_path / "rows.jsonl", trajectory_row(tmp_path, SAMPLE, episode.trajectory()))
    assert load_training_rows(tmp_path / "rows.jsonl")[0].trained == (True, True, True)


def test_equal_pictures_are_stored_once(written):
    assert len(list((written / "images").iterdir())) == 2


def test_a_data_folder_may_be_moved(written, tmp_path_factory):
    moved = written.rename(tmp_path_factory.mktemp("elsewhere") / "data")
    assert same(open_image(load_samples(moved / "rl.jsonl")[0].image), SAMPLE.image)


def test_the_dialogue_of_a_record_is_the_one_that_was_held(written, episode):
    row = load_training_rows(written / "sft.jsonl")[0]
    held, rebuilt = episode.dialogue.segments, dialogue_of(row.sample, row.trajectory).segments
    assert [(s.role, s.text) for s in rebuilt] == [(s.role, s.text) for s in held]
    assert all(same(a, b) for r, h in zip(rebuilt, held, strict=True) for a, b in zip(r.images, h.images, strict=True))


def test_the_dialogue_of_a_record_that_lost_its_last_turn_is_refused(episode):
    trajectory = episode.trajectory()
    with pytest.raises(UserError, match="s0: the trajectory has an answer but ends with an observation"):
        dialogue_of(SAMPLE, replace(trajectory, turns=trajectory.turns[:-1]))




def edit(path, number, edited):
    """Replace line `number` (1-based) by `edited(row)`, a row or a text."""
    lines = path.read_text().splitlines()
    new = edited(json.loads(lines[number - 1]))
    lines[number - 1] = new if isinstance(new, str) else json.dumps(new)
    path.write_text("\n".join(lines) + "\n")


def without(*keys):
    def apply(row):
        at = row
        for key in keys[:-1]:
            at = at[key]
        del at[keys[-1]]
        return row

    return apply


def having(value, *keys):
    def apply(row):
        at = row
        for key in keys[:-1]:
            at = at[key]
        at[keys[-1]] = value
        return row

    return apply


# What happens to line 2 of rl.jsonl, and what the one line about it must say.
BAD_SAMPLES = {
    "missing question": (without("question"), ["'question' is missing", "fields: id"]),
    "missing image": (without("image"), ["'image' is missing"]),
    "missing answers": (without("answers"), ["'answers' is missing"]),
    "missing id": (without("id"), ["'id' is missing"]),
    "image that is not there": (having("images/gone.png", "image"), ["no such image file", "gone.png"]),
    "image that is a text file": (having("sft.jsonl", "image"), ["not a readable image", "sft.jsonl"]),
    "image that is no path": (having(7, "image"), ["'image'"]),
    "image that is a folder": (having("images", "image"), ["no such image file"]),
    "answers that are a number": (having(7, "answers"), ["answers"]),
    "answers that are a text": (having("F", "answers"), ["answers"]),
    "box of three": (having([1, 2, 3], "target_box"), ["target_box"]),
    "box of words": (having(["a", "b", "c", "d"], "target_box"), ["target_box"]),
    "question that is a number": (having(7, "question"), ["question"]),
    "question that is null": (having(None, "question"), ["question"]),
    "bad JSON": (lambda row: json.dumps(row)[:-9], ["not JSON", "column"]),
    "a list": (lambda row: "[1, 2]", ["object", "list"]),
    "null": (lambda row: "null", ["object"]),
    "a row whose sample is a text": (lambda row: '{"sample": "s"}', []),
}  # fmt: skip


@pytest.mark.parametrize("edited, words", BAD_SAMPLES.values(), ids=BAD_SAMPLES.keys())
def test_what_is_wrong_with_a_sample_is_one_line_with_file_and_row(written, edited, words):
    edit(written / "rl.jsonl", 2, edited)
    with pytest.raises(UserError) as e:
        load_samples(written / "rl.jsonl")
    assert str(e.value).startswith(f"{written / 'rl.jsonl'} line 2: ")
    assert "\n" not in str(e.value)
    for word in words:
        assert word in str(e.value)


BAD_TRAJECTORIES = {
    "missing trajectory": (without("trajectory"), ["'trajectory' is missing"]),
    "missing sample": (without("sample"), ["'sample' is missing"]),
    "missing turns": (without("trajectory", "turns"), ["'turns' is missing"]),
    "missing text": (without("trajectory", "turns", 0, "text"), ["text"]),
    "an unknown field": (having(1, "trajectory", "turns", 0, "colour"), ["colour"]),
    "trained of another length": (having([True], "trained"), ["'trained' has 1 values for 3 replies"]),
    "a picture that is gone": (having(["images/gone.png"] * 2, "trajectory", "images"), ["no such image file", "gone.png"]),
    "a picture that no turn has": (having(9, "trajectory", "turns", 1, "observation", "image_index"), ["image_index"]),
    "turns that are a number": (having(7, "trajectory", "turns"), []),
    "an observation that is a text": (having("x", "trajectory", "turns", 0, "observation"), []),
    "a picture that is a text": (having(["rl.jsonl", "rl.jsonl"], "trajectory", "images"), ["not a readable image", "rl.jsonl"]),
    "no pictures": (having([], "trajectory", "images"), ["0 'images'"]),
}  # fmt: skip


@pytest.mark.parametrize("edited, words", BAD_TRAJECTORIES.values(), ids=BAD_TRAJECTORIES.keys())
def test_what_is_wrong_with_a_trajectory_is_one_line_with_file_and_row(written, edited, words):
    edit(written / "sft.jsonl", 2, edited)
    with pytest.raises(UserError) as e:
        load_training_rows(written / "sft.jsonl")
    assert str(e.value).startswith(f"{written / 'sft.jsonl'} line 2: ")
    assert "\n" not in str(e.value)
    for word in words:
        assert word in str(e.value)


def test_a_picture_that_was_cut_is_named_when_it_is_opened(written):
    row = load_training_rows(written / "sft.jsonl")[0]
    path = Path(row.trajectory.images[1])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="not a readable image"):
        dialogue_of(row.sample, row.trajectory)
