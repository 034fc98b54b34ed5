"""A data folder: sft.jsonl, rl.jsonl and test.jsonl with their pictures, made in chunks by several processes.

    data/sft.jsonl rl.jsonl test.jsonl     rows (datasets/rows.py); pictures in data/images/, named by their content
    data/rejects.jsonl                     every script that failed verification: its replies and the reason
    data/manifest.json                     seed, version, counts, checksums; written last: it says that the folder is complete
    data/parts/                            finished chunks; a stopped run goes on from them

A chunk depends on the seed, the split and its number alone: the same recipe gives the same bytes with any number of
processes, also after a kill.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from codevision_lite import __version__
from codevision_lite.datasets.rows import IMAGES, load_samples, sample_row, trajectory_row
from codevision_lite.errors import UserError
from codevision_lite.files import explain_os_errors, read_jsonl, write_atomic
from codevision_lite.models.server import ChatServer
from codevision_lite.progress import Progress
from codevision_lite.recipe import DataConfig, EvalStage
from codevision_lite.sandbox import Sandbox
from codevision_lite.sandbox.seccomp import die_with_parent
from codevision_lite.synth import pages, samples, signs_scripts
from codevision_lite.synth.gold import Gold, Item, Rejected, Script, make_golds
from codevision_lite.synth.sources import weighted
from codevision_lite.synth.teacher import Teacher, make_taught_golds

CHUNK = 40  # rows; small enough that a stopped run loses seconds
_MAX_CHUNKS = 4  # times what would be needed if nothing were rejected or drawn twice
TEACHER = "teacher.jsonl"  # every reply of the teacher, so that none is paid for twice
OWNERS = {"sft": "train", "rl": "rl", "test": "test"}  # file -> the split of content keys that it draws from


def build(folder: Path, seed: int, data: DataConfig, evaluation: EvalStage) -> None:
    """Make what is not there yet. Raises UserError where the sources can't give the rows that the recipe asks for."""
    if (folder / "manifest.json").exists():
        return
    conditions = evaluation.conditions or (samples.CONDITIONS if data.world == "signs" else pages.CONDITIONS)
    n_test = evaluation.n_per_condition * len(conditions)
    counts: dict[str, Any] = {}
    rejected: list[str] = []
    # One process where a teacher writes: it has one pace and one budget, and the server is what takes time.
    processes = 1 if data.teacher else data.processes or min(8, os.cpu_count() or 1)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=_follow_the_parent) as pool:
        for split, n in (("sft", data.sft_rows), ("rl", data.rl_rows), ("test", n_test)):
            task = functools.partial(make_chunk, folder, seed, split, data, conditions)
            per_condition = evaluation.n_per_condition if split == "test" else None
            rows, bad = _collect(pool, task, n, split, 2 * processes, per_condition)
            with explain_os_errors(folder):
                write_atomic(folder / f"{split}.jsonl", "".join(rows))
            rejected += bad
            counts[split] = _counted(rows)
    write_atomic(folder / "rejects.jsonl", "".join(rejected))
    _drop_unused_pictures(folder)
    write_atomic(folder / "manifest.json", json.dumps(_manifest(folder, seed, data, counts, rejected), indent=1) + "\n")
    shutil.rmtree(folder / "parts", ignore_errors=True)
    for split, counted in counts.items():
        column = counted.get("type") or counted["condition"]
        print(f"{folder / f'{split}.jsonl'}: " + ", ".join(f"{n} {name}" for name, n in column.items()))
    print(f"{folder / 'rejects.jsonl'}: {len(rejected)} trajectories that failed verification, with the reason")


def _follow_the_parent() -> None:
    """Ctrl-C is the parent's business, and when it is killed this process ends, too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()


def make_chunk(folder: Path, seed: int, split: str, data: DataConfig, conditions: Sequence[str], chunk: int) -> Path:
    """Write one chunk's part file, unless it is there; runs in a process of its own. `conditions`: of the test split. Returns its path."""
    path = folder / "parts" / f"{split}-{chunk:05d}.jsonl"
    if not path.exists():
        made = _chunk_rows(folder, seed, split, data, conditions, chunk)
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in made]
        write_atomic(path, "".join(lines))
    return path


def _chunk_rows(
    folder: Path, seed: int, split: str, data: DataConfig, conditions: Sequence[str], chunk: int
) -> Iterator[dict[str, Any]]:
    """{"row": ...} or {"rejected": ...} of one chunk; pictures of accepted rows are saved on the way."""
    if split != "sft":
        for item in _items(seed, split, data, conditions, chunk):
            yield {"row": sample_row(folder, item.sample)}
        return
    for made in _golds(folder, data, _scripts(seed, data, chunk)):
        if isinstance(made, Gold):
            row = trajectory_row(folder, made.item.sample, made.trajectory, type=made.type, trained=made.trained)
            yield {"row": row}
        else:
            yield {"rejected": _reject_row(made)}


def _golds(folder: Path, data: DataConfig, scripts: Iterator[Script]) -> Iterator[Gold | Rejected]:
    if data.teacher is None:
        return make_golds(scripts, _sandbox())
    pace = data.teacher_requests_per_minute, data.teacher_max_tokens
    return make_taught_golds(scripts, _sandbox(), _teacher(folder / TEACHER, data.teacher, data.teacher_model, *pace))


def _items(seed: int, split: str, data: DataConfig, conditions: Sequence[str], chunk: int) -> Iterator[Item]:
    mix = data.rl_mix if split == "rl" else dict.fromkeys(conditions, 1.0)  # held out, each as often as the others
    if data.world == "signs":
        return samples.make_items(f"{seed}/{chunk}", OWNERS[split], CHUNK, mix)
    return pages.chunk_items(seed, OWNERS[split], chunk, _share(mix, chunk), _draw(data))


