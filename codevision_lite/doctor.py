"""Will this work here? Python, packages against their pins, GPU, recipes, disk, caches, sandbox, tiny model: each with what to do.

    codevision-lite doctor [--json]

A check that can't be made says why and the others go on: nothing beyond Python's own library is imported but inside a check. What loads
torch runs in processes of its own beside the rest, since a broken install may crash or hang where it is imported.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from codevision_lite.errors import UserError

ROOT = Path(__file__).parent.parent  # of a checkout; an installed package has no recipes and no sample data beside it
_DISTRIBUTION = "codevision-lite"
_PYTHON = (3, 11)  # as pyproject.toml says; numpy's pin needs it
# Another version of these is a problem: train/ and models/ reach into them. Of the others it is only said.
_REACHED_INTO = {"torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "unsloth", "unsloth-zoo"}
_FOR_DEVELOPERS = ("tests", "fonts")  # how the headings of those groups start; training and use do without them
_PROBE_S = 180.0  # seconds for a process that loads torch
_ROOM = 2 * 2**30  # bytes of free disk: a demo run with its checkpoints is far below, its temporary files included
_NAME_WIDTH = 34
GIB = 2**30

Status = Literal["ok", "note", "problem"]  # note: works, with a limit that the user should know


@dataclass(frozen=True)
class Check:
    """One line of the answer. `fix`: what to do; empty where there is nothing to do."""

    name: str
    status: Status
    found: str
    fix: str = ""


def main(*, as_json: bool = False) -> int:
    """Print the checks as they are done, or all of them as JSON; 0 where none is a problem, else 1."""
    torch_probe, tiny_probe = _Probe(_TORCH), _Probe(_TINY)
    checks: list[Check] = []
    steps: list[Callable[[], list[Check]]] = [
        check_python, lambda: check_packages(has_gpu()), lambda: check_gpu(torch_probe.result()),
        lambda: check_recipes(torch_probe.result()), check_disk, check_caches, check_sandbox, lambda: check_tiny(tiny_probe.result()),
    ]  # fmt: skip
    names = ("Python", "packages", "GPU", "recipes", "disk", "caches", "sandbox", "tiny model")
    try:
        for name, step in zip(names, steps, strict=True):
            for check in _tried(name, step):
                checks.append(check)
                if not as_json:
                    print(_line(check), flush=True)
    finally:
        torch_probe.end()
        tiny_probe.end()
    problems = [check for check in checks if check.status == "problem"]
    if as_json:
        print(json.dumps({"ok": not problems, "checks": [asdict(check) for check in checks]}, indent=1))
    else:
        print(f"\n{len(problems)} problem{'' if len(problems) == 1 else 's'}" if problems else "\nno problems")
    return int(bool(problems))


def _line(check: Check) -> str:
    text = f"{check.status:<8} {check.name:<{_NAME_WIDTH}} {check.found}"
    return f"{text}\n{'':<{9 + _NAME_WIDTH}} -> {check.fix}" if check.fix else text


def _tried(name: str, step: Callable[[], list[Check]]) -> list[Check]:
    try:
        return step()
    except ImportError as e:
        return [Check(name, "problem", f"can't be checked: {e}", _install([e.name.split(".")[0]] if e.name else []))]
    except UserError as e:  # says itself what to do
        return [Check(name, "problem", str(e))]
    except Exception as e:  # whatever a broken install does: the other checks go on
        return [Check(name, "problem", f"can't be checked: {type(e).__name__}: {_first_line(e)}", _install([]))]


def check_python() -> list[Check]:
    found = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info < _PYTHON:
        wanted = ".".join(map(str, _PYTHON))
        return [Check("Python", "problem", found, f"install Python {wanted} or newer, then: make setup PYTHON=python{wanted}")]
    return [Check("Python", "ok", found)]


# ---------------------------------------------------------------- packages


def read_pins(with_gpu: bool) -> dict[str, dict[str, str]]:
    """Group -> package -> version: of the requirements files of a checkout, else of the installed package's own metadata, which has no
    groups and not the GPU's packages. Empty where neither is there."""
    if (ROOT / "requirements-cpu.txt").is_file():
        files = [ROOT / "requirements-cpu.txt", *([ROOT / "requirements.txt"] if with_gpu else [])]
        groups: dict[str, dict[str, str]] = {}
        for path in files:
            heading = "packages: NVIDIA GPU" if path.name == "requirements.txt" else "packages"
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.startswith("#") and path.name != "requirements.txt":
                    heading = f"packages: {re.split('[:,]', line.lstrip('# '))[0]}"
                elif pin := _pin(line):
                    groups.setdefault(heading, {})[pin[0]] = pin[1]
        return groups
    try:
        required = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    pins = dict(pin for line in required if (pin := _pin(line)))
    return {"packages": pins} if pins else {}


