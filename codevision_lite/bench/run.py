"""The runner of benchmarks: items through a model and the agent loop, a row each, resumed by id; what fails is named and counted.

A run folder holds config.yaml (what was asked), trajectories.jsonl (rows), failures.jsonl, images/, results.json and report.html. Knows
no benchmark (benchmark.py) and counts nothing (summary.py); models come in loaded.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from PIL import Image

from codevision_lite.agent import AgentLimits, Episode, run_episodes
from codevision_lite.bench.benchmark import Benchmark
from codevision_lite.bench.blind import BlindModel
from codevision_lite.bench.settings import BenchConfig
from codevision_lite.bench.tool_use import tool_facts
from codevision_lite.bench.variants import Item, make_items, shown_sample
from codevision_lite.errors import UserError
from codevision_lite.files import append_jsonl, explain_os_errors, read_jsonl
from codevision_lite.imaging import content_name, open_image, save_png
from codevision_lite.models import ChatModel, Segment
from codevision_lite.models.openai import ServerReply
from codevision_lite.models.server import ServerError
from codevision_lite.progress import Progress
from codevision_lite.protocol import parse_reply
from codevision_lite.records import Sample, Trajectory

ROWS, FAILURES = "trajectories.jsonl", "failures.jsonl"
PICTURES_OF = 40  # samples whose pictures are kept, under every damage: enough to browse, whatever the benchmark's size
_BATCHES = 4  # of a local model, in one call of the agent loop: there the next item starts when one ends
_MAX_OPEN_PIXELS = 400_000_000  # of pictures that are open at once; with what code makes of them, some GB
_PREVIEW_PX = 768  # long side of a kept picture, at most
_MAX_FAILED_SHARE = 0.05  # of the items of a run; more, and the rest would not be worth its name

J, R = TypeVar("J"), TypeVar("R")


def run_items(benchmark: Benchmark, config: BenchConfig, samples: Sequence[Sample], model: ChatModel, sandbox: Any, folder: Path) -> None:
    """Append a row for every item that has none yet. Raises UserError where a server fails again and again; what is done stays."""
    runner = _Runner(benchmark, config, model, sandbox, folder, samples)
    items = make_items(samples, config.damages)
    done = {row["id"] for row in read_rows(folder)}
    size = model.batch_size if config.server else model.batch_size * _BATCHES
    batches = [items[at : at + size] for at in range(0, len(items), size)]
    # A batch that was done in part is run whole again: what a model computes may depend on what is beside it in the batch.
    batches = [batch for batch in batches if any(item.id not in done for item in batch)]
    progress = Progress(f"{benchmark.name} {config.label}", len(items), "items", len(done))
    threads = config.concurrency if config.server else 1
    n_done, n_right, n_failed = len(done), 0, 0
    if threads == 1:
        runner.on_progress = lambda n: progress.update(min(n_done + n_failed + n, len(items) - 1))
    watch = _Watch(len(items), max(5, 2 * threads))
    for outcomes in in_threads(runner.run, batches, threads):
        for outcome in outcomes:
            if outcome["id"] in done:
                continue
            if "failure" in outcome:
                append_jsonl(folder / FAILURES, outcome)
                n_failed += 1
            else:
                append_jsonl(folder / ROWS, outcome)
                n_right += outcome["correct"]
                n_done += 1
            progress.update(n_done + n_failed, _note(n_right, n_done - len(done), n_failed))
            watch.saw(outcome, n_done)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run folder; none where there are none yet."""
    return read_jsonl(folder / ROWS, cut_tail=True) if (folder / ROWS).exists() else []


def read_failures(folder: Path) -> dict[str, dict[str, Any]]:
    """The last failure of each item; an item that has a row by now did not fail."""
    rows = read_jsonl(folder / FAILURES, cut_tail=True) if (folder / FAILURES).exists() else []
    return {row["id"]: row for row in rows}


