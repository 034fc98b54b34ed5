"""The doctor: right about this machine, about GPUs of all kinds, and about installs that are broken."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from codevision_lite.cli import main
from codevision_lite.doctor import base, machine, packages, selftests
from codevision_lite.doctor.base import GIB, Check

ROOT = Path(__file__).parent.parent
RUN = [sys.executable, "-c", "import sys; from codevision_lite.cli import main; sys.exit(main())", "doctor"]
NO_GPU = {"torch": "2.13.0+cpu", "cuda": None, "gpus": []}


def gpus(*sizes: float, bf16: bool = True, used: float = 0.0) -> dict:
    found = [{"name": "A card", "total": size * GIB, "free": (size - used) * GIB, "bf16": bf16} for size in sizes]
    return {"torch": "2.13.0", "cuda": "13.0", "gpus": found}


@pytest.mark.slow
def test_this_machine_has_a_sandbox_and_a_tiny_model_that_answers():
    done = subprocess.run([*RUN, "--json"], cwd=ROOT, capture_output=True, text=True, timeout=480)
    answer = json.loads(done.stdout)
    found = {check["name"]: check for check in answer["checks"]}
    assert found["sandbox"]["status"] in ("ok", "note") and "an attack refused" in found["sandbox"]["found"]
    assert found["tiny model"]["status"] == "ok" and "as it should be" in found["tiny model"]["found"]
    assert {"Python", "packages: models and training", "torch", "GPU", "recipes", "disk", "cache of models"} <= found.keys()
    assert done.returncode == int(not answer["ok"]) == int(any(c["status"] == "problem" for c in answer["checks"]))
    assert done.stderr == ""


# An import hook of every Python that starts with this folder on its path: the doctor and its probes alike.
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
"""


def test_works_when_half_the_packages_are_missing(tmp_path):
    blocked = {"torch", "transformers", "trl", "peft", "numpy", "PIL", "cv2", "yaml", "RestrictedPython", "regex", "datasets"}
    (tmp_path / "sitecustomize.py").write_text(BLOCKER.replace("{blocked}", repr(blocked)))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(RUN, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stderr) == (1, "")
    lines = [line for line in done.stdout.splitlines() if line.startswith(("ok", "note", "problem"))]
    by_name = {line[9:43].strip(): line for line in lines}
    missing = {"torch": "No module named 'torch'", "recipes": "'yaml'", "sandbox": "'PIL'", "tiny model": "No module named"}
    for name, word in missing.items():
        assert by_name[name].startswith("problem") and word in by_name[name], by_name[name]
    assert by_name["Python"].startswith("ok") and by_name["disk"].startswith("ok")
    assert done.stdout.count("-> make setup") >= 4
    assert done.stdout.splitlines()[-1].endswith("problems")


def test_the_text_is_aligned_and_says_what_to_do(monkeypatch, capsys):
    checks = {packages: "python packages", machine: "gpu recipes disk caches", selftests: "sandbox tiny"}
    for module, name in ((module, name) for module, names in checks.items() for name in names.split()):
        monkeypatch.setattr(module, f"check_{name}", lambda *_, name=name: [Check(name, "ok", "fine")])
    monkeypatch.setattr(machine, "check_gpu", lambda probe: [Check("GPU", "note", "none")])
    monkeypatch.setattr(machine, "check_disk", lambda: [Check("disk", "problem", "1 GiB free", "free some")])
    monkeypatch.setattr(selftests, "check_sandbox", lambda: [][1])
    monkeypatch.setattr(selftests, "TORCH", "print('{}')")
    monkeypatch.setattr(selftests, "TINY", "print('{}')")
    monkeypatch.setattr(base, "ROOT", Path("/nowhere"))
    monkeypatch.setattr(selftests.Probe, "__init__", lambda self, program: setattr(self, "_result", {}))
    monkeypatch.setattr(selftests.Probe, "end", lambda self: None)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out == (
        "ok       python                             fine\n"
        "ok       packages                           fine\n"
        "note     GPU                                none\n"
        "ok       recipes                            fine\n"
        "problem  disk                               1 GiB free\n"
        "                                            -> free some\n"
        "ok       caches                             fine\n"
        "problem  sandbox                            can't be checked: IndexError: list index out of range\n"
        "                                            -> install again: pip install --force-reinstall codevision-lite\n"
        "ok       tiny                               fine\n"
        "\n"
        "2 problems\n"
    )


