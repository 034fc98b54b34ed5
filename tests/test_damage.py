"""Damages: each is undone exactly, and a box goes where its pixels go."""

from __future__ import annotations

import pytest
from pictures import picture, same
from PIL import Image

from codevision_lite.damage import DAMAGES, damage_box, damage_image, undo
from codevision_lite.errors import UserError
from codevision_lite.geometry import apply_op

SIZES = [(40, 30), (30, 40), (33, 33), (1, 5)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_undoing_a_damage_gives_the_picture_back(damage, size):
    damaged = damage_image(picture(*size), damage)
    for op in undo(damage):
        damaged = apply_op(damaged, op)
    assert same(damaged, picture(*size))


@pytest.mark.parametrize("size", SIZES[:3])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_box_lies_where_its_pixels_went(damage, size):
    box = (3, 5, 12, 9)
    marked = Image.new("RGB", size)
    marked.paste((255, 255, 255), box)
    assert damage_image(marked, damage).getbbox() == damage_box(box, damage, size)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damage_leaves_the_original_alone_and_changes_the_copy(damage):
    original = picture(40, 30)
    damaged = damage_image(original, damage)
    assert same(original, picture(40, 30))
    assert same(damaged, original) == (damage == "none")


def test_rotations_are_counter_clockwise():
    turned = damage_image(picture(40, 30), "rotate_90")
    assert same(turned, picture(40, 30).transpose(Image.Transpose.ROTATE_90))


@pytest.mark.parametrize("name", ["rotate_45", "", "rotate 90"])
def test_an_unknown_damage_is_the_users_to_fix(name):
    with pytest.raises(UserError):
        damage_image(picture(), name)
