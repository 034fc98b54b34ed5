"""The benchmarks' files: every layout gives the same samples, pictures stay in the file, and what is broken is named with its row."""

from __future__ import annotations

import base64
import json
import pickle
import threading
from pathlib import Path

import bench_fixtures as fixtures
import numpy as np
import pytest
from PIL import Image

from codevision_lite.bench import builtin
from codevision_lite.bench.benchmark import BadRow, get_benchmark, read_switches
from codevision_lite.bench.pictures import EncodedPicture, FilePicture
from codevision_lite.damage import damage_box, damage_image
from codevision_lite.errors import UserError
from codevision_lite.geometry import iou
from codevision_lite.imaging import open_image
from codevision_lite.records import Sample
from codevision_lite.synth.samples import split_of


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return fixtures.write_fixtures(tmp_path_factory.mktemp("benchmarks"))


def load(name, path, **given):
    benchmark = get_benchmark(name)
    return list(benchmark.load(path, read_switches(benchmark, given)))


def good(items):
    assert [str(i) for i in items if isinstance(i, BadRow)] == []
    return items


def bad(items):
    return [(i.row, i.reason) for i in items if isinstance(i, BadRow)]


def pixels(sample):
    image = open_image(sample.image)
    return image.size, image.tobytes()


def comparable(sample):
    return sample.question, sample.answers, sample.meta["category"], sample.meta["group"], pixels(sample)


# ---------------------------------------------------------------- what the layouts hold

LAYOUTS = [
    ("ocrbench", "parquet", 20), ("ocrbench", "tsv", 20), ("chartqapro", "parquet", 10), ("chartqapro", "tsv", 10),
    ("mvtoolbench", "parquet", 6), ("vstar", "parquet", 8), ("vstar", "tsv", 8), ("vstar", "jsonl", 8),
    *((f"hrbench{size}", layout, 16) for size in ("4k", "8k") for layout in ("tsv", "parquet", "references")),
]  # fmt: skip


@pytest.mark.parametrize("name, layout, n", LAYOUTS)
def test_every_row_is_a_sample_whose_reference_is_right(files, name, layout, n):
    benchmark, switches = get_benchmark(name), read_switches(get_benchmark(name))
    found = good(load(name, files[name][layout]))
    assert len(found) == n == len({s.id for s in found})
    for sample in found:
        assert {"benchmark", "category", "group", "index"} <= sample.meta.keys()
        assert sample.meta["benchmark"] == name
        assert benchmark.score(sample, sample.answers[0], switches).correct
        assert benchmark.score(sample, None, switches).value == 0.0
        json.dumps(sample.to_json("x"), allow_nan=False)


@pytest.mark.parametrize(
    "name, layouts",
    [
        ("ocrbench", ("parquet", "tsv")),
        ("chartqapro", ("parquet", "tsv")),
        ("vstar", ("parquet", "jsonl")),
        ("hrbench4k", ("parquet", "tsv", "references")),
    ],
)
def test_layouts_of_one_benchmark_hold_the_same(files, name, layouts):
    first, *others = ([comparable(s) for s in good(load(name, files[name][layout]))] for layout in layouts)
    if name == "vstar":  # of files beside it the path is what rows share, not the bytes
        first, *others = ([(q, a, c, p) for q, a, c, _, p in rows] for rows in (first, *others))
    assert all(other == first for other in others)


def test_pictures_are_those_that_were_drawn(files):
    for k, sample in enumerate(good(load("chartqapro", files["chartqapro"]["parquet"]))):
        assert pixels(sample) == ((drawn := fixtures.scene(k, "count").image).size, drawn.tobytes())


def test_questions_of_vstar_are_the_files_own_or_vlmevalkits(files):
    own = good(load("vstar", files["vstar"]["parquet"]))[1]
    assert own.question.startswith("Which symbol is shown?\n(A) ")
    assert own.question.endswith("Answer with the option's letter from the given choices directly.")
    assert set(own.meta["options"]) == {"A", "B"}
    table = good(load("vstar", files["vstar"]["tsv"]))[1]
    assert table.question == "\n".join([
        "Question: Which symbol is shown?", "Options:", *(f"{k}. {v}" for k, v in own.meta["options"].items()),
        "Please select the correct answer from the options above.",
    ])  # fmt: skip
    assert (table.meta["options"], table.answers) == (own.meta["options"], own.answers)
    plain = good(load("vstar", files["vstar"]["parquet"], prompt="plain"))[1]
    assert plain.question == "\n".join(["Which symbol is shown?", *(f"{k}. {v}" for k, v in own.meta["options"].items())])


