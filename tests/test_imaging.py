"""Pictures in: upright RGB whatever the file, one line for what can't be opened, and names by content."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import picture
from PIL import Image

from codevision_lite.errors import UserError
from codevision_lite.imaging import content_name, open_image, save_png, set_pixel_budget

PICTURE = picture(40, 30)


def saved(tmp_path, image, name="p.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def pixels(image):
    return np.asarray(image)


def test_a_png_opens_with_the_pixels_that_were_saved(tmp_path):
    opened = open_image(saved(tmp_path, PICTURE))
    assert opened.mode == "RGB"
    assert np.array_equal(pixels(opened), pixels(PICTURE))


@pytest.mark.parametrize("orientation, turned", [(1, None), (3, "ROTATE_180"), (6, "ROTATE_270"), (8, "ROTATE_90"), (2, "FLIP_LEFT_RIGHT")])
def test_a_camera_picture_opens_upright(tmp_path, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    opened = open_image(saved(tmp_path, PICTURE, exif=exif))
    upright = PICTURE.transpose(Image.Transpose[turned]) if turned else PICTURE
    assert np.array_equal(pixels(opened), pixels(upright))


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = saved(tmp_path, PICTURE.convert("L" if mode == "I;16" else "RGB").convert(mode), "p.tiff")
    assert open_image(path).mode == "RGB"
    assert open_image(path).size == PICTURE.size


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_white(tmp_path, mode):
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    clear.putpixel((0, 0), (0, 0, 0, 255))
    path = saved(tmp_path, clear.convert(mode), "p.tiff" if mode == "PA" else "p.png")
    opened = open_image(path)
    assert opened.mode == "RGB"
    assert opened.getpixel((3, 3)) == (255, 255, 255)
    assert opened.getpixel((0, 0)) == (0, 0, 0)


def test_a_palette_png_with_a_transparent_colour_is_white_there(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 0, 0])
    image.putpixel((0, 0), 0)
    opened = open_image(saved(tmp_path, image, transparency=1))
    assert opened.getpixel((3, 3)) == (255, 255, 255)
    assert opened.getpixel((0, 0)) == (0, 0, 0)


def test_a_picture_in_memory_is_taken_as_it_is():
    assert open_image(PICTURE) is PICTURE
    assert open_image(PICTURE.convert("L")).mode == "RGB"


def cut_short(path):
    path.write_bytes(path.read_bytes()[:200])


def replaced_by_text(path):
    path.write_text("not a picture")


def emptied(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut_short, replaced_by_text, emptied])
def test_an_unreadable_file_is_named_in_one_line(tmp_path, damage):
    path = saved(tmp_path, PICTURE)
    damage(path)
    with pytest.raises(UserError) as e:
        open_image(path)
    assert str(e.value).startswith(f"{path}: not a readable image")
    assert "\n" not in str(e.value)


def test_a_missing_file_is_named_with_the_fix(tmp_path):
    with pytest.raises(UserError, match=r"gone\.png: no such image file.*make synth"):
        open_image(tmp_path / "gone.png")


def test_a_picture_too_thin_for_the_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="400x2 pixels"):
        open_image(saved(tmp_path, Image.new("RGB", (400, 2))))
    assert open_image(saved(tmp_path, Image.new("RGB", (398, 2)))).size == (398, 2)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_beyond_the_pixel_limit_is_refused_before_it_is_decoded(tmp_path):
    path = saved(tmp_path, Image.new("1", (20_000, 6_000)))
    with pytest.raises(UserError, match="20000x6000 pixels is outside the limits"):
        open_image(path)


def test_equal_pictures_have_equal_names_and_others_do_not():
    assert content_name(PICTURE) == content_name(PICTURE.copy())
    assert len({content_name(image) for image in (PICTURE, PICTURE.convert("L"), PICTURE.rotate(180), picture(30, 40))}) == 4


def test_a_picture_is_written_once_and_reads_back_equal(tmp_path):
    name = save_png(PICTURE, tmp_path / "images")
    written = (tmp_path / "images" / name).stat().st_mtime_ns
    assert save_png(PICTURE.copy(), tmp_path / "images") == name
    assert (tmp_path / "images" / name).stat().st_mtime_ns == written
    assert [p.name for p in (tmp_path / "images").iterdir()] == [name]
    assert np.array_equal(pixels(open_image(tmp_path / "images" / name)), pixels(PICTURE))


@pytest.mark.parametrize("budget", [56 * 56, 84 * 84, 168 * 168])
@pytest.mark.parametrize("size", [(84, 84), (300, 40), (40, 300), (1000, 900), (5, 3)])
def test_the_models_view_keeps_to_the_pixel_budget(budget, size):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    class Holder:
        image_processor = Qwen2VLImageProcessorPil()

    set_pixel_budget(Holder, 28 * 28, budget)
    grid = Holder.image_processor(images=[picture(*size)], return_tensors="pt")["image_grid_thw"][0].tolist()
    height, width = grid[1] * 14, grid[2] * 14
    assert height % 28 == width % 28 == 0
    assert height * width >= 28 * 28
    assert height * width <= budget or min(height, width) == 28  # a thin picture keeps its aspect at the smallest width
