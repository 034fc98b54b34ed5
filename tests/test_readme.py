"""What the READMEs name exists: files, make targets, commands, recipes, overrides, and the reward's weights."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from codevision_lite.cli import build_parser
from codevision_lite.config import load_recipe
from codevision_lite.recipe import PretrainConfig, Recipe
from codevision_lite.reward import RewardConfig
from codevision_lite.reward.dense import PRESETS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "recipes" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text()
# Beginnings of what a run writes; a checkout does not hold it.
WRITTEN = (
    "runs/", "OUT", "data/", "sft/", "grpo/", "images/", "metrics.jsonl", "trajectories.jsonl", "results.json", "report.html", ".venv",
    "rejects.jsonl", "manifest.json",
)  # fmt: skip
# Repositories of the hub, and what lies in them.
OTHERS = ("DreamMr/", "ahmed-masry/", "echo840/", "kkwok/", "lmms-lab/", "evaluate_predictions.py", "test_questions.jsonl")
ENDINGS = (".py", ".md", ".yaml", ".txt", ".toml", ".jsonl", ".html", "/", "Makefile")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def spans(text):
    """Inline code of a page, its indented and fenced blocks apart."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^(    .*|```[\s\S]*?```)$", "", text, flags=re.M))


def named_paths(text):
    links = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    code = [s for s in spans(text) if re.fullmatch(r"[\w./*-]+", s) and (s.endswith(ENDINGS) or "/" in s) and not s.startswith("/")]
    return sorted({p for p in (*links, *code) if p and not p.startswith((*WRITTEN, *OTHERS))})


def make_targets():
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), flags=re.M))


@pages
def test_every_file_it_names_is_there(page):
    places = (page.parent, ROOT, ROOT / "codevision_lite")
    missing = [path for path in named_paths(page.read_text()) if not any(list(place.glob(path.rstrip("/"))) for place in places)]
    assert missing == []


@pages
def test_every_make_target_it_names_is_there(page):
    named = {verb for verbs in re.findall(r"(?:`|^ {4})make ([a-z|-]+)", page.read_text(), flags=re.M) for verb in verbs.split("|")}
    assert named - make_targets() == set()


@pages
def test_every_override_it_names_is_taken(page):
    for target, override in re.findall(r'make ([a-z-]+)[^`\n]*ARGS="([^"]+)"', page.read_text()):
        cls, recipe = (PretrainConfig, "tiny_base") if target == "tiny-base" else (Recipe, "demo")
        load_recipe(ROOT / "recipes" / f"{recipe}.yaml", override.split(), cls=cls)


@pages
def test_no_placeholder_is_left(page):
    assert re.findall(r"@[A-Z_]+@|TODO|TBD|XXX", page.read_text()) == []


def test_every_make_target_that_runs_the_command_line_is_a_verb_of_it():
    (verbs,) = [a.choices for a in build_parser()._actions if a.choices]
    called = set(re.findall(r"\$\(RUN\) ([a-z-]+)", (ROOT / "Makefile").read_text()))
    assert called <= set(verbs), f"make calls {sorted(called - set(verbs))}, which the command line does not know"


def test_every_make_target_has_its_line_of_help():
    text = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.*)$", text, flags=re.M).group(1).split())
    helped = set(re.findall(r"^([a-z-]+):.*## ", text, flags=re.M))
    assert phony == helped


def test_the_file_tree_names_every_part_of_the_package_once():
    tree = re.search(r"^    codevision_lite/\n((?: {6}.*\n)+)", README, flags=re.M).group(1)
    named = [name.rstrip("/") for line in tree.splitlines() for name in re.split(r" {2,}", line.strip())[0].split()]
    entries = [p for p in (ROOT / "codevision_lite").iterdir() if not p.name.startswith("_")]
    assert sorted(named) == sorted(p.name for p in entries if p.suffix == ".py" or (p / "__init__.py").is_file())


def test_recipes_and_their_table_agree():
    table = re.findall(r"^\| `([\w.-]+)` \|", (ROOT / "recipes" / "README.md").read_text(), flags=re.M)
    assert sorted(table) == sorted(p.stem for p in (ROOT / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.name)
def test_every_recipe_loads(path):
    load_recipe(path, cls=PretrainConfig if path.stem == "tiny_base" else Recipe)


def test_the_rewards_table_states_the_presets_weights():
    rows = re.findall(r"^\| ([\w, ]+) \| 0\.\.1 \| (-?[\d.]+) \| (-?[\d.]+) \|", README, flags=re.M)
    assert len(rows) >= 5
    for names, dense, paper in rows:
        for name in names.split(", "):
            for weight, preset in ((dense, "dense"), (paper, "paper")):
                assert abs(float(weight)) == getattr(RewardConfig.preset(preset), name.replace(" ", "_")), f"{name} of {preset}"


def test_the_presets_that_it_names_exist():
    assert all(f"`{name}`" in README for name in PRESETS)
