"""The command line: what a user gets wrong is one line on stderr and exit code 2; Ctrl-C is 130 and the same command goes on."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
from pictures import sample

from codevision_lite import pipeline
from codevision_lite.cli import main
from codevision_lite.commands.training import RECIPE_VERBS
from codevision_lite.datasets.rows import sample_row
from codevision_lite.files import append_jsonl, read_jsonl

ROOT = Path(__file__).parent.parent
RUN = [sys.executable, "-c", "import sys; from codevision_lite.cli import main; sys.exit(main())"]


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(f"run_folder: {tmp_path / 'run'}\ndata:\n  sft_rows: 4\n  rl_rows: 4\neval:\n  n_per_condition: 1\n")
    return path


def refused(capsys, *argv):
    """The one line that the command says on stderr; it ended with 2, without a traceback and before any work."""
    code = main([str(a) for a in argv])
    captured = capsys.readouterr()
    assert code == 2, captured
    assert "Traceback" not in captured.err
    line, end = captured.err.split("\n", 1)
    assert end == "", "one line"
    assert line.startswith("codevision-lite: ")
    return line


# What follows `synth RECIPE`, and what the line must say.
OVERRIDES = {
    "an unknown key": ("sft.stepz=3", ["sft.stepz=3", "did you mean steps?"]),
    "an unknown section": ("sfd.steps=3", ["sfd", "sft"]),
    "a value of another type": ("sft.steps=many", ["sft.steps", "many"]),
    "a fraction where a count is needed": ("sft.steps=2.5", ["sft.steps", "2.5"]),
    "a value outside the list": ("model.quantize=int8", ["model.quantize", "nf4", "none"]),
    "a value out of range": ("rl.generations=1", ["generations must be >= 2"]),
    "batches that do not divide": ("sft.micro_batch=5", ["micro_batch"]),
    "no equals sign": ("sft.steps", ["sft.steps"]),
    "no steps": ("sft.steps=0", ["steps"]),
    "a share above one": ("data.error_share=1.5", ["error_share"]),
    "an unknown condition": ("data.sft_mix.rotate_45=0.5", ["rotate_45"]),
    "a negative weight": ("data.rl_mix.crop=-1", ["rl_mix"]),
    "no rows": ("data.sft_rows=0", ["sft_rows"]),
    "no held-out pictures": ("eval.n_per_condition=0", ["n_per_condition"]),
    "a negative learning rate": ("sft.learning_rate=-0.1", ["learning_rate"]),
    "a zero micro batch": ("rl.micro_batch=0", ["micro_batch"]),
    "a zero sft micro batch": ("sft.micro_batch=0", ["micro_batch"]),
    "temperature zero": ("rl.temperature=0", ["temperature"]),
    "a view that is larger at least than at most": ("model={min_pixels: 9000, max_pixels: 7056}", ["min_pixels", "max_pixels"]),
    "no weights at all": ("data.rl_mix={}", ["rl_mix"]),
    "an evaluation batch of none": ("eval.batch=0", ["batch"]),
}  # fmt: skip


@pytest.mark.parametrize("override, words", OVERRIDES.values(), ids=OVERRIDES.keys())
def test_a_wrong_override_is_named_before_any_work(capsys, recipe, tmp_path, override, words):
    line = refused(capsys, "synth", recipe, override)
    for word in words:
        assert word in line
    assert not (tmp_path / "run").exists()


FILES = {
    "an unknown key": ("run_folder: x\nsft:\n  steps: 3\n  stepz: 4\n", ["small.yaml", "line 4", "stepz", "steps"]),
    "a value of another type": ("sft:\n  steps: [1]\n", ["small.yaml", "line 2", "sft.steps"]),
    "broken YAML": ("sft: {steps: 3\n", ["small.yaml"]),
    "a list": ("- 1\n- 2\n", ["small.yaml"]),
    "a key twice": ("seed: 1\nseed: 2\n", ["small.yaml", "seed"]),
    "binary": ("\x00\x01\x02", ["small.yaml"]),
}


@pytest.mark.parametrize("text, words", FILES.values(), ids=FILES.keys())
def test_a_wrong_recipe_file_is_named_with_its_line_and_key(capsys, recipe, text, words):
    recipe.write_text(text)
    line = refused(capsys, "synth", recipe)
    for word in words:
        assert word in line


def test_a_recipe_that_is_not_there_is_named(capsys, tmp_path):
    assert "gone.yaml" in refused(capsys, "demo", tmp_path / "gone.yaml")
    assert str(tmp_path) in refused(capsys, "demo", tmp_path)


@pytest.mark.parametrize("verb", RECIPE_VERBS)
def test_every_verb_reads_its_recipe_first(capsys, tmp_path, verb):
    assert "gone.yaml" in refused(capsys, verb, tmp_path / "gone.yaml")


def test_tiny_base_refuses_a_wrong_key(capsys, tmp_path):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text("tower_stepz: 3\n")
    line = refused(capsys, "tiny-base", recipe)
    assert "tower_stepz" in line and "tower_steps" in line


def test_a_folder_that_holds_another_run_is_left_alone(capsys, recipe):
    assert main(["synth", str(recipe)]) == 0
    capsys.readouterr()
    line = refused(capsys, "synth", recipe, "sft.steps=7")
    assert "holds another run" in line and "sft.steps" in line and "7" in line


def test_a_folder_that_holds_other_files_is_left_alone(capsys, recipe, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    assert "not empty" in refused(capsys, "synth", recipe)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_a_file_in_place_of_the_run_folder_is_named(capsys, recipe, tmp_path):
    (tmp_path / "run").write_text("")
    assert str(tmp_path / "run") in refused(capsys, "synth", recipe)


def test_a_full_disk_is_said_before_any_work(capsys, recipe, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 5000, 5000))
    line = refused(capsys, "demo", recipe)
    assert "needed" in line and "free" in line and str(tmp_path / "run") in line
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fills_up_on_the_way_is_one_line_too(capsys, recipe, monkeypatch):
    def fill(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pipeline, "synth", fill)
    assert "space" in refused(capsys, "synth", recipe).lower()


@pytest.mark.parametrize("verb, made_by", [("sft", "make synth"), ("rl", "make synth"), ("eval", "make synth"), ("report", "make eval")])
def test_a_stage_before_its_data_names_the_command_that_makes_it(capsys, recipe, verb, made_by):
    line = refused(capsys, verb, recipe)
    assert "is not there yet" in line and line.endswith(made_by)


@pytest.fixture
def ready_for_rl(recipe, tmp_path):
    """A run folder with RL rows and the folder of an SFT adapter: what `rl` looks for before it loads a model."""
    data = tmp_path / "run" / "data"
    assert main(["report", str(recipe)]) == 2  # claims nothing
    for i in range(3):
        append_jsonl(data / "rl.jsonl", sample_row(data, sample(40, 30, seed=i)))
    (tmp_path / "run" / "sft" / "adapter").mkdir(parents=True)
    from codevision_lite.config import dump_recipe, load_recipe
    from codevision_lite.recipe import Recipe

    (tmp_path / "run" / "config.yaml").write_text(dump_recipe(load_recipe(recipe, cls=Recipe)))
    return data


def spoil(path, number, new):
    lines = path.read_text().splitlines()
    lines[number - 1] = new(json.loads(lines[number - 1]))
    path.write_text("\n".join(lines) + "\n")


ROWS = {
    "cut JSON": (lambda row: json.dumps(row)[:30], ["not JSON"]),
    "a missing field": (lambda row: json.dumps({k: v for k, v in row.items() if k != "answers"}), ["'answers' is missing"]),
    "a missing picture": (lambda row: json.dumps(row | {"image": "images/gone.png"}), ["no such image file", "gone.png"]),
    "an unreadable picture": (lambda row: json.dumps(row | {"image": "rl.jsonl"}), ["not a readable image"]),
}


@pytest.mark.parametrize("new, words", ROWS.values(), ids=ROWS.keys())
def test_a_broken_row_is_named_with_file_line_and_field(capsys, recipe, ready_for_rl, new, words):
    spoil(ready_for_rl / "rl.jsonl", 2, new)
    capsys.readouterr()
    line = refused(capsys, "rl", recipe)
    assert f"{ready_for_rl / 'rl.jsonl'} line 2: " in line
    for word in words:
        assert word in line


def test_a_model_that_is_not_there_is_named_with_the_fix(capsys, recipe, tmp_path):
    name = f"model.name={tmp_path / 'no_model'}"
    assert main(["synth", str(recipe), name]) == 0
    capsys.readouterr()
    assert "no_model" in refused(capsys, "eval", recipe, name)


def test_synth_again_changes_nothing(capsys, recipe, tmp_path):
    assert main(["synth", str(recipe)]) == 0
    data = tmp_path / "run" / "data"
    before = {p: p.stat().st_mtime_ns for p in data.rglob("*")}
    assert main(["synth", str(recipe)]) == 0
    assert before == {p: p.stat().st_mtime_ns for p in data.rglob("*")}
    assert "going on with the run that is there" in capsys.readouterr().out
    counts = json.loads((data / "manifest.json").read_text())["counts"]
    assert [sum(counts[split]["condition"].values()) for split in ("sft", "rl", "test")] == [4, 4, 8]
    assert [len(read_jsonl(data / f"{split}.jsonl")) for split in ("sft", "rl", "test")] == [4, 4, 8]


def test_convert_makes_training_rows_of_a_table_and_pictures(capsys, tmp_path):
    sample(40, 30).image.save(tmp_path / "a.png")
    (tmp_path / "mine.csv").write_text("image,question,answer\na.png,What is it?,F\nb.png,What is it?,F\n")
    assert main(["convert", str(tmp_path / "mine.csv"), str(tmp_path / "rows.jsonl"), "--to", "jsonl"]) == 0
    assert "2 rows: 1 kept, 1 rejected" in capsys.readouterr().out
    (row,) = read_jsonl(tmp_path / "rows.jsonl")
    assert (row["question"], row["answers"], row["damage"]) == ("What is it?", ["F"], "none")
    (refused,) = read_jsonl(tmp_path / "rows.jsonl.rejects.jsonl")
    assert (refused["row"], refused["field"], refused["reason"]) == (2, "image", "no such image file: b.png")


# ---------------------------------------------------------------- as a process


def test_help_names_every_verb_and_loads_no_heavy_package():
    code = "import sys; from codevision_lite.cli import main\ntry: main(['--help'])\nfinally: print({'torch', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in (*RECIPE_VERBS, "tiny-base", "convert"))
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize("argv", [[], ["dance"], ["synth"], ["eval", "r.yaml", "--stage", "rl"]])
def test_a_wrong_command_is_explained_with_exit_code_2(argv):
    done = subprocess.run([*RUN, *argv], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("codevision-lite: ") and "--help" in done.stderr


def test_a_user_error_of_a_process_is_one_line_and_2(tmp_path):
    done = subprocess.run([*RUN, "demo", str(tmp_path / "gone.yaml")], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def interrupt(argv, when, timeout_s=60.0):
    """Run a command in a session of its own, press Ctrl-C in it as a terminal does, once `when()` holds."""
    process = subprocess.Popen([*RUN, *argv], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + timeout_s
    while not when() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()[1]
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out, err


@pytest.mark.slow
def test_ctrl_c_is_130_with_one_line_and_the_same_command_goes_on(recipe, tmp_path):
    data = tmp_path / "run" / "data"
    argv = ["synth", str(recipe), "data.sft_rows=400"]
    rows = data / "sft.jsonl"
    code, _, err = interrupt(argv, lambda: rows.exists() and rows.read_bytes().count(b"\n") > 5)
    assert code == 130
    assert [line for line in err.splitlines() if line] == [
        "codevision-lite: stopped. What is done is kept; the same command goes on from there."
    ]
    assert not (data / "manifest.json").exists()
    done = subprocess.run([*RUN, *argv], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert [row["sample"]["id"] for row in read_jsonl(rows)] == list(dict.fromkeys(row["sample"]["id"] for row in read_jsonl(rows)))
    assert len(read_jsonl(rows)) == 400


# ---------------------------------------------------------------- a reader that has seen enough


def run_closed(argv, cwd, n_lines=0, stderr=subprocess.PIPE):
    """(exit code, stderr) of a command whose reader leaves after `n_lines`, as `| head` does."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1" if n_lines else ""}
    process = subprocess.Popen([*RUN, *argv], cwd=cwd, stdout=subprocess.PIPE, stderr=stderr, env=environment)
    for _ in range(n_lines):
        process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read().decode() if stderr == subprocess.PIPE else ""
    return process.wait(120), err


