"""The frame of a box: found where the picture tells it, left open where it doesn't, and then mapped to the shown picture."""

from __future__ import annotations

import random

import numpy as np
import pytest
from dataset_rows import png, records, rl_row, write_rows
from PIL import Image

from codevision_lite.damage import damage_box, damage_image
from codevision_lite.datasets.frames import find_frame
from codevision_lite.geometry import ORIENTATIONS
from codevision_lite.synth.signs import draw_scene
from codevision_lite.synth.typography import TEXT_FACES, draw_text, text_width
from codevision_lite.synth.words import HARVEST, SHOPS, STREETS


def text_page(rng, textured):
    """A picture with lines of text here and there, and their boxes; on plain paper or on a noisy, blotchy ground."""
    width, height = rng.randint(500, 1100), rng.randint(400, 900)
    image = Image.new("RGB", (width, height), (rng.randint(150, 255),) * 3)
    if textured:
        noise = np.random.default_rng(rng.randrange(1 << 30))
        blotches = Image.fromarray(noise.integers(90, 230, (height // 40 + 2, width // 40 + 2, 3), dtype=np.uint8))
        ground = np.asarray(blotches.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        image = Image.fromarray(np.clip(ground + noise.normal(0, rng.choice((2, 6, 10)), ground.shape), 0, 255).astype(np.uint8))
    boxes = []
    for _ in range(rng.randint(8, 30)):
        words, size = " ".join(rng.sample(WORDS, rng.randint(1, 3))), rng.randint(12, 36)
        x, y, wide = rng.randint(5, width - 60), rng.randint(5, height - 50), text_width(words, "sans", size)
        place = (x - 4, y - 4, x + wide + 4, y + size * 1.4 + 4)
        if place[2] < width and not any(place[0] < b[2] and b[0] < place[2] and place[1] < b[3] and b[1] < place[3] for b in boxes):
            boxes.append(draw_text(image, (x, y), words, face=rng.choice(TEXT_FACES), size_px=size, fill=(20, 20, 30)))
    return image, boxes


WORDS = (*HARVEST, *SHOPS, *STREETS)


def judged(rng, image, box):
    """(right, wrong or ambiguous) for one box in a frame that is drawn by lot."""
    margin = rng.uniform(0, 4)
    box = (max(0, box[0] - margin), max(0, box[1] - margin), min(image.width, box[2] + margin), min(image.height, box[3] + margin))
    damage, truth = rng.choice(ORIENTATIONS), rng.choice(("shown", "canonical"))
    raw = damage_box(box, damage, image.size) if truth == "shown" else box
    found = find_frame(np.asarray(damage_image(image, damage).convert("L")), tuple(float(round(v)) for v in raw), damage)
    if found.verdict == "ambiguous":
        return "ambiguous"
    expected = damage_box(box, damage, image.size)
    near = max(abs(a - b) for a, b in zip(found.box("shown"), expected, strict=True)) <= 1
    return "right" if found.verdict == truth and near else "wrong"


@pytest.mark.parametrize("textured", [False, True], ids=["plain paper", "textured ground"])
def test_the_frame_of_text_is_found(textured):
    rng = random.Random(f"frames/{textured}")
    pages = [text_page(rng, textured) for _ in range(25 if textured else 60)]
    said = [judged(rng, image, rng.choice(boxes)) for image, boxes in pages if boxes]
    counts = {name: said.count(name) for name in ("right", "wrong", "ambiguous")}
    print(counts)
    assert counts["wrong"] == 0
    assert counts["right"] >= 0.9 * len(said)


def test_what_does_not_look_like_text_is_mostly_left_open():
    rng = random.Random("frames/signs")  # single letters, and cells that hold one tiny letter: hard, and not what boxes are made of
    scenes = [scene for scene in (draw_scene(rng) for _ in range(200)) if scene.target_box]
    said = [judged(rng, scene.image, scene.target_box) for scene in scenes]
    print({name: said.count(name) for name in ("right", "wrong", "ambiguous")})
    assert said.count("right") > 2 * said.count("wrong")
    assert said.count("ambiguous") > len(said) / 3


GRAY = np.full((40, 60), 255, np.uint8)  # 60 wide, 40 high, empty


@pytest.mark.parametrize(
    "box, damage, verdict",
    [
        ((50, 10, 58, 20), "rotate_90", "shown"),  # x beyond 40, the width before the damage
        ((10, 45, 20, 58), "rotate_90", "canonical"),  # y beyond 40, the height as shown
        ((10, 10, 20, 20), "none", "shown"),
        ((10, 10, 20, 20), "rotate_180", "ambiguous"),  # empty paper in both places
        ((25, 15, 35, 25), "rotate_180", "ambiguous"),  # the middle: both readings are one
    ],
)
def test_size_and_place_decide_where_they_can(box, damage, verdict):
    assert find_frame(GRAY, box, damage).verdict == verdict


@pytest.mark.parametrize("damage", ["none", "rotate_90", "flip_horizontal"])
def test_a_box_that_fits_nowhere_has_no_frame(damage):
    assert find_frame(GRAY, (50, 50, 70, 70), damage) is None


def test_the_sample_of_the_benchmark_card_reads_as_shown():
    """A line of text 12 px wide and 204 px high, in a picture turned by 90 degrees."""
    image = Image.new("RGB", (1200, 900), "white")
    line = Image.new("RGB", (204, 12), "white")
    draw_text(line, (2, 0), "Please queue on this side of the road", face="sans", size_px=11, fill=(0, 0, 0))
    image.paste(line.transpose(Image.Transpose.ROTATE_90), (1060, 82))
    assert find_frame(np.asarray(image.convert("L")), (1060, 82, 1072, 286), "rotate_90").verdict == "shown"


@pytest.mark.parametrize("frame", ["shown", "canonical"])
def test_the_box_of_a_row_becomes_pixels_of_the_shown_picture(tmp_path, frame):
    upright = Image.new("RGB", (400, 300), "white")
    box = draw_text(upright, (30, 40), "EXIT THIS WAY", face="sans-bold", size_px=30, fill=(0, 0, 0))
    shown, target = damage_image(upright, "flip_horizontal"), damage_box(box, "flip_horizontal", upright.size)
    raw = list(target if frame == "shown" else box)
    row = rl_row(0, images=[{"bytes": png(shown)}], bbox=raw, transform=["crop", "flip_horizontal"])
    sample = records(write_rows(tmp_path / "train.parquet", [row]))[0].sample
    assert sample.target_box == target
    assert sample.meta["box_frame"] == frame


@pytest.mark.parametrize("default, expected", [("shown", (2.0, 2.0, 12.0, 12.0)), ("canonical", (48.0, 28.0, 58.0, 38.0))])
def test_an_ambiguous_box_takes_the_default(tmp_path, default, expected):
    row = rl_row(0, images=[{"bytes": png(Image.fromarray(GRAY).convert("RGB"))}], bbox=[2, 2, 12, 12], transform="rotate_180")
    (record,) = records(write_rows(tmp_path / "train.parquet", [row]), ambiguous_box=default)
    assert record.sample.meta["box_frame"] == "ambiguous"
    assert record.sample.target_box == expected