def in_threads(work: Callable[[J], R], jobs: Sequence[J], n_threads: int) -> Iterator[R]:
    """`work` of every job, as they finish; in order and in this thread where `n_threads` is 1. The first exception ends it.

    The threads are daemons: after Ctrl-C nothing waits for a request that is on its way."""
    if n_threads <= 1:
        yield from map(work, jobs)
        return
    left, finished = iter(jobs), queue.SimpleQueue()
    lock, stop = threading.Lock(), threading.Event()

    def serve() -> None:
        while not stop.is_set():
            with lock:
                job = next(left, stop)
            if job is stop:
                return
            try:
                finished.put((work(job), None))
            except Exception as e:
                finished.put((None, e))

    for _ in range(min(n_threads, len(jobs))):
        threading.Thread(target=serve, daemon=True).start()
    try:
        for _ in jobs:
            result, error = finished.get()
            if error is not None:
                raise error
            yield result
    finally:
        stop.set()


def prediction_of(trajectory: Trajectory, tools: bool) -> tuple[str | None, bool]:
    """The text that is scored, and whether it stood in <answer> tags.

    Without tools a model that was not trained on the tags is not asked to have them: its whole reply, thoughts apart, is the
    prediction, as the benchmarks' own harnesses take it. With tools only tags are an answer."""
    if trajectory.answer is not None:
        return trajectory.answer, True
    if tools or not trajectory.turns:
        return None, False
    last = trajectory.turns[-1].text
    reply = parse_reply(last)
    text = last.rsplit("</think>", 1)[-1].strip()
    return (None if reply.call is not None or "<think>" in text else text or None), False


@dataclass
class _Watch:
    """Stops a run whose server fails: many in a row, or too large a share."""

    n_items: int
    in_a_row: int
    row: int = 0
    total: int = 0

    def saw(self, outcome: dict[str, Any], n_done: int) -> None:
        failure = outcome.get("failure")
        if failure is None or failure["kind"] != "server":
            self.row = 0 if failure is None else self.row
            return
        self.row, self.total = self.row + 1, self.total + 1
        many = self.total > max(self.in_a_row, _MAX_FAILED_SHARE * self.n_items)
        if self.row >= self.in_a_row or many:
            how = f"{self.row} items failed one after another" if self.row >= self.in_a_row else f"{self.total} items failed"
            raise UserError(
                f"{how}, the last with: {failure['reason']}. Put the server right and run the same command again: "
                f"{n_done} of {self.n_items} items are done and kept"
            )