# ---------------------------------------------------------------- packages


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with three pins, of which `versions` are installed."""
    (tmp_path / "requirements-cpu.txt").write_text(
        "# What runs anywhere.\n\n# models and training\ntrl==1.14.2  # no newer\ntorch==2.13.0\n\n# tests and lint\nruff==0.17.5\n"
    )
    (tmp_path / "requirements.txt").write_text("# For a GPU.\n-r requirements-cpu.txt\nunsloth_zoo==2026.10.9\n")
    versions = {"trl": "1.14.2", "torch": "2.13.0+cpu", "ruff": "0.17.5", "unsloth-zoo": "2026.10.9"}

    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(base, "ROOT", tmp_path)
    monkeypatch.setattr(importlib.metadata, "version", version)
    return versions


def statuses(with_gpu=False):
    return {check.name: check.status for check in packages.check_packages(with_gpu)}


def test_packages_are_compared_with_the_pins(checkout):
    assert statuses() == {"packages: models and training": "ok", "packages: tests and lint": "ok"}
    assert statuses(with_gpu=True)["packages: NVIDIA GPU"] == "ok"
    checkout["trl"] = "1.16.0"
    (check,) = [c for c in packages.check_packages(False) if c.status != "ok"]
    assert (check.status, check.fix) == ("problem", "pip install trl==1.14.2")
    assert check.found == "1 of 2 as pinned; trl 1.16.0 instead of 1.14.2"
    del checkout["trl"], checkout["ruff"]
    assert statuses() == {"packages: models and training": "problem", "packages: tests and lint": "note"}


def test_an_installed_package_reads_its_own_metadata(checkout, monkeypatch, tmp_path):
    (tmp_path / "requirements-cpu.txt").unlink()
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["trl==1.14.2", "pillow==13.0.0"])
    (check,) = packages.check_packages(False)
    assert (check.name, check.status, check.fix) == ("packages", "problem", "pip install pillow==13.0.0")
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: None)
    assert statuses() == {"packages": "note"}


def test_every_pin_of_this_checkout_is_read():
    lines = [*(ROOT / "requirements-cpu.txt").read_text().splitlines(), *(ROOT / "requirements.txt").read_text().splitlines()]
    pins = packages.read_pins(with_gpu=True)
    assert sum(map(len, pins.values())) == sum("==" in line.split("#")[0] for line in lines) > 20
    assert "torch" in pins["packages: models and training"] and "unsloth-zoo" in pins["packages: NVIDIA GPU"]


# ---------------------------------------------------------------- GPU, disk, caches

CASES = {
    "no GPU": (NO_GPU, False, "note", "none"),
    "a GPU that a CPU build of torch can't use": (NO_GPU, True, "problem", "a CPU build"),
    "a driver that is too old": ({"torch": "2.13.0", "cuda": "13.0", "gpus": []}, True, "problem", "torch can't use it"),
    "a GPU": (gpus(24), True, "ok", "A card, 24.0 GiB, 24.0 GiB free"),
    "a GPU that others use": (gpus(24, used=10), True, "note", "14.0 GiB free"),
    "an old GPU": (gpus(16, bf16=False), True, "problem", "no bfloat16"),
    "no torch": ({"error": "No module named 'torch'"}, False, "problem", "No module named 'torch'"),
}


@pytest.mark.parametrize("probe, driver, status, words", CASES.values(), ids=CASES.keys())
def test_gpus_of_all_kinds(monkeypatch, probe, driver, status, words):
    monkeypatch.setattr(machine, "has_gpu", lambda: driver)
    monkeypatch.setattr(machine, "driver_facts", lambda: "driver 500.10" if driver else "")
    check = machine.check_gpu(probe)[-1]
    assert check.status == status and words in check.found
    assert bool(check.fix) == (status != "ok" and words != "none")


@pytest.mark.parametrize("size, n_fit", [(None, 0), (4, 0), (24, 2), (80, 4)])
def test_the_recipes_that_fit_a_card_are_named(size, n_fit):
    checks = machine.check_recipes(gpus(size) if size else NO_GPU)
    assert checks[0] == Check("recipes", "ok", "without a GPU: demo, pages")
    fit = [check.found for check in checks[1:] if check.status == "ok"]
    assert sum(found.count("qwen2.5-vl") for found in fit) == n_fit
    assert sum(check.found.count("qwen2.5-vl") for check in checks) == 4
    assert all(check.fix for check in checks if "do not fit" in check.found)


def test_a_full_disk_and_a_cache_that_is_a_file_are_problems(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage(0, 0, GIB))
    assert machine.check_disk()[0].status == "problem"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    models, kernels = machine.check_caches()
    assert (models.status, models.fix, kernels.status) == ("problem", "export HF_HOME=FOLDER", "ok")
    monkeypatch.delenv("HF_HOME")
    (tmp_path / "huggingface" / "hub" / "models--Qwen--Qwen2.5-VL-3B-Instruct").mkdir(parents=True)
    assert "1 model: Qwen/Qwen2.5-VL-3B-Instruct" in machine.check_caches()[0].found


def test_a_probe_that_crashes_is_one_line():
    crash = selftests.Probe("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    fails = selftests.Probe("raise OSError('libcudart.so.13: cannot open')")
    assert crash.result() == {"error": "the process was killed by signal 11"}
    assert fails.result() == {"error": "OSError: libcudart.so.13: cannot open"}
    works = selftests.Probe("print('noise'); print('{\"a\": 1}')")
    assert works.result() == works.result() == {"a": 1}


def test_a_sandbox_that_lets_an_attack_through_is_a_problem(monkeypatch):
    monkeypatch.setattr(selftests, "_ATTACK", "result = image")
    (check,) = selftests.check_sandbox()
    assert check.status == "problem" and "not refused" in check.found


def test_a_tiny_model_that_answers_wrongly_is_a_problem():
    (check,) = selftests.check_tiny({"answer": "X", "gold": "FIRE", "right": False, "load_s": 1.0, "answer_s": 0.2})
    assert check.status == "problem" and "'X' instead of 'FIRE'" in check.found
