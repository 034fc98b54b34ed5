"""Pages, charts and photographs as training rows: all five types, verified, the same bytes for the same seed, also after a kill."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from codevision_lite.cli import main
from codevision_lite.datasets.rows import load_samples, load_training_rows
from codevision_lite.errors import UserError
from codevision_lite.geometry import ORIENTATIONS, containment
from codevision_lite.recipe import FAMILIES, SFT_TYPES, DataConfig, EvalStage
from codevision_lite.records import Sample
from codevision_lite.reward import RewardConfig, score
from codevision_lite.synth import build, pages, sources
from codevision_lite.synth.gold import Gold, make_golds, replay, restores
from codevision_lite.synth.samples import evenly, split_of

DENSE = RewardConfig.preset("dense")
DRAW = sources.weighted(FAMILIES)


@pytest.fixture(scope="module")
def made(sandbox):
    types = list(itertools.islice(evenly(SFT_TYPES), 80))
    return list(make_golds(pages.chunk_scripts(3, "train", 0, types, DRAW), sandbox))


@pytest.fixture(scope="module")
def golds(made):
    return [m for m in made if isinstance(m, Gold)]


@pytest.mark.slow
def test_nearly_all_scripts_do_what_they_claim_in_the_asked_proportions(made, golds):
    assert len(golds) >= 0.93 * len(made)
    counts = Counter(g.type for g in golds)
    assert set(counts) == set(SFT_TYPES)
    for name, weight in SFT_TYPES.items():
        assert abs(counts[name] - 80 * weight) <= 5, counts


def test_golds_earn_the_maximum_of_their_type(golds):
    for gold in golds:
        sample = gold.item.sample
        terms = score(sample, gold.trajectory, DENSE).terms
        assert (terms["accuracy"].value, terms["format"].value) == (1.0, 1.0), sample.id
        needs = bool(sample.required_ops)
        if gold.type in ("single_tool", "multi_tool"):
            assert terms["must_use"].value >= (0.75 if needs else 0.0), (sample.id, terms["must_use"])
            remedied = ":" in sample.damage  # a turn that no operation requires
            assert terms["completion"].value == float(needs and not remedied), (sample.id, terms["completion"])
        penalties = {name: t.value for name, t in terms.items() if t.weight < 0 and t.value}
        allowed = {"economy", "turn_limit"} if gold.type in ("error_handling", "multi_crop") else {"economy"}
        assert set(penalties) <= allowed, (sample.id, gold.type, penalties)


def test_required_operations_restore_the_undamaged_picture(golds):
    assert all(restores(g.item) for g in golds)


def test_windows_of_a_multi_crop_shrink_one_inside_the_other(golds):
    several = [g for g in golds if g.type == "multi_crop"]
    assert len(several) >= 8
    for gold in several:
        frames = [o.frame for o in gold.trajectory.observations if any(op.name == "crop" for op in o.ops)]
        boxes = [f.box_in_source() for f in frames]
        assert len(boxes) >= 2
        for outer, inner in itertools.pairwise(boxes):
            assert containment(inner, outer) > 0.97, gold.item.sample.id
            assert area(inner) < 0.75 * area(outer)
        assert containment(gold.item.sample.target_box, boxes[-1]) > 0.97


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def test_mistakes_are_of_every_kind_and_are_not_learned(sandbox):
    scripts = pages.chunk_scripts(5, "train", 0, ["error_handling"] * 80, sources.weighted({"chart": 1, "receipt": 1}))
    golds = [m for m in make_golds(scripts, sandbox) if isinstance(m, Gold)]
    first_words = Counter()
    for gold in golds:
        untrained = [t for t, trained in zip(gold.trajectory.turns, gold.trained, strict=True) if not trained]
        assert 1 <= len(untrained) <= 2
        for turn in untrained:
            first_words["wrong turn" if turn.observation.status == "ok" else turn.observation.message.split()[0]] += 1
        assert gold.trajectory.turns[-1].answer is not None and gold.trained[-1]
    assert {"SyntaxError", "NameError", "ValueError", "No", "Not", "TypeError", "wrong turn"} <= set(first_words), first_words


def test_golds_replay_to_the_same_observations(golds, sandbox):
    assert [replay(g.item.sample, g.trajectory, sandbox) for g in golds[:25]] == [None] * 25


def test_code_and_words_vary(golds):
    codes = [t.call.code for g in golds for t in g.trajectory.turns if t.call and "crop" not in t.call.code and "[" not in t.call.code]
    assert len(set(codes)) > 0.5 * len(codes)
    thoughts = [t.think for g in golds for t in g.trajectory.turns]
    assert len(set(thoughts)) > 0.75 * len(thoughts)


@pytest.mark.slow
def test_items_have_the_asked_condition_and_boxes_inside_the_shown_picture():
    conditions = list(pages.CONDITIONS) * 2
    for item, condition in zip(pages.chunk_items(1, "rl", 0, conditions, DRAW), conditions, strict=True):
        sample = item.sample
        assert sample.meta["condition"] == condition
        assert ("crop" in sample.required_ops) == ("crop" in condition)
        assert any(op in ORIENTATIONS for op in sample.required_ops) == ("orientation" in condition or condition in ORIENTATIONS)
        assert (":" in sample.damage) == ("corruption" in condition)
        assert split_of(sample.meta["content_key"]) == "rl"
        assert restores(item), sample.id
        if sample.target_box:
            x1, y1, x2, y2 = sample.target_box
            assert 0 <= x1 < x2 <= sample.image.width and 0 <= y1 < y2 <= sample.image.height


def test_sources_that_cannot_fill_a_place_are_named(tmp_path):
    with pytest.raises(UserError, match=r"too few scenes that need a crop.*data\.families"):
        list(pages.chunk_items(0, "rl", 0, ["crop"], never_small))


def never_small(rng):
    scene = sources.FAMILIES["figure"](rng)
    return replace(scene, needs_crop=False)


# ---------------------------------------------------------------- own pictures


def test_own_pictures_are_a_source_like_any_other(tmp_path):
    scene = DRAW(random.Random(1))
    own = [Sample("mine", "What is it?", scene.image, ("A thing", "thing"), target_box=(10, 10, 80, 22), source="photo")]
    drawn = sources.weighted({"chart": 1.0}, own, own_share=1.0)(random.Random(0))
    assert (drawn.kind, drawn.answer, drawn.also) == ("own/photo", "A thing", ("thing",))
    item = pages.make_item(drawn, "orientation+crop" if drawn.needs_crop else "rotate_90", random.Random(0))
    assert item.sample.answers == ("A thing", "thing") and item.sample.required_ops[0] in ORIENTATIONS


# ---------------------------------------------------------------- the data folder

SMALL = DataConfig(world="pages", sft_rows=46, rl_rows=12, processes=2, families={"chart": 1.0, "receipt": 1.0})
EVAL = EvalStage(n_per_condition=1)


def digest(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file() and "parts" not in p.parts)
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pages") / "data"
    build.build(path, 0, SMALL, EVAL)
    return path


@pytest.mark.slow
def test_a_data_folder_is_whole_and_loads(folder):
    rows = load_training_rows(folder / "sft.jsonl")
    samples = load_samples(folder / "rl.jsonl")
    assert (len(rows), len(samples), len(load_samples(folder / "test.jsonl"))) == (46, 12, len(pages.CONDITIONS))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sum(manifest["counts"]["sft"]["type"].values()) == 46
    for name, digest_ in manifest["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest_
    assert manifest["pictures"] == len(list((folder / "images").iterdir()))
    assert not (folder / "parts").exists()
    keys = {s: {json.loads(line).get("sample", json.loads(line))["meta"]["content_key"] for line in (folder / f"{s}.jsonl").open()}
            for s in ("sft", "rl", "test")}  # fmt: skip
    assert not (keys["sft"] & keys["rl"] or keys["sft"] & keys["test"] or keys["rl"] & keys["test"])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["hf", "sharegpt"])
def test_every_trajectory_replays_after_a_round_trip_through_a_format(folder, tmp_path, sandbox, form):
    there, back = tmp_path / ("there.parquet" if form == "hf" else "there.json"), tmp_path / "back.jsonl"
    assert main(["convert", str(folder / "sft.jsonl"), str(there), "--to", form]) == 0
    assert main(["convert", str(there), str(back), "--to", "jsonl"]) == 0
    rows = load_training_rows(back)
    assert len(rows) == 46
    assert [replay(row.sample, row.trajectory, sandbox) for row in rows] == [None] * 46


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_with_any_number_of_processes(folder, tmp_path):
    build.build(tmp_path / "data", 0, replace(SMALL, processes=1), EVAL)
    assert digest(tmp_path / "data") == digest(folder)


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(") ", 1)[1][0] != "Z"  # nobody waits for an orphan where init does not
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="children are found in /proc")
def test_a_killed_run_goes_on_to_the_same_bytes(folder, tmp_path):
    program = (
        "import sys; from pathlib import Path; from test_pages import *\n"
        "if __name__ == '__main__': build.build(Path(sys.argv[1]), 0, SMALL, EVAL)\n"
    )
    script = tmp_path / "run.py"
    script.write_text(program)
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path / "data")], env=environment, stdout=subprocess.DEVNULL)
    parts = tmp_path / "data" / "parts"
    deadline = time.monotonic() + 60
    while not (parts.is_dir() and list(parts.glob("*.jsonl"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = children_of(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers and not any(map(is_running, workers)), "its processes end with it"
    assert list(parts.glob("*.jsonl")) and not (tmp_path / "data" / "manifest.json").exists(), "it was killed in the middle"
    build.build(tmp_path / "data", 0, SMALL, EVAL)
    assert digest(tmp_path / "data") == digest(folder)


def test_a_held_out_item_that_is_drawn_twice_is_made_up_for_by_one_of_its_condition(tmp_path):
    chunks = [["a upright", "b crop"], ["a upright", "c crop"], ["d crop", "e upright"]]

    def task(chunk):
        path = tmp_path / f"{chunk}.jsonl"
        rows = [{"row": {"id": name, "meta": {"condition": condition}}} for name, condition in map(str.split, chunks[chunk])]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    with ThreadPoolExecutor(1) as pool:
        rows, _ = build._collect(pool, task, 4, "test", 1, per_condition=2)
    assert [json.loads(row)["id"] for row in rows] == ["a", "b", "c", "e"]
