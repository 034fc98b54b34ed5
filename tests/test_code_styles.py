"""Every way to write a repair does what it says, in the sandbox; every mistake fails."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

from codevision_lite.damage import damage_image
from codevision_lite.geometry import ORIENTATIONS, apply_op, net_orientation
from codevision_lite.synth import phrases
from codevision_lite.synth.code_styles import REMEDIED, crop_code, level_code, orientation_code, remedy_code
from codevision_lite.synth.gold import difference, same_pixels


@pytest.fixture(scope="module")
def picture():
    """Smooth colour with dark lines of "text": asymmetric, and neither noise nor flat."""
    rng = np.random.default_rng(5)
    small = Image.fromarray(rng.integers(150, 250, (6, 8, 3), dtype=np.uint8))
    pixels = np.array(small.resize((320, 240), Image.Resampling.BICUBIC))
    for row in range(20, 220, 18):
        for at in range(20, 120 + row, 14):
            pixels[row : row + 8, at : at + rng.integers(3, 10)] = 30
    return Image.fromarray(pixels)


@pytest.mark.parametrize("ops", [*((op,) for op in ORIENTATIONS), ("rotate_90", "flip_horizontal"), ("flip_vertical", "rotate_270")])
def test_orientation_code_does_exactly_that_in_every_style(sandbox, picture, ops):
    wanted = picture
    for op in ops:
        wanted = apply_op(wanted, op)
    codes = {orientation_code(ops, random.Random(seed)) for seed in range(60)}
    assert len(codes) > 15, "the style varies"
    for code in codes:
        run = sandbox.run(code, [picture])
        assert run.status == "ok", (code, run.message)
        assert same_pixels(run.result.convert("RGB"), wanted), code
        assert run.frame is not None, code


@pytest.mark.parametrize("zoom", [1, 3])
@pytest.mark.parametrize("before", [(), ("rotate_90",)])
def test_crop_code_cuts_exactly_that_box(sandbox, picture, zoom, before):
    turned = apply_op(picture, before[0]) if before else picture
    box = (30, 41, 130, 97)
    codes = {crop_code(box, random.Random(seed), zoom, before) for seed in range(50)}
    assert len(codes) > 10
    for code in codes:
        run = sandbox.run(code, [picture])
        assert run.status == "ok", (code, run.message)
        assert run.result.size == (100 * zoom, 56 * zoom)
        wanted = turned.crop(box)
        assert same_pixels(run.result, wanted) if zoom == 1 else difference(run.result, wanted.resize(run.result.size, Image.BICUBIC)) < 10


@pytest.mark.parametrize("corruption", [c for c in REMEDIED if c not in ("blur", "low_resolution")])
def test_remedies_bring_the_picture_nearer_in_most_styles(sandbox, picture, corruption):
    """Not in all: a remedy that overshoots is what verification rejects."""
    nearer = []
    for seed in range(24):
        severity = 2 + seed % 3
        damaged = damage_image(picture, f"{corruption}:{severity}", seed)
        run = sandbox.run(remedy_code(corruption, severity, random.Random(seed)), [damaged])
        assert run.status == "ok", run.message
        nearer.append(difference(run.result.convert("RGB"), picture) < difference(damaged, picture))
    assert sum(nearer) > 12, f"{corruption}: {sum(nearer)} of 24"


def test_level_code_undoes_a_tilt(sandbox, picture):
    for degrees in (-9, -3, 4, 11):
        run = sandbox.run(level_code(-degrees, random.Random(degrees)), [damage_image(picture, f"tilt:{degrees}", 0)])
        assert run.status == "ok", run.message
        assert net_orientation(run.frame) is None, "the frame sees that it was turned"


def test_phrases_know_every_damage_and_leave_no_blanks():
    rng = random.Random(0)
    for name in phrases.SIGNS_OF:
        assert phrases.look(name, rng)
    for mistake in phrases.LESSONS:
        assert "{" not in phrases.lesson(mistake, (30, 40), rng)
    assert phrases.place((0, 0, 10, 10), (300, 300)) == "top left"
    assert phrases.place((140, 140, 160, 160), (300, 300)) == "middle"
    assert phrases.place((290, 100, 300, 200), (300, 300)) == "right"
