"""Every command that README.md shows is run, or where it is long, needs a GPU or never ends, checked as far as it can be.

Those of the other pages are taken by the command line (`codevision-lite`) or by make (`make -n`, and what that would call).
A command of the README that no rule covers fails.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import re
import runpy
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from bench_fixtures import ocrbench_tsv_rows, write_tsv
from chat_server import chat_server
from dataset_rows import rl_row, sft_row, write_rows
from run_folder import make_run

from codevision_lite.cli import build_parser, main
from codevision_lite.config import load_recipe
from codevision_lite.errors import UserError
from codevision_lite.protocol import render_reply
from codevision_lite.recipe import Recipe

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "recipes" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OURS = ("codevision-lite", "make")
BENCH = ["--n", "2", "--max-turns", "2"]
DRY = {"demo": ["run_folder=runs/new"], "synth": ["run_folder=runs/new"], "bench": []}  # what make calls that starts from nothing
STAND_INS = {"N": "1", "FORMAT": "jsonl"}  # for the words of a synopsis of which not any value will do

# What a command of the README begins with -> what is done with it, and what is added to make it short. The first that fits counts.
#   run: it is run and ends well; slow: the same, with the tiny model; parse: the command line takes it; installed: the program is there
RULES = (
    ("git clone", "clone", []),
    ("cd codevision_lite", "folder", []),
    ("source .venv/bin/activate", "venv", []),
    ("make", "make", []),
    ("codevision-lite --help", "run", []),
    ("codevision-lite doctor", "doctor", []),
    ("codevision-lite ask photo.jpg", "server", []),
    ("codevision-lite ask", "slow", []),
    ("codevision-lite bench", "slow", [*BENCH, "--damage", "rotate_90", "--out", "runs/bench/new"]),
    ("codevision-lite diagnose", "slow", [*BENCH, "--switch", "world=signs"]),
    ("codevision-lite compare", "measured", []),
    ("codevision-lite rescore", "measured", []),
    ("codevision-lite view", "run", []),
    ("codevision-lite score", "run", ["--limit", "3"]),
    ("codevision-lite plan", "run", []),
    ("codevision-lite inspect", "run", []),
    ("codevision-lite convert", "run", []),
    ("codevision-lite merge", "parse", []),  # needs the adapter of a real model
    ("codevision-lite serve", "parse", []),  # never ends; tests/test_serve.py serves
    ("python docs/figures/episode.py", "script", ["--id", "demo-001", "--out", "figure.svg"]),
    ("tensorboard --logdir", "installed", []),
)
SLOW = ("doctor", "slow", "measured")


def shell_lines(page: Path) -> list[str]:
    """Commands of the blocks marked as bash, comments left out, `a && b` as two."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), flags=re.M | re.S)
    lines = [shlex.join(shlex.split(line, comments=True)) for block in blocks for line in block.splitlines()]
    return [part.strip() for line in lines for part in line.replace("'&&'", "&&").split("&&") if part.strip()]


def mentions(page: Path) -> list[str]:
    """Our commands in indented blocks (what is set off by spaces says what they do) and in inline code, also across a line break."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    indented = [line.strip().split("   ")[0] for line in re.findall(r"^ {4}(.*)$", text, flags=re.M)]
    inline = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", re.sub(r"^ {4}.*$", "", text, flags=re.M))]
    return [line for line in (*indented, *inline) if line.startswith(tuple(f"{name} " for name in OURS))]


def tokens_of(line: str) -> list[str]:
    """A command's words. Of a synopsis everything optional is there, and of each choice the first."""
    words = shlex.split(re.sub(r"\[(--[^\]]*|[a-z.=]+[^\]]*)\]", r"\1", line), comments=True)
    return [STAND_INS.get(word, word.split("|")[0]) for word in words if word != "..."]


def taken(words: list[str]) -> None:
    """The command line takes these words; of a recipe that is there, its overrides as well."""
    parser = build_parser()
    if len(words) == 1 and not words[0].startswith("-"):
        (verbs,) = [action.choices for action in parser._actions if action.choices]
        assert words[0] in verbs, f"no verb {words[0]!r}"
        return
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            args = parser.parse_args(words)
    except SystemExit as e:
        assert not e.code, f"codevision-lite does not take: {shlex.join(words)}"
        return
    recipe = ROOT / getattr(args, "recipe", "-")
    if recipe.is_file() and args.verb not in ("tiny-base", "miniature"):
        load_recipe(recipe, args.overrides, cls=Recipe)


def made(words: list[str]) -> list[list[str]]:
    """The calls of our command line that make would do for `make WORDS`; each is taken."""
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    calls = [shlex.split(line)[1:] for line in done.stdout.splitlines() if line.startswith(".venv/bin/codevision-lite ")]
    for call in calls:
        taken(call)
    return calls


