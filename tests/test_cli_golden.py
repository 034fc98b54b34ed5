"""What the command line says, held in tests/data/cli/: the help of every verb, errors, dry runs and outputs, at 100 columns.

After a change on purpose, write the files again and read the diff:

    .venv/bin/python tests/test_cli_golden.py
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest

from codevision_lite.cli import build_parser, main
from codevision_lite.doctor import machine

ROOT = Path(__file__).parent.parent
GOLDENS = Path(__file__).parent / "data" / "cli"
VERBS = tuple(build_parser().texts)

SESSIONS = {
    **{f"help-{verb}": [f"{verb} --help"] for verb in VERBS},
    "help": ["--help"],
    "errors": [
        "", "demp", "--verbos", "synth", "rl recipes/demo.yaml --dryrun", "demo recipes/dmeo.yaml", "demo recipes",
        "synth recipes/demo.yaml sft.stepz=3", "synth recipes/demo.yaml sft.steps=many", "synth recipes/demo.yaml rl.generations=1",
        "eval recipes/demo.yaml --stage rl", "sft recipes/demo.yaml", "rl recipes/demo.yaml rl.steps=3", "report recipes/demo.yaml",
        "synth recipes/demo.yaml run_folder=mine", "bench ocrbenhc", "bench ocrbench", "bench signs --batch 0", "bench signs --damage rot",
        "bench signs --switch seed", "diagnose --n 0", "compare a b", "rescore a", "view gone", "view a b c", "view run --compare base",
        "view run --limit 0", "score gone.jsonl", "inspect gone.jsonl", "convert gone.csv out.jsonl --to jsonl", "convert a b",
        "ask gone.png 'What?'", "ask --server http://localhost:1/v1 picture.png 'What?'", "serve --host 0.0.0.0", "serve --port x",
        "serve --api-key-env NO_SUCH_KEY", "plan recipes/demo.yaml --gpu-gib 0", "gpu-check --piece 3b", "merge recipes/demo.yaml",
        "completion tcsh",
    ],
    "dry-run": [
        "demo recipes/demo.yaml --dry-run", "demo recipes/qwen2.5-vl-3b-24gb.yaml --dry-run", "sft recipes/demo.yaml --dry-run",
        "bench signs --damage orientations --dry-run", "diagnose --n 20 --dry-run", "tiny-base recipes/tiny_base.yaml --dry-run",
        "gpu-check --cpu --dry-run", "miniature recipes/miniature.yaml seeds=1 --dry-run",
    ],
    "outputs": [
        "--version", "convert rows.csv rows.jsonl --to jsonl", "inspect rows.jsonl", "view run --limit 6", "view run --compare base,grpo",
        "score scored.jsonl", "score scored.jsonl --preset dense --preset paper", "gpu-check --list",
        "plan recipes/qwen2.5-vl-3b-24gb.yaml --gpu-gib 24", "plan recipes/qwen2.5-vl-7b-48gb.yaml --gpu-gib 24",
    ],
}  # fmt: skip


def make_place(folder: Path) -> None:
    """The files that the sessions name."""
    from pictures import sample
    from run_folder import make_run

    from codevision_lite.datasets.rows import trajectory_row
    from codevision_lite.files import append_jsonl
    from codevision_lite.records import Trajectory, Turn

    for name in ("recipes", "sample_data", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").write_text("")
    task = sample(40, 30)
    task.image.save(folder / "picture.png")
    (folder / "rows.csv").write_text("image,question,answer\npicture.png,What is it?,F\ngone.png,What is it?,F\n")
    turns = (Turn("<answer>F</answer>", "It is an F.", answer="F", well_formed=False),)
    append_jsonl(folder / "scored.jsonl", trajectory_row(folder, task, Trajectory(task.id, turns, (task.image,), "F", "answer")))
    make_run(folder / "run", samples=8)


def run_session(commands: list[str]) -> str:
    """The commands with what they print and their exit codes, in the current folder."""
    parts = []
    for command in commands:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                code = main(shlex.split(command))
            except SystemExit as e:  # --help, --version
                code = e.code or 0
        parts.append(f"$ codevision-lite {command}\n{normal(out.getvalue())}" + (f"[exit code {code}]\n" if code else ""))
    return "\n".join(parts)


def normal(text: str) -> str:
    """Without what differs between machines, and between the argparse of Python 3.11 and 3.13."""
    text = re.sub(r"\S+/s \| done in \w+", "N/s | done in Ns", text)
    text = re.sub(r"(?<=\(choose from )[^)]*", lambda found: found[0].replace("'", ""), text)  # 3.12 quotes, 3.13 does not
    # Newer versions break the line of a usage in other places.
    return re.sub(r"^usage: .*(?:\n +.*)*", lambda found: " ".join(found[0].split()), text, flags=re.M)


@contextlib.contextmanager
def place(folder: Path):
    """`folder` with the files that the sessions name as the current one: at 100 columns, without a GPU, with room on the disk and nothing
    in the cache."""
    make_place(folder)
    before, environment, disk_usage, has_gpu = Path.cwd(), dict(os.environ), shutil.disk_usage, machine.has_gpu
    machine.has_gpu = lambda: False
    shutil.disk_usage = lambda path: namedtuple("usage", "total used free")(2**40, 2**39, 2**39)
    os.environ |= {"COLUMNS": "100", "HF_HOME": "cache"}
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "NO_SUCH_KEY"):
        os.environ.pop(name, None)
    os.chdir(folder)
    try:
        yield
    finally:
        shutil.disk_usage, machine.has_gpu = disk_usage, has_gpu
        os.chdir(before)
        os.environ.clear()
        os.environ.update(environment)


@pytest.mark.parametrize("name", SESSIONS)
def test_it_says_what_it_said(tmp_path, name):
    with place(tmp_path):
        said = run_session(SESSIONS[name])
    path = GOLDENS / f"{name}.txt"
    golden = path.read_text() if path.exists() else ""
    diff = "".join(difflib.unified_diff(golden.splitlines(True), said.splitlines(True), f"tests/data/cli/{path.name}", "now"))
    assert said == golden, f"{diff}\nOn purpose? .venv/bin/python tests/test_cli_golden.py writes the files again"


def test_no_golden_is_left_over():
    assert {path.stem for path in GOLDENS.glob("*.txt")} == set(SESSIONS)


def test_every_error_is_one_line():
    for part in (GOLDENS / "errors.txt").read_text().split("$ codevision-lite ")[1:]:
        lines = part.rstrip().splitlines()[1:]
        assert len(lines) == 2 and lines[0].startswith("codevision-lite: ") and lines[1] == "[exit code 2]", part


def test_verbs_with_the_same_flag_mean_the_same_by_it():
    """One metavar and one kind of value for a flag, whatever the verb; what is a FILE for one verb and a FOLDER for another is `--out`."""
    meanings: dict[str, set] = {}
    (verbs,) = [action.choices for action in build_parser()._actions if action.choices]
    for parser in verbs.values():
        for action in parser._actions:
            for option in action.option_strings:
                meanings.setdefault(option, set()).add((action.metavar, action.type, action.nargs, tuple(action.choices or ())))
            assert action.help, f"{parser.prog} {action.dest} has no help"
    several = {option for option, found in meanings.items() if len(found) > 1}
    assert several == {"--out", "--stage", "--from", "--to"}
    assert {metavar for metavar, *_ in meanings["--out"]} == {"FILE", "FOLDER"}


if __name__ == "__main__":
    GOLDENS.mkdir(exist_ok=True)
    for old in GOLDENS.glob("*.txt"):
        old.unlink()
    for session, lines in SESSIONS.items():
        with tempfile.TemporaryDirectory() as made, place(Path(made)):
            (GOLDENS / f"{session}.txt").write_text(run_session(lines))
    print(f"{len(SESSIONS)} files in {GOLDENS}", file=sys.stderr)