@dataclass
class _Runner:
    """Runs a batch of items: opens and damages, asks, scores, keeps pictures. Safe to share between threads if its model is."""

    benchmark: Benchmark
    config: BenchConfig
    model: ChatModel
    sandbox: Any
    folder: Path
    samples: Sequence[Sample]
    on_progress: Callable[[int], None] | None = None  # told how many items of the batch are done

    def __post_init__(self) -> None:
        self._saving = threading.Lock()
        self._pictured = {sample.id for sample in self.samples[:PICTURES_OF]}
        limits, tools = AgentLimits.of(self.config), self.config.tools != "off"
        self._limits = limits if tools else replace(limits, max_turns=1, tools=False)

    def run(self, batch: Sequence[Item]) -> list[dict[str, Any]]:
        """A row, or a failure, for each item."""
        outcomes: list[dict[str, Any]] = []
        asked: list[tuple[Item, Sample]] = []
        n_pixels, source = 0, (None, None)  # the items of one sample follow each other: its picture is decoded once
        for item in batch:
            try:
                if source[0] is not item.sample:
                    source = (item.sample, open_image(item.sample.image))
                asked.append((item, shown_sample(item, source[1])))
            except UserError as e:
                outcomes.append(_failure(item, "picture", e))
                continue
            n_pixels += source[1].width * source[1].height
            if n_pixels > _MAX_OPEN_PIXELS:
                outcomes += self._ask(asked, len(outcomes))
                asked, n_pixels = [], 0
        return outcomes + self._ask(asked, len(outcomes))

    def _ask(self, asked: Sequence[tuple[Item, Sample]], n_before: int) -> list[dict[str, Any]]:
        """A row for each item, or a failure for each where the server fails; `n_before`: items of the batch that are done."""
        if not asked:
            return []
        tell = self.on_progress
        model = BlindModel(self.model) if self.config.tools == "blind" else self.model
        started = time.perf_counter()
        try:
            episodes = run_episodes(
                model, self.sandbox, [shown for _, shown in asked], self._limits, (lambda n: tell(n_before + n)) if tell else None
            )
        except ServerError as e:
            return [_failure(item, "server", e) for item, _ in asked]
        seconds = (time.perf_counter() - started) / len(asked)
        return [self._row(item, shown, episode, seconds) for (item, shown), episode in zip(asked, episodes, strict=True)]

    def _row(self, item: Item, shown: Sample, episode: Episode, seconds: float) -> dict[str, Any]:
        trajectory = episode.trajectory()
        prediction, tagged = prediction_of(trajectory, self._limits.tools)
        scored = self.benchmark.score(item.sample, prediction, self.config.switches)
        replies = [s for s in episode.dialogue.segments if s.role == "reply"]
        names = self._keep_pictures(trajectory) if item.sample.id in self._pictured else []
        return {
            "id": item.id, "item": item.sample.id, "stage": self.config.label, "condition": item.damage, "correct": scored.correct,
            "value": scored.value, "how": scored.how, "prediction": prediction, "tagged": tagged,
            "category": str(item.sample.meta.get("category", "")), "group": str(item.sample.meta.get("group", item.sample.id)),
            "facts": tool_facts(shown, trajectory, scored.value), "seconds": seconds,
            "n_tokens": sum(map(_n_tokens, replies)),
            "sample": shown.to_json(names[0] if names else ""), "trajectory": trajectory.to_json(names),
        }  # fmt: skip

    def _keep_pictures(self, trajectory: Trajectory) -> list[str]:
        images = self.folder / "images"
        with self._saving, explain_os_errors(images):  # equal pictures have one name
            return [f"images/{save_preview(open_image(image), images)}" for image in trajectory.images]


def scored_again(benchmark: Benchmark, row: dict[str, Any], switches: dict[str, str]) -> dict[str, Any]:
    """The row under the benchmark's rule as it is now; needs no model and no picture."""
    scored = benchmark.score(Sample.from_json(row["sample"]), row["prediction"], switches)
    return {**row, "value": scored.value, "correct": scored.correct, "how": scored.how}


def _failure(item: Item, kind: str, error: Exception) -> dict[str, Any]:
    return {"id": item.id, "item": item.sample.id, "condition": item.damage, "failure": {"kind": kind, "reason": str(error)}}


def _note(n_right: int, n: int, n_failed: int) -> str:
    right = f"right {n_right / n:.2f}" if n else ""
    return right + (f", {n_failed} failed" if n_failed else "")


def save_preview(image: Image.Image, folder: Path) -> str:
    """Keep a picture for the report: as it is where it is small, else a smaller JPEG whose comment holds its true size ("4032x3024").

    Returns the file name, which comes from the content."""
    scale = _PREVIEW_PX / max(image.size)
    if scale >= 1:
        return save_png(image, folder)
    size = tuple(max(1, round(scale * side)) for side in image.size)
    small = Image.fromarray(cv2.resize(np.asarray(image), size, interpolation=cv2.INTER_AREA))
    path = folder / f"{content_name(small)}-{image.width}x{image.height}.jpg"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{threading.get_ident()}.part")
        small.save(partial, "JPEG", quality=85, comment=f"{image.width}x{image.height}".encode())
        partial.replace(path)
    return path.name


def _n_tokens(reply: Segment) -> int:
    return reply.n_tokens if isinstance(reply, ServerReply) else len(reply.token_ids or ())
