"""Every stage on this machine's GPU, with random weights at the true shapes: memory against the plan, speed, and that it learns.

Needs no download and no network. Each piece is a process of its own with a time limit, and a result file; finished pieces are
skipped, a failed one is recorded with its error and the others go on.

    codevision-lite gpu-check --list
    codevision-lite gpu-check                     # all pieces, in order
    codevision-lite gpu-check --piece 3b-24gb
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from codevision_lite.errors import UserError
from codevision_lite.files import write_atomic

PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "unsloth")
_COMMAND = (sys.executable, "-c", "import sys; from codevision_lite.cli import main; sys.exit(main())", "gpu-check")


@dataclass(frozen=True)
class Piece:
    """One process. `minutes` are expected on a GPU of 2022 or newer; those of weights were measured, rollouts take longer."""

    name: str
    kind: Literal["weights", "model", "learning", "rollouts"]
    what: str
    minutes: float
    limit_s: int = 540
    known: str = ""  # shapes.KNOWN
    gib: int = 0  # memory that the process may use
    backend: Literal["transformers", "unsloth"] = "transformers"


def _model(size: str, gib: int, backend: Literal["transformers", "unsloth"], minutes: float) -> Piece:
    name = f"{size}-{gib}gb" + ("-unsloth" if backend == "unsloth" else "")
    what = f"SFT and GRPO of a {size.upper()} in {gib} GiB, {backend}"
    return Piece(name, "model", what, minutes, known=f"qwen2.5-vl-{size}", gib=gib, backend=backend)


PIECES = (
    Piece("weights-3b", "weights", "write random NF4 weights of the 3B's shape", 0.5, known="qwen2.5-vl-3b"),
    Piece("weights-7b", "weights", "write random NF4 weights of the 7B's shape", 1, known="qwen2.5-vl-7b"),
    _model("3b", 24, "transformers", 2.5),
    _model("3b", 24, "unsloth", 3),
    _model("7b", 48, "transformers", 3.5),
    _model("7b", 48, "unsloth", 4),
    _model("7b", 24, "transformers", 3.5),
    Piece("learning", "learning", "the tiny base: 300 steps of SFT, 60 of GRPO; loss falls, reward rises", 4),
    Piece("rollouts", "rollouts", "our rollouts beside TRL's own loop (benchmarks/bench_rollout.py)", 3),
)


def find_piece(name: str) -> Piece:
    """Raises UserError for a name that is none."""
    for piece in PIECES:
        if piece.name == name:
            return piece
    raise UserError(f"gpu-check has no piece {name!r}: use {', '.join(p.name for p in PIECES)}")


def list_text() -> str:
    lines = [f"{p.name:18} {p.minutes:4.1f} min  {p.what}" for p in PIECES]
    return "\n".join([*lines, f"{'all':18} {sum(p.minutes for p in PIECES):4.1f} min  expected, not measured"])


def check(names: Sequence[str], out: Path, work: Path, cpu: bool) -> bool:
    """Run the pieces that are not finished and print what they found; True if none failed. `cpu`: small shapes, no GPU needed.

    `out`: folder of the result files; `work`: of weights and checkpoints. Raises UserError where there is no GPU."""
    pieces = [find_piece(name) for name in names] or list(PIECES)
    if not cpu:
        from codevision_lite.models.load import gpu_name, require_bfloat16

        if gpu_name() is None:
            raise UserError("gpu-check: no NVIDIA GPU that torch can use. On a GPU machine, install the GPU requirements with: make setup")
        require_bfloat16()
    else:
        print("on a CPU: every piece's code runs, in small; its numbers say nothing about a GPU", flush=True)
    for piece in pieces:
        result = read_result(out, piece)
        there = piece.kind != "weights" or (weights_folder(work, piece, cpu) / "config.json").exists()
        if result.get("status") == "ok" and result.get("small", False) == cpu and there:
            print(f"{piece.name}: done before", flush=True)
            continue
        print(f"{piece.name}: {piece.what} ...", flush=True)
        result = _run(piece, out, work, cpu)
        tail = f" ({result['error']})" if result.get("error") else ""
        print(f"{piece.name}: {result['status']} in {result['seconds']:.0f} s{tail}", flush=True)
    results = {piece.name: read_result(out, piece) for piece in pieces}
    print(f"\n{table(results)}\nresult files: {out}")
    return not any(r.get("status") == "failed" for r in results.values())


def read_result(out: Path, piece: Piece) -> dict[str, Any]:
    path = out / f"{piece.name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _run(piece: Piece, out: Path, work: Path, cpu: bool) -> dict[str, Any]:
    """The piece in its own process; what it has written by its end or its limit, with how it ended."""
    reason = why_not(piece, cpu)
    (out / f"{piece.name}.json").unlink(missing_ok=True)
    started = time.monotonic()
    status, error = "skipped", reason
    if reason is None:
        argv = [*_COMMAND, "--piece", piece.name, "--inside", "--out", str(out), "--work", str(work), *(["--cpu"] if cpu else [])]
        log = work / f"{piece.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as stream:
            try:
                done = subprocess.run(argv, stdout=stream, stderr=subprocess.STDOUT, env=_environment(cpu), timeout=piece.limit_s)
                status, error = ("ok", None) if done.returncode == 0 else ("failed", _last_line(log, done.returncode))
            except subprocess.TimeoutExpired:
                status, error = "failed", f"not done after {piece.limit_s} s"
    result = {**read_result(out, piece), "small": cpu, "status": status, "seconds": round(time.monotonic() - started, 1)}
    if error:
        result["error"] = error
    write_result(out, piece, result)
    return result


def why_not(piece: Piece, cpu: bool) -> str | None:
    if piece.backend == "unsloth" and (cpu or importlib.util.find_spec("unsloth") is None):
        return "Unsloth needs a GPU" if cpu else "Unsloth is not installed"
    if piece.kind == "rollouts" and not Path("benchmarks/bench_rollout.py").exists():
        return "benchmarks/bench_rollout.py is not here: run gpu-check in the project's folder"
    if piece.gib and not cpu:
        import torch

        total = torch.cuda.get_device_properties(0).total_memory / 2**30
        if total < 0.95 * piece.gib:  # a card sold with 24 GB has a little less than 24 GiB
            return f"this card has {total:.0f} GiB"
    return None


def _environment(cpu: bool) -> dict[str, str]:
    """Of a piece: no network, and one GPU, the first of several."""
    seen = "" if cpu else os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    return {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": seen}


def _last_line(log: Path, code: int) -> str:
    """The error that ended a process: the last line of what it wrote, shortened."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{(lines or ['no message'])[-1][:400]} (exit code {code}, log: {log})"


