"""The runs of the experiment: each a `codevision-lite` process of its own in an ordinary run folder, `jobs` at a time.

    runs/miniature/seed0/start/    data, base, SFT                      seed0/dense/    one arm: grpo/, metrics, rows, report.html
    seed0/dense/data -> ../start/data    seed0/dense/sft -> ../start/sft    seed0/dense/log.txt    what the process printed

What is finished is seen from the files and not started again; a run that was stopped goes on from its checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codevision_lite.bench.evaluate import stage_rows
from codevision_lite.datasets.rows import IMAGES
from codevision_lite.files import write_atomic
from codevision_lite.miniature.plan import START, Miniature
from codevision_lite.pipeline import claim
from codevision_lite.progress import Progress
from codevision_lite.recipe import Recipe
from codevision_lite.sandbox.seccomp import die_with_parent

LOG = "log.txt"
_POLL_S = 0.5
_STOP_S = 60  # that a process has to end after Ctrl-C
_WORK = {"synth": 3, "eval": 4, "sft": 5, "rl": 12}  # about how long the verbs take against each other
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Job:
    """A run folder and the verbs that fill it, in order. `start`: whose data and SFT adapter it uses; None: it is that folder."""

    name: str
    recipe: Recipe
    verbs: tuple[tuple[str, ...], ...]
    start: Path | None

    @property
    def folder(self) -> Path:
        return Path(self.recipe.run_folder)

    @property
    def from_base(self) -> bool:
        return self.recipe.rl.start == "base"

    def left(self) -> list[tuple[str, ...]]:
        """The verbs whose outputs are not there yet."""
        return [verb for verb in self.verbs if not _is_done(self.folder, verb)]

    def is_ready(self) -> bool:
        """Whether what it starts from is there: RL on the bare base needs no SFT."""
        if self.start is None:
            return True
        return _is_done(self.start, ("synth",)) if self.from_base else not [v for v in _START_VERBS if not _is_done(self.start, v)]


_START_VERBS = (("synth",), ("eval", "--stage", "base"), ("sft",), ("eval", "--stage", "sft"))
_ARM_VERBS = (("rl",), ("eval", "--stage", "grpo"))


class _Running:
    """A job under way: one process for each verb that is left, one after the other."""

    def __init__(self, job: Job):
        self.job = job
        self.verbs = job.left()
        self.work = work_of(self.verbs)
        self._next()

    def _next(self) -> None:
        self.verb, *options = self.verbs.pop(0)
        self.share = 0.0  # of this verb
        folder = self.job.folder
        self.log_from = (folder / LOG).stat().st_size if (folder / LOG).exists() else 0  # what is before it is another process's
        argv = [sys.executable, "-m", "codevision_lite", self.verb, str(folder / "config.yaml"), *options]
        with open(folder / LOG, "ab") as log:
            self.process = subprocess.Popen(  # a session of its own: Ctrl-C reaches it through us, once
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=die_with_parent,
                env={**os.environ, **_THREADS, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip

    def poll(self) -> int | None:
        """None while it works; 0 when all its verbs are done; else the exit code of the one that failed."""
        code = self.process.poll()
        if code == 0 and self.verbs:
            self._next()
            return None
        return code

    def status(self) -> tuple[str, float]:
        """(what it does, such as "grpo step 12/40"; work that is done, in [0, self.work])."""
        line = last_line(self.job.folder / LOG, self.log_from)
        found = re.match(r"(.*?(\d+)/(\d+))", line)
        if found:  # a verb may count several times from nothing
            self.share = max(self.share, min(1.0, int(found[2]) / max(1, int(found[3]))))
        return (found[1] if found else "starting"), self.work - work_of(self.verbs) - (1 - self.share) * _WORK[self.verb]


def work_of(verbs: Sequence[tuple[str, ...]]) -> float:
    return sum(_WORK[verb[0]] for verb in verbs)


def make_jobs(plan: Miniature) -> list[Job]:
    """All jobs in the order in which they are started where they can."""
    jobs = []
    for seed in plan.seed_list:
        recipe = plan.start_recipe(seed)
        jobs.append(Job(f"seed{seed}/{START}", recipe, _START_VERBS, None))
        for arm in plan.arms:
            jobs.append(Job(f"seed{seed}/{arm}", plan.arm_recipe(arm, seed), _ARM_VERBS, Path(recipe.run_folder)))
    return jobs


def run_all(plan: Miniature) -> dict[str, str]:
    """Run what is not done yet. Returns the jobs that failed or could not start, each with the reason; the others went on.

    Raises UserError where a folder holds another run. Ctrl-C ends the processes, and the same command goes on."""
    waiting = make_jobs(plan)
    for job in waiting:
        prepare(job)
    n_jobs, total = len(waiting), sum(work_of(job.verbs) for job in waiting)
    waiting = [job for job in waiting if job.left()]
    done = total - sum(work_of(job.left()) for job in waiting)
    progress = Progress("miniature", 100, "%", start=int(100 * done / total))
    running: list[_Running] = []
    failed: dict[str, str] = {}
    try:
        while waiting or running:
            while len(running) < plan.jobs and (job := next((j for j in waiting if j.is_ready()), None)):
                waiting.remove(job)
                share_start(job)
                running.append(_Running(job))
            if not running:
                failed.update((job.name, f"not started: {job.start} is not finished") for job in waiting)
                break
            time.sleep(_POLL_S)
            for run in list(running):
                code = run.poll()
                if code is None:
                    continue
                running.remove(run)
                if code == 0:
                    done += run.work
                else:
                    log = run.job.folder / LOG
                    failed[run.job.name] = last_line(log) or f"ended with {code}"
                    print(f"\n{run.job.name} failed: {failed[run.job.name]} ({log})", file=sys.stderr, flush=True)
            states = [(run, *run.status()) for run in running]
            so_far = done + sum(work for _, _, work in states)
            what = "; ".join(f"{run.job.name} {text}" for run, text, _ in states)
            percent = min(99, int(100 * so_far / total)) if running or waiting else 100
            progress.update(percent, f"{n_jobs - len(waiting) - len(running)} of {n_jobs} runs" + (f" | {what}" if what else ""))
    finally:
        _stop(running)
    return failed


def last_line(log: Path, start: int = 0) -> str:
    """The last line of a log, from byte `start` on, that says something; "" where there is none."""
    if not log.exists():
        return ""
    with open(log, "rb") as file:
        file.seek(max(start, log.stat().st_size - 8192))
        text = file.read().decode("utf-8", "replace")
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    return lines[-1] if lines else ""


def prepare(job: Job) -> None:
    """Claim the run folder, and link what it shares with the others of its seed."""
    claim(job.recipe)
    if job.start is None:
        return
    for name in ("data",) if job.from_base else ("data", "sft"):
        link = job.folder / name
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(job.start / name, job.folder))


def share_start(job: Job) -> None:
    """Give an arm the evaluation of what its RL starts from, so that its own report and viewer show before and after."""
    rows, results = job.folder / "trajectories.jsonl", job.folder / "results.json"
    stage = "base" if job.from_base else "sft"
    if job.start is None or results.exists() or not _is_done(job.start, ("eval", "--stage", stage)):
        return
    own = [json.dumps(row, ensure_ascii=False) + "\n" for row in stage_rows(job.start / rows.name, stage)]
    write_atomic(rows, "".join(own))
    (job.folder / IMAGES).mkdir(exist_ok=True)
    for picture in (job.start / IMAGES).iterdir():
        target = job.folder / IMAGES / picture.name
        if not target.exists():
            try:
                os.link(picture, target)
            except OSError:  # a file system without hard links
                shutil.copyfile(picture, target)
    seeded = json.loads((job.start / results.name).read_text())
    seeded = {"stages": [s for s in seeded["stages"] if s["name"] in ("base", stage)], "context": seeded["context"]}
    write_atomic(results, json.dumps(seeded, indent=1))


def _is_done(folder: Path, verb: tuple[str, ...]) -> bool:
    if verb[0] == "synth":
        return (folder / "data" / "manifest.json").exists()
    if verb[0] == "eval":
        results = folder / "results.json"
        return results.exists() and any(s["name"] == verb[-1] for s in json.loads(results.read_text())["stages"])
    return (folder / {"sft": "sft", "rl": "grpo"}[verb[0]] / "adapter").is_dir()


def _stop(running: list[_Running]) -> None:
    """End processes as Ctrl-C would: they keep what they have done."""
    for run in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGINT)
    deadline = time.monotonic() + _STOP_S
    for run in running:
        try:
            run.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            run.process.kill()
