"""What the pages name exists: files, anchors, make targets, recipes, overrides; and the README's numbers and figure are those of
the files that they come from. Its commands: test_readme_commands.py."""

from __future__ import annotations

import html
import importlib.util
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from run_folder import make_run

from codevision_lite.cli import build_parser
from codevision_lite.config import load_recipe
from codevision_lite.errors import UserError
from codevision_lite.miniature.plan import Miniature
from codevision_lite.miniature.results import table
from codevision_lite.recipe import PretrainConfig, Recipe
from codevision_lite.report import print_table
from codevision_lite.report.load import load_run
from codevision_lite.reward import RewardConfig, score
from codevision_lite.reward.dense import PRESETS
from codevision_lite.train.memory import GIB
from codevision_lite.train.plan import make_plan
from codevision_lite.train.rollout_metrics import rollout_metrics

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "recipes" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text()
FIGURE = ROOT / "docs" / "figures" / "episode.svg"
# Recipes of another kind than a run's.
KINDS = {"tiny_base": PretrainConfig, "miniature": Miniature}
# Beginnings of what a run writes; a checkout does not hold it.
WRITTEN = (
    "runs/", "OUT", "data/", "sft/", "grpo/", "images/", "metrics.jsonl", "trajectories.jsonl", "results.json", "report.html", ".venv",
    "rejects.jsonl", "manifest.json",
)  # fmt: skip
# Repositories of the hub, and what lies in them.
OTHERS = ("DreamMr/", "ahmed-masry/", "echo840/", "kkwok/", "lmms-lab/", "evaluate_predictions.py", "test_questions.jsonl")
METRIC = re.compile(r"(?:rollout|reward|monitor)/[a-z_]*")  # of metrics.jsonl
ENDINGS = (".py", ".md", ".yaml", ".txt", ".toml", ".jsonl", ".html", "/", "Makefile")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def spans(text):
    """Inline code of a page, its indented and fenced blocks apart."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^(    .*|```[\s\S]*?```)$", "", text, flags=re.M))


def targets(text):
    """Where the links and pictures of a page lead, those within the project."""
    found = (*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'<img[^>]* src="([^"]+)"', text))
    return [target for target in found if "://" not in target]


def anchors(page):
    """The names that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def named_paths(text):
    links = [target.split("#")[0] for target in targets(text)]
    code = [s for s in spans(text) if re.fullmatch(r"[\w./*-]+", s) and (s.endswith(ENDINGS) or "/" in s) and not s.startswith("/")]
    code = [s for s in code if not METRIC.fullmatch(s) or (ROOT / "codevision_lite" / s).exists()]
    return sorted({p for p in (*links, *code) if p and not p.startswith((*WRITTEN, *OTHERS))})


def make_targets():
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), flags=re.M))


@pages
def test_every_file_it_names_is_there(page):
    places = (page.parent, ROOT, ROOT / "codevision_lite")
    missing = [path for path in named_paths(page.read_text()) if not any(list(place.glob(path.rstrip("/"))) for place in places)]
    assert missing == []


@pages
def test_every_link_into_a_page_meets_a_heading(page):
    for target in targets(page.read_text()):
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), target  # as a reader of the page follows it, not from the root
        assert not anchor or anchor in anchors(other), f"{target}: no such heading; there are {sorted(anchors(other))}"


@pages
def test_every_make_target_it_names_is_there(page):
    named = {verb for verbs in re.findall(r"(?:`|^ {4})make ([a-z|-]+)", page.read_text(), flags=re.M) for verb in verbs.split("|")}
    assert named - make_targets() == set()


@pages
def test_every_override_it_names_is_taken(page):
    for target, override in re.findall(r'make ([a-z-]+)[^`\n]*ARGS="([^"]+)"', page.read_text()):
        recipe = target.replace("-", "_") if target.replace("-", "_") in KINDS else "demo"
        load_recipe(ROOT / "recipes" / f"{recipe}.yaml", override.split(), cls=KINDS.get(recipe, Recipe))


@pages
def test_every_metric_it_names_is_logged(page, run):
    records = [(a.sample, a.trajectory, score(a.sample, a.trajectory)) for a in run.attempts if a.stage == "grpo"]
    logged = {*rollout_metrics(records, [range(len(records))]), "monitor/"}
    named = {s for s in spans(page.read_text()) if METRIC.fullmatch(s) and not (ROOT / "codevision_lite" / s).exists()}
    assert named - logged == set()


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
    load_recipe(path, cls=KINDS.get(path.stem, Recipe))


@pytest.mark.parametrize("page", PAGES[:2], ids=lambda p: str(p.relative_to(ROOT)))
def test_predicted_memory_is_what_the_plan_says(page):
    rows = re.findall(r"^\| `(qwen[\w.-]+)` \|.*?([\d.]+), (?:rollouts )?([\d.]+), (?:update )?([\d.]+) GiB", page.read_text(), flags=re.M)
    assert [name for name, *_ in rows] == sorted(p.stem for p in (ROOT / "recipes").glob("qwen*.yaml"))
    for name, *said in rows:
        stages = make_plan(load_recipe(ROOT / "recipes" / f"{name}.yaml", cls=Recipe)).stages
        assert said == [f"{stage.total / GIB:.1f}" for stage in stages if stage.name != "evaluation"], name


