"""How fast the viewer's page opens, searches and steps through trajectories in Chromium, and whether it opens in time
(--maximum, exit code 1 if not).

Run: python benchmarks/bench_view.py
The run is generated: three turns each with their own thoughts and some twelve lines of code, two pictures that came back with
their frames, a reward of six terms. Opening is from navigation to the first trajectory on the screen, with an empty cache.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from chromium import CHROMIUM, Browser

from codevision_lite.report.view import write_view

WORDS = "the sign is turned left small label near corner dark blue letters crop again read number rotate picture sharp edge".split()
CONDITIONS = ("upright", "rotate_90", "rotate_180", "rotate_270", "flip_horizontal", "crop", "orientation+crop")
TERMS = ("accuracy", "format", "must_use", "completion", "exhaustive", "economy")
SIDE = 336  # pixels


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=5000, help="trajectories")
    parser.add_argument("--repeats", type=int, default=3, help="of opening; the median counts")
    parser.add_argument("--maximum", type=float, default=3.0, help="seconds to open")
    options = parser.parse_args()
    if CHROMIUM is None:
        print("no chromium here: apt install chromium", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder), options.n)
        started = time.perf_counter()
        path, n = write_view([Path(folder)])
        print(f"{n:,} trajectories; page of {path.stat().st_size / 2**20:.1f} MiB written in {time.perf_counter() - started:.1f} s")
        opened = []
        for _ in range(options.repeats):
            with Browser(timeout_s=120) as page:
                page.open(path.as_uri())
                opened.append(float(page.wait("document.body.dataset.ready")) / 1000)
                loaded = page.wait("[...document.images].filter((i) => i.naturalWidth).length")
                search = page.js(_TIMED % "form.text.value = 'corner 7'; apply()")
                step = page.js(_TIMED % "choose(at + 1)")
                nodes = page.js("document.querySelectorAll('*').length")
        print(f"open    {statistics.median(opened):6.2f} s (of {', '.join(f'{s:.2f}' for s in opened)})")
        print(f"search  {search / 1000:6.2f} s, the first one\nstep    {step / 1000:6.3f} s to the next trajectory")
        print(f"{nodes} elements in the document, {loaded} pictures loaded")
    if statistics.median(opened) > options.maximum:
        print(f"too slow: {statistics.median(opened):.2f} s > {options.maximum:.2f} s")
        return 1
    return 0


_TIMED = "(() => { const start = performance.now(); %s; document.body.offsetHeight; return performance.now() - start; })()"


def write_run(folder: Path, n: int) -> None:
    """A trajectories.jsonl of `n` rows, and the pictures that it names."""
    rng = random.Random(0)
    (folder / "images").mkdir()
    names = [f"images/{i}.png" for i in range(200)]
    for i, name in enumerate(names):
        Image.effect_noise((SIDE, SIDE), 20 + i % 60).save(folder / name)
    with open(folder / "trajectories.jsonl", "w", encoding="utf-8") as file:
        for i in range(n):
            file.write(json.dumps(row(rng, i, rng.sample(names, 3))) + "\n")


def row(rng: random.Random, number: int, images: list[str]) -> dict:
    condition, correct = rng.choice(CONDITIONS), rng.random() < 0.6
    answer = str(rng.randrange(1000))
    box = [rng.randrange(SIDE // 2), rng.randrange(SIDE // 2), SIDE * 0.8, SIDE * 0.8]
    turns = [turn(rng, at, f"{condition} {number}") for at in (1, 2)]
    last = {"call": None, "answer": answer, "observation": None}
    turns.append({"text": "", "think": say(rng, 60), **last, "well_formed": True, "n_tokens": 70})
    sample = {"id": f"s{number}", "question": f"What is on sign {number}?", "image": images[0], "answers": [answer if correct else "?"],
              "required_ops": ["rotate_90"], "target_box": box, "damage": condition, "source": "bench", "meta": {}}  # fmt: skip
    trajectory = {"sample_id": f"s{number}", "turns": turns, "images": images, "answer": answer, "end_reason": "answer", "seconds": 1.0}
    terms = {name: {"value": rng.random(), "weight": 0.5, "reason": say(rng, 4)} for name in TERMS}
    return {"stage": "grpo", "condition": condition, "correct": correct, "reward": {"total": rng.random() * 2, "terms": terms},
            "sample": sample, "trajectory": trajectory}  # fmt: skip


def turn(rng: random.Random, index: int, note: str) -> dict:
    x, y = rng.randrange(200), rng.randrange(200)
    lines = [f"value_{i} = image.getpixel(({rng.randrange(300)}, {rng.randrange(300)}))  # {say(rng, 3)}" for i in range(10)]
    code = "\n".join([f"# {note}", *lines, f"result = image.crop(({x}, {y}, {x + 100}, {y + 100}))"])
    frame = [{"polygon": [[0, 0], [100, 0], [100, 100], [0, 100]], "matrix": [[1, 0, x], [0, 1, y], [0, 0, 1]], "source": 0}]
    ops = [{"name": "crop", "args": {"box": [x, y, x + 100, y + 100]}, "change": None}]
    seen = {"status": "ok", "message": f"Image {index}: 100x100 pixels.", "image_index": index, "source_index": 0, "stdout": "",
            "ops": ops, "frame": frame, "seconds": 0.01}  # fmt: skip
    call = {"code": code, "description": "", "image_index": 0}
    return {"text": code, "think": say(rng, 60), "call": call, "answer": None, "observation": seen, "well_formed": True, "n_tokens": 300}


def say(rng: random.Random, n: int) -> str:
    return " ".join(rng.choices(WORDS, k=n))


if __name__ == "__main__":
    sys.exit(main())