def test_a_conversation_and_a_paragraph_come_before_the_question(files):
    _, talk, _, _, text, *_ = good(load("chartqapro", files["chartqapro"]["parquet"], form="off"))
    assert talk.question == "The conversation so far:\nQuestion: Is it bright?\nAnswer: Yes\nQuestion: How many symbols are there?"
    assert talk.meta["year"] == ["NO"]  # of the last question
    assert text.question == "Text that belongs to the chart:\nSales rose.\nHow many symbols are there?"
    assert text.meta["year"] == ["YES", "YES"]
    switches = read_switches(get_benchmark("chartqapro"))
    assert get_benchmark("chartqapro").score(text, "['2010', '2013']", switches).value == 0.5


def test_the_four_cycles_of_a_question_are_one_item(files):
    for layout in ("tsv", "references"):
        found = good(load("hrbench8k", files["hrbench8k"][layout]))
        items = [s.meta["item"] for s in found]
        assert len(set(items)) == 4
        assert all(items.count(item) == 4 for item in items)
        assert [s.answers[0] for s in found[:4]] == ["A", "B", "C", "D"]
        assert {s.meta["cycle"] for s in found} == {"cycle_0", "cycle_1", "cycle_2", "cycle_3"}


def test_formulas_are_known_by_type_and_by_data_set(tmp_path):
    rows = fixtures.ocrbench_rows(2)
    rows[0]["dataset"] = "HME100k"
    found = good(load("ocrbench", fixtures.write_parquet(tmp_path / "o.parquet", rows)))
    assert [s.meta["is_formula"] for s in found] == [True, False]


def test_ocrbench_can_ask_for_short_words(files):
    plain, asked = (load("ocrbench", files["ocrbench"]["tsv"], suffix=s)[0].question for s in ("none", "short"))
    assert asked == plain + "\nPlease try to answer the question with short words or phrases if possible."


def test_mvtoolbench_rows_say_what_was_done_and_where_to_look(files):
    for row, sample in zip(fixtures.mvtoolbench_rows(), good(load("mvtoolbench", files["mvtoolbench"]["parquet"])), strict=True):
        damage = row["extra_info"]["transform"][1]
        assert (sample.damage, sample.meta["category"], sample.required_ops[-1]) == (damage, damage, "crop")
        assert iou(sample.target_box, row["extra_info"]["bbox"]) > 0.9 or sample.meta["box_frame"] == "canonical"
        assert isinstance(sample.image, FilePicture)
        assert "<image>" not in sample.question


# ---------------------------------------------------------------- pictures stay in the file


@pytest.mark.parametrize("name, layout, n", LAYOUTS)
def test_samples_hold_no_pictures(files, name, layout, n):
    found = good(load(name, files[name][layout]))
    assert len(pickle.dumps(found)) < 2500 * n
    if layout != "jsonl":
        assert all(open_image(s.image).size == s.image.size for s in found)