CLOSED = {
    "help": ["--help"], "help of a verb": ["bench", "--help"], "a list": ["gpu-check", "--list"],
    "a plan": ["plan", "recipes/qwen2.5-vl-3b-24gb.yaml", "--gpu-gib", "24"],
    "a dry run": ["demo", "recipes/demo.yaml", "--dry-run"],
    "data": ["synth", "small.yaml"], "a conversion": ["convert", "mine.csv", "rows.jsonl", "--to", "jsonl"],
    "a completion": ["completion", "bash"],
}  # fmt: skip


@pytest.fixture
def place(recipe, tmp_path):
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    sample(40, 30).image.save(tmp_path / "a.png")
    (tmp_path / "mine.csv").write_text("image,question,answer\n" + "a.png,What is it?,F\n" * 3)
    return tmp_path


@pytest.mark.parametrize("argv", CLOSED.values(), ids=CLOSED.keys())
def test_a_closed_pipe_ends_quietly(place, argv):
    assert run_closed(argv, place) == (141, "")


@pytest.mark.slow
def test_a_pipe_that_is_closed_on_the_way_leaves_what_was_done(place):
    assert run_closed(["synth", "small.yaml", "data.sft_rows=40"], place, n_lines=1) == (141, "")
    assert main(["synth", str(place / "small.yaml"), "data.sft_rows=40"]) == 0
    assert len(read_jsonl(place / "run" / "data" / "sft.jsonl")) == 40


