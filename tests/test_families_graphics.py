"""Charts, figures, street scenes and large canvases: same seed, same bytes; boxes show ink; answers follow from what was drawn."""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from PIL import Image

from codevision_lite.synth.families import canvases, charts, figures, scene_text
from codevision_lite.synth.families.chart_layout import Chart, Topic, lay_out
from codevision_lite.synth.families.drawing import Sheet
from codevision_lite.synth.scene import too_small
from codevision_lite.synth.words import MONTHS

FAMILIES = {"chart": charts.draw, "figure": figures.draw, "scene_text": scene_text.draw, "canvas": canvases.draw}
SEEDS = {"chart": 70, "figure": 70, "scene_text": 60, "canvas": 24}
CROPS = {"chart": (0.15, 0.42), "figure": (0.18, 0.5), "scene_text": (0.08, 0.45), "canvas": (0.95, 1.0)}  # share that needs a crop
SUM = re.compile(r"(-?[\d.]+) ([-+×/]) \(?(-?[\d.]+)\)? = (-?[\d.]+)")


def digest(image):
    return hashlib.sha256(image.tobytes()).hexdigest()


@cache
def pictures(family):
    """Each scene without its picture, with (size, digest, grey pixels of the target): many large pictures would fill the memory."""
    made = []
    for seed in range(SEEDS[family]):
        scene = FAMILIES[family](random.Random(seed))
        assert scene.image.mode == "RGB"
        box = scene.target_box and tuple(round(v) for v in scene.target_box)
        ink = box and np.asarray(scene.image.convert("L").crop(box), np.float32)
        made.append((replace(scene, image=Image.new("RGB", (1, 1))), (scene.image.size, digest(scene.image), ink)))
    return tuple(made)


def scenes(family):
    return [scene for scene, _ in pictures(family)]


def share(scene, size):
    x1, y1, x2, y2 = scene.target_box
    return (x2 - x1) * (y2 - y1) / (size[0] * size[1])


def inside(inner, outer):
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]


every_family = pytest.mark.parametrize("family", FAMILIES)


@every_family
def test_the_same_seed_draws_the_same_scene(family):
    for seed in range(2):
        random.seed(seed + 100)  # what else uses the global generator must not matter
        np.random.seed(seed + 100)
        again, (scene, (_, expected, _)) = FAMILIES[family](random.Random(seed)), pictures(family)[seed]
        assert digest(again.image) == expected
        assert (again.question, again.answer, again.target_box, again.facts) == (
            scene.question, scene.answer, scene.target_box, scene.facts,
        )  # fmt: skip


@every_family
def test_a_scene_is_complete_and_json(family):
    for scene, (size, _, _) in pictures(family):
        assert scene.kind.startswith(f"{family}/") and scene.content_key.startswith(f"{family}|")
        assert scene.readable_under == ()
        assert scene.question[0].isupper() and scene.question[-1] in "?." and "{" not in scene.question + scene.evidence + scene.working
        assert scene.answer and scene.subject and scene.evidence and scene.answer not in scene.also
        assert all(isinstance(text, str) and text for text in (scene.answer, *scene.also))
        assert json.loads(json.dumps(scene.facts)) == scene.facts
        assert scene.needs_crop == (scene.target_box is not None and too_small(scene.facts["text_px"], size))


@every_family
def test_the_target_is_inside_the_picture_and_shows_something(family):
    for seed, (scene, (size, _, ink)) in enumerate(pictures(family)):
        box = scene.target_box
        if box is None:
            continue
        whole = (0, 0, *size)
        assert inside(box, whole) and inside(scene.facts["block_box"], whole), (seed, scene.kind, box)
        assert inside(box, scene.facts["block_box"]) and tuple(scene.facts["block_box"]) != box, (seed, scene.kind)
        assert ink.std() > 8, (seed, scene.kind, box)