@pytest.mark.parametrize("layout", ["parquet", "tsv", "references"])
def test_pictures_open_in_any_order_and_from_threads(files, layout):
    found = good(load("hrbench4k", files["hrbench4k"][layout]))
    expected = [pixels(s) for s in found]
    order = np.random.default_rng(0).permutation(2 * len(found)) % len(found)
    opened: dict[int, list[bool]] = {}

    def look(part):
        opened[part] = [pixels(found[k]) == expected[k] for k in order[part::4]]

    threads = [threading.Thread(target=look, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [all(ok) and len(ok) == 8 for ok in opened.values()] == [True] * 4


def test_a_large_table_is_read_row_by_row(tmp_path, monkeypatch, capsys):
    """10 pictures of 4 MB as base64: no more than a few of them are in memory at a time, and progress is shown."""
    import tracemalloc

    rows = fixtures.hrbench_rows(3)[:10]
    for k, row in enumerate(rows):
        row["image"] = fixtures.base64_of(Image.new("RGB", (1155, 1155), (k, 0, 0)), "BMP")
    path = fixtures.write_tsv(tmp_path / "hr_bench_4k.tsv", rows)
    size = path.stat().st_size
    assert size > 50e6
    del rows
    monkeypatch.setattr("codevision_lite.bench.tables._LARGE_MIB", 10)
    tracemalloc.start()
    n = sum(isinstance(s, Sample) for s in get_benchmark("hrbench4k").load(path, read_switches(get_benchmark("hrbench4k"))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n == 10
    assert peak < size
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"hrbench4k: reading {size >> 20}/{size >> 20} MiB")


def test_a_picture_turned_by_its_exif_is_upright(tmp_path):
    image = fixtures.scene(0).image.crop((0, 0, 200, 100))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    path = tmp_path / "turned.jpg"
    image.save(path, exif=exif)
    rows = fixtures.vstar_rows(1)
    rows[0]["image"] = {"bytes": path.read_bytes(), "path": None}
    sample = good(load("vstar", fixtures.write_parquet(tmp_path / "v.parquet", rows)))[0]
    assert sample.image.size == open_image(sample.image).size == (100, 200)


def test_paths_in_place_of_pictures(tmp_path):
    (tmp_path / "images").mkdir()
    rows = fixtures.ocrbench_tsv_rows(3)
    for k, row in enumerate(rows):
        (tmp_path / "images" / f"{k}.jpg").write_bytes(base64.b64decode(row.pop("image")))
        row["image_path"] = [f"images/{k}.jpg"]  # a list as text, as VLMEvalKit's *_local.tsv has it
    found = good(load("ocrbench", fixtures.write_tsv(tmp_path / "OCRBench_local.tsv", rows)))
    assert [Path(s.image).name for s in found] == ["0.jpg", "1.jpg", "2.jpg"]
    assert len({s.meta["group"] for s in found}) == 3


@pytest.mark.parametrize("wrap", [lambda t: f"data:image/jpeg;base64,{t}", lambda t: f"['{t}']", lambda t: "\n".join([t[:76], t[76:]])])
def test_other_ways_to_write_base64(tmp_path, wrap):
    rows = fixtures.ocrbench_tsv_rows(1)
    expected = load("ocrbench", fixtures.write_tsv(tmp_path / "a.tsv", rows))
    rows[0]["image"] = wrap(rows[0]["image"])
    found = good(load("ocrbench", fixtures.write_tsv(tmp_path / "b.tsv", rows)))
    assert [comparable(s) for s in found] == [comparable(s) for s in expected]


def test_the_picture_may_be_the_first_column_and_cells_may_be_quoted(tmp_path):
    rows = fixtures.ocrbench_tsv_rows(3)
    expected = [comparable(s) for s in load("ocrbench", fixtures.write_tsv(tmp_path / "a.tsv", rows))]
    rows = [{"image": row["image"], "hint": 'two\nlines, a "quote" and\ta tab', **row} for row in rows]
    found = good(load("ocrbench", fixtures.write_tsv(tmp_path / "b.tsv", rows)))
    assert [comparable(s) for s in found] == expected


def test_a_row_may_use_the_picture_of_a_later_row(tmp_path):
    rows = fixtures.hrbench_rows(1, references=True)[::-1]
    found = good(load("hrbench4k", fixtures.write_tsv(tmp_path / "h.tsv", rows)))
    assert [s.meta["index"] for s in found] == ["0", "3", "2", "1"]
    assert len({pixels(s) for s in found}) == 1
    assert len({s.meta["group"] for s in found}) == 1


def test_a_reference_to_a_reference_is_followed_and_a_dead_one_is_named(tmp_path):
    rows = fixtures.hrbench_rows(1, references=True)
    rows[1]["image"], rows[2]["image"], rows[3]["image"] = "2", "0", "77"
    found = load("hrbench4k", fixtures.write_tsv(tmp_path / "h.tsv", rows))
    assert [s.meta["index"] for s in found if isinstance(s, Sample)] == ["0", "2", "1"]
    assert bad(found) == [(4, "its picture is that of index '77', which has none")]


def test_rows_that_wait_for_each_other_are_named(tmp_path):
    rows = fixtures.hrbench_rows(1, references=True)
    rows[1]["image"], rows[2]["image"] = "2", "1"
    assert [row for row, _ in bad(load("hrbench4k", fixtures.write_tsv(tmp_path / "h.tsv", rows)))] == [2, 3]


# ---------------------------------------------------------------- folders


def test_a_folder_of_shards_is_one_benchmark(tmp_path):
    rows = fixtures.ocrbench_rows(6)
    (tmp_path / "data").mkdir()
    fixtures.write_parquet(tmp_path / "data" / "test-00000-of-00002.parquet", rows[:3])
    fixtures.write_parquet(tmp_path / "data" / "test-00001-of-00002.parquet", rows[3:])
    assert [s.id for s in good(load("ocrbench", tmp_path))] == [f"ocrbench-{k}" for k in range(1, 7)]


def test_the_right_file_of_a_folder_is_chosen(tmp_path):
    other = fixtures.hrbench_rows(1)
    for row in other:
        row["question"] = "of 8K"
    fixtures.write_tsv(tmp_path / "HRBench8K.tsv", other)
    fixtures.write_tsv(tmp_path / "HRBench4K.tsv", fixtures.hrbench_rows(1))
    fixtures.write_tsv(tmp_path / "HRBench4K_local.tsv", fixtures.hrbench_rows(1))
    fixtures.write_tsv(tmp_path / "OCRBench.tsv", fixtures.ocrbench_tsv_rows(2))
    assert len(good(load("hrbench4k", tmp_path))) == 4
    assert all("of 8K" in s.question for s in good(load("hrbench8k", tmp_path)))
    assert len(good(load("ocrbench", tmp_path))) == 2


# ---------------------------------------------------------------- what is broken


def broken(tmp_path, changes, rows=None):
    """The bad rows of an OCRBench TSV in which row k (from 1) has been changed."""
    rows = fixtures.ocrbench_tsv_rows(5) if rows is None else rows
    for number, change in changes.items():
        rows[number - 1] |= change
    found = load("ocrbench", fixtures.write_tsv(tmp_path / "OCRBench.tsv", rows))
    assert len(found) == len(rows)
    return bad(found)


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"image": "!" * 100}, "'image': not base64 text"),
        ({"image": "QUJD" * 50}, "'image': not a readable image: cannot identify"),
        ({"image": ""}, "no picture: 'image' and 'image_path' are empty or missing"),
        ({"image": "gone/picture.jpg"}, "'image': no such image file: gone/picture.jpg"),
        ({"image": "12345"}, "its picture is that of index '12345', which has none"),
        ({"image": "['a.jpg', 'b.jpg']"}, "'image': 2 pictures; one is needed"),
        ({"image": "['a.jpg', "}, "'image': not a list"),
        ({"question": ""}, "'question' is null"),
        ({"question": "   "}, "'question' is empty"),
        ({"answer": ""}, "'answer' is empty"),
        ({"answer": "[]"}, "'answer' is empty"),
        ({"answer": "['a', "}, "'answer' is not a list"),
        ({"answer": "['a', '']"}, "an empty answer, which would be found in any prediction"),
        ({"answer": "[['a']]"}, "'answer' must be a list of texts"),
        ({"category": "Reading"}, "'Reading' is none of OCRBench's ten question types"),
        ({"category": ""}, "'question_type' is missing"),
        ({"index": "1"}, "its index '1' was there before, in row 1"),
    ],
)
def test_a_broken_row_is_named_and_the_others_go_on(tmp_path, change, reason):
    ((number, said),) = broken(tmp_path, {3: change})
    assert number == 3
    assert said.startswith(reason), said


