"""--dry-run: says what is done and what would be, refuses what the verb would refuse, and changes nothing on the disk."""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from bench_fixtures import ocrbench_tsv_rows, write_tsv
from pictures import sample

from codevision_lite.cli import build_parser, main
from codevision_lite.config import dump_recipe, load_recipe
from codevision_lite.datasets.rows import sample_row
from codevision_lite.files import append_jsonl, write_atomic
from codevision_lite.recipe import Recipe

ROOT = Path(__file__).parent.parent
TINY = ROOT / "sample_data" / "tiny_base"
LONG = ("demo", "synth", "sft", "rl", "eval", "filter", "tiny-base", "miniature", "bench", "diagnose", "gpu-check")


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(f"run_folder: run\nmodel: {{name: {TINY}}}\ndata: {{sft_rows: 4, rl_rows: 4}}\neval: {{n_per_condition: 1}}\n")
    return path


def tree(folder):
    """Every path below it with its kind, its time of change and its content."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in sorted(folder.rglob("*"))
    }


def dry(capsys, folder, *argv):
    """(exit code, what was printed, the one line of an error), after a check that nothing was changed."""
    before = tree(folder)
    code = main([*map(str, argv), "--dry-run"])
    out, err = capsys.readouterr()
    assert tree(folder) == before
    assert (code, err.count("\n"), out == "") in ((0, 0, False), (2, 1, True))
    return code, out, err


def make_stage(folder, stage):
    write_atomic(folder / stage / "adapter" / "adapter_config.json", "{}")


def make_rows(folder, split, n):
    for i in range(n):
        append_jsonl(folder / "data" / f"{split}.jsonl", sample_row(folder / "data", sample(40, 30, seed=i)))


def claim(recipe):
    write_atomic(Path("run") / "config.yaml", dump_recipe(load_recipe(recipe, cls=Recipe)))
    return Path("run")


def test_every_long_verb_has_it():
    (verbs,) = [action.choices for action in build_parser()._actions if action.choices]
    having = {verb for verb, parser in verbs.items() if "--dry-run" in parser.format_help()}
    assert having == set(LONG)


def test_a_new_run_is_all_to_do(capsys, recipe, tmp_path):
    code, out, _ = dry(capsys, tmp_path, "demo", recipe)
    assert code == 0 and "run (new)" in out and f"{TINY} (on this disk" in out and "MiB are needed" in out
    assert "4 SFT rows, 4 RL rows, 8 held-out pictures of the world of signs" in out
    assert [line.split("  ")[0].strip() for line in out.split("\n\n")[1].splitlines()] == [
        "synth", "eval base", "sft", "eval sft", "rl", "eval grpo", "report",
    ]  # fmt: skip
    assert out.endswith("Nothing was written. Without --dry-run it starts with: synth\n")


def test_a_run_under_way_is_told_from_its_files(capsys, recipe, tmp_path):
    folder = claim(recipe)
    for name in ("sft-00000", "rl-00000"):
        write_atomic(folder / "data" / "parts" / f"{name}.jsonl", "")
    assert "synth        15 of 16" in dry(capsys, tmp_path, "synth", recipe)[1]  # 40 rows a part: what is needed is nearly there
    for split in ("sft", "rl", "test"):
        make_rows(folder, split, 8 if split == "test" else 4)
    write_atomic(folder / "data" / "manifest.json", "{}")
    for number in (20, 40):
        write_atomic(folder / "sft" / "checkpoints" / f"checkpoint-{number}" / "trainer_state.json", "{}")
    write_atomic(folder / "sft" / "checkpoints" / "checkpoint-60" / "files.json", '{"adapter.bin": 5}')  # cut by a kill
    write_atomic(folder / "results.json", json.dumps({"stages": [{"name": "base"}]}))
    for i in range(3):
        append_jsonl(folder / "trajectories.jsonl", {"stage": "sft", "sample": {"id": f"s{i}"}})
    code, out, _ = dry(capsys, tmp_path, "demo", recipe)
    assert code == 0 and "goes on with the run that is there" in out and "MiB are needed" not in out
    lines = {line[:13].strip(): line[13:].strip() for line in out.split("\n\n")[1].splitlines()}
    assert [lines[name].split("  ")[0] for name in ("synth", "eval base", "sft", "eval sft", "rl", "eval grpo")] == [
        "done", "done", "40 of 200", "3 of 8", "to do", "to do",
    ]  # fmt: skip
    assert out.endswith("it starts with: sft\n")


def test_what_is_done_is_said_with_its_place(capsys, recipe, tmp_path):
    folder = claim(recipe)
    make_stage(folder, "sft")
    _, out, _ = dry(capsys, tmp_path, "sft", recipe)
    assert "run/sft/adapter" in out and out.endswith("it would find everything done\n")


def test_the_filter_and_the_kept_rows_are_counted(capsys, recipe, tmp_path):
    folder = claim(recipe)
    make_stage(folder, "sft")
    make_rows(folder, "rl", 4)
    append_jsonl(folder / "data" / "difficulty_sft.jsonl", {"id": "s0", "right": 1, "of": 8})
    assert "1 of 4  4 RL samples x 8 rollouts of the sft model" in dry(capsys, tmp_path, "filter", recipe)[1]
    append_jsonl(folder / "data" / "rl_kept.jsonl", {"id": "s0"})
    assert "on the 1 samples of run/data/rl_kept.jsonl" in dry(capsys, tmp_path, "rl", recipe)[1]


def test_long_lines_hang_where_the_terminal_ends_and_stay_whole_elsewhere(capsys, recipe, tmp_path, monkeypatch):
    whole = dry(capsys, tmp_path, "demo", recipe)[1]
    assert max(map(len, whole.splitlines())) > 80
    monkeypatch.setenv("COLUMNS", "60")
    narrow = dry(capsys, tmp_path, "demo", recipe)[1]
    assert all(len(line) <= 60 or str(TINY) in line for line in narrow.splitlines()[:-1]), "paths stay whole"
    assert narrow.split() == whole.split()


REFUSED = {
    "a wrong key": (["demo", "small.yaml", "sft.stepz=3"], "did you mean steps?"),
    "no such recipe": (["synth", "gone.yaml"], "gone.yaml"),
    "a stage before its data": (["sft", "small.yaml"], "run/data/sft.jsonl is not there yet. Make it, with the same"),
    "RL before SFT's data": (["rl", "small.yaml"], "run/data/rl.jsonl is not there yet"),
    "an adapter that is not there": (["eval", "small.yaml", "run_folder=rows", "--stage", "grpo"], "recipe, by: make rl"),
    "another run": (["demo", "small.yaml", "run_folder=other"], "other holds another run (rl.steps: 9 there, 60 now)"),
    "another's files": (["synth", "small.yaml", "run_folder=mine"], "mine is not empty"),
    "no such model": (["demo", "small.yaml", "model.name=./gone"], "no such folder"),
    "a download that is forbidden": (["demo", "small.yaml", "model.name=some/model"], "HF_HUB_OFFLINE forbids"),
    "a benchmark without its file": (["bench", "ocrbench"], "reads your copy of its file"),
    "an unknown damage": (["bench", "signs", "--damage", "rot"], "unknown part 'rot'"),
    "an adapter without its files": (["bench", "signs", "--adapter", "mine"], "no adapter there"),
    "an unknown piece": (["gpu-check", "--piece", "x"], "no piece 'x'"),
}


@pytest.mark.parametrize("argv, words", REFUSED.values(), ids=REFUSED.keys())
def test_what_the_verb_refuses_is_refused(capsys, recipe, tmp_path, monkeypatch, argv, words):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    write_atomic(tmp_path / "mine" / "thesis.txt", "")
    for folder, more in (("other", ["rl.steps=9"]), ("rows", [])):
        write_atomic(tmp_path / folder / "config.yaml", dump_recipe(load_recipe(recipe, [f"run_folder={folder}", *more], cls=Recipe)))
    make_rows(tmp_path / "rows", "test", 8)
    code, _, err = dry(capsys, tmp_path, *argv)
    assert code == 2 and words in err


def test_a_model_of_the_hub_is_named_with_what_it_weighs(capsys, recipe, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    name = "Qwen/Qwen2.5-VL-3B-Instruct"
    _, out, _ = dry(capsys, tmp_path, "demo", recipe, f"model.name={name}", "gpu_gib=24", "log=[wandb]")
    assert f"{name} (would be downloaded from the hub, about 7.0 GiB, to {tmp_path / 'hub' / 'hub'}: " in out
    assert "the recipe is for a card of 24 GiB" in out and "metrics, to wandb" in out
    write_atomic(tmp_path / "hub" / "hub" / "models--Qwen--Qwen2.5-VL-3B-Instruct" / "snapshots" / "a" / "model.safetensors", "")
    assert "(in the cache" in dry(capsys, tmp_path, "demo", recipe, f"model.name={name}")[1]


def test_a_teacher_and_a_server_are_named(capsys, recipe, tmp_path):
    overrides = ("data.teacher=http://host/v1", "data.teacher_model=big", "data.teacher_max_tokens=5000")
    _, out, _ = dry(capsys, tmp_path, "synth", recipe, *overrides)
    assert "big at http://host/v1, at most 5,000 tokens" in out
    _, out, _ = dry(capsys, tmp_path, "bench", "signs", "--server", "http://host/v1", "--model", "m", "--n", "30")
    assert "m at http://host/v1: it is sent every picture" in out and "30 samples, tools on" in out


def test_a_benchmark_of_a_file_counts_its_rows(capsys, recipe, tmp_path):
    rows = ocrbench_tsv_rows(3)
    rows[2]["image"] = "gone"
    table = write_tsv(tmp_path / "OCRBench.tsv", rows)
    code, out, err = dry(capsys, tmp_path, "bench", "ocrbench", table, "--damage", "rotate_90,noise:2", "--model", TINY)
    assert (code, err) == (0, "") and "2 samples upright and under 2 damages, tools on" in out and "left out     1 rows" in out


@pytest.mark.parametrize("argv", [
    ["demo", "recipes/demo.yaml", "run_folder=/tmp/no/such/run"], ["tiny-base", "recipes/tiny_base.yaml"],
    ["bench", "pages", "--damage", "all", "--out", "/tmp/no/such/bench"], ["gpu-check", "--cpu"],
    ["miniature", "recipes/miniature.yaml", "run_folder=/tmp/no/such/miniature"],
], ids=lambda argv: argv[0])  # fmt: skip
def test_it_is_quick_and_loads_no_torch(argv):
    code = "import sys; from codevision_lite.cli import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code, *argv, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.splitlines()[-1:] == ["0 False"], done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2  # not the clock: a busy machine is no fault