@every_family
def test_what_needs_a_crop_can_be_read_in_one(family):
    for seed, (scene, (size, _, _)) in enumerate(pictures(family)):
        if scene.needs_crop:
            x1, y1, x2, y2 = scene.target_box
            assert not too_small(scene.facts["text_px"], (x2 - x1 + 10, y2 - y1 + 10)), (seed, scene.kind)
        elif scene.facts["text_px"]:
            assert not too_small(scene.facts["text_px"], size), (seed, scene.kind)


@every_family
def test_a_share_of_the_scenes_needs_a_crop_and_kinds_vary(family):
    made = scenes(family)
    low, high = CROPS[family]
    assert low <= sum(s.needs_crop for s in made) / len(made) <= high
    assert len(Counter(s.kind for s in made)) >= 4
    assert len({size for _, (size, _, _) in pictures(family)}) > 0.9 * len(made)


@every_family
def test_contents_differ(family):
    assert len({s.content_key for s in scenes(family)}) == SEEDS[family]


@pytest.mark.slow
@every_family
def test_contents_differ_over_many_scenes(family):
    n = 100 if family == "canvas" else 300
    assert len({FAMILIES[family](random.Random(seed)).content_key for seed in range(n)}) == n


@every_family
def test_sums_in_the_working_are_right(family):
    found = 0
    for scene in scenes(family):
        if match := SUM.fullmatch(scene.working.split(": ")[-1]):
            a, sign, b, result = match.groups()
            a, b = float(a), float(b)
            value = {"+": a + b, "-": a - b, "×": a * b, "/": a / b if b else 0}[sign]
            assert math.isclose(value, float(result), abs_tol=1e-6), scene.working
            assert math.isclose(float(result), float(scene.answer), abs_tol=1e-6), (scene.working, scene.answer)
            found += 1
    assert found > 0


def test_chart_answers_follow_from_the_values():
    seen = Counter()
    for scene in scenes("chart"):
        facts, kind = scene.facts, scene.kind.split("/")[1]
        names = facts["categories"]
        series = next((i for i, s in enumerate(facts["series"]) if s and re.search(rf"\bfor {s}\b", scene.question)), 0)
        row = facts["values"][series]
        named = sorted(
            (m.start(), i) for i, n in enumerate(names) for m in re.finditer(rf"\b{re.escape(n)}\b", scene.question)
        )
        at = [i for _, i in named]
        seen[kind] += 1
        if kind == "read":
            assert int(scene.answer) == row[at[-1]]
        elif kind == "find":
            assert f"{row[names.index(scene.answer)]}" in re.findall(r"\d+", scene.question)
            assert row.count(row[names.index(scene.answer)]) == 1
        elif kind == "extreme":
            best = max if "highest" in scene.question else min
            assert row[names.index(scene.answer)] == best(row) and row.count(best(row)) == 1
        elif kind == "compute":
            a, b = row[at[-2]], row[at[-1]]
            assert int(scene.answer) == (a + b if "together" in scene.question else a - b) and int(scene.answer) > 0
        elif kind == "compare" and scene.answer in names:
            other = next(row[i] for i in at if names[i] != scene.answer)
            assert (row[names.index(scene.answer)] > other) == ("higher" in scene.question)
        elif kind == "count":
            word, limit = re.search(r"(above|below) (\d+)", scene.question).groups()
            assert int(scene.answer) == sum(v > int(limit) if word == "above" else v < int(limit) for v in row)
            assert int(limit) not in row
        if facts["shape"] == "pie":
            assert sum(row) == 100
    assert len(seen) == 6


def test_bars_are_as_long_as_their_values_say():
    topic = Topic("Rainfall in {town}", "rainfall", "in", "month", MONTHS, "mm", (10,), True)
    values = (20, 80, 50, 110)
    for shape in ("bars", "lying bars"):
        chart = Chart(shape, topic, "Rainfall", MONTHS[:4], ("",), (values,), 10, 120, False)
        look = next(look for seed in range(20) if (look := lay_out(random.Random(seed), chart, False)))
        lengths = []
        for name in MONTHS[:4]:
            x1, y1, x2, y2 = look.sheet.boxes[[t.text for t in look.sheet.texts].index(name)]
            through = look.sheet.pixels[:, round((x1 + x2) / 2)] if shape == "bars" else look.sheet.pixels[round((y1 + y2) / 2)]
            lengths.append(int(np.any([(through == color).all(-1) for color in look.colors], axis=0).sum()))
        unit = sum(lengths) / sum(values)
        assert unit > 1 and all(abs(n - unit * v) < 8 for n, v in zip(lengths, values, strict=True)), (shape, lengths)


