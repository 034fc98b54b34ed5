"""Builds run folders as runs leave them, with pictures and plausible numbers: what the tests of the report read."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

from PIL import Image, ImageDraw

from codevision_lite.files import append_jsonl
from codevision_lite.records import Frame, Observation, Op, Piece, Sample, ToolCall, Trajectory, Turn

CONDITIONS = ("upright", "rotate_90", "rotate_180", "rotate_270", "flip_horizontal", "flip_vertical", "crop", "orientation+crop")
SHARES = {"base": (0.95, 0.21), "sft": (0.93, 0.62), "grpo": (0.95, 0.71)}  # upright, damaged
UNDO = {
    "rotate_90": Image.Transpose.ROTATE_270,
    "rotate_180": Image.Transpose.ROTATE_180,
    "rotate_270": Image.Transpose.ROTATE_90,
    "flip_horizontal": Image.Transpose.FLIP_LEFT_RIGHT,
    "flip_vertical": Image.Transpose.FLIP_TOP_BOTTOM,
}
REDO = {"rotate_90": Image.Transpose.ROTATE_90, "rotate_270": Image.Transpose.ROTATE_270}


def wilson(correct: int, n: int) -> tuple[float, float]:
    z, p = 1.96, correct / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def make_results(stages: tuple[str, ...] = ("base", "sft", "grpo"), n: int = 60) -> dict:
    """results.json with plausible numbers."""
    rows_of = {}
    for stage in stages:
        rows_of[stage] = []
        for i, condition in enumerate(CONDITIONS):
            correct = round(n * (SHARES[stage][condition != "upright"] + 0.02 * (i % 3 - 1) * (i > 0)))
            low, high = wilson(correct, n)
            turns = 0.0 if stage == "base" else 0.06 + 0.98 * (i > 0) + 0.4 * (condition == "orientation+crop")
            row = {"condition": condition, "n": n, "correct": correct, "accuracy": correct / n, "low": low, "high": high}
            rows_of[stage].append({**row, "tool_turns": turns, "error_rate": 0.01 * (i % 3)})
    entries = []
    for stage, rows in rows_of.items():
        correct, total = sum(r["correct"] for r in rows[1:]), n * (len(rows) - 1)
        low, high = wilson(correct, total)
        mean = {"damaged_mean": correct / total, "damaged_low": low, "damaged_high": high, "n": n * len(rows), "seconds": 31.2}
        entries.append({"name": stage, "rows": rows, **mean})
    context = {"seed": 0, "config_hash": "8a1fb22c90d1", "commit": "0123abc", "hardware": "2 CPU cores", "max_pixels": 7056}
    context["versions"] = {"torch": "2.13.0", "trl": "1.14.2"}
    return {"stages": entries, "context": context, "wall_s": 812.4, "peak_rss_gib": 3.21}


def draw_scene(rng: random.Random, size: int) -> tuple[Image.Image, str, tuple[int, int, int, int]]:
    """A picture with one letter, the letter, and its box."""
    image = Image.new("RGB", (size, size), tuple(rng.randrange(190, 256) for _ in range(3)))
    letter = rng.choice("FGRPJLE")
    x, y = rng.randrange(8, size - 40), rng.randrange(8, size - 40)
    draw = ImageDraw.Draw(image)
    draw.text((x, y), letter, fill=tuple(rng.randrange(0, 120) for _ in range(3)), font_size=34)
    return image, letter, (x - 2, y + 2, x + 28, y + 38)


def make_trajectory(sample: Sample, image: Image.Image, stage: str, answer: str, with_error: bool) -> Trajectory:
    """Turns as a model of this stage would take them: none for the base, the repair for the others, an error first if asked."""
    final = Turn(f"<think>I read it.</think><answer>{answer}</answer>", "The letter is large enough to read.", answer=answer)
    if stage == "base" or not sample.required_ops:
        return Trajectory(sample.id, (final,), (image,), answer, "answer", 0.2)
    turns, images = [], [image]
    if with_error:
        call = ToolCall("import os\nos.system('ls')  # <b>look</b>", "look around")
        refused = Observation("refused", "line 1: import os is not allowed. PIL, numpy, cv2 and math are there.", source_index=0)
        turns.append(Turn("<tool_call>...</tool_call>", "", call, observation=refused, well_formed=False))
    op = sample.required_ops[0]
    code = f"from PIL import Image\n# undo the damage\nresult = image.transpose(Image.Transpose.{op.upper()})"
    w, h = image.size
    corners = ((0.0, 0.0), (float(w), 0.0), (float(w), float(h)), (0.0, float(h)))
    half_turn = ((-1.0, 0.0, float(w)), (0.0, -1.0, float(h)), (0.0, 0.0, 1.0))
    if sample.damage in UNDO:
        images.append(image.transpose(UNDO[sample.damage]))
        frame = Frame((Piece(corners, half_turn),)) if sample.damage == "rotate_180" else None
    else:
        box = tuple(int(v) for v in sample.target_box)
        code = f"x1, y1, x2, y2 = {box}\nresult = image.crop((x1, y1, x2, y2)).resize((84, 84))"
        images.append(image.crop(box).resize((84, 84)))
        (x1, y1, x2, y2), size = box, 84
        matrix = (((x2 - x1) / size, 0.0, x1), (0.0, (y2 - y1) / size, y1), (0.0, 0.0, 1.0))
        frame = Frame((Piece(((0, 0), (size, 0), (size, size), (0, size)), matrix),))
    message = f"picture {len(images) - 1}: {images[-1].width}x{images[-1].height} pixels"
    seen = Observation("ok", message, len(images) - 1, 0, (Op(op, {"angle": 90}, 0.31),), frame, "", 0.02)
    turns.append(Turn("<tool_call>...</tool_call>", "It looks turned. I turn it back.", ToolCall(code), observation=seen))
    return Trajectory(sample.id, (*turns, final), tuple(images), answer, "answer", 0.9)


def add_trajectories(folder: Path, stages: tuple[str, ...], samples: int) -> None:
    """trajectories.jsonl and images/: the same samples through every stage."""
    (folder / "images").mkdir()
    for i in range(samples):
        rng = random.Random(i)
        condition = CONDITIONS[i % len(CONDITIONS)]
        image, letter, box = draw_scene(rng, 336 if "crop" in condition else 84)
        if condition in UNDO:
            mask = Image.new("1", image.size)
            mask.paste(1, box)
            damage = REDO.get(condition, UNDO[condition])
            image, box = image.transpose(damage), mask.transpose(damage).getbbox()
        ops = () if condition == "upright" else (condition,) if condition in UNDO else ("crop",)
        sample = Sample(f"demo-{i:03}", "Which letter is on the picture?", f"images/{i}-0.png", (letter,), ops, box, condition)
        for stage in stages:
            correct = rng.random() < SHARES[stage][condition != "upright"]
            answer = letter if correct else rng.choice("ABD")
            trajectory = make_trajectory(sample, image, stage, answer, with_error=i % 5 == 2)
            paths = [f"images/{i}-{stage if k else ''}{k}.png" for k in range(len(trajectory.images))]
            for path, picture in zip(paths, trajectory.images, strict=True):
                picture.save(folder / path)
            terms = {"accuracy": {"value": float(correct), "weight": 1.0, "reason": "equal" if correct else f"{answer!r}"}}
            terms |= {"must_use": {"value": 1.0, "weight": 0.5, "reason": "rotate ran"}}
            terms |= {"judge": {"value": None, "weight": 0.0, "reason": "no judge"}}
            row = {"stage": stage, "condition": condition, "correct": correct, "sample": sample.to_json(sample.image)}
            row |= {"trajectory": trajectory.to_json(paths), "reward": {"total": correct + 0.5, "terms": terms}}
            append_jsonl(folder / "trajectories.jsonl", row)


def make_run(folder: Path, stages: tuple[str, ...] = ("base", "sft", "grpo"), samples: int = 16) -> Path:
    """A run folder as a run of these stages leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("name: demo\nsft:\n  steps: 120\n")
    (folder / "results.json").write_text(json.dumps(make_results(stages)))
    rng = random.Random(0)
    lines = []
    for step in range(120 * ("sft" in stages)):
        lines.append({"stage": "sft", "step": step, "seconds": 0.5 * step, "loss": 2 * math.exp(-step / 30) + 0.1 * rng.random()})
    for step in range(60 * ("grpo" in stages)):
        row = {"stage": "grpo", "step": step, "seconds": 2.0 * step, "loss": 0.1 * rng.gauss(0, 1), "optim/lr": 1e-5}
        names = ("total", "accuracy", "must_use", "format")
        row |= {f"reward/{name}": 0.5 + 0.005 * step + 0.05 * rng.gauss(0, 1) for name in names}
        lines.append(row | {"rollout/tool_turns": 1.2 - 0.003 * step, "rollout/tool_use_rate": 0.95, "reward/judge": None})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    add_trajectories(folder, stages, samples)
    return folder