def test_the_demos_table_is_that_of_its_results():
    results = json.loads((ROOT / "benchmarks" / "demo" / "results.json").read_text())
    block = re.search(r"<!-- demo table -->(.*)<!-- end of demo table -->", README, flags=re.S).group(1)
    assert print_table(results).strip() in block
    means = {stage["name"]: f"{100 * stage['damaged_mean']:.1f}" for stage in results["stages"]}
    line = "base {base} %, SFT {sft} %, GRPO {grpo} %".format(**means)
    row = re.search(r"^\| `demo` \|.*$", (ROOT / "recipes" / "README.md").read_text(), flags=re.M).group()
    assert line in row and f"commit {results['context']['commit']}" in row
    minutes, memory = re.search(r"^([\d.]+) min \| peak RSS ([\d.]+) GiB", print_table(results), flags=re.M).groups()
    assert f"| {minutes} |" in row and re.search(rf"^\| `demo`.*\| {minutes} \| {memory} GiB of RAM \|", README, flags=re.M)


def test_the_miniatures_table_is_that_of_its_results():
    results = json.loads((ROOT / "benchmarks" / "miniature" / "results.json").read_text())
    assert table(results).strip() in (ROOT / "docs" / "MINIATURE.md").read_text()


def test_the_rewards_table_states_the_presets_weights():
    rows = re.findall(r"^\| ([\w, ]+) \| 0\.\.1 \| (-?[\d.]+) \| (-?[\d.]+) \|", README, flags=re.M)
    assert len(rows) >= 5
    for names, dense, paper in rows:
        for name in names.split(", "):
            for weight, preset in ((dense, "dense"), (paper, "paper")):
                assert abs(float(weight)) == getattr(RewardConfig.preset(preset), name.replace(" ", "_")), f"{name} of {preset}"


def test_the_presets_that_it_names_exist():
    assert all(f"`{name}`" in README for name in PRESETS)


# ---------------------------------------------------------------- the figure


@pytest.fixture(scope="module")
def episode():
    spec = importlib.util.spec_from_file_location("episode", FIGURE.with_suffix(".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return load_run(make_run(tmp_path_factory.mktemp("runs") / "demo"))


def texts(svg):
    root = ET.fromstring(svg)
    return [" ".join("".join(e.itertext()).split()) for e in root.iter("{http://www.w3.org/2000/svg}text")], root


def test_the_figure_is_small_whole_and_needs_no_other_file():
    svg = FIGURE.read_text()
    assert len(svg) < 150_000
    words, root = texts(svg)
    pictures = [e.get("href") for e in root.iter("{http://www.w3.org/2000/svg}image")]
    assert len(pictures) >= 2 and all(p.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for p in pictures)
    assert re.findall(r"https?://", svg) == ["http://"], "only the name of SVG itself"
    assert "prefers-color-scheme: dark" in svg
    assert any("image." in word for word in words), "the code"


def test_the_readme_says_in_words_what_the_figure_shows():
    described = ET.parse(FIGURE).getroot().find("{http://www.w3.org/2000/svg}desc").text
    alt = re.search(r'<img src="docs/figures/episode.svg"[^>]* alt="([^"]*)"', README).group(1)
    assert html.unescape(alt) == described


def test_the_figure_shows_the_item_as_the_run_has_it(episode, run):
    attempt, base = episode.choose(run, "demo-001")
    words, _ = texts(episode.draw(run, attempt, base))
    shown, letters = " ".join(words), "".join("".join(words).split())
    for turn in attempt.trajectory.turns:
        assert "".join(turn.think.split()) in letters
        assert "".join((turn.call.code if turn.call else turn.answer).split()) in letters
    assert attempt.sample.id in shown and repr(base.trajectory.answer) in shown and "GRPO" in shown


def test_code_that_breaks_svg_is_escaped_and_long_lines_are_broken(episode, run):
    attempt, base = episode.choose(run, "demo-001")
    first, *others = attempt.trajectory.turns
    code = "x = '</svg><script>' # & <b>\nresult = image.rotate(90, expand=True).crop((0, 0, 10, 10)).resize((84, 84))"
    call = replace(first.call, code=code)
    changed = replace(attempt, trajectory=replace(attempt.trajectory, turns=(replace(first, call=call), *others)))
    words, _ = texts(episode.draw(run, changed, base))
    assert any("</svg><script>" in word for word in words)
    assert max(len(word) for word in words if "expand=True" in word) <= 45


def test_it_takes_a_right_answer_after_turning_and_cropping_that_the_base_got_wrong(episode, run):
    grpo = [a for a in run.attempts if a.stage == "grpo" and episode.is_drawable(a)]
    needed = ("rotate_90", "crop")
    both = [replace(a, correct=True, sample=replace(a.sample, id=f"both-{i}", required_ops=needed)) for i, a in enumerate(grpo[:4])]
    right, best, base_was_right, wrong = both
    best, wrong = replace(best, reward={"total": 9.0}), replace(wrong, correct=False, reward={"total": 99.0})
    base_was_right = replace(base_was_right, reward={"total": 99.0})
    base = [replace(a, stage="base", correct=i == 2) for i, a in enumerate(both)]
    chosen, its_base = episode.choose(replace(run, attempts=(*base, right, best, base_was_right, wrong)), None)
    assert chosen is best and its_base is base[1]


def test_what_does_not_fit_is_refused_with_one_line(episode, run, capsys):
    with pytest.raises(UserError, match="no item 'nobody'"):
        episode.choose(run, "nobody")
    with pytest.raises(UserError, match="demo-002: the figure holds"):  # its first call was refused
        episode.choose(run, "demo-002")
    with pytest.raises(UserError, match="no right answer after turning and cropping"):
        episode.choose(run, None)
    assert episode.main([str(run.folder / "nowhere")]) == 2
    assert capsys.readouterr().err.startswith("episode.py: ")