def check_packages(with_gpu: bool) -> list[Check]:
    """A line for each group of pins."""
    groups = read_pins(with_gpu)
    if not groups:
        fix = "run it in a checkout, or install the package: pip install -e ."
        return [Check("packages", "note", "the pins are not known: neither requirements-cpu.txt nor the package's metadata is here", fix)]
    return [_check_group(name, pins) for name, pins in groups.items()]


def _check_group(name: str, pins: dict[str, str]) -> Check:
    versions = {package: _version(package) for package in pins}
    missing = [package for package, version in versions.items() if version is None]
    others = [package for package, version in versions.items() if version is not None and version != pins[package]]
    if not missing and not others:
        return Check(name, "ok", f"{len(pins)} package{'' if len(pins) == 1 else 's'}, as pinned")
    parts = [f"{len(pins) - len(missing) - len(others)} of {len(pins)} as pinned"]
    if missing:
        parts.append(f"missing: {', '.join(missing)}")
    parts += [f"{package} {versions[package]} instead of {pins[package]}" for package in others]
    needed = not name.removeprefix("packages: ").startswith(_FOR_DEVELOPERS)
    serious = needed and (bool(missing) or any(package in _REACHED_INTO for package in others))
    return Check(name, "problem" if serious else "note", "; ".join(parts), _install([f"{p}=={pins[p]}" for p in (*missing, *others)]))


def _pin(line: str) -> tuple[str, str] | None:
    found = re.match(r"([A-Za-z0-9][\w.-]*)\s*==\s*([\w.]+)", line)
    return (found[1].lower().replace("_", "-"), found[2]) if found else None


def _version(package: str) -> str | None:
    """Without what a build adds: 2.13.0+cpu is 2.13.0."""
    try:
        return importlib.metadata.version(package).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def _install(packages: list[str]) -> str:
    if (ROOT / "Makefile").is_file():
        return "make setup"
    return f"pip install {' '.join(packages)}" if packages else f"install again: pip install --force-reinstall {_DISTRIBUTION}"


# ---------------------------------------------------------------- GPU and recipes


