"""The machine: its GPU and which recipes fit it, the disk, and the folders of models and compiled kernels."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from codevision_lite.doctor import base
from codevision_lite.doctor.base import GIB, Check

_OF_ANOTHER_KIND = ("tiny_base", "miniature")  # recipes of the tiny model that hold something else than one run
_ROOM = 2 * 2**30  # bytes of free disk: a demo run with its checkpoints is far below, its temporary files included


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
    """`probe`: what selftests.TORCH printed, or {"error"}."""
    driver = driver_facts()
    if "error" in probe:
        return [Check("torch", "problem", f"can't be imported: {probe['error']}", base.install(["torch"]))]
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

    if not (base.ROOT / "recipes").is_dir():
        return [Check("recipes", "note", "none here", "they are in the checkout, under recipes/")]
    card = max((gpu["total"] / GIB for gpu in probe.get("gpus", ())), default=None)
    fit, too_large, free = [], [], []
    for path in sorted((base.ROOT / "recipes").glob("*.yaml")):
        if path.stem in _OF_ANOTHER_KIND:
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