def test_an_error_after_the_reader_left_is_quiet_too(place):
    code, _ = run_closed(["demo", "gone.yaml"], place, stderr=subprocess.STDOUT)
    assert code == 141


def test_a_broken_pipe_of_our_own_is_not_hidden(monkeypatch, recipe):
    def fail(*_):
        raise BrokenPipeError(errno.EPIPE, "a worker died")

    monkeypatch.setattr(pipeline, "synth", fail)
    with pytest.raises(BrokenPipeError, match="a worker died"):
        main(["synth", str(recipe)])


@pytest.mark.parametrize("argv, after", [
    (["synth", "small.yaml"], "What is done is kept; the same command goes on from there."),
    (["plan", "recipes/demo.yaml"], "The same command starts over."),
])  # fmt: skip
def test_ctrl_c_is_one_line_and_130_for_every_verb(monkeypatch, capsys, place, argv, after):
    def press(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.chdir(place)
    monkeypatch.setattr("codevision_lite.config.load_recipe", press)
    assert main(argv) == 130
    assert capsys.readouterr().err == f"\ncodevision-lite: stopped. {after}\n"


def test_options_may_stand_anywhere(capsys, recipe, tmp_path):
    assert main(["eval", str(recipe), "--dry-run", "run_folder=elsewhere", "--stage", "sft"]) == 2
    assert "elsewhere/data/test.jsonl is not there yet" in capsys.readouterr().err
    assert main(["ask", str(tmp_path / "gone.png"), "--max-turns", "2", "What?"]) == 2
    assert "gone.png: no such image file" in capsys.readouterr().err


def test_an_error_that_ctrl_c_led_to_is_ctrl_c(monkeypatch, capsys, place):
    def press(*_, **__):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("a library's own words") from None

    monkeypatch.chdir(place)
    monkeypatch.setattr("codevision_lite.config.load_recipe", press)
    assert main(["synth", "small.yaml"]) == 130
    assert "codevision-lite: stopped. What is done is kept" in capsys.readouterr().err
