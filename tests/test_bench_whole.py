"""Every benchmark from its file to its report: with the tiny model, with a server, and through a kill -9."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext

import pytest
from bench_fixtures import write_fixtures
from chat_server import chat_server, n_replies, pictures_of

from codevision_lite.bench import context, jobs
from codevision_lite.bench.benchmark import BENCHMARKS, get_benchmark
from codevision_lite.bench.export import export
from codevision_lite.bench.settings import BenchConfig
from codevision_lite.files import read_jsonl
from codevision_lite.geometry import ORIENTATIONS
from codevision_lite.protocol import render_reply
from codevision_lite.records import ToolCall

WITH_FILES = [name for name in BENCHMARKS if get_benchmark(name).needs_file]
BUILT_IN = {"signs": {}, "pages": {"items": "upright"}, "orientation": {"world": "signs"}}
TURN = render_reply("Turn.", ToolCall("result = image.rotate(90, expand=True)"))
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_fixtures(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def tiny():
    from codevision_lite.models import load_model

    return load_model("sample_data/tiny_base", batch_size=8)


@pytest.fixture(autouse=True)
def one_sandbox(monkeypatch, sandbox):
    monkeypatch.setattr(jobs, "Sandbox", lambda mode: nullcontext(sandbox))
    monkeypatch.setattr(context, "machine", lambda: "this machine")


def config(name, files, **fields):
    path = str(next(iter(files[name].values()))) if name in files else None
    asked = {"file": path, "n": 4, "damages": ("none", "rotate_90"), "switches": BUILT_IN.get(name, {})}
    return BenchConfig(name, **asked | {"max_turns": 2, "max_reply_tokens": 40, "max_tokens": 900} | fields)


@pytest.mark.parametrize("name", [*WITH_FILES, *BUILT_IN])
def test_the_tiny_model_runs_every_benchmark(name, files, tiny, tmp_path):
    found = jobs.run_benchmark(config(name, files), tmp_path, tiny)
    assert (found["n_scored"], found["failures"]["n"]) == (8, 0)
    assert {c["official"]["n"] for c in found["conditions"]} == {4}
    assert found["context"]["max_pixels"] == tiny.processor.image_processor.size["longest_edge"]
    rows = read_jsonl(tmp_path / "trajectories.jsonl")
    assert all(row["n_tokens"] > 0 and row["trajectory"]["turns"] for row in rows)
    assert (tmp_path / "report.html").stat().st_size > 20_000
    again = jobs.rescore(tmp_path)
    assert json.dumps(again["conditions"]) == json.dumps(found["conditions"])


def gold(body):
    """A served model that turns every picture and then gives an answer that its question names, if one does."""
    if n_replies(body) == 0:
        return TURN
    assert len(pictures_of(body)) == 2
    text = body["messages"][1]["content"][-1]["text"]
    return render_reply("Read.", answer="A" if re.search(r"^\(?A[.)]", text, re.M) else "unknown")


@pytest.mark.parametrize("name", [*WITH_FILES, "signs", "orientation"])
def test_a_server_runs_every_benchmark(name, files, tmp_path):
    with chat_server(gold) as served:
        options = {"server": served.url, "model": "served", "timeout_s": 20.0, "concurrency": 3}
        if name in files:
            options["file"] = str(list(files[name].values())[-1])  # another layout than the tiny model reads
        found = jobs.run_benchmark(config(name, files, **options), tmp_path)
    assert (found["n_scored"], found["failures"]["n"], len(served.requests)) == (8, 0, 16)
    assert found["conditions"][0]["tools"]["tool_turns"] == 1.0
    lines = [*export(tmp_path, "vlmevalkit").splitlines(), *export(tmp_path, "lmms-eval").splitlines()]
    assert len(lines) == 4 and all(line.endswith(": 4 predictions") for line in lines)


def test_a_killed_run_goes_on_to_the_same_numbers(files, tmp_path):
    """kill -9, through the command line, with requests on their way."""

    def slow(body):
        time.sleep(0.03)
        return gold(body)

    def command(folder, url):
        path = files["ocrbench"]["tsv"]
        argv = ["bench", "ocrbench", str(path), "--damage", "orientations", "--server", url, "--model", "served", "--out", str(folder)]
        return [sys.executable, "-c", "import sys; from codevision_lite.cli import main; sys.exit(main())", *argv, "--concurrency", "3"]

    def rows(folder):
        path = folder / "trajectories.jsonl"
        return len(read_jsonl(path, cut_tail=True)) if path.exists() else 0

    with chat_server(slow) as served:
        killed = subprocess.Popen(command(tmp_path / "killed", served.url), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while rows(tmp_path / "killed") < 20 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        n_done = rows(tmp_path / "killed")
        for folder in ("killed", "whole"):
            done = subprocess.run(command(tmp_path / folder, served.url), capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    resumed, whole = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("killed", "whole"))
    n = whole["n_items"]
    assert 20 <= n_done < n == whole["n_scored"] == 6 * whole["n_samples"]
    for results in (resumed, whole):
        del results["wall_s"]
        for row in [*results["conditions"], results["orientations"]]:
            del row["tools"]["seconds"]
    assert resumed == whole
    assert [c["condition"] for c in whole["conditions"]] == ["none", *ORIENTATIONS]
