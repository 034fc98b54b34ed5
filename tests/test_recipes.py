"""The recipes: every file loads, and those for real models fit the card that they are written for."""

from __future__ import annotations

from pathlib import Path

import pytest

from codevision_lite.config import load_recipe
from codevision_lite.miniature.plan import Miniature
from codevision_lite.recipe import PretrainConfig, Recipe
from codevision_lite.train.memory import GIB, count_tokens
from codevision_lite.train.plan import make_plan
from codevision_lite.train.shapes import load_shape

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml"))
OTHER_CLASSES = {"tiny_base": PretrainConfig, "miniature": Miniature}
REAL = [p for p in RECIPES if p.name.startswith("qwen")]


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_it_loads_and_has_a_folder_of_its_own(path):
    cls = OTHER_CLASSES.get(path.stem, Recipe)
    recipe = load_recipe(path, cls=cls)
    if cls is Recipe:
        others = [load_recipe(p, cls=Recipe).run_folder for p in RECIPES if p != path and p.stem not in OTHER_CLASSES]
        assert recipe.run_folder not in others


@pytest.mark.parametrize("path", REAL, ids=lambda p: p.stem)
def test_it_fits_the_card_in_its_name_with_room_to_spare(path):
    recipe = load_recipe(path, cls=Recipe)
    assert f"{recipe.gpu_gib:.0f}gb" in path.stem
    plan = make_plan(recipe, recipe.gpu_gib)
    assert plan.fits, plan.changes
    largest = max(stage.total for stage in plan.stages) / GIB
    assert largest <= 0.9 * recipe.gpu_gib, "a tenth is free: the plan's own error, and what a desktop takes"
    assert largest >= 0.7 * recipe.gpu_gib, "and the card is used"


@pytest.mark.parametrize("path", REAL, ids=lambda p: p.stem)
def test_its_rollouts_are_as_long_as_multi_turn_work_needs(path):
    recipe = load_recipe(path, cls=Recipe)
    tokens = count_tokens(recipe, load_shape(recipe.model.name))
    assert recipe.rl.generations == 8 and tokens.images >= 3 and tokens.trajectory >= 4096
    assert recipe.data.world == "pages" and recipe.model.quantize == "nf4"
    assert recipe.sft.steps * recipe.sft.batch == pytest.approx(2 * recipe.data.sft_rows, rel=0.02), "two passes"


@pytest.mark.parametrize("path", REAL, ids=lambda p: p.stem)
def test_evaluation_has_the_budget_of_rl(path):
    recipe = load_recipe(path, cls=Recipe)
    for name in ("max_turns", "max_reply_tokens", "max_tokens", "max_images"):
        assert getattr(recipe.eval, name) == getattr(recipe.rl, name)
