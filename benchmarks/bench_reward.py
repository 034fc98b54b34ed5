"""How many trajectories a second the reward scores on one core, and whether that is fast enough (--minimum, exit code 1
if not).

Run: python benchmarks/bench_reward.py
The mix: direct answers, one rotation, rotation and crop with a failed run, a three-turn search, and a mosaic of 16
pieces.
"""

from __future__ import annotations

import argparse
import time

from PIL import Image

from codevision_lite.geometry import compose, op_matrix
from codevision_lite.records import Frame, Observation, Op, Piece, Sample, ToolCall, Trajectory, Turn
from codevision_lite.reward import RewardConfig, score, score_group

WIDTH, HEIGHT = 640, 480
SAMPLE = Sample(
    "s",
    "What is written?",
    Image.new("RGB", (WIDTH, HEIGHT)),
    ("Platform 7",),
    ("rotate_90", "crop"),
    (300.0, 200.0, 380.0, 230.0),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of measuring, for each of the two ways")
    parser.add_argument("--minimum", type=float, default=5000.0, help="trajectories per second")
    options = parser.parse_args()
    config, group = RewardConfig.preset("dense"), trajectories()
    single = rate(lambda: [score(SAMPLE, t, config) for t in group], len(group), options.seconds)
    grouped = rate(lambda: score_group(SAMPLE, group, config), len(group), options.seconds)
    print(f"score        {single:10,.0f} trajectories/s\nscore_group  {grouped:10,.0f} trajectories/s (groups of {len(group)})")
    slowest = min(single, grouped)
    if slowest < options.minimum:
        print(f"too slow: {slowest:,.0f} < {options.minimum:,.0f}")
    return int(slowest < options.minimum)


def rate(work, n: int, seconds: float) -> float:
    work()  # caches
    start, rounds = time.process_time(), 0
    while time.process_time() - start < seconds:
        work()
        rounds += 1
    return rounds * n / (time.process_time() - start)


def trajectories() -> list[Trajectory]:
    """A group of eight rollouts, as they look in training."""
    turned = _frame(op_matrix("rotate_90", WIDTH, HEIGHT).tolist(), HEIGHT, WIDTH)
    wrong = _frame(op_matrix("rotate_270", WIDTH, HEIGHT).tolist(), HEIGHT, WIDTH)
    crop = compose(_frame([[1, 0, 190.0], [0, 1, 250.0], [0, 0, 1]], 60, 100), turned)
    tiles = tuple(
        Piece(((x, y), (x + 50.0, y), (x + 50.0, y + 50.0), (x, y + 50.0)), ((1.0, 0.0, x), (0.0, 1.0, y), (0.0, 0.0, 1.0)))
        for x in (0.0, 60.0, 120.0, 180.0) for y in (0.0, 60.0, 120.0, 180.0)
    )  # fmt: skip
    rotate, cut = Op("rotate", {"angle": 90, "expand": True}), Op("crop", {"box": [190, 250, 250, 350]})
    rotated = _seen(1, 0, turned, rotate)
    two_turns = (rotated, Observation("error", "NameError", None, 1), _seen(2, 1, crop, cut))
    search = (_seen(1, 0, wrong, rotate), _seen(2, 0, wrong, rotate), _seen(3, 0, turned, rotate))
    return [
        _trajectory("Platform 7"), _trajectory("12", rotated), _trajectory("Platform 7", rotated),
        _trajectory("Platform 7", *two_turns),
        _trajectory("platform seven", *two_turns), _trajectory("Platform 1", *search), _trajectory(None, *search),
        _trajectory("Platform 7", _seen(1, 0, Frame(tiles), cut)),
    ]  # fmt: skip


def _frame(matrix: list, width: float, height: float) -> Frame:
    polygon = Frame.identity(width, height).pieces[0].polygon
    return Frame((Piece(polygon, tuple(tuple(float(v) for v in row) for row in matrix)),))


def _seen(index: int, source: int, frame: Frame, *ops: Op) -> Observation:
    return Observation("ok", "", index, source, ops, frame)


def _trajectory(answer: str | None, *seen: Observation) -> Trajectory:
    turns = [Turn("", call=ToolCall("image.rotate(90)"), observation=o) for o in seen] + [Turn("", answer=answer)]
    picture = SAMPLE.image
    return Trajectory("s", tuple(turns), (picture,) * (len(seen) + 1), answer, "answer" if answer else "max_turns")


if __name__ == "__main__":
    raise SystemExit(main())