def cut(data: bytes) -> str:
    return base64.b64encode(data[: len(data) // 2]).decode()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_a_picture_that_was_cut_is_named(tmp_path, kind):
    whole = fixtures.encoded(fixtures.scene(0).image, kind)
    assert broken(tmp_path, {2: {"image": base64.b64encode(whole).decode()}}) == []
    ((number, said),) = broken(tmp_path, {2: {"image": cut(whole)}})
    assert (number, said.startswith("'image': not a readable image")) == (2, True)


@pytest.mark.parametrize("size, reason", [((4000, 10), "4000x10 pixels is outside the limits"), ((1, 300), "1x300 pixels is outside")])
def test_a_picture_of_an_impossible_shape_is_named(tmp_path, size, reason):
    ((_, said),) = broken(tmp_path, {1: {"image": fixtures.base64_of(Image.new("RGB", size), "PNG")}})
    assert reason in said


def test_several_broken_rows_are_all_counted(tmp_path):
    changes = {1: {"image": "x" * 90}, 4: {"question": ""}, 5: {"answer": "["}}
    assert [number for number, _ in broken(tmp_path, changes)] == [1, 4, 5]


def test_a_table_that_was_cut_ends_with_a_named_row(tmp_path):
    path = fixtures.write_tsv(tmp_path / "OCRBench.tsv", fixtures.ocrbench_tsv_rows(4))
    data = path.read_bytes()
    last = data.rindex(b"\n", 0, -1)
    path.write_bytes(data[: last + 200])
    found = load("ocrbench", path)
    assert len(found) == 4
    assert bad(found) == [(4, "2 cells for 5 columns: the row is cut, or a quote is open")]


def test_bytes_that_are_no_text_are_named(tmp_path):
    path = fixtures.write_tsv(tmp_path / "OCRBench.tsv", fixtures.ocrbench_tsv_rows(3))
    path.write_bytes(path.read_bytes().replace(b"what is written", b"what \xff\xfe written", 1))
    assert bad(load("ocrbench", path)) == [(1, "not UTF-8 text")]


def test_a_parquet_file_that_was_cut_is_named(tmp_path):
    rows = fixtures.ocrbench_rows(6)
    fixtures.write_parquet(tmp_path / "test-0.parquet", rows[:3])
    shard = fixtures.write_parquet(tmp_path / "test-1.parquet", rows[3:])
    shard.write_bytes(shard.read_bytes()[:-500])
    found = load("ocrbench", tmp_path)
    assert len(found) == 4
    assert [(Path(i.file).name, i.row) for i in found if isinstance(i, BadRow)] == [("test-1.parquet", 0)]
    assert "not a readable Parquet file, or a cut one" in found[-1].reason
    with pytest.raises(UserError, match=r"none of its 1 rows can be used\. Most often: not a readable Parquet file"):
        load("ocrbench", shard)


def test_a_broken_row_group_is_named_with_its_rows(tmp_path):
    rows = fixtures.ocrbench_rows(9)
    path = fixtures.write_parquet(tmp_path / "o.parquet", rows, row_group_size=3, compression="gzip")
    import pyarrow.parquet as pq

    column = pq.read_metadata(path).row_group(1).column(0)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(bytes(data))
    found = load("ocrbench", path)
    ((number, reason),) = bad(found)
    assert (number, reason.startswith("rows 4 to 6 can't be read")) == (4, True)
    assert [s.id for s in found if isinstance(s, Sample)] == [f"ocrbench-{k}" for k in (1, 2, 3, 7, 8, 9)]
    last = next(s for s in reversed(found) if isinstance(s, Sample))
    assert pixels(last) == pixels(load("ocrbench", fixtures.write_parquet(tmp_path / "whole.parquet", rows))[8])


def test_null_cells_of_parquet_are_named(tmp_path):
    rows = fixtures.ocrbench_rows(4)
    rows[1]["answer"], rows[2]["image"] = None, None
    found = load("ocrbench", fixtures.write_parquet(tmp_path / "o.parquet", rows))
    assert [(n, r.split(":")[0]) for n, r in bad(found)] == [(2, "'answer' is empty"), (3, "no picture")]


def test_broken_json_lines_are_named(tmp_path, files):
    lines = files["vstar"]["jsonl"].read_text().splitlines()
    without = json.loads(lines[1])
    del without["label"]
    gone = {**json.loads(lines[2]), "image": "direct_attributes/gone.jpg"}
    mixed = [lines[0], json.dumps(without), "{not json", "", json.dumps(gone), "[1]", lines[3]]
    path = files["vstar"]["jsonl"].with_name("broken.jsonl")
    path.write_text("\n".join(mixed))
    found = load("vstar", path)
    assert [number for number, _ in bad(found)] == [2, 3, 5, 6]
    assert [s.id for s in found if isinstance(s, Sample)] == ["vstar-0", "vstar-3"]
    assert dict(bad(found))[2].startswith("'label' is missing")


@pytest.mark.parametrize(
    "name, rows, column",
    [
        ("ocrbench", lambda: fixtures.vstar_tsv_rows(2), ""),
        ("ocrbench", lambda: [{k: v for k, v in r.items() if k != "answer"} for r in fixtures.ocrbench_tsv_rows(2)], "no column 'answer'"),
        ("ocrbench", lambda: [{k: v for k, v in r.items() if k != "image"} for r in fixtures.ocrbench_tsv_rows(2)], "no column 'image'"),
        ("chartqapro", lambda: fixtures.ocrbench_tsv_rows(2), "no column 'question_type' and no column 'year'"),
        ("hrbench4k", lambda: fixtures.vstar_tsv_rows(2), "no column 'cycle_category'"),
        ("vstar", lambda: fixtures.ocrbench_tsv_rows(2), ""),
        ("mvtoolbench", lambda: fixtures.ocrbench_tsv_rows(2), "no column 'prompt'"),
    ],
)
def test_a_file_of_something_else_is_one_line(tmp_path, name, rows, column):
    path = fixtures.write_tsv(tmp_path / "table.tsv", rows())
    with pytest.raises(UserError) as stopped:
        load(name, path)
    message = str(stopped.value)
    assert "\n" not in message and str(path) in message
    assert column in message


def test_wrong_paths_and_kinds_are_one_line(tmp_path):
    (tmp_path / "OCRBench.json").write_text("[]")
    (tmp_path / "empty.tsv").write_text("index\timage\tquestion\tanswer\tcategory\n")
    (tmp_path / "folder").mkdir()
    for path, message in (
        (tmp_path / "gone.tsv", "no such file or folder"), (tmp_path / "OCRBench.json", "is read from .tsv, .csv, .jsonl, .parquet"),
        (tmp_path / "empty.tsv", "the file has no rows"), (tmp_path / "folder", "in this folder"), (None, "needs its file"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            load("ocrbench", path)


def test_a_file_that_went_away_is_an_error_of_that_picture(tmp_path):
    path = fixtures.write_tsv(tmp_path / "OCRBench.tsv", fixtures.ocrbench_tsv_rows(1))
    (sample,) = good(load("ocrbench", path))
    path.unlink()
    with pytest.raises(UserError, match=r"OCRBench.tsv row 1: not a readable image"):
        open_image(sample.image)


# ---------------------------------------------------------------- built-in sets


@pytest.mark.parametrize("items, n", [("undamaged", 12), ("upright", 6), ("all", 16)])
def test_signs_are_held_out_and_the_same_for_the_same_seed(items, n):
    found = good(load("signs", None, n=n, items=items))
    assert len({s.id for s in found}) == n
    assert {split_of(s.meta["content_key"]) for s in found} == {"test"}
    assert [pixels(s) for s in found] == [pixels(s) for s in good(load("signs", None, n=n, items=items))]
    assert [s.id for s in good(load("signs", None, n=n // 2, items=items))] == [s.id for s in found[: n // 2]]
    assert [s.id for s in load("signs", None, n=n, items=items, seed=1)] != [s.id for s in found]
    assert sum(s.meta["needs_crop"] for s in found) == {"undamaged": 6, "upright": 0}.get(items, sum(s.meta["needs_crop"] for s in found))
    assert ({s.damage for s in found} == {"none"}) == (items != "all")


def test_pictures_of_signs_are_lossless_and_can_be_damaged():
    for sample in good(load("signs", None, n=6)):
        assert isinstance(sample.image, EncodedPicture)
        image = open_image(sample.image)
        turned = damage_image(image, "rotate_90")
        assert turned.size == image.size[::-1]
        if sample.target_box:
            box = damage_box(sample.target_box, "rotate_90", image.size)
            assert turned.crop(tuple(map(round, box))).size[0] > 0


@pytest.mark.slow
def test_pages_are_held_out_and_the_same_for_the_same_seed():
    found = good(load("pages", None, n=10))
    assert {split_of(s.meta["content_key"]) for s in found} == {"test"}
    assert sum(s.meta["needs_crop"] for s in found) == 5
    assert [(s.id, pixels(s)) for s in load("pages", None, n=5)] == [(s.id, pixels(s)) for s in found[:5]]


def test_built_in_answers_are_scored_as_the_reward_scores_them():
    benchmark, switches = builtin.SIGNS, read_switches(builtin.SIGNS)
    for sample in good(load("signs", None, n=8)):
        assert benchmark.score(sample, f"The answer is {sample.answers[0]}.", switches).correct
        assert not benchmark.score(sample, "no idea", switches).correct