def run_inside(name: str, out: Path, work: Path, cpu: bool) -> None:
    """The piece itself, in this process; its numbers go to its result file as they come."""
    piece, numbers = find_piece(name), {}

    def save(more: Mapping[str, Any]) -> None:
        numbers.update(more)
        write_result(out, piece, numbers)

    weights = weights_folder(work, piece, cpu)
    if piece.kind == "rollouts":
        save({"what": piece.what, **_context(piece)})
        _bench_rollouts(out, cpu, save)
        return
    from codevision_lite.models.backend import start_backend

    start_backend(piece.backend)  # before transformers and TRL
    save({"what": piece.what, **_context(piece)})
    if piece.kind == "weights":
        from codevision_lite.train.random_model import write_random_model

        folder = write_random_model(weights, piece.known, small=cpu)
        save({"disk_gib": round(sum(p.stat().st_size for p in folder.iterdir()) / 2**30, 3)})
        return
    from codevision_lite.train import gpu_pieces

    if piece.kind == "learning":
        gpu_pieces.run_learning_piece(_fresh(work / piece.name), save, short=cpu)
        return
    if not (weights / "config.json").exists():
        raise UserError(f"{weights} is not there yet. Make it with: codevision-lite gpu-check --piece weights-{piece.known[-2:]}")
    gpu_pieces.cap_memory(piece.gib)
    recipe = gpu_pieces.model_recipe(weights, _fresh(work / piece.name), piece.backend, small=cpu)
    gpu_pieces.run_model_piece(recipe, save)


def weights_folder(work: Path, piece: Piece, small: bool) -> Path:
    """Of the random weights that a piece writes or reads."""
    return work / f"weights-{piece.known[-2:]}{'-small' if small else ''}"


