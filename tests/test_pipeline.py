"""The pipeline end to end on a small random model: what a run writes, that it runs once, and that it survives being stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codevision_lite.config import dump_recipe, load_recipe
from codevision_lite.files import read_jsonl
from codevision_lite.imaging import open_image
from codevision_lite.recipe import Recipe
from codevision_lite.synth.samples import CONDITIONS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
RUN = [sys.executable, "-c", "import sys; from codevision_lite.cli import main; sys.exit(main())"]
SMALL = """\
data: {sft_rows: 12, rl_rows: 8}
sft: {steps: 2, batch: 4, micro_batch: 4, save_every: 1}
rl: {steps: 2, prompts: 2, generations: 4, micro_batch: 8, max_turns: 2, max_reply_tokens: 12, save_every: 1}
eval: {n_per_condition: 1, max_turns: 2, max_reply_tokens: 12}
"""


def write_recipe(folder, tiny_folder):
    path = folder / "small.yaml"
    path.write_text(f"run_folder: {folder / 'run'}\nmodel: {{name: {tiny_folder}, lora_r: 8}}\n{SMALL}")
    return path


def write_config(recipe, folder, *overrides):
    """Claim the folder, which holds data already, for the recipe."""
    (folder / "config.yaml").write_text(dump_recipe(load_recipe(recipe, overrides, cls=Recipe)))


def run(*argv):
    done = subprocess.run([*RUN, *map(str, argv)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def files_of(folder):
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def demo(tmp_path_factory, tiny_folder):
    """A finished `demo`: (recipe file, run folder, what it printed)."""
    folder = tmp_path_factory.mktemp("demo")
    recipe = write_recipe(folder, tiny_folder)
    return recipe, folder / "run", run("demo", recipe)


def test_a_demo_writes_everything_that_it_promises(demo):
    _, folder, done = demo
    for name in ("report.html", "metrics.jsonl", "trajectories.jsonl", "config.yaml", "results.json", "grpo/rollouts.jsonl"):
        assert (folder / name).stat().st_size > 0, name
    for stage in ("sft", "grpo"):
        assert {"adapter_config.json", "adapter_model.safetensors"} <= {p.name for p in (folder / stage / "adapter").iterdir()}
    assert str(folder / "report.html") in done.stdout.splitlines()[-1]
    assert done.stderr == ""
    assert not list(folder.rglob("*.part")) and not list(folder.rglob("*.tmp"))


def test_its_resolved_config_is_the_recipe(demo):
    recipe, folder, _ = demo
    assert load_recipe(folder / "config.yaml", cls=Recipe) == load_recipe(recipe, cls=Recipe)


def test_its_results_are_those_of_its_trajectories(demo):
    _, folder, _ = demo
    results = json.loads((folder / "results.json").read_text())
    rows = read_jsonl(folder / "trajectories.jsonl")
    assert [s["name"] for s in results["stages"]] == ["base", "sft", "grpo"]
    for stage in results["stages"]:
        own = [row for row in rows if row["stage"] == stage["name"]]
        assert len({row["sample"]["id"] for row in own}) == len(own) == stage["n"] == len(CONDITIONS)
        assert [row["condition"] for row in stage["rows"]] == list(CONDITIONS)
        assert sum(row["correct"] for row in stage["rows"]) == sum(row["correct"] for row in own)
    assert {"seed", "config_hash", "commit", "hardware", "versions", "max_pixels"} <= set(results["context"])
    assert results["wall_s"] > 0 and results["peak_rss_gib"] > 0 and set(results["stage_seconds"]) == {"sft", "grpo"}


def test_its_pictures_are_all_there_and_open(demo):
    _, folder, _ = demo
    for name, rows in (("", read_jsonl(folder / "trajectories.jsonl")), ("data", read_jsonl(folder / "data" / "sft.jsonl"))):
        for row in rows:
            for path in row["trajectory"]["images"]:
                assert open_image(folder / name / path).mode == "RGB"


def test_its_metrics_have_every_step_once(demo):
    _, folder, _ = demo
    steps = [(row["stage"], row["step"]) for row in read_jsonl(folder / "metrics.jsonl")]
    assert steps == [("sft", 1), ("sft", 2), ("grpo", 1), ("grpo", 2)]
    rollouts = read_jsonl(folder / "grpo" / "rollouts.jsonl")
    assert [row["step"] for row in rollouts] == [0] * 8 + [1] * 8


def test_its_report_holds_the_pictures_and_needs_no_other_file(demo):
    _, folder, _ = demo
    page = (folder / "report.html").read_text()
    assert page.count("data:image/") >= 3
    for reference in ('src="http', "src='http", 'href="http', "url(http"):
        assert reference not in page


def test_running_it_again_changes_no_stage(demo):
    recipe, folder, _ = demo
    before = files_of(folder)
    done = run("demo", recipe)
    changed = {name for name, stamp in files_of(folder).items() if before.get(name) != stamp}
    assert changed <= {"results.json", "report.html"}
    assert "going on with the run that is there" in done.stdout
    assert "step" not in done.stdout.replace("going on", "")


def test_stages_by_their_own_verbs_are_the_demo(demo, tmp_path, tiny_folder):
    _, folder, _ = demo
    recipe = write_recipe(tmp_path, tiny_folder)
    for verb in ("synth", "sft", "rl", "eval"):
        run(verb, recipe)
    own = tmp_path / "run"
    results, demos = (json.loads((f / "results.json").read_text()) for f in (own, folder))
    strip = [[{k: v for k, v in s.items() if k != "seconds"} for s in r["stages"]] for r in (results, demos)]
    assert strip[0] == strip[1], "the same seed gives the same numbers"
    texts = [[row["trajectory"]["turns"][0]["text"] for row in read_jsonl(f / "trajectories.jsonl")] for f in (own, folder)]
    assert texts[0] == texts[1], "and the same words"


def stop(argv, when, how, timeout_s=120.0):
    """Run a command and stop it with a signal once `when()` holds; gives its exit code and stderr."""
    process = subprocess.Popen(
        [*RUN, *map(str, argv)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + timeout_s
    while not when() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert process.poll() is None, process.communicate()[1]
    os.killpg(process.pid, how)
    return process.wait(timeout_s), process.communicate()[1]


@pytest.fixture
def prepared(demo, tmp_path, tiny_folder):
    """A new run folder with the demo's data, and its recipe."""
    _, folder, _ = demo
    recipe = write_recipe(tmp_path, tiny_folder)
    (tmp_path / "run").mkdir()
    shutil.copytree(folder / "data", tmp_path / "run" / "data")
    return recipe, tmp_path / "run"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_sft_resumes_from_its_checkpoint_with_the_same_command(prepared, how):
    recipe, folder = prepared
    argv = ["sft", recipe, "sft.steps=30"]
    write_config(recipe, folder, "sft.steps=30")
    code, err = stop(argv, lambda: (folder / "sft" / "checkpoints" / "checkpoint-4").is_dir(), how)
    assert code == (130 if how == signal.SIGINT else -signal.SIGKILL), err
    if how == signal.SIGINT:
        assert [line for line in err.splitlines() if line] == [
            "codevision-lite: stopped. What is done is kept; the same command goes on from there."
        ]
    assert not (folder / "sft" / "adapter").exists()
    before = {row["step"]: row for row in read_jsonl(folder / "metrics.jsonl", cut_tail=True)}
    run(*argv)
    after = read_jsonl(folder / "metrics.jsonl")
    assert [row["step"] for row in after] == list(range(1, 31))
    kept = [row for row in after if before.get(row["step"]) == row]
    assert len(kept) >= 3, "what was done before is kept, not done again"
    assert (folder / "sft" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_stopped_grpo_resumes_and_has_every_rollout_once(demo, prepared):
    _, finished, _ = demo
    recipe, folder = prepared
    argv = ["rl", recipe, "rl.steps=6"]
    write_config(recipe, folder, "rl.steps=6")
    shutil.copytree(finished / "sft" / "adapter", folder / "sft" / "adapter")
    code, _ = stop(argv, lambda: (folder / "grpo" / "checkpoints" / "checkpoint-2").is_dir(), signal.SIGKILL)
    assert code == -signal.SIGKILL
    run(*argv)
    assert [row["step"] for row in read_jsonl(folder / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in read_jsonl(folder / "grpo" / "rollouts.jsonl")] == [step for step in range(6) for _ in range(8)]
    assert (folder / "grpo" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_stopped_evaluation_keeps_its_rows(demo, prepared):
    _, finished, _ = demo
    recipe, folder = prepared
    argv = ["eval", recipe, "eval.batch=1"]
    write_config(recipe, folder, "eval.batch=1")
    rows = folder / "trajectories.jsonl"
    code, err = stop(argv, lambda: rows.exists() and rows.read_bytes().count(b"\n") >= 2, signal.SIGINT)
    assert code == 130, err
    before = rows.read_bytes()
    run(*argv)
    assert rows.read_bytes().startswith(before)
    assert len(read_jsonl(rows)) == len(CONDITIONS)
    of_base = [row for row in read_jsonl(finished / "trajectories.jsonl") if row["stage"] == "base"]
    turns = [[t["text"] for row in part for t in row["trajectory"]["turns"]] for part in (read_jsonl(rows), of_base)]
    assert turns[0] == turns[1], "one at a time answers as a batch does"