def _scripts(seed: int, data: DataConfig, chunk: int) -> Iterator[Script]:
    if data.world == "pages":
        yield from pages.chunk_scripts(seed, OWNERS["sft"], chunk, _share(data.sft_types, chunk), _draw(data))
        return
    rng = random.Random(f"{seed}/{chunk}/gold")
    for item in samples.make_items(f"{seed}/{chunk}", OWNERS["sft"], CHUNK, data.sft_mix):
        yield signs_scripts.write_script(item, rng, data.error_share, data.second_style)


def _share(weights: dict[str, float], chunk: int) -> list[str]:
    """The chunk's part of an even spread over all chunks."""
    return list(itertools.islice(samples.evenly(weights), chunk * CHUNK, (chunk + 1) * CHUNK))


@functools.lru_cache(maxsize=1)
def _sandbox() -> Sandbox:
    """One for the life of a process; its workers end with it."""
    return Sandbox(mode="worker")


@functools.lru_cache(maxsize=1)
def _teacher(memory: Path, url: str, model: str, requests_per_minute: int, max_tokens: int) -> Teacher:
    """One for the life of a process: its pace and its budget are over all chunks."""
    return Teacher(ChatServer(url, model), memory, requests_per_minute, max_tokens)


@functools.lru_cache(maxsize=1)
def _own(path: str) -> tuple:
    return tuple(load_samples(Path(path)))


def _draw(data: DataConfig) -> Callable[[random.Random], Any]:
    return weighted(data.families, _own(data.own) if data.own else (), data.own_share)


def _reject_row(made: Rejected) -> dict[str, Any]:
    sample = made.script.item.sample
    return {
        "id": sample.id, "type": made.script.type, "damage": sample.damage, "kind": sample.meta["kind"], "reason": made.reason,
        "replies": [reply.text for reply in made.script.replies],
    }  # fmt: skip


def _collect(
    pool: ProcessPoolExecutor, task: Callable[[int], Path], n: int, split: str, ahead: int, per_condition: int | None = None
) -> tuple[list[str], list[str]]:
    """The first `n` different rows over the chunks in order, as JSON lines, and the rejected ones before them; `ahead`
    chunks are under way at a time. Of a condition at most `per_condition`, so that one that was drawn twice is made up for by its like."""
    rows: list[str] = []
    bad: list[str] = []
    seen: set[str] = set()
    taken: Counter[str] = Counter()
    progress = Progress(f"synth {split}", n, "rows")
    running: list[Future[Path]] = []
    numbers = iter(range(_MAX_CHUNKS * -(-n // CHUNK)))
    wanted = -(-n // CHUNK)  # chunks that are sure to be needed
    try:
        while len(rows) < n:
            while len(running) < ahead and (not running or wanted > 0):
                number = next(numbers, None)
                if number is None:
                    break
                wanted -= 1
                running.append(pool.submit(task, number))
            if not running:
                raise UserError(f"data: only {len(rows)} different {split} rows can be made, not {n}. Ask for fewer, or add sources")
            for made in read_jsonl(running.pop(0).result()):
                if "rejected" in made:
                    bad.append(json.dumps({"split": split, **made["rejected"]}, ensure_ascii=False) + "\n")
                    continue
                sample = _sample(made["row"])
                if len(rows) < n and sample["id"] not in seen and taken[sample["meta"]["condition"]] != per_condition:
                    seen.add(sample["id"])
                    taken[sample["meta"]["condition"]] += 1
                    rows.append(json.dumps(made["row"], ensure_ascii=False) + "\n")
            progress.update(len(rows))
    finally:
        for future in running:
            future.cancel()
    return rows, bad


def _sample(row: dict[str, Any]) -> dict[str, Any]:
    return row.get("sample", row)


def _counted(lines: list[str]) -> dict[str, dict[str, int]]:
    """Rows by type, condition and kind."""
    rows = [json.loads(line) for line in lines]
    metas = [_sample(row)["meta"] for row in rows]
    counted = {
        "type": Counter(row["type"] for row in rows if "type" in row), "condition": Counter(m["condition"] for m in metas),
        "kind": Counter(m["kind"] for m in metas),
    }  # fmt: skip
    return {name: dict(sorted(counter.items())) for name, counter in counted.items() if counter}


def _drop_unused_pictures(folder: Path) -> None:
    """Remove pictures that no row names: of rows that were not needed in the end, or of a run that was killed."""
    used = set()
    for split in OWNERS:
        for row in read_jsonl(folder / f"{split}.jsonl"):
            used.add(row.get("sample", row)["image"])
            used.update(row["trajectory"]["images"] if "trajectory" in row else ())
    for path in (folder / IMAGES).iterdir():
        if f"{IMAGES}/{path.name}" not in used:
            path.unlink()


def _manifest(folder: Path, seed: int, data: DataConfig, counts: dict[str, Any], rejected: list[str]) -> dict[str, Any]:
    reasons = Counter(json.loads(line)["reason"].split(" (")[0] for line in rejected)
    taught = read_jsonl(folder / TEACHER) if data.teacher else []
    teacher = {"model": data.teacher_model, "replies": len(taught), "tokens": sum(r["n_tokens"] for r in taught)} if taught else None
    return {
        "version": __version__, "seed": seed, "world": data.world, "teacher": teacher, "counts": counts,
        "rejected": dict(reasons.most_common()), "pictures": sum(1 for _ in (folder / IMAGES).iterdir()),
        "sha256": {f"{s}.jsonl": hashlib.sha256((folder / f"{s}.jsonl").read_bytes()).hexdigest() for s in OWNERS},
    }  # fmt: skip
