"""docs/REWARD.md holds what benchmarks/reward_differences.py prints, and every difference from the paper is shown to matter."""

import importlib.util
import sys
from pathlib import Path

import pytest

from codevision_lite.reward import RewardConfig, score
from codevision_lite.reward.dense import PRESETS

ROOT = Path(__file__).parent.parent
DOCS = (ROOT / "docs" / "REWARD.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("reward_differences", ROOT / "benchmarks" / "reward_differences.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def runs(script, sandbox):
    return {name: script.play(sandbox, behaviour) for name, behaviour in script.BEHAVIOURS.items()}


def test_the_table_of_behaviours_is_what_the_script_prints(script, capsys):
    assert script.main() == 0
    table = capsys.readouterr().out.split("\n\n")[0]
    assert f"```\n{table}\n```" in DOCS


def test_each_difference_has_its_row_with_the_numbers_of_today(script, runs):
    for title, (names, shown) in script.DIFFERENCES.items():
        totals = [script.total(runs[shown], script.BEHAVIOURS[shown], c) for c in (script.PAPER, script.DENSE, script.undone(names))]
        (row,) = [line for line in DOCS.splitlines() if line.startswith(f"| {title} |")]
        assert row.endswith(f"| {shown} | " + " | ".join(f"{value:.2f}" for value in totals) + " |"), totals


def test_every_field_that_differs_is_shown_and_makes_a_difference(script, runs):
    shown = {name for names, _ in script.DIFFERENCES.values() for name in names}
    assert script.differing() <= shown
    for title, (names, example) in script.DIFFERENCES.items():
        behaviour = script.BEHAVIOURS[example]
        with_it, without = (script.total(runs[example], behaviour, c) for c in (script.DENSE, script.undone(names)))
        assert abs(with_it - without) > 0.005, title


def test_weights_in_the_docs_are_those_of_the_presets(script, runs):
    trajectory = runs["both: rotation, then crop"]
    task = script.task(script.BEHAVIOURS["both: rotation, then crop"])
    for column, preset in ((3, "paper"), (4, "dense")):
        for name, term in score(task, trajectory, RewardConfig.preset(preset)).terms.items():
            (row,) = [line for line in DOCS.splitlines() if line.startswith(f"| {name} |")]
            said = row.split("|")[column].split()[0]
            assert float(said) == pytest.approx(term.weight), name
    assert all(f"`{preset}`" in DOCS for preset in PRESETS)
    assert len(DOCS.splitlines()) <= 120