def _fresh(folder: Path) -> Path:
    """An empty folder: a piece that is run again measures everything again."""
    import shutil

    if folder.exists():
        shutil.rmtree(folder)
    return folder


def _bench_rollouts(out: Path, cpu: bool, save: Any) -> None:
    path = out / "rollouts.raw.json"
    few = ["--teach", "2", "--prompts", "1", "--generations", "2", "--rounds", "1"]
    # The ratio is for the reader to judge: --minimum would make the bench fail on it.
    argv = [sys.executable, "benchmarks/bench_rollout.py", "--json", str(path), "--minimum", "0", *(few if cpu else [])]
    done = subprocess.run(argv, env=_environment(cpu), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise UserError(f"benchmarks/bench_rollout.py: {(done.stdout.strip().splitlines() or ['no message'])[-1]}")
    save({"bench": json.loads(path.read_text())})
    path.unlink()


def write_result(out: Path, piece: Piece, result: Mapping[str, Any]) -> None:
    write_atomic(out / f"{piece.name}.json", json.dumps(result, indent=1, default=float) + "\n")


def _context(piece: Piece) -> dict[str, Any]:
    import torch

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    on_gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name(0) if on_gpu else f"CPU {platform.machine()}"
    return {"device": device, "cap_gib": (piece.gib or None) if on_gpu else None, "python": platform.python_version(), "versions": versions}


_COLUMNS = (
    ("SFT GiB", ("sft", "peak_gib")), ("plan", ("sft", "planned_gib")), ("roll. GiB", ("rollouts", "peak_gib")),
    ("plan", ("rollouts", "planned_gib")), ("update GiB", ("update", "peak_gib")), ("plan", ("update", "planned_gib")),
    ("SFT tok/s", ("sft", "tokens_per_s")), ("roll. tok/s", ("rollouts", "tokens_per_s")),
    ("traj/min", ("rollouts", "trajectories_per_min")), ("RL step s", ("rl_step", "step_s")),
)  # fmt: skip


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Peaks beside the plan's, and speeds, of the pieces that trained a model; then how the others ended."""
    models = {name: r for name, r in results.items() if "sft" in r and "planned_gib" in r["sft"]}
    width = max(map(len, results), default=5) + 2
    lines = []
    if models:
        lines.append(f"{'piece':{width}}" + "".join(f"{title:>12}" for title, _ in _COLUMNS))
    for name, result in models.items():
        values = [result.get(part, {}).get(key) for _, (part, key) in _COLUMNS]
        lines.append(f"{name:{width}}" + "".join(f"{'-' if v is None else f'{v:.2f}':>12}" for v in values))
        split = result.get("rl_step", {}).get("split_s")
        if split:
            lines.append(f"{'':{width}}an RL step: " + ", ".join(f"{what} {seconds:.2f} s" for what, seconds in split.items()))
        if "non_finite" in result:
            gap = result["rollouts"]["logprob_gap"]
            lines.append(f"{'':{width}}not finite: {result['non_finite']}; log-probabilities of rollouts and training differ by "
                         f"{gap['mean']:.4f} on average, {gap['max']:.4f} at most")  # fmt: skip
    for name, result in models.items():
        stock = models.get(name.removesuffix("-unsloth"), {}).get("sft")
        if name.endswith("-unsloth") and stock:
            ratio = result["sft"]["tokens_per_s"] / stock["tokens_per_s"]
            lines.append(f"{name:{width}}{ratio:.2f} times the SFT tokens a second of plain transformers")
    for name, result in results.items():
        if "loss_first" in result.get("sft", {}):
            sft, rl = result["sft"], result.get("rl", {})
            reward = f"; reward {rl['reward_first']:.2f} to {rl['reward_last']:.2f} in {rl['steps']} steps" if rl else ""
            lines.append(f"{name:{width}}loss {sft['loss_first']:.3f} to {sft['loss_last']:.3f} in {sft['steps']} steps{reward}")
        if "ratio" in result.get("bench", {}):
            lines.append(f"{name:{width}}{result['bench']['ratio']:.2f} times the trajectories a minute of TRL's own loop")
        if result.get("status") != "ok":
            lines.append(f"{name:{width}}{result.get('status', 'not run')}: {result.get('error', '')}")
    return "\n".join(lines)