def has_gpu() -> bool:
    """Whether an NVIDIA driver is running here, whatever torch can use."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def driver_facts() -> str:
    """"driver 580.95.05" as nvidia-smi says it; empty where it says nothing."""
    if (smi := shutil.which("nvidia-smi")) is None:
        return ""
    try:
        argv = [smi, "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=15, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.split()
    return f"driver {lines[0]}" if done.returncode == 0 and lines else ""


def check_gpu(probe: dict[str, Any]) -> list[Check]:
    """`probe`: what _TORCH printed, or {"error"}."""
    driver = driver_facts()
    if "error" in probe:
        return [Check("torch", "problem", f"can't be imported: {probe['error']}", _install(["torch"]))]
    torch = Check("torch", "ok", f"{probe['torch']}, {'CUDA ' + probe['cuda'] if probe['cuda'] else 'a CPU build'}")
    if not probe["gpus"]:
        if not has_gpu():
            what = "none: data, the tiny model (training too) and evaluation by a server run here; training Qwen2.5-VL does not"
            return [torch, Check("GPU", "note", what)]
        if not probe["cuda"]:
            return [torch, Check("GPU", "problem", f"there is one ({driver or 'no answer from nvidia-smi'}), and torch is a CPU build",
                                 "make setup REQUIREMENTS=requirements.txt")]  # fmt: skip
        fix = f"update the NVIDIA driver to one for CUDA {probe['cuda']} or newer; if it is, see what nvidia-smi says"
        return [torch, Check("GPU", "problem", f"torch can't use it ({driver or 'no answer from nvidia-smi'})", fix)]
    checks = [torch]
    for gpu in probe["gpus"]:
        name, total, free = gpu["name"], gpu["total"] / GIB, gpu["free"] / GIB
        found = f"{name}, {total:.1f} GiB, {free:.1f} GiB free, {driver or 'driver unknown'}"
        if not gpu["bf16"]:
            fix = "training computes in it: take a card of the Ampere generation or newer"
            checks.append(Check("GPU", "problem", f"{found}; no bfloat16", fix))
        elif free < 0.9 * total:
            checks.append(Check("GPU", "note", found, "other programs hold memory of it: nvidia-smi lists them"))
        else:
            checks.append(Check("GPU", "ok", found))
    return checks


def check_recipes(probe: dict[str, Any]) -> list[Check]:
    """Which recipes that name a card fit the largest one here; without one, what each needs."""
    from codevision_lite.config import load_recipe
    from codevision_lite.recipe import Recipe
    from codevision_lite.train.plan import make_plan

    if not (ROOT / "recipes").is_dir():
        return [Check("recipes", "note", "none here", "they are in the checkout, under recipes/")]
    card = max((gpu["total"] / GIB for gpu in probe.get("gpus", ())), default=None)
    fit, too_large, free = [], [], []
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        if path.stem == "tiny_base":  # trains the tiny model: of another kind, needs no GPU
            continue
        recipe = load_recipe(path, [], cls=Recipe)
        if recipe.gpu_gib is None:
            free.append(path.stem)
            continue
        peak = max(stage.total for stage in make_plan(recipe, card or recipe.gpu_gib).stages) / GIB
        (fit if card and peak <= card else too_large).append(f"{path.stem} ({peak:.1f} GiB)")
    checks = [Check("recipes", "ok", f"without a GPU: {', '.join(free)}")] if free else []
    if fit:
        checks.append(Check("recipes", "ok", f"fit: {', '.join(fit)}"))
    if too_large:
        where = "do not fit" if card else "need a GPU with so much memory"
        fix = "codevision-lite plan RECIPE --gpu-gib N says which keys make one fit" if card else ""
        checks.append(Check("recipes", "note", f"{where}: {', '.join(too_large)}", fix))
    return checks


# ---------------------------------------------------------------- disk and caches


def check_disk() -> list[Check]:
    free = shutil.disk_usage(Path.cwd()).free
    found = f"{free / GIB:,.0f} GiB free for runs/ in {Path.cwd()}"
    if not os.access(Path.cwd(), os.W_OK):
        return [Check("disk", "problem", f"{Path.cwd()} is not writable", "go to a folder of yours, or give run_folder=FOLDER")]
    if free < _ROOM:
        return [Check("disk", "problem", found, f"free some: {_ROOM / GIB:.0f} GiB are enough for the tiny model")]
    return [Check("disk", "ok", found)]


def check_caches() -> list[Check]:
    """The folders that models and compiled kernels go to."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or base / "huggingface") / "hub")
    checks = []
    for name, folder, variable in (("cache of models", hub, "HF_HOME"), ("cache of kernels", base / "codevision-lite", "XDG_CACHE_HOME")):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            checks.append(Check(name, "problem", f"{folder}: {there} is not a folder that you may write to", f"export {variable}=FOLDER"))
            continue
        found = f"{folder}, {shutil.disk_usage(there).free / GIB:,.0f} GiB free"
        if name == "cache of models":
            models = [path.name.removeprefix("models--").replace("--", "/") for path in sorted(folder.glob("models--*"))]
            some = ", ".join(models[:4]) + (", ..." if len(models) > 4 else "")
            found += f"; {len(models)} model{'' if len(models) == 1 else 's'}{': ' if models else ''}{some}"
        checks.append(Check(name, "ok", found))
    return checks


# ---------------------------------------------------------------- self-tests

_HONEST = "result = image.transpose(Image.Transpose.ROTATE_90)"
_ATTACK = "for c in ().__class__.__base__.__subclasses__():\n    if c.__name__ == 'Popen':\n        c(['id'])\nresult = image"


