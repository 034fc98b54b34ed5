"""TAB in real shells: verbs, flags, recipe files, keys and values, as a person types them."""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codevision_lite.cli import main
from codevision_lite.commands.completers import damages, recipe_files, recipe_keys

ROOT = Path(__file__).parent.parent
START = {  # how the shell starts without anybody's settings, and what its profile would hold
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(codevision-lite completion bash)"'),
    "zsh": (["zsh", "-f", "-i"], 'autoload -Uz compinit; compinit -u -D; eval "$(codevision-lite completion zsh)"'),
}


def needs(shell):
    return pytest.param(shell, marks=pytest.mark.skipif(shutil.which(shell) is None, reason=f"no {shell}"))


@pytest.fixture
def environment(tmp_path):
    """`codevision-lite` on the path, as this checkout has it."""
    command = tmp_path / "bin" / "codevision-lite"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m codevision_lite "$@"\n')
    command.chmod(0o755)
    plain = {"PS1": "> ", "TERM": "dumb", "COLUMNS": "200", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    return {**os.environ, **plain, "PATH": f"{command.parent}:{os.environ['PATH']}"}


class Terminal:
    """A shell at a terminal of its own."""

    def __init__(self, argv, environment):
        self.seen = ""
        pid, self._terminal = pty.fork()
        if pid == 0:
            os.chdir(ROOT)
            os.execvpe(argv[0], argv, environment)
        self.pid = pid

    def type(self, text, until, seconds=30.0):
        """Type; what the terminal then shows, up to the pattern `until`."""
        os.write(self._terminal, text.encode())
        self.seen, deadline = "", time.monotonic() + seconds
        while not re.search(until, self.seen):
            assert time.monotonic() < deadline, f"after {text!r} no {until!r}, but {self.seen!r}"
            if select.select([self._terminal], [], [], 0.2)[0]:
                self.seen += os.read(self._terminal, 1 << 16).decode(errors="replace").replace("\a", "")
        return self.seen

    def close(self):
        os.close(self._terminal)  # the shell gets a hang-up
        os.waitpid(self.pid, 0)


@pytest.fixture
def terminal(environment, request):
    argv, profile = START[request.param]
    opened = Terminal(argv, environment)
    opened.type(f"{profile}; echo rea''dy\n", "ready")
    yield opened
    opened.close()


@pytest.mark.parametrize("terminal", [needs("bash"), needs("zsh")], indirect=True)
def test_a_whole_command_is_typed_with_tab(terminal):
    terminal.type("codevision-lite export-a\t", "export-adapter ")
    terminal.type("\x15codevision-lite rl reci\tdem\t", r"recipes/demo\.yaml")
    terminal.type(" --dr\t", "--dry-run ")
    terminal.type("rl.loss\t", "rl.loss_type=")  # no space behind the sign: the value follows
    terminal.type("da\t", "dapo")
    seen = terminal.type("\x15codevision-lite eval recipes/demo.yaml --stage \t\t", "(?s)base.*grpo|grpo.*base")
    assert "sft" in seen
    seen = terminal.type("\x15codevision-lite synth recipes/demo.yaml data.fam\t\t", "data.families=")
    assert "sft." not in seen


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish")
def test_fish_shows_what_a_verb_is_for(environment):
    def offered(line):
        script = f"codevision-lite completion fish | source; complete -C '{line}'"
        done = subprocess.run(["fish", "--no-config", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
        return dict(row.partition("\t")[::2] for row in done.stdout.splitlines())

    assert offered("codevision-lite exp") == {
        "export-adapter": "the adapter as a PEFT folder that needs nothing of ours",
        "export-predictions": "write the predictions of a run in the layout of VLMEvalKit or lmms-eval",
    }
    assert set(offered("codevision-lite rl recipes/demo.yaml --dry-run rl.st")) == {"rl.start=", "rl.steps="}
    assert "recipes/demo.yaml" in offered("codevision-lite plan ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_one_command_prints_the_script(capsys, shell):
    assert main(["completion", shell]) == 0
    assert "codevision-lite" in capsys.readouterr().out
    if shutil.which(shell):
        main(["completion", shell])
        assert subprocess.run([shell, "-n"], input=capsys.readouterr().out, text=True).returncode == 0, "a script of that shell"


def test_without_the_package_the_install_line_is_said(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    assert main(["completion", "bash"]) == 2
    assert "pip install argcomplete" in capsys.readouterr().err


def test_keys_are_those_of_the_verbs_own_recipe():
    def keys(verb, prefix=""):
        return recipe_keys(prefix, argparse.Namespace(verb=verb))

    assert {"sft.steps=", "model.name=", "log=", "seed="} <= set(keys("demo"))
    assert "tower_steps=" in keys("tiny-base") and "sft.steps=" not in keys("tiny-base")
    assert "recipe.rl.steps=" in keys("miniature")
    assert keys("demo", "model.quantize=") == ["model.quantize=nf4", "model.quantize=none"]
    assert keys("rl", "rl.final_answer=") == ["rl.final_answer=true", "rl.final_answer=false"]
    assert keys("rl", "rl.steps=") == [] and keys("rl", "nothing=") == []


def test_recipes_and_damages_are_offered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("recipes/a.yaml", "recipes/notes.md", "mine/b.yaml", ".hidden/c.yaml", "d.yaml"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("")
    assert recipe_files("") == ["d.yaml", "mine/", "recipes/", "recipes/a.yaml"]
    assert recipe_files("mine/") == ["mine/b.yaml"] and recipe_files("recipes/a") == ["recipes/a.yaml"]
    assert recipe_files("gone/") == []
    assert {"all", "rotate_90", "noise:3"} <= set(damages("")) and "rotate_90,noise:3" in damages("rotate_90,")
