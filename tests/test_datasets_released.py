"""The released data sets and a user's own: what their fields become in ours."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from dataset_rows import own_row, pixels, png, records, rl_row, sft_row, write_rows
from pictures import picture

from codevision_lite.agent import dialogue_of
from codevision_lite.datasets.convert import convert
from codevision_lite.datasets.record import BadRow
from codevision_lite.datasets.rows import load_samples, load_training_rows
from codevision_lite.datasets.transforms import read_transform, write_transform
from codevision_lite.protocol import render_observation, render_prompt

# ---------------------------------------------------------------- CodeVision-SFT


def test_an_sft_conversation_becomes_a_trajectory(tmp_path):
    write_rows(tmp_path / "codevision_sft.json", [sft_row(n, tmp_path) for n in range(3)])
    record = records(tmp_path)[1]  # the folder is enough
    sample, trajectory = record.sample, record.trajectory
    assert (sample.question, sample.answers) == ("What is bar 1?", ("1",))
    assert (sample.damage, sample.required_ops) == ("flip_horizontal", ("flip_horizontal",))
    assert (sample.source, sample.meta) == ("codevision-sft", {"sample_id": 1})
    codes = [turn.call and turn.call.code for turn in trajectory.turns]
    assert codes == ["result = image.rotate(180)", "result = ImageOps.mirror(image)", None]
    assert all(turn.well_formed for turn in trajectory.turns)
    assert (trajectory.answer, trajectory.end_reason, trajectory.sample_id) == ("1", "answer", sample.id)
    first, second = trajectory.observations
    assert (first.status, first.message, first.image_index, first.source_index) == ("ok", "Image 1: 60x40 pixels.", 1, 0)
    assert (second.message, second.stdout) == ("Image 2: 60x40 pixels.\nPrinted: size: 60", "size: 60")
    assert pixels(record)[0][1] == picture(60, 40, seed=1).tobytes()


def test_an_sft_row_trains_as_the_agent_loop_would_have_written_it(tmp_path):
    write_rows(tmp_path / "codevision_sft.json", [sft_row(0, tmp_path)])
    convert(tmp_path, tmp_path / "ours" / "sft.jsonl", "jsonl")
    (row,) = load_training_rows(tmp_path / "ours" / "sft.jsonl")
    segments = dialogue_of(row.sample, row.trajectory).segments
    assert segments[0].text == render_prompt("What is bar 0?", (60, 40))
    assert segments[2].text == render_observation("Image 1: 60x40 pixels.", True)
    assert row.trained == (True, True, True)


def test_a_tool_turn_without_a_picture_is_an_error_that_the_model_reads(tmp_path):
    row = sft_row(0, tmp_path)
    row["conversations"][2]["value"] = "<tool_response>NameError: name 'imge' is not defined</tool_response>"
    del row["images"][1]
    (record,) = records(write_rows(tmp_path / "codevision_sft.json", [row]))
    first = record.trajectory.turns[0].observation
    assert (first.status, first.message, first.image_index) == ("error", "NameError: name 'imge' is not defined", None)
    assert record.trajectory.turns[1].observation.image_index == 1


def test_a_transform_that_is_not_known_does_not_cost_the_trajectory(tmp_path):
    row = sft_row(0, tmp_path, metadata=json.dumps({"sample_id": 0, "transform": "tool_use"}))
    (record,) = records(write_rows(tmp_path / "codevision_sft.json", [row]))
    assert (record.sample.damage, record.sample.meta["unknown_transform"]) == ("none", "tool_use")


def test_pictures_are_found_from_inside_the_image_folder_too(tmp_path):
    row = sft_row(0, tmp_path)
    assert len(records(write_rows(tmp_path / "codevision_images" / "rows.json", [row]))) == 1


# ---------------------------------------------------------------- CodeVision-RL and MVToolBench


def test_an_rl_row_becomes_a_sample(tmp_path):
    (record,) = records(write_rows(tmp_path / "train_group_1.parquet", [rl_row(7)]))
    sample = record.sample
    assert (sample.question, sample.answers) == ("What is bar 7?", ("7", "x"))
    assert (sample.damage, sample.required_ops) == ("rotate_90", ("rotate_270", "crop"))
    # 60 wide as shown, so 40 wide before: y = 50 fits only there. rotate_90 brings (10, 50) to (50, 30).
    assert (sample.meta["box_frame"], sample.target_box) == ("canonical", (50.0, 20.0, 59.0, 30.0))
    assert (sample.source, sample.meta["index"], sample.meta["dataset_name"]) == ("codevision-rl", 7, "chartqa")
    assert sample.id.startswith("codevision-rl-chartqa-7-")


SPELLINGS = {
    "bytes in a struct": {"images": [{"bytes": png(picture(60, 40))}]},
    "bytes": {"images": png(picture(60, 40))},
    "a list of bytes": {"images": [png(picture(60, 40))]},
    "a path": {"images": "shown.png"},
    "a list of paths": {"images": ["shown.png"]},
    "a struct with a path": {"images": [{"bytes": None, "path": "shown.png"}]},
    "base64": {"images": base64.b64encode(png(picture(60, 40))).decode()},
    "ground truth a text": {"ground_truth": "0"},
    "ground truth and a different answer": {"ground_truth": ["0"], "answer": "zero"},
    "transform a text": {"transform": "rotate_90"},
    "transform the text of a list": {"transform": "['crop', 'rotate_90']"},
    "no transform": {"transform": None, "bbox": [10.0, 5.0, 20.0, 19.0]},
    "bbox_2d": {"bbox": None, "bbox_2d": [10.0, 50.0, 20.0, 59.0]},
    "no box": {"bbox": None},
    "an empty box": {"bbox": []},
    "a question only in the prompt": {"question": None},
    "extra_info as JSON text": {"extra_info": json.dumps(rl_row(0)["extra_info"])},
}  # fmt: skip


@pytest.mark.parametrize("changes", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_rl_rows_are_read_however_they_are_spelled(tmp_path, changes):
    picture(60, 40).save(tmp_path / "shown.png")
    (record,) = records(write_rows(tmp_path / "train.parquet", [rl_row(0, **changes)]))
    sample = record.sample
    assert pixels(record)[0][1] == picture(60, 40).tobytes()
    assert sample.question == "What is bar 0?"
    assert sample.answers[0] == "0" and ("zero" in sample.answers) == ("answer" in changes)
    has_box = "bbox_2d" in changes or bool(changes.get("bbox", True))
    assert (sample.target_box is not None) == has_box
    assert sample.damage == ("none" if changes.get("transform", 1) is None else "rotate_90")


def test_the_benchmark_is_known_by_its_name(tmp_path):
    assert records(write_rows(tmp_path / "mvtoolbench.parquet", [rl_row(0)]))[0].sample.source == "mvtoolbench"


@pytest.mark.parametrize(
    "value, damage, required, required_if_ops",
    [
        (["crop", "rotate_90"], "rotate_90", ("rotate_270", "crop"), ("rotate_90", "crop")),
        ("rotate180", "rotate_180", ("rotate_180",), ("rotate_180",)),
        ("Horizontal Flip", "flip_horizontal", ("flip_horizontal",), ("flip_horizontal",)),
        (["flip-v", "crop"], "flip_vertical", ("flip_vertical", "crop"), ("flip_vertical", "crop")),
        (["rotate_270", None], "rotate_270", ("rotate_90",), ("rotate_270",)),
        (["rotate_90", "rotate_90"], "rotate_180", ("rotate_180",), ("rotate_90", "rotate_90")),
        ("crop", "none", ("crop",), ("crop",)),
        ("none", "none", (), ()),
        (None, "none", (), ()),
        ([], "none", (), ()),
    ],
)
def test_a_transform_names_the_damage_or_by_option_the_operations(value, damage, required, required_if_ops):
    assert read_transform(value) == (damage, required)
    as_ops = read_transform(value, "ops")
    assert as_ops[1] == required_if_ops
    assert as_ops[0] == {"rotate_90": "rotate_270", "rotate_270": "rotate_90"}.get(damage, damage)
    if len(set(map(str, value or []))) == len(value or []):
        assert read_transform(write_transform(required)) == (damage, required)


@pytest.mark.parametrize("value", ["dance", ["rotate_90", "flip_horizontal"], ["rotate_45"], 7, [7], {"a": 1}, "[rotate_90"])
def test_a_transform_without_a_name_or_an_inverse_is_refused(value):
    with pytest.raises(BadRow) as e:
        read_transform(value)
    assert e.value.field == "transform"


# ---------------------------------------------------------------- a user's own


def test_own_rows_become_undamaged_samples(tmp_path):
    mine = own_row(1, tmp_path, id="mine", answer=None, answers=["a", "b"], box=None)
    rows = [own_row(0, tmp_path), mine, own_row(2, tmp_path, answer=3)]
    rows[2]["file_name"] = rows[2].pop("image")
    first, second, third = [r.sample for r in records(write_rows(tmp_path / "rows.jsonl", rows))]
    assert (first.damage, first.required_ops, first.target_box, first.source) == ("none", (), (5.0, 5.0, 20.0, 20.0), "own")
    assert (second.id, second.answers, second.target_box) == ("mine", ("a", "b"), None)
    assert third.answers == ("3",)
    assert first.id.startswith("own-") and first.id != third.id


def test_own_rows_may_be_a_table(tmp_path):
    for n in range(2):
        own_row(n, tmp_path)
    lines = ["\ufeffimage,question,answer,box", 'own0.png,"What, here?",7,"[5, 5, 20, 20]"', 'own1.png,Which?,"[""a"", ""b""]",']
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    first, second = [r.sample for r in records(tmp_path / "rows.csv")]
    assert (first.question, first.answers, first.target_box) == ("What, here?", ("7",), (5.0, 5.0, 20.0, 20.0))
    assert (second.answers, second.target_box) == (("a", "b"), None)


def test_an_own_id_is_the_same_wherever_the_folder_lies(tmp_path):
    ids = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        ids.append(records(write_rows(tmp_path / name / "rows.jsonl", [own_row(0, tmp_path / name)]))[0].sample.id)
    assert ids[0] == ids[1]


def test_converted_samples_are_ready_for_training(tmp_path):
    write_rows(tmp_path / "in.parquet", [rl_row(n) for n in range(3)])
    convert(tmp_path / "in.parquet", tmp_path / "out" / "rl.jsonl", "jsonl")
    samples = load_samples(tmp_path / "out" / "rl.jsonl")
    assert [s.answers[0] for s in samples] == ["0", "1", "2"]
    assert all(Path(s.image).is_file() for s in samples)


# ---------------------------------------------------------------- pictures


def test_pictures_that_other_programs_would_see_differently_are_written_anew(tmp_path):
    image = picture(60, 40)
    exif = image.getexif()
    exif[0x0112] = 6  # the camera lay on its side
    coded = {
        "exif.jpg": png(image, "JPEG", exif=exif, quality=95), "cmyk.jpg": png(image.convert("CMYK"), "JPEG"),
        "palette.png": png(image.quantize(8)), "gray.png": png(image.convert("L")), "alpha.png": png(image.convert("RGBA")),
        "photo.webp": png(image, "WEBP"), "plain.png": png(image), "plain.jpg": png(image, "JPEG"),
    }  # fmt: skip
    rows = []
    for name, data in coded.items():
        (tmp_path / name).write_bytes(data)
        rows.append({"image": name, "question": name, "answer": "x"})
    found = dict(zip(coded, records(write_rows(tmp_path / "rows.jsonl", rows)), strict=True))
    assert found["exif.jpg"].pictures[0].size == (40, 60)
    for name, record in found.items():
        kept = name.startswith("plain")
        assert (record.pictures[0].data == coded[name]) == kept, name
        assert record.pictures[0].name.endswith(".jpg" if name == "plain.jpg" else ".png")