def test_figure_answers_follow_from_what_is_given():
    checks = {
        "angle": lambda given: (360 if len(given) > 2 or sum(given) > 180 else 180) - sum(given),
        "read": lambda given: given[0], "number": lambda given: given[0], "corners": lambda given: given[0],
        "distance": lambda given: given[1] - given[0], "area": lambda given: given[0] * given[1],
        "perimeter": lambda given: sum(given) * (2 if len(given) == 2 else 1),
    }  # fmt: skip
    seen = set()
    for scene in scenes("figure"):
        kind, given = scene.kind.split("/")[1], scene.facts["given"]
        seen.add(kind)
        if kind in checks:
            assert checks[kind](given) == int(scene.answer), (scene.question, given)
        elif kind == "side":
            sides = sorted((*given, int(scene.answer)))
            assert sides[0] ** 2 + sides[1] ** 2 == sides[2] ** 2
        elif kind == "circle":
            assert int(scene.answer) in (2 * given[0], given[0] // 2) and (given[0] % 2 == 0 or "diameter" in scene.question)
        elif kind == "fraction":
            assert all(int(t) * given[1] == given[0] * int(b) for t, b in (s.split("/") for s in (scene.answer, *scene.also)))
        elif kind == "coordinates":
            assert scene.answer == f"({given[0]}, {given[1]})"
    assert {"angle", "side", "circle", "number", "fraction"} <= seen


def test_street_answers_are_written_in_the_picture():
    read = {"read", "number", "phone", "hours", "title", "date", "time", "place", "host", "plate", "price", "direction", "find"}
    for scene in scenes("scene_text"):
        kind = scene.kind.split("/")[1]
        if kind in read:
            words = " ".join(scene.facts["texts"])
            assert scene.answer in words, (kind, scene.answer)


def test_canvas_targets_are_tiny_and_answers_stand_beside_their_things():
    for scene in scenes("canvas"):
        kind, names, values = scene.kind.split("/")[1], scene.facts["names"], scene.facts["values"]
        expected = {
            "read": values[0], "marked": values[0], "find": names[0], "compare": names[0], "pins": str(scene.facts["pins"][0]),
        }  # fmt: skip
        if kind == "compute":
            assert math.isclose(float(scene.answer), float(values[0]) - float(values[1]), abs_tol=1e-6) and float(scene.answer) > 0
        else:
            assert scene.answer == expected[kind]
        if kind == "compare":
            assert float(values[0]) > float(values[1])
    shares = [share(scene, size) for scene, (size, _, _) in pictures("canvas")]
    assert min(shares) < 1e-4
    assert sorted(shares)[len(shares) // 2] < 0.01


def test_a_sheet_knows_where_its_ink_is():
    for face in ("sans", "serif-bold", "hand"):
        for anchor, angle in (("mm", 0), ("la", 0), ("rd", 0), ("mm", 90)):
            sheet = Sheet((300, 300), (255, 255, 255))
            box = sheet.text((150, 150), "Figure 47", face=face, size_px=24, fill=(0, 0, 0), anchor=anchor, angle_deg=angle)
            ys, xs = np.nonzero(np.asarray(sheet.finish()).min(-1) < 128)
            ink = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            assert max(abs(a - b) for a, b in zip(box, ink, strict=True)) < 3, (face, anchor, angle)


def test_a_sheet_notices_text_on_text_and_over_the_edge():
    def lines(*places):
        sheet = Sheet((200, 100), (255, 255, 255))
        for place in places:
            sheet.text(place, "Words", face="sans", size_px=20, fill=(0, 0, 0))
        return sheet.is_clear()

    assert lines((10, 10), (10, 50))
    assert not lines((10, 10), (20, 15))
    assert not lines((10, 10), (170, 50))