def rule_of(line: str) -> tuple[str, list[str]]:
    for beginning, how, more in RULES:
        if line == beginning or line.startswith(f"{beginning} "):
            return how, more
    raise AssertionError(f"no rule for this command of README.md: {line}. Add one to RULES, so that it is run or checked")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder like a checkout after `make demo` and `make synth RECIPE=pages`, in small."""
    folder = tmp_path_factory.mktemp("checkout")
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and path.name != "runs":
            (folder / path.name).symlink_to(path)
    make_run(folder / "runs" / "demo")
    pages = folder / "runs" / "pages" / "data"
    pages.mkdir(parents=True)
    shutil.copyfile(ROOT / "sample_data" / "pages.jsonl", pages / "sft.jsonl")
    (pages / "images").symlink_to(ROOT / "sample_data" / "images")
    shutil.copyfile(next((ROOT / "sample_data" / "images").glob("*.png")), folder / "photo.jpg")
    write_tsv(folder / "OCRBench.tsv", ocrbench_tsv_rows())
    for name, make_row in (("CodeVision-SFT", lambda n, at: sft_row(n, at)), ("CodeVision-RL", lambda n, at: rl_row(n))):
        (folder / name).mkdir()
        suffix = ".json" if name.endswith("SFT") else ".parquet"
        write_rows(folder / name / f"rows{suffix}", [make_row(n, folder / name) for n in range(2)])
    return folder


@pytest.fixture(scope="module")
def bench_runs(checkout):
    """runs/bench/a and b: the tiny model without and with tools on the same items."""
    with contextlib.chdir(checkout):
        for name, tools in (("a", "off"), ("b", "on")):
            assert main(["bench", "signs", *BENCH, "--tools", tools, "--out", f"runs/bench/{name}"]) == 0
    return checkout


def cases():
    for line in dict.fromkeys(shell_lines(README)):
        try:
            is_slow = rule_of(line)[0] in SLOW
        except AssertionError:
            is_slow = False  # the test says so
        yield pytest.param(line, marks=[pytest.mark.slow] if is_slow else [], id=line[:60])


@pytest.mark.parametrize("line", [*cases()])
def test_a_command_of_the_readme_works(line, checkout, monkeypatch, capsys, request):
    how, more = rule_of(line)
    words = shlex.split(line)
    monkeypatch.chdir(checkout)
    if how == "clone":
        if not (ROOT / ".git").exists():
            pytest.skip("this is no git checkout")
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([str(ROOT) if w == "URL" else w for w in words], cwd=folder, check=True, capture_output=True, timeout=120)
            assert (Path(folder) / words[-1] / "Makefile").is_file()
    elif how == "folder":
        assert any(earlier.startswith("git clone ") and earlier.endswith(f" {words[1]}") for earlier in shell_lines(README))
    elif how == "venv":
        assert "VENV := .venv\n" in (ROOT / "Makefile").read_text()
    elif how == "make":
        calls = made(words[1:])
        assert calls
        for call in (call for call in calls if call[0] in DRY):
            assert main([*call, *DRY[call[0]], "--dry-run"]) == 0, capsys.readouterr().err
    elif how == "installed":
        assert importlib.util.find_spec(words[0]), f"{words[0]} is not installed by requirements-cpu.txt"
    elif how == "script":
        monkeypatch.setattr("sys.argv", [*words[1:], *more])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(words[1], run_name="__main__")
        assert not end.value.code, capsys.readouterr().err
    elif how == "parse":
        taken(words[1:])
    elif how == "server":
        with chat_server(lambda body: render_reply("I read it.", answer="F")) as served:
            assert main([*words[1:], "--server", served.url]) == 0
        assert "Answer: F" in capsys.readouterr().out
    else:
        if how == "measured":
            request.getfixturevalue("bench_runs")
        try:
            code = main([*words[1:], *more])
        except SystemExit as e:  # --help
            code = e.code or 0
        told = capsys.readouterr()
        assert code in ((0, 1) if how == "doctor" else (0,)), told.err  # doctor says with 1 that this machine lacks something
        assert told.out.strip()


def test_every_rule_is_of_use():
    used = {next(r[0] for r in RULES if line.startswith(r[0])) for line in shell_lines(README)}
    assert {r[0] for r in RULES} == used


def test_a_command_without_a_rule_fails():
    with pytest.raises(AssertionError, match="no rule"):
        rule_of("codevision-lite brew coffee")
    with pytest.raises(AssertionError, match="no rule"):
        rule_of("curl example.org")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_commands_of_a_page_are_taken(page):
    lines = [*mentions(page), *(line for line in shell_lines(page) if line.startswith(OURS))]
    for line in dict.fromkeys(lines):
        program, *words = tokens_of(line)
        if program == "make":
            made(words)
        else:
            taken(words)


WRONG = ("sftt recipes/demo.yaml", "sft recipes/demo.yaml sft.stepz=3", "view runs/demo --comparee a,b", "brew")


@pytest.mark.parametrize("wrong", WRONG)
def test_a_command_that_is_not_there_is_noticed(wrong):
    with pytest.raises((AssertionError, UserError), match=r"sftt|stepz|comparee|brew"):
        taken(tokens_of(wrong))


def test_a_make_verb_that_is_not_there_is_noticed():
    with pytest.raises(AssertionError, match="brew"):
        made(["brew"])


def test_the_python_of_the_readme_prints_what_it_says(checkout, monkeypatch, capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), flags=re.M | re.S)
    said = re.findall(r"^# (.*)$", code, flags=re.M)
    monkeypatch.chdir(checkout)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == said


def test_the_tool_call_of_the_readme_is_read():
    from codevision_lite.protocol import parse_reply

    (reply,) = re.findall(r"^```text\n(<think>.*?)^```", README.read_text(), flags=re.M | re.S)
    assert json.loads(re.search(r"\{.*\}", reply).group())["name"] == "code_image_tool"
    assert parse_reply(reply.strip()).call is not None
