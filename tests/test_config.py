"""Recipes: what loads, what is refused and with which words; run folders; and the files under them."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codevision_lite import files
from codevision_lite.config import claim_run_folder, dump_recipe, load_recipe, recipe_hash
from codevision_lite.errors import UserError
from codevision_lite.files import append_jsonl, read_jsonl, require_space, write_atomic
from codevision_lite.records import Sample


@dataclass(frozen=True)
class Reward:
    weights: dict[str, float] = field(default_factory=lambda: {"accuracy": 1.0, "format": 0.2})


@dataclass(frozen=True)
class Sft:
    steps: int = 100
    rate: float = 2e-4
    packing: bool = False
    mode: Literal["qlora", "lora", "full"] = "qlora"
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    size: tuple[int, int] = (56, 56)
    adapter: str | None = None
    limit: int | float | None = None

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps must be >= 1, got {self.steps}")


@dataclass(frozen=True)
class Recipe:
    name: str
    run_folder: Path = Path("runs/demo")
    seed: int = 0
    sft: Sft = field(default_factory=Sft)
    reward: Reward = field(default_factory=Reward)
    judge: Reward | None = None


def recipe_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "demo.yaml"
    path.write_text(text)
    return path


def load(tmp_path: Path, text: str = "name: demo\n", *overrides: str) -> Recipe:
    return load_recipe(recipe_file(tmp_path, text), overrides, cls=Recipe)


def test_file_holds_only_what_differs_from_the_defaults(tmp_path):
    assert load(tmp_path, "name: demo\nsft:\n  steps: 3\n") == Recipe("demo", sft=Sft(steps=3))


def test_section_with_every_line_commented_out_keeps_its_defaults(tmp_path):
    assert load(tmp_path, "name: demo\nsft:\n  # steps: 3\n") == Recipe("demo")


@pytest.mark.parametrize(
    ("override", "section"),
    [
        ("sft.steps=3", Sft(steps=3)),
        ("sft.rate=1e-4", Sft(rate=1e-4)),
        ("sft.rate=1", Sft(rate=1.0)),
        ("sft.packing=true", Sft(packing=True)),
        ("sft.mode=lora", Sft(mode="lora")),
        ("sft.targets=[a, b]", Sft(targets=("a", "b"))),
        ("sft.targets=a,b", Sft(targets=("a", "b"))),
        ("sft.targets=a", Sft(targets=("a",))),
        ("sft.targets=", Sft(targets=())),
        ("sft.size=28,56", Sft(size=(28, 56))),
        ("sft.adapter=123", Sft(adapter="123")),
        ("sft.adapter=no", Sft(adapter="no")),
        ("sft.adapter=a: b", Sft(adapter="a: b")),
        ("sft.adapter=null", Sft(adapter=None)),
        ("sft.limit=2.5", Sft(limit=2.5)),
        ("sft.limit=2", Sft(limit=2)),
    ],
)
def test_override_is_read_as_the_type_that_is_wanted(tmp_path, override, section):
    loaded = load(tmp_path, "name: demo\nsft: {steps: 100}\n", override).sft
    assert loaded == section
    assert [type(v) for v in vars(loaded).values()] == [type(v) for v in vars(section).values()]


def test_override_completes_a_default_mapping_and_a_mapping_of_the_file_replaces_it(tmp_path):
    completed = load(tmp_path, "name: demo\n", "reward.weights.tools=2")
    assert completed.reward.weights == {"accuracy": 1.0, "format": 0.2, "tools": 2.0}
    assert load(tmp_path, "name: demo\nreward: {weights: {tools: 2}}\n").reward.weights == {"tools": 2.0}
    assert load(tmp_path, "name: demo\n", "judge.weights.tools=2").judge.weights["tools"] == 2.0


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("name: demo\nsft:\n  stepz: 3\n", (), "demo.yaml line 3: sft.stepz: unknown key; did you mean steps?"),
        ("name: demo\nsfft: {}\n", (), "demo.yaml line 2: sfft: unknown key; did you mean sft?"),
        ("name: demo\nsteps: 3\n", (), "demo.yaml line 2: steps: unknown key; did you mean sft.steps?"),
        ("name: demo\nsft: {steps: many}\n", (), "line 2: sft.steps: a whole number is expected, got 'many' (text)"),
        ("name: demo\nsft: {steps: 1.5}\n", (), "sft.steps: a whole number is expected, got 1.5"),
        ("name: demo\nsft: {steps: true}\n", (), "sft.steps: a whole number is expected, got True"),
        ("name: demo\nsft: {rate: yes}\n", (), "sft.rate: a number is expected, got True"),
        ("name: demo\nsft: {rate: .nan}\n", (), "sft.rate: a number is expected, got nan"),
        ("name: demo\nsft: {packing: 1}\n", (), "sft.packing: true or false is expected, got 1"),
        ("name: demo\nsft: {adapter: 1}\n", (), "sft.adapter: text is expected, got 1"),
        ("name: demo\nsft: {targets: abc}\n", (), "sft.targets: a list, each value text is expected, got 'abc' (text)"),
        ("name: demo\nsft: {targets: [1]}\n", (), "sft.targets[0]: text is expected, got 1"),
        ("name: demo\nsft: {size: [1, 2, 3]}\n", (), "sft.size: a list of 2 values is expected, got 3 values"),
        ("name: demo\nsft: {mode: qlorra}\n", (), "one of qlora, lora, full is expected, got 'qlorra'; did you mean qlora?"),
        ("name: demo\nsft: 3\n", (), "sft: a section (key: value lines) is expected, got 3"),
        ("name: demo\nreward: {weights: 3}\n", (), "reward.weights: a section (key: value lines) is expected, got 3"),
        ("name: demo\nreward: {weights: {a: b}}\n", (), "line 2: reward.weights.a: a number is expected, got 'b' (text)"),
        ("name: demo\nsft: {steps: 0}\n", (), "demo.yaml line 2: sft: steps must be >= 1, got 0"),
        ("name: demo\n", ("sft.steps=0",), "demo.yaml with sft.steps=0: sft: steps must be >= 1, got 0"),
        ("seed: 1\n", (), "demo.yaml: name: missing; it has no default (text)"),
        ("", (), "demo.yaml: name: missing"),
        ("name: a\nname: b\n", (), "demo.yaml line 2: name is already set in line 1"),
        ("- 1\n", (), "demo.yaml: a recipe is 'key: value' lines, this is list"),
        ("name: [a\n", (), "demo.yaml line 2: not YAML: "),
        ("name: !!python/object:os.system x\n", (), "demo.yaml line 1: not YAML: "),
        ("name: demo\n", ("sft.stepz=3",), "sft.stepz=3: unknown key stepz; did you mean steps?"),
        ("name: demo\n", ("steps=3",), "steps=3: unknown key steps; did you mean sft.steps?"),
        ("name: demo\n", ("sft.steps=many",), "sft.steps=many: a whole number is expected, got 'many' (text)"),
        ("name: demo\n", ("sft.steps.x=3",), "sft.steps.x=3: sft.steps is a whole number and has no keys"),
        ("name: demo\n", ("sft=3",), "sft=3: a section (key: value lines) is expected, got 3"),
        ("name: demo\n", ("steps",), "steps: an override is key=value, such as sft.steps=3"),
        ("name: demo\n", ("=3",), "=3: an override is key=value, such as sft.steps=3"),
    ],
)
def test_what_is_wrong_is_one_line_with_file_key_and_expectation(tmp_path, text, overrides, message):
    with pytest.raises(UserError) as e:
        load(tmp_path, text, *overrides)
    assert message in str(e.value)
    assert "\n" not in str(e.value)


def test_missing_recipe_names_the_nearest_file(tmp_path):
    recipe_file(tmp_path, "name: demo\n")
    with pytest.raises(UserError, match=r"dmeo\.yaml: no such file; did you mean .*demo\.yaml\?"):
        load_recipe(tmp_path / "dmeo.yaml", cls=Recipe)
    with pytest.raises(UserError, match=r"zzz: no such file; there are: demo\.yaml"):
        load_recipe(tmp_path / "zzz", cls=Recipe)


sections = st.builds(
    Sft,
    steps=st.integers(1, 10**9),
    rate=st.floats(allow_nan=False, allow_infinity=False),
    packing=st.booleans(),
    mode=st.sampled_from(["qlora", "lora", "full"]),
    targets=st.lists(st.text()).map(tuple),
    adapter=st.none() | st.text(),
    limit=st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
)


@settings(max_examples=60, deadline=None)
@given(name=st.text(), section=sections, weights=st.dictionaries(st.text(), st.floats(-1e9, 1e9)))
def test_dump_round_trips(tmp_path_factory, name, section, weights):
    recipe = Recipe(name, sft=section, reward=Reward(weights), judge=Reward({}))
    path = tmp_path_factory.getbasetemp() / "recipe.yaml"
    path.write_bytes(dump_recipe(recipe).encode())
    assert load_recipe(path, cls=Recipe) == recipe


def test_hash_changes_with_any_value_but_the_run_folder():
    recipe = Recipe("demo")
    assert recipe_hash(recipe) == recipe_hash(replace(recipe, run_folder=Path("elsewhere")))
    assert recipe_hash(recipe) != recipe_hash(replace(recipe, reward=Reward({})))
    assert len(recipe_hash(recipe)) == 12


def test_run_folder_is_claimed_once_and_resumed_by_the_same_recipe(tmp_path):
    folder = tmp_path / "runs" / "demo"
    assert claim_run_folder(folder, Recipe("demo")) is False
    (folder / "metrics.jsonl").write_text("{}\n")
    assert claim_run_folder(folder, Recipe("demo", run_folder=Path("elsewhere"))) is True
    assert load_recipe(folder / "config.yaml", cls=Recipe) == Recipe("demo")


def test_run_folder_of_another_run_is_refused_with_the_difference_and_the_fix(tmp_path):
    claim_run_folder(tmp_path, Recipe("demo"))
    with pytest.raises(UserError, match=r"holds another run \(sft\.steps: 100 there, 3 now\).*rm -r"):
        claim_run_folder(tmp_path, Recipe("demo", sft=Sft(steps=3)))


def test_run_folder_with_foreign_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match="is not empty and holds no run"):
        claim_run_folder(tmp_path, Recipe("demo"))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_run_folder_that_is_a_file_is_a_user_error(tmp_path):
    (tmp_path / "demo").write_text("x")
    with pytest.raises(UserError, match="is a file, not a folder"):
        claim_run_folder(tmp_path / "demo", Recipe("demo"))


def test_atomic_write_leaves_the_old_file_and_nothing_else_when_the_disk_is_full(tmp_path, monkeypatch):
    path = write_atomic(tmp_path / "a" / "results.json", "old")

    def no_space(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", no_space)
    with pytest.raises(UserError, match=r"results\.json: no space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_jsonl_appends_whole_rows_and_writes_nan_as_null(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_jsonl(path, {"loss": float("nan"), "step": np.int64(1), "at": Path("x"), "list": (np.float32(0.5),)})
    append_jsonl(path, {"text": "line\nbreak \u2028 ü"})
    assert path.read_bytes().count(b"\n") == 2
    assert read_jsonl(path) == [{"loss": None, "step": 1, "at": "x", "list": [0.5]}, {"text": "line\nbreak \u2028 ü"}]


@pytest.mark.parametrize(("tail", "kept"), [(b'{"b": 2', 1), (b'{"b": 2}', 2), (b"x" * 200_000, 1)])
def test_append_repairs_the_row_that_a_crash_cut(tmp_path, tail, kept):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + tail)
    assert len(read_jsonl(path, cut_tail=True)) == kept
    append_jsonl(path, {"c": 3})
    assert [list(row) for row in read_jsonl(path)] == [*[["a"], ["b"]][:kept], ["c"]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id": 1', "rows.jsonl line 2: not JSON: "),
        (b"[1]", "rows.jsonl line 2: a JSON object {...} is needed, got list"),
        (b'{"id": "\xff"}', "rows.jsonl line 2: not UTF-8 text"),
        (b'{"id": 1, "question": "?"}', "rows.jsonl line 2: field 'image' is missing (fields: id, question)"),
        (b'{"id": 1, "question": "?", "image": "x", "answers": 3}', "rows.jsonl line 2: 'int' object is not iterable"),
    ],
)
def test_broken_row_is_named_by_file_line_and_reason(tmp_path, line, message):
    path = tmp_path / "rows.jsonl"
    good = json.dumps(Sample("a", "?", "x.png", ("A",)).to_json("x.png"))
    path.write_bytes(good.encode() + b"\n" + line + b"\n")
    with pytest.raises(UserError) as e:
        read_jsonl(path, Sample.from_json)
    assert message in str(e.value)


def test_too_little_space_is_said_before_work_starts(tmp_path):
    require_space(tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(UserError, match=r"MiB needed, .* MiB free"):
        require_space(tmp_path, 2**60)
