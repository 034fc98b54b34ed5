"""Damages: exact inverses, boxes that go where their pixels go, severities in order, and texts that say what is wrong with them."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from pictures import picture, same
from PIL import Image, ImageDraw, ImageFont

from codevision_lite.corruptions import SEVERITIES
from codevision_lite.damage import (
    CORRUPTIONS,
    DAMAGES,
    damage_box,
    damage_image,
    damage_matrix,
    damage_size,
    has_exact_inverse,
    parse_damage,
    remedies,
    restore,
    undo,
)
from codevision_lite.errors import UserError
from codevision_lite.geometry import ORIENTATIONS, apply_op, map_polygon
from codevision_lite.sandbox import Sandbox

SIZES = [(40, 30), (30, 40), (33, 33), (1, 5)]
MOVING = ["tilt:7", "tilt:-20", "tilt:0.5", "perspective:1", "perspective:5"]
MIXED = ["tilt:7+rotate_90", "flip_horizontal+tilt:-12", "perspective:4+rotate_270+tilt:5", "noise:2+perspective:3+flip_vertical"]
PRECISE = [*(f"{name}:{s}" for name in CORRUPTIONS for s in SEVERITIES), "tilt:7", "low_light:2+rotate_90+jpeg:4"]


def page() -> Image.Image:
    """Lines of text and patches of colour."""
    image = Image.new("RGB", (240, 180), (244, 242, 236))
    draw = ImageDraw.Draw(image)
    for line, grey in enumerate((20, 60, 110, 150)):
        draw.text((10, 8 + 28 * line), "total due 12.49 paid cash", font=ImageFont.load_default(20), fill=(grey, grey, grey + 20))
    for i, colour in enumerate(((200, 60, 50), (40, 140, 80), (60, 80, 190))):
        draw.rectangle((10 + 70 * i, 130, 60 + 70 * i, 170), fill=colour)
    return image


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def digests(image: Image.Image) -> dict[str, str]:
    return {damage: hashlib.sha256(damage_image(image, damage, seed=5).tobytes()).hexdigest() for damage in PRECISE}


class TestOrientations:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_undoing_gives_the_picture_back(self, damage, size):
        damaged = damage_image(picture(*size), damage)
        for op in undo(damage):
            damaged = apply_op(damaged, op)
        assert same(damaged, picture(*size))

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_every_composition_is_undone_by_the_fewest_operations(self, n):
        original = picture(14, 12)
        one_step = [damage_image(original, damage) for damage in ORIENTATIONS]  # their inverses are orientations too
        for names in itertools.product(ORIENTATIONS, repeat=n):
            damage = "+".join(names)
            damaged = repaired = damage_image(original, damage)
            for op in undo(damage):
                repaired = apply_op(repaired, op)
            assert same(repaired, original), damage
            assert same(restore(damaged, damage), original), damage
            fewest = 0 if same(damaged, original) else 1 if any(same(damaged, seen) for seen in one_step) else 2
            assert len(undo(damage)) == fewest, damage

    def test_corruptions_and_tilt_add_nothing_to_what_is_required(self):
        assert undo("noise:2+rotate_90+blur:1+flip_vertical+tilt:3") == undo("rotate_90+flip_vertical")
        assert undo("haze:5") == undo("tilt:9+perspective:2") == ()

    @pytest.mark.parametrize("size", SIZES[:3])
    @pytest.mark.parametrize("damage", [*DAMAGES, "rotate_90+flip_vertical", "rotate_270+flip_horizontal+rotate_90"])
    def test_a_box_lies_exactly_where_its_pixels_went(self, damage, size):
        box = (3, 5, 12, 9)
        marked = Image.new("RGB", size)
        marked.paste((255, 255, 255), box)
        assert damage_image(marked, damage).getbbox() == damage_box(box, damage, size)

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_the_original_is_left_alone_and_the_copy_is_changed(self, damage):
        original = picture(40, 30)
        damaged = damage_image(original, damage)
        assert same(original, picture(40, 30))
        assert damaged is not original
        assert same(damaged, original) == (damage == "none")

    def test_rotations_are_counter_clockwise(self):
        turned = damage_image(picture(40, 30), "rotate_90")
        assert same(turned, picture(40, 30).transpose(Image.Transpose.ROTATE_90))

    def test_an_exact_inverse_exists_for_orientations_alone(self):
        assert all(has_exact_inverse(d) for d in [*DAMAGES, "rotate_90+flip_vertical"])
        assert not any(has_exact_inverse(d) for d in [*MOVING, *MIXED, "noise:1", "rotate_90+blur:1"])

    def test_what_was_corrupted_before_the_orientation_is_left_as_it_was(self):
        noisy = damage_image(page(), "noise:3", seed=2)
        damage = "noise:3+rotate_90+flip_vertical"
        assert same(restore(damage_image(page(), damage, seed=2), damage), noisy)


class TestGeometry:
    @pytest.mark.parametrize("damage", [*MOVING, *MIXED])
    @pytest.mark.parametrize("seed", [0, 1])
    def test_a_mark_is_where_the_matrix_says(self, damage, seed):
        size = (160, 110)
        for x, y in ((20, 20), (130, 25), (80, 55), (30, 90), (140, 95)):
            marked = Image.new("L", size)
            marked.paste(255, (x - 4, y - 4, x + 4, y + 4))
            damaged = pixels(damage_image(marked.convert("RGB"), damage, seed))[..., 0].astype(float)
            damaged[damaged < 100] = 0  # noise
            rows, cols = np.mgrid[: damaged.shape[0], : damaged.shape[1]] + 0.5
            found = (damaged * cols).sum() / damaged.sum(), (damaged * rows).sum() / damaged.sum()
            ((u, v),) = map_polygon(damage_matrix(damage, size, seed), [(x, y)])
            assert np.hypot(found[0] - u, found[1] - v) < 0.5
            x1, y1, x2, y2 = damage_box((x - 4, y - 4, x + 4, y + 4), damage, size, seed)
            assert x1 < found[0] < x2 and y1 < found[1] < y2

    @pytest.mark.parametrize("damage", [*MOVING, *MIXED])
    @pytest.mark.parametrize("size", [(160, 110), (31, 200)])
    def test_all_of_the_picture_stays_in_view(self, damage, size):
        width, height = damage_size(damage, size)
        assert damage_image(picture(*size), damage, 3).size == (width, height)
        for x, y in map_polygon(damage_matrix(damage, size, 3), [(0, 0), (size[0], 0), size, (0, size[1])]):
            assert -1e-6 <= x <= width + 1e-6 and -1e-6 <= y <= height + 1e-6
        x1, y1, x2, y2 = damage_box((0, 0, *size), damage, size, 3)
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height

    @pytest.mark.parametrize("degrees", [-20, -3.5, 0, 1, 7, 12.25, 20])
    @pytest.mark.parametrize("size", [*SIZES, (160, 110), (641, 480)])
    def test_a_tilt_is_pillows_rotation(self, degrees, size):
        ground = picture(*size).resize(size, Image.Resampling.BILINEAR)
        theirs = ground.rotate(degrees, Image.Resampling.BILINEAR, expand=True)
        ours = damage_image(ground, f"tilt:{degrees}")
        assert ours.size == theirs.size
        if min(size) > 20:
            inner = damage_image(Image.new("L", size, 255).convert("RGB"), f"tilt:{degrees}").size  # away from the fill
            middle = tuple(slice(n // 3, 2 * n // 3) for n in inner[::-1])
            assert np.abs(pixels(ours)[middle] - pixels(theirs)[middle]).mean() < 1.5

    def test_a_tilt_is_levelled_by_turning_it_back(self):
        size = (160, 110)
        level = np.array([[np.cos(0.2), np.sin(0.2)], [-np.sin(0.2), np.cos(0.2)]])  # the linear part of a turn by 0.2 rad
        degrees = np.degrees(0.2)
        assert np.allclose(damage_matrix(f"tilt:{degrees:.6f}", size)[:2, :2], level, atol=1e-6)
        flipped = damage_matrix(f"tilt:{degrees:.6f}+flip_horizontal", size)
        restored = damage_matrix("flip_horizontal", damage_size("tilt:5", size)) @ flipped
        assert np.allclose(restored[:2, :2], level, atol=1e-6)

    def test_the_ground_goes_on_beyond_the_edge(self):
        tilted = damage_image(page(), "tilt:15")
        assert tilted.getpixel((0, 0)) == tilted.getpixel((tilted.width - 1, tilted.height - 1)) == (244, 242, 236)

    @pytest.mark.parametrize("name", [n for n in CORRUPTIONS if n != "perspective"])
    def test_other_corruptions_move_nothing(self, name):
        assert np.array_equal(damage_matrix(f"{name}:5", (50, 40)), np.eye(3))
        assert damage_box((3, 5, 12, 9), f"{name}:5", (50, 40)) == (3, 5, 12, 9)


class TestCorruptions:
    @pytest.mark.parametrize("name", CORRUPTIONS)
    def test_severities_are_in_order(self, name):
        image = page()
        for seed in range(3):
            if name == "perspective":
                corners = [map_polygon(damage_matrix(f"{name}:{s}", image.size, seed), [(0, 0), image.size]) for s in SEVERITIES]
                change = [np.abs(np.array(c) - [(0, 0), image.size]).mean() for c in corners]
            else:
                change = [np.abs(pixels(damage_image(image, f"{name}:{s}", seed)) - pixels(image)).mean() for s in SEVERITIES]
            assert change[0] > 0
            assert all(a < b for a, b in itertools.pairwise(change)), change

    @pytest.mark.parametrize("name", CORRUPTIONS)
    @pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 3), (33, 200)])
    def test_any_size_gives_rgb_of_that_size_and_leaves_the_original(self, name, size):
        original = picture(*size)
        damaged = damage_image(original, f"{name}:5", 1)
        assert (damaged.mode, damaged.size) == ("RGB", size)
        assert same(original, picture(*size))

    def test_other_modes_become_rgb(self):
        clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
        assert same(damage_image(clear, "blur:2"), Image.new("RGB", (20, 20), "white"))
        assert damage_image(page().convert("L"), "noise:1").mode == "RGB"
        assert damage_image(page().convert("L"), "rotate_90").mode == "L"

    def test_equal_seeds_give_equal_bytes(self):
        assert digests(page()) == digests(page())

    def test_other_seeds_give_other_bytes(self):
        drawn = {n for n in CORRUPTIONS if not same(damage_image(page(), f"{n}:3", 1), damage_image(page(), f"{n}:3", 2))}
        assert drawn == set(CORRUPTIONS) - {"blur", "jpeg", "overexposure", "low_resolution"}  # these draw nothing

    def test_each_part_draws_for_itself(self):
        once = pixels(damage_image(Image.new("RGB", (80, 60), "grey"), "noise:1")) - 128
        twice = pixels(damage_image(Image.new("RGB", (80, 60), "grey"), "noise:1+noise:1")) - 128
        assert twice.std() == pytest.approx(once.std() * 2**0.5, rel=0.05)  # the same noise twice would give a factor of 2

    def test_the_bytes_do_not_depend_on_the_processor(self):
        """Without the vector instructions and the closed library that OpenCV finds on some machines."""
        code = "import json, test_damage\nprint(json.dumps(test_damage.digests(test_damage.page())))"
        environment = os.environ | {
            "OPENCV_IPP": "disabled", "OPENCV_CPU_DISABLE": "AVX,AVX2,FP16,AVX512_COMMON,AVX512_SKX,AVX512_ICL", "JSIMD_FORCENONE": "1",
            "PYTHONPATH": os.pathsep.join((os.path.dirname(__file__), os.path.dirname(os.path.dirname(__file__)))),
        }  # fmt: skip
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == digests(page())

    def test_noise_has_no_pattern(self):
        grain = pixels(damage_image(Image.new("RGB", (500, 400), "grey"), "noise:2", 3))[..., 0] - 128.0
        assert abs(grain.mean()) < 0.2 and grain.std() == pytest.approx(16, rel=0.02)
        spectrum = np.abs(np.fft.fft2(grain)) ** 2 / (grain.size * grain.var())
        assert spectrum.max() < 40  # white noise: the largest of 200,000 exponential values is about 12


class TestOcclusion:
    def covered(self, damage: str, seed: int, keep: tuple | None = None) -> np.ndarray:
        blank = Image.new("RGB", (200, 150), (255, 0, 255))  # the colour of nothing that lies on a picture
        return (pixels(damage_image(blank, damage, seed, keep=keep)) != (255, 0, 255)).any(axis=2)

    def test_a_higher_severity_covers_more_of_the_same(self):
        for seed in range(5):
            areas = [self.covered(f"occlusion:{s}", seed) for s in SEVERITIES]
            assert all((a <= b).all() and a.sum() < b.sum() for a, b in itertools.pairwise(areas))
            assert 0.01 < areas[-1].mean() < 0.25

    def test_what_must_be_kept_stays_visible(self):
        x1, y1, x2, y2 = keep = (60, 40, 150, 90)
        met = 0
        for seed in range(20):
            met += self.covered("occlusion:5", seed)[y1:y2, x1:x2].any()
            kept = self.covered("occlusion:5", seed, keep)
            assert kept.any() and not kept[y1:y2, x1:x2].any()
        assert met > 10  # without it, most seeds cover some of the box

    @pytest.mark.parametrize("before", ["rotate_90", "flip_vertical+tilt:9"])
    def test_the_kept_box_moves_with_the_picture(self, before):
        keep = (20, 20, 100, 60)
        for seed in range(10):
            x1, y1, x2, y2 = (round(v) for v in damage_box(keep, before, (200, 150)))
            kept = self.covered(f"{before}+occlusion:5", seed, keep)
            assert kept.any() and not kept[y1:y2, x1:x2].any()

    def test_nothing_lies_on_a_picture_that_must_be_kept_whole(self):
        assert not self.covered("occlusion:5", 1, (0, 0, 200, 150)).any()


class TestTexts:
    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("none", ()),
            ("rotate_90", (("rotate_90", None),)),
            ("tilt:-12.5", (("tilt", -12.5),)),
            ("low_light:2+rotate_90", (("low_light", 2), ("rotate_90", None))),
            ("noise:1+noise:5+tilt:20", (("noise", 1), ("noise", 5), ("tilt", 20.0))),
        ],
    )
    def test_parts_come_in_their_order(self, text, parts):
        assert parse_damage(text) == parts

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "expected a text such as 'none'"),
            (None, "expected a text such as 'none'"),
            (90, "expected a text such as 'none'"),
            ("rotate 90", "did you mean 'rotate_90'?"),
            ("rotate_45", "did you mean 'rotate_"),
            ("flip_horisontal", "did you mean 'flip_horizontal'?"),
            ("Noise:3", "did you mean 'noise'?"),
            ("noise:3 + rotate_90", "severity, 1 to 5"),
            ("overexposed:2", "did you mean 'overexposure'?"),
            ("xyz", "use one of rotate_90, rotate_180"),
            ("noise", "'noise' takes a severity, 1 to 5, such as 'noise:3'"),
            ("noise:0", "severity, 1 to 5"),
            ("noise:6", "got '6'"),
            ("noise:2.5", "got '2.5'"),
            ("noise:٣", "severity, 1 to 5"),
            ("noise:3:4", "got '3:4'"),
            ("tilt", "takes degrees, -20 to 20, such as 'tilt:3.5'"),
            ("tilt:21", "got '21'"),
            ("tilt:nan", "got 'nan'"),
            ("tilt:1e1", "got '1e1'"),
            ("rotate_90:1", "'rotate_90' takes no value"),
            ("none+noise:1", "'none' stands alone"),
            ("noise:1+", "unknown part ''"),
            ("transpose", "unknown part 'transpose'"),
            ("noise:" + "9" * 5000, "severity, 1 to 5"),
        ],
    )
    def test_a_text_that_cannot_be_read_is_the_users_to_fix(self, text, says):
        for function in (parse_damage, undo, remedies, has_exact_inverse, lambda d: damage_image(picture(), d)):
            with pytest.raises(UserError) as caught:
                function(text)
            message = str(caught.value)
            assert says in message
            assert "\n" not in message and len(message) < 400


class TestRemedies:
    def test_orientations_and_occlusions_have_none(self):
        assert remedies("none") == remedies("rotate_90+flip_vertical") == remedies("occlusion:3") == ()

    def test_every_other_part_has_one(self):
        assert all(remedies(f"{name}:3") for name in CORRUPTIONS if name != "occlusion")
        assert remedies("tilt:4+noise:2+tilt:1")[:3] == (*remedies("tilt:4"), remedies("noise:2")[0])

    def test_their_names_are_those_that_the_sandbox_logs(self):
        array = "np.array(image)"
        photometric = {
            "enhance.brightness": "ImageEnhance.Brightness(image).enhance(1.5)",
            "enhance.contrast": "ImageEnhance.Contrast(image).enhance(2)", "enhance.sharpness": "ImageEnhance.Sharpness(image).enhance(3)",
            "autocontrast": "ImageOps.autocontrast(image)", "equalize": "ImageOps.equalize(image)",
            "point": "image.point(lambda v: v // 2)", "filter": "image.filter(ImageFilter.MedianFilter(3))",
            "medianBlur": f"cv2.medianBlur({array}, 3)",
            "bilateralFilter": f"cv2.bilateralFilter({array}, 5, 60, 60)", "GaussianBlur": f"cv2.GaussianBlur({array}, (3, 3), 0)",
            "fastNlMeansDenoisingColored": f"cv2.fastNlMeansDenoisingColored({array}, None, 20, 20, 3, 7)",
            "filter2D": f"cv2.filter2D({array}, -1, np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]))",
            "addWeighted": f"cv2.addWeighted({array}, 2, cv2.GaussianBlur({array}, (0, 0), 2), -1, 0)",
            "convertScaleAbs": f"cv2.convertScaleAbs({array}, alpha=1.4)",
            "LUT": f"cv2.LUT({array}, np.arange(255, -1, -1).astype(np.uint8))",
        }  # fmt: skip
        geometric = {
            "rotate": "image.rotate(-4, expand=True)", "resize": "image.resize((480, 360))",
            "warp.affine": f"cv2.warpAffine({array}, cv2.getRotationMatrix2D((120, 90), -4, 1), (240, 180))",
            "warp.perspective": f"cv2.warpPerspective({array}, np.array([[1, 0.1, 0], [0, 1, 0], [0, 0.0001, 1]]), (240, 180))",
            "transform.perspective": "image.transform(image.size, Image.Transform.PERSPECTIVE, (1, 0.1, 0, 0, 1, 0, 0, 0.0001))",
        }  # fmt: skip
        named = {op for name in (*CORRUPTIONS, "tilt") for op in remedies(f"{name}:3")}
        assert named == {*photometric, *geometric}
        with Sandbox(mode="inline") as sandbox:
            for op, expression in (photometric | geometric).items():
                run = sandbox.run(f"result = {expression}", [damage_image(page(), "low_contrast:3+noise:1")])
                logged = {o.name: o.change for o in run.ops}
                assert op in logged, (op, run.message, run.ops)
                assert op in geometric or logged[op] > 0
