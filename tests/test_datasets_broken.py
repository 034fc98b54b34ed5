"""Broken rows: each is refused with file, row and reason, none ends the run, and the good rows around it stay."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import pytest
from dataset_rows import own_row, png, rl_row, sft_row, write_rows
from pictures import picture, sample

from codevision_lite.agent import AgentLimits, run_episodes
from codevision_lite.cli import main
from codevision_lite.datasets.convert import convert
from codevision_lite.datasets.rows import trajectory_row
from codevision_lite.errors import UserError
from codevision_lite.files import read_jsonl
from codevision_lite.models import ScriptedModel
from codevision_lite.protocol import render_reply
from codevision_lite.records import ToolCall

PNG = png(picture(60, 40, seed=9))
JPEG = png(picture(60, 40, seed=9), "JPEG")


def bomb(width, height):
    """A PNG whose header promises `width` x `height` pixels; a few bytes long."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


# name: (changes of the row's fields, the field that is named, a word of the reason). `None` as value is a null.
OWN = {
    "no question": ({"question": ...}, "question", "missing"),
    "null question": ({"question": None}, "question", "null"),
    "empty question": ({"question": "  "}, "question", "empty"),
    "question that is a number": ({"question": 7}, "question", "text"),
    "question that is a list": ({"question": ["a"]}, "question", "text"),
    "no answer": ({"answer": ...}, "answers", "missing"),
    "null answer": ({"answer": None}, "answer", "null"),
    "empty answer": ({"answer": " "}, "answer", "empty"),
    "empty answers": ({"answer": ..., "answers": []}, "answers", "empty"),
    "an empty answer among others": ({"answer": ..., "answers": ["a", ""]}, "answers", "empty"),
    "an answer that is an object": ({"answer": {"a": 1}}, "answer", "text"),
    "an answer that is true": ({"answer": True}, "answer", "text"),
    "other column names": ({"image": ..., "picture": "own1.png"}, "image", "missing (fields:"),
    "no image": ({"image": None}, "image", "null"),
    "an image that is a number": ({"image": 7}, "image", "path, bytes or base64"),
    "an image that is gone": ({"image": "gone.png"}, "image", "no such image file"),
    "an image that is a folder": ({"image": "."}, "image", "no such image file"),
    "an image path with a NUL": ({"image": "a\0b.png"}, "image", "no such image file"),
    "an image that is a text file": ({"image": "text.png"}, "image", "not a readable image"),
    "an image that is empty": ({"image": "empty.png"}, "image", "not a readable image"),
    "an image that is cut": ({"image": "cut.png"}, "image", "not a readable image"),
    "a JPEG that is cut": ({"image": "cut.jpg"}, "image", "not a readable image"),
    "an image with a flipped bit": ({"image": "bit.png"}, "image", "not a readable image"),
    "a decompression bomb": ({"image": "bomb.png"}, "image", "12000x12000 pixels is outside the limits"),
    "a large bomb": ({"image": "bomb2.png"}, "image", "10000000000 pixels"),
    "an image that is too thin": ({"image": "thin.png"}, "image", "limits"),
    "a page description": ({"image": "page.eps"}, "image", "not a readable image"),
    "two images": ({"image": ["own0.png", "own2.png"]}, "image", "2 pictures"),
    "an empty list of images": ({"image": []}, "image", "0 pictures"),
    "base64 of a text": ({"image": "aGVsbG8gd29ybGQ="}, "image", "no such image file"),
    "base64 that is cut": ({"image": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg=="}, "image", "not a readable image"),
    "a box of three": ({"box": [1, 2, 3]}, "box", "four numbers"),
    "a box of words": ({"box": ["1", "2", "3", "4"]}, "box", "four numbers"),
    "a box of NaN": ({"box": [float("nan"), 2, 30, 30]}, "box", "not finite"),
    "a box of infinity": ({"box": [0, 0, float("inf"), 30]}, "box", "not finite"),
    "a reversed box": ({"box": [30, 30, 10, 10]}, "box", "reversed"),
    "a box without area": ({"box": [10, 10, 10, 20]}, "box", "empty or reversed"),
    "a box outside": ({"box": [10, 10, 99, 20]}, "box", "outside"),
    "a negative box": ({"box": [-9, 10, 20, 20]}, "box", "outside"),
    "a box of fractions": ({"box": [0.1, 0.1, 0.5, 0.5]}, "box", "in pixels, got fractions"),
    "a box that is a number": ({"box": 5}, "box", "four numbers"),
    "a box that is an object": ({"box": {"x": 1}}, "box", "four numbers"),
    "two boxes": ({"box": [[1, 1, 5, 5], [6, 6, 9, 9]]}, "box", "four numbers"),
    "an id that is a list": ({"id": [1]}, "id", "text or a number"),
    "half of a surrogate pair": ({"question": "\ud800?"}, "", "surrogate"),
    "an id that was there": ({"id": "first"}, "id", "was there before"),
}  # fmt: skip

OWN_LINES = {
    "cut JSON": (b'{"image": "own1.png", "question": "W', "not JSON"),
    "a list": (b"[1, 2]", "an object is needed, got list"),
    "a number": (b"7", "an object is needed"),
    "Latin-1": ('{"image": "own1.png", "question": "Où?", "answer": "1"}'.encode("latin-1"), "not UTF-8"),
    "UTF-16": ('{"image": "own1.png"}'.encode("utf-16"), "not"),
    "deep brackets": (b"[" * 100_000, "not JSON"),
    "a number of 5,000 digits": (b'{"id": ' + b"9" * 5000 + b"}", "not JSON"),
    "two objects": (b"{} {}", "not JSON"),
}

RL = {
    "no images": ({"images": None}, "images", "got null"),
    "an empty list of images": ({"images": []}, "images", "0 pictures"),
    "two images": ({"images": [{"bytes": PNG}, {"bytes": PNG}]}, "images", "2 pictures"),
    "images of other bytes": ({"images": [{"bytes": b"not a picture"}]}, "images", "not a readable image"),
    "cut bytes": ({"images": [{"bytes": JPEG[: len(JPEG) // 2]}]}, "images", "not a readable image"),
    "empty bytes": ({"images": [{"bytes": b""}]}, "images", "not a readable image"),
    "a bomb": ({"images": [{"bytes": bomb(60_000, 60_000)}]}, "images", "3600000000 pixels"),
    "a path that is gone": ({"images": [{"bytes": None, "path": "gone.png"}]}, "images", "no such image file"),
    "images that are numbers": ({"images": [7]}, "images", "path, bytes or base64"),
    "two placeholders": ({"prompt": [{"role": "user", "content": "<image><image> What?"}]}, "prompt", "2 <image> placeholders"),
    "a prompt without a user": ({"prompt": [{"role": "system", "content": "s"}]}, "prompt", "user turn"),
    "no prompt": ({"prompt": None}, "prompt", "must be a list"),
    "nothing asked": ({"prompt": [{"role": "user", "content": "<image>"}], "question": None}, "question", "null"),
    "no ground truth": ({"ground_truth": [], "answer": None}, "reward_model", "no answer"),
    "an empty ground truth": ({"ground_truth": [""]}, "ground_truth", "empty"),
    "an unknown transform": ({"transform": ["crop", "shear"]}, "transform", "not known"),
    "a transform that is a number": ({"transform": [3]}, "transform", "not known"),
    "a diagonal flip": ({"transform": ["rotate_90", "flip_vertical"]}, "transform", "diagonal flip"),
    "a box of three": ({"bbox": [1.0, 2.0, 3.0]}, "bbox", "four numbers"),
    "a reversed box": ({"bbox": [30.0, 30.0, 10.0, 10.0]}, "bbox", "reversed"),
    "a box that fits in neither frame": ({"bbox": [50.0, 50.0, 70.0, 70.0]}, "bbox", "as it is shown and undamaged"),
    "extra_info that is no object": ({"extra_info": "seven"}, "extra_info", "not JSON"),
}  # fmt: skip


def edit_turn(index, old, new):
    def apply(row):
        row["conversations"][index]["value"] = row["conversations"][index]["value"].replace(old, new)

    return apply


def put(**changes):
    return lambda row: row.update(changes)


SFT = {
    "no conversations": (put(conversations=None), "conversations", "list of turns"),
    "conversations that are a text": (put(conversations="hi"), "conversations", "list of turns"),
    "a turn of another shape": (lambda row: row["conversations"].insert(1, "hi"), "conversations", "turn 1"),
    "a role that is not known": (lambda row: row["conversations"][1].update({"from": "narrator"}), "conversations", "turn 1"),
    "a value that is null": (lambda row: row["conversations"][1].update(value=None), "conversations", "turn 1"),
    "turns that do not alternate": (lambda row: row["conversations"].pop(2), "conversations", "alternate"),
    "only the question": (lambda row: row.update(conversations=row["conversations"][:1]), "conversations", "at least one gpt"),
    "too many placeholders": (edit_turn(2, "<image>", "<image><image>"), "conversations", "4 <image> placeholders for 3 pictures"),
    "too few placeholders": (edit_turn(4, "<image>", ""), "conversations", "2 <image> placeholders for 3 pictures"),
    "no placeholder in the question": (
        lambda row: (edit_turn(0, "<image>", "")(row), row["images"].pop()), "conversations", "shows 0 pictures",
    ),
    "a malformed call": (edit_turn(1, '"arguments"', "arguments"), "conversations", "reply 0: The tool call is not valid JSON"),
    "another tool": (edit_turn(1, "code_image_tool", "zoom"), "conversations", "reply 0: Unknown tool 'zoom'"),
    "a call without code": (edit_turn(1, '"code"', '"kode"'), "conversations", 'reply 0: The call needs "arguments"'),
    "an image_index that is not there": (edit_turn(1, '"image_index": 0', '"image_index": 9'), "conversations", "'image_index' 9"),
    "a reply without an action": (edit_turn(3, "tool_call>", "call>"), "conversations", "reply 1: There was no tool call"),
    "no answer at the end": (edit_turn(5, "answer>", "reply>"), "conversations", "reply 2"),
    "an answer in the middle": (
        lambda row: row["conversations"][1].update(value="<think>x</think><answer>7</answer>"), "conversations", "goes on",
    ),
    "a call at the end": (
        lambda row: (row.update(conversations=row["conversations"][:4]), row["images"].pop()), "conversations", "no <answer>",
    ),
    "an empty question": (edit_turn(0, "What is bar 1?", ""), "conversations", "asks nothing"),
    "no images": (put(images=None), "images", "list of paths"),
    "images that are gone": (put(images=["codevision_images/gone.png"] * 3), "images", "no such image file"),
    "metadata that is cut": (put(metadata='{"sample_id": 3'), "metadata", "not JSON"),
    "metadata that is a number": (put(metadata=7), "metadata", "object"),
}  # fmt: skip

SAMPLE_ROWS = {
    "a trajectory without turns": (lambda row: row["trajectory"].update(turns=[]), "trajectory", "no replies"),
    "a trajectory that is a text": (lambda row: row.update(trajectory="x"), "trajectory", "object"),
    "a turn without its fields": (lambda row: row["trajectory"]["turns"][0].pop("call"), "trajectory", "'call'"),
    "an unknown field": (lambda row: row["trajectory"]["turns"][0].update(colour=1), "trajectory", "colour"),
    "an image_index outside": (lambda row: row["trajectory"]["turns"][0]["observation"].update(image_index=9), "trajectory", "outside"),
    "trained of another length": (lambda row: row.update(trained=[True]), "trained", "2 values"),
    "a sample that is a text": (lambda row: row.update(sample="x"), "sample", "object"),
    "required_ops that are a text": (lambda row: row["sample"].update(required_ops="crop"), "required_ops", "list of names"),
    "meta that is a list": (lambda row: row["sample"].update(meta=[1]), "meta", "object"),
    "a picture that is gone": (lambda row: row["trajectory"].update(images=["images/gone.png"] * 2), "images", "no such image file"),
}  # fmt: skip


@pytest.fixture
def broken_pictures(tmp_path):
    files = {
        "text.png": b"hello", "empty.png": b"", "cut.png": PNG[: len(PNG) * 2 // 3], "cut.jpg": JPEG[: len(JPEG) // 2],
        "bit.png": PNG[:60] + bytes([PNG[60] ^ 0xFF]) + PNG[61:], "bomb.png": bomb(12_000, 12_000), "bomb2.png": bomb(100_000, 100_000),
        "thin.png": png(picture(900, 2)), "page.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 60 40\nshowpage\n",
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)


def check_one_refused(path, out, to, field, word, row=2, kept=2):
    """Of the file's rows one is refused, for the reason that is expected, and the others are kept."""
    summary = convert(path, out, to)
    refused = read_jsonl(f"{out}.rejects.jsonl")
    assert [(r["file"], r["row"], r["field"]) for r in refused] == [(str(path), row, field)], refused
    assert word in refused[0]["reason"] and "\n" not in refused[0]["reason"]
    assert (summary.kept, summary.rejected.total()) == (kept, 1)
    return summary


@pytest.mark.parametrize("changes, field, word", OWN.values(), ids=OWN.keys())
def test_a_broken_own_row_is_refused_alone(tmp_path, broken_pictures, changes, field, word):
    bad = {key: value for key, value in own_row(1, tmp_path, **changes).items() if value is not ...}
    path = write_rows(tmp_path / "rows.jsonl", [own_row(0, tmp_path, id="first"), bad, own_row(2, tmp_path)])
    check_one_refused(path, tmp_path / "out.jsonl", "jsonl", field, word)


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
@pytest.mark.parametrize("line, word", OWN_LINES.values(), ids=OWN_LINES.keys())
def test_a_line_that_is_no_row_is_refused_alone(tmp_path, line, word, suffix):
    path = write_rows(tmp_path / f"rows{suffix}", [own_row(0, tmp_path), line, own_row(2, tmp_path)])
    if suffix == ".json" and line == b"{} {}":
        word = "missing"  # in a list these are two rows, without a comma between
    summary = convert(path, tmp_path / "out.jsonl", "jsonl")
    refused = read_jsonl(tmp_path / "out.jsonl.rejects.jsonl")
    assert summary.kept == 2
    assert refused and all(r["file"] == str(path) and r["row"] in (2, 3) for r in refused)
    assert any(word in r["reason"] or "cut" in r["reason"] for r in refused)


@pytest.mark.parametrize("changes, field, word", RL.values(), ids=RL.keys())
def test_a_broken_rl_row_is_refused_alone(tmp_path, changes, field, word):
    (tmp_path / "in").mkdir()
    for number, row in enumerate((rl_row(0), rl_row(1, **changes), rl_row(2))):  # files of their own: a Parquet column has one type
        write_rows(tmp_path / "in" / f"{number}.parquet", [row])
    summary = convert(tmp_path / "in", tmp_path / "out.parquet", "verl")
    (refused,) = read_jsonl(tmp_path / "out.parquet.rejects.jsonl")
    assert (refused["file"], refused["row"], refused["field"]) == (str(tmp_path / "in" / "1.parquet"), 1, field)
    assert word in refused["reason"]
    assert summary.kept == 2


@pytest.mark.parametrize("change, field, word", SFT.values(), ids=SFT.keys())
def test_a_broken_sft_row_is_refused_alone(tmp_path, change, field, word):
    rows = [sft_row(n, tmp_path) for n in range(3)]
    change(rows[1])
    check_one_refused(write_rows(tmp_path / "codevision_sft.json", rows), tmp_path / "out.json", "sharegpt", field, word)


@pytest.mark.parametrize("change, field, word", SAMPLE_ROWS.values(), ids=SAMPLE_ROWS.keys())
def test_a_broken_row_of_ours_is_refused_alone(tmp_path, sandbox, change, field, word):
    replies = [render_reply("Turn.", ToolCall("result = image.rotate(90)")), render_reply("I see.", answer="F")]
    rows = []
    for number in range(3):
        item = sample(40, 30, seed=number)
        (done,) = run_episodes(ScriptedModel(replies), sandbox, [item], AgentLimits())
        rows.append(trajectory_row(tmp_path, item, done.trajectory()))
    change(rows[1])
    check_one_refused(write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "out.parquet", "hf", field, word)


def test_the_corpus_has_at_least_sixty_kinds_of_broken_rows():
    assert len(OWN) + 2 * len(OWN_LINES) + len(RL) + len(SFT) + len(SAMPLE_ROWS) >= 60


def test_all_of_them_in_one_file_cost_no_good_row(tmp_path, broken_pictures):
    rows = []
    for number, (changes, _, _) in enumerate(OWN.values()):
        rows += [own_row(1000 + number, tmp_path, id=f"good{number}" if number else "first")]
        rows += [{key: value for key, value in own_row(1, tmp_path, **changes).items() if value is not ...}]
    rows += [line for line, _ in OWN_LINES.values() if b"\n" not in line]
    summary = convert(write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl", "jsonl")
    assert summary.kept == len(OWN)
    kept = [row["id"] for row in read_jsonl(tmp_path / "out.jsonl")]
    assert kept == ["first", *(f"good{n}" for n in range(1, len(OWN)))]
    assert summary.rows == summary.kept + summary.rejected.total() == len(rows)


# ---------------------------------------------------------------- whole files


def test_a_file_that_is_no_parquet_costs_only_itself(tmp_path):
    write_rows(tmp_path / "a.parquet", [rl_row(0)])
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and then nothing")
    (tmp_path / "c.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-30])
    write_rows(tmp_path / "d.parquet", [rl_row(1)])
    summary = convert(tmp_path, tmp_path / "out.jsonl", "jsonl")
    assert (summary.kept, summary.rejected.total()) == (2, 2)
    refused = read_jsonl(tmp_path / "out.jsonl.rejects.jsonl")
    assert [(Path(r["file"]).name, r["row"]) for r in refused] == [("b.parquet", 0), ("c.parquet", 0)]


def test_damage_inside_a_parquet_file_costs_the_row_group(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "train.parquet"
    pq.write_table(pa.Table.from_pylist([rl_row(n) for n in range(6)]), path, row_group_size=2, compression="gzip")
    meta = pq.read_metadata(path).row_group(1)
    images = next(meta.column(i) for i in range(meta.num_columns) if meta.column(i).path_in_schema.startswith("images"))
    data = bytearray(path.read_bytes())
    start = (images.dictionary_page_offset or images.data_page_offset) + 40
    data[start : start + 200] = bytes(200)
    path.write_bytes(bytes(data))
    summary = convert(path, tmp_path / "out.jsonl", "jsonl")
    (refused,) = read_jsonl(tmp_path / "out.jsonl.rejects.jsonl")
    assert summary.kept == 4
    assert refused["row"] == 3 and "rows 3 to 4 can't be read" in refused["reason"]


def test_a_list_that_is_cut_gives_what_is_whole(tmp_path):
    whole = write_rows(tmp_path / "codevision_sft.json", [sft_row(n, tmp_path) for n in range(3)]).read_bytes()
    (tmp_path / "codevision_sft.json").write_bytes(whole[: len(whole) - 300])
    check_one_refused(tmp_path / "codevision_sft.json", tmp_path / "out.json", "sharegpt", "", "cut", row=3)


def test_a_stray_quote_or_bracket_in_a_list_costs_one_row(tmp_path):
    for number, fault in enumerate((b'"', b"{", b"}", b"]", b"[", b"\\")):
        rows = [json.dumps(sft_row(n, tmp_path)).encode() for n in range(4)]
        place = rows[1].index(b'"images"')
        rows[1] = rows[1][:place] + fault + rows[1][place:]
        path = write_rows(tmp_path / f"codevision{number}.json", rows)
        summary = convert(path, tmp_path / f"out{number}.json", "sharegpt")
        assert summary.kept == 3, fault
        assert all(r["row"] >= 2 for r in read_jsonl(tmp_path / f"out{number}.json.rejects.jsonl"))


def test_a_utf16_file_is_named_with_the_fix(tmp_path):
    (tmp_path / "rows.csv").write_text("image,question,answer\na.png,What?,1\n", encoding="utf-16")
    with pytest.raises(UserError, match=r"rows.csv: not a format that is known \(no row of it can be read\)"):
        convert(tmp_path / "rows.csv", tmp_path / "out.jsonl", "jsonl")
    with pytest.raises(UserError, match="none of its 0 rows can be used"):
        convert(tmp_path / "rows.csv", tmp_path / "out.jsonl", "jsonl", source="own")
    (refused,) = read_jsonl(tmp_path / "out.jsonl.rejects.jsonl")
    assert (refused["row"], "iconv" in refused["reason"]) == (0, True)


def test_a_table_with_bad_rows_keeps_the_good_ones(tmp_path):
    for n in range(4):
        own_row(n, tmp_path)
    lines = [b"image,question,answer", b"own0.png,What?,1", b"own1.png,What?", "own2.png,Où?,1".encode("latin-1"), b"own3.png,What?,3", b""]
    (tmp_path / "rows.csv").write_bytes(b"\n".join(lines))
    summary = convert(tmp_path / "rows.csv", tmp_path / "out.jsonl", "jsonl")
    refused = read_jsonl(tmp_path / "out.jsonl.rejects.jsonl")
    assert [(r["row"], r["field"]) for r in refused] == [(2, ""), (3, "question")]
    assert summary.kept == 2


def test_an_old_rejects_file_goes_when_nothing_is_refused(tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", [own_row(0, tmp_path), {"image": 1}])
    convert(path, tmp_path / "out.jsonl", "jsonl")
    assert (tmp_path / "out.jsonl.rejects.jsonl").is_file()
    write_rows(path, [own_row(0, tmp_path)])
    convert(path, tmp_path / "out.jsonl", "jsonl")
    assert not (tmp_path / "out.jsonl.rejects.jsonl").exists()


# ---------------------------------------------------------------- what the user gets wrong


def refused_command(capsys, *argv):
    assert main(["convert", *map(str, argv)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_a_user_gets_wrong_is_one_line(capsys, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", [own_row(0, tmp_path)])
    assert "no such file or folder" in refused_command(capsys, tmp_path / "gone", tmp_path / "o.jsonl", "--to", "jsonl")
    assert "writes .parquet files. Name it" in refused_command(capsys, rows, tmp_path / "o.jsonl", "--to", "hf")
    assert "is the input as well" in refused_command(capsys, rows, rows, "--to", "jsonl")
    (tmp_path / "empty").mkdir()
    assert "no .parquet, .jsonl" in refused_command(capsys, tmp_path / "empty", tmp_path / "o.jsonl", "--to", "jsonl")
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    assert "its fields are a" in refused_command(capsys, tmp_path / "other.jsonl", tmp_path / "o.jsonl", "--to", "jsonl")
    (tmp_path / "blank.jsonl").write_text("")
    line = refused_command(capsys, tmp_path / "blank.jsonl", tmp_path / "o.jsonl", "--to", "jsonl", "--from", "own")
    assert "the file has no rows" in line
    assert not (tmp_path / "o.jsonl").exists() and not (tmp_path / "o.jsonl.part").exists()


def test_the_command_prints_counts_reasons_and_frames(capsys, tmp_path):
    upright = rl_row(3, transform=None, bbox=[1.0, 1.0, 9.0, 9.0])
    write_rows(tmp_path / "in.parquet", [rl_row(0), rl_row(1, bbox=[3.0, 2.0, 1.0, 0.0]), rl_row(2), upright])
    assert main(["convert", str(tmp_path / "in.parquet"), str(tmp_path / "out"), "--to", "jsonl"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-3:] == [
        "4 rows: 3 kept, 1 rejected",
        "  rejected 1: bbox: 'bbox' is empty or reversed",
        "  box frames: canonical 2, undamaged 1",
    ]
    assert len(read_jsonl(tmp_path / "out" / "train.jsonl")) == 3