def check_sandbox() -> list[Check]:
    """An honest program runs, an attack is refused, and what a call costs."""
    from PIL import Image

    from codevision_lite.sandbox import Sandbox

    picture = Image.new("RGB", (640, 480), "white")
    with Sandbox(mode="worker") as sandbox:
        isolation = sandbox.isolation
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            run = sandbox.run(_HONEST, [picture])
            seconds.append(time.perf_counter() - started)
        attack = sandbox.run(_ATTACK, [picture])
    if run.status != "ok" or run.result is None or run.result.size != (480, 640):
        return [Check("sandbox", "problem", f"an honest program ended with {run.status}: {run.message}", _install([]))]
    if attack.status != "refused":
        return [Check("sandbox", "problem", f"an attack was not refused but ended with {attack.status}", "do not run models; report this")]
    found = f"{isolation} isolation; a rotation {1000 * statistics.median(seconds):.1f} ms, an attack refused"
    if isolation == "hard":
        return [Check("sandbox", "ok", found)]
    fix = "the kernel does not confine the workers (Linux with seccomp does): use models that you trust, or a container (docs/SANDBOX.md)"
    return [Check("sandbox", "note", found, fix)]


def check_tiny(probe: dict[str, Any]) -> list[Check]:
    """`probe`: what answer_once printed, or {"error"}."""
    if not tiny_folder().is_dir():
        return [Check("tiny model", "note", "not here", "it is in the checkout, under sample_data/tiny_base")]
    if "error" in probe:
        return [Check("tiny model", "problem", f"does not run: {probe['error']}", _install([]))]
    times = f"loaded in {probe['load_s']:.1f} s, answered in {probe['answer_s']:.1f} s"
    if not probe["right"]:
        found = f"{times}: {probe['answer']!r} instead of {probe['gold']!r}"
        return [Check("tiny model", "problem", found, "fetch sample_data/tiny_base again: sample_data/manifest.json has its sha256")]
    return [Check("tiny model", "ok", f"{times}: {probe['answer']!r}, as it should be")]


def tiny_folder() -> Path:
    return ROOT / "sample_data" / "tiny_base"


def answer_once() -> dict[str, Any]:
    """Load the tiny model and let it answer about the first upright sample picture. Takes seconds: for a process of its own."""
    started = time.perf_counter()
    from codevision_lite.agent import AgentLimits, run_episode
    from codevision_lite.datasets.rows import load_samples
    from codevision_lite.models import load_model
    from codevision_lite.reward.answer import match
    from codevision_lite.sandbox import Sandbox

    sample = next(s for s in load_samples(ROOT / "sample_data" / "pictures.jsonl") if s.damage == "none" and not s.required_ops)
    model = load_model(str(tiny_folder()), backend="transformers")
    loaded = time.perf_counter()
    with Sandbox(mode="worker") as sandbox:
        answer = run_episode(model, sandbox, sample, AgentLimits(max_turns=3, max_reply_tokens=96)).answer
    right = answer is not None and match(answer, sample.answers).value == 1.0
    answered = time.perf_counter() - loaded
    return {"answer": answer, "gold": sample.answers[0], "right": right, "load_s": loaded - started, "answer_s": answered}


_TORCH = """
import json, torch
gpus = []
for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
    free, total = torch.cuda.mem_get_info(i)
    name, bf16 = torch.cuda.get_device_name(i), torch.cuda.get_device_capability(i) >= (8, 0)
    gpus.append({"name": name, "total": total, "free": free, "bf16": bf16})
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "gpus": gpus}))
"""
_TINY = "import json; from codevision_lite.doctor import answer_once; print(json.dumps(answer_once()))"


class _Probe:
    """A program in a Python of its own that prints one JSON object last; started at once, waited for when asked."""

    def __init__(self, program: str):
        quiet = {"TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        self._result: dict[str, Any] | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
            text=True, env={**os.environ, **quiet}, cwd=ROOT,
        )  # fmt: skip

    def result(self) -> dict[str, Any]:
        """What it printed, or {"error": one line}."""
        if self._result is None:
            self._result = self._wait()
        return self._result

    def _wait(self) -> dict[str, Any]:
        try:
            out, err = self._process.communicate(timeout=_PROBE_S)
        except subprocess.TimeoutExpired:
            return {"error": f"no end after {_PROBE_S:.0f} s"}
        lines = [line for line in err.splitlines() if line.strip()]
        if self._process.returncode < 0:
            return {"error": f"the process was killed by signal {-self._process.returncode}{': ' + lines[-1] if lines else ''}"}
        if self._process.returncode > 0:
            return {"error": lines[-1] if lines else f"exit code {self._process.returncode}"}
        return json.loads(out.splitlines()[-1])

    def end(self) -> None:
        """Stop it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


def _first_line(e: Exception) -> str:
    return (str(e).strip() or type(e).__name__).splitlines()[0]
