"""The experiment in miniature: verdicts from intervals, metrics from what ran, the recipe's own mistakes, the report, and the runs."""

from __future__ import annotations

import functools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from miniature_run import BRUTE_FORCE, NO_OP, make_experiment, run_codes

from codevision_lite.config import load_recipe
from codevision_lite.errors import UserError
from codevision_lite.files import read_jsonl
from codevision_lite.miniature.claims import Effect, decide, is_met, judge, measure, student, t_quantile, verdict_of
from codevision_lite.miniature.measures import METRICS, Item, make_item, value_of
from codevision_lite.miniature.plan import Claim, Miniature, Part, Target
from codevision_lite.miniature.results import effect_text, miniature
from codevision_lite.miniature.runs import make_jobs
from codevision_lite.pipeline import claim
from codevision_lite.recipe import Recipe
from codevision_lite.reward import score
from codevision_lite.reward.user_file import load_scorer
from codevision_lite.synth import samples

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes" / "miniature.yaml"
OPPONENT = ROOT / "recipes" / "source_reading_reward.py"
CONDITIONS = ("upright", "rotate_90", "flip_horizontal", "orientation+crop")
ABOVE = Part("accuracy", "dense", against="sft", at_least=0.0, margin=0.02)
BELOW = Part("tool_use", "no_sft", at_most=0.05, margin=0.02)


@functools.cache
def plan_of():
    return load_recipe(RECIPE, cls=Miniature)


def small_plan(folder, *overrides):
    """Four conditions and two arms."""
    path = Path(folder) / "small.yaml"
    path.write_text(
        f"""\
run_folder: {folder}/run
seeds: 2
recipe: {{log: [], eval: {{n_per_condition: 2, conditions: [{", ".join(CONDITIONS)}]}}, rl: {{steps: 12}}}}
arms: {{dense: [rl.reward=dense], no_sft: [rl.start=base]}}
claims:
  c: {{says: "RL <adds> accuracy.", parts: [{{metric: accuracy, arm: dense, against: sft, at_least: 0.0, margin: 0.02}}]}}
  f: {{says: "Tools die out.", parts: [{{metric: tool_use, arm: no_sft, over: [all], at_most: 0.05}}]}}
targets:
  - {{says: "brute force", part: {{metric: brute_force, arm: dense, over: [all], at_most: 0.02}}}}
"""
    )
    return load_recipe(path, overrides, cls=Miniature), path


def effect_of(low, high, mean=None):
    return Effect({0: 0.0}, (low + high) / 2 if mean is None else mean, low, high, "t over seeds", (0.0,))


def item(number, right, condition="rotate_90", **changes):
    found = dict.fromkeys(("brute_force", "no_op", "missed_crop", "unsupported", "unsupported_right", "unread"), False)
    return replace(Item(f"{condition}-{number}", condition, right, 1, 1, 1, False, True, False, found, frozenset()), **changes)


def arm(rights, condition="rotate_90", **changes):
    return [item(i, bool(right), condition, **changes) for i, right in enumerate(rights)]


def sample_of(condition, seed=0):
    return samples.make_item(random.Random(f"{condition}{seed}"), "test", condition).sample


def measured(sandbox, sample, codes, answer=None):
    trajectory = run_codes(sandbox, sample, codes, answer)
    return make_item(sample, trajectory, sample.meta["condition"], score(sample, trajectory).terms["accuracy"].value == 1.0)


# Verdicts


@pytest.mark.parametrize(
    ("part", "low", "high", "verdict"),
    [
        (ABOVE, 0.01, 0.20, "confirmed"), (ABOVE, -0.05, 0.20, "inconclusive"), (ABOVE, -0.20, -0.01, "not confirmed"),
        (ABOVE, -0.01, 0.015, "not confirmed"), (ABOVE, -0.01, 0.02, "inconclusive"), (ABOVE, 0.0, 0.0, "not confirmed"),
        (ABOVE, 0.001, 0.01, "not confirmed"), (replace(ABOVE, margin=0.0), 0.0, 0.0, "inconclusive"),
        (BELOW, 0.0, 0.04, "confirmed"), (BELOW, 0.0, 0.06, "inconclusive"), (BELOW, 0.06, 0.20, "not confirmed"),
        (BELOW, 0.035, 0.06, "not confirmed"), (BELOW, 0.05, 0.05, "not confirmed"),
    ],
)  # fmt: skip
def test_a_part_is_judged_by_where_its_interval_lies(part, low, high, verdict):
    assert judge(part, effect_of(low, high)).verdict == verdict


def test_what_was_not_run_or_can_not_be_measured_is_said():
    assert judge(ABOVE, None).verdict == "not run"
    nothing = judge(ABOVE, Effect({0: None}, None, None, None, "none", (None, None)))
    assert nothing.verdict == "inconclusive" and "nothing to measure" in nothing.why


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        (["confirmed", "confirmed"], "confirmed"), (["confirmed", "inconclusive"], "inconclusive"),
        (["confirmed", "not confirmed"], "not confirmed"), (["not run", "not confirmed"], "not confirmed"),
        (["not run", "confirmed"], "not run"), (["not run", "inconclusive"], "not run"),
    ],
)  # fmt: skip
def test_all_parts_of_a_claim_must_hold(verdicts, whole):
    assert verdict_of([replace(judge(ABOVE, None), verdict=v) for v in verdicts]) == whole


def test_students_interval_is_the_textbooks():
    assert student([1.0, 2.0, 3.0]) == pytest.approx((2 - 4.30265 / math.sqrt(3), 2 + 4.30265 / math.sqrt(3)), abs=1e-3)
    assert [t_quantile(n) for n in (11, 20, 100)] == pytest.approx([2.20099, 2.08596, 1.98397], abs=2e-4)


def test_its_data_is_drawn_with_the_demos_mixes():
    assert plan_of().recipe.data == load_recipe(ROOT / "recipes" / "demo.yaml", cls=Recipe).data


# Effects


def test_an_effect_over_seeds_is_paired_within_each_seed():
    plan = plan_of()
    results = {  # arms differ by 0.1 in every seed, though the seeds differ by much more
        seed: {"sft": arm([1] * (n - 1) + [0] * (11 - n)), "dense": arm([1] * n + [0] * (10 - n))} for seed, n in ((0, 4), (1, 9), (2, 6))
    }
    effect = measure(ABOVE, plan, results, {})
    assert effect.method == "t over seeds" and effect.values == pytest.approx(dict.fromkeys(range(3), 0.1))
    reach = 1.96 * math.sqrt(3 * 0.09 / 10) / 3  # over items, of which one of ten differs: seeds that agree prove nothing alone
    assert (effect.low, effect.high) == pytest.approx((0.1 - reach, 0.1 + reach), abs=1e-3)
    results[2]["dense"] = arm([1] * 10)
    apart = measure(ABOVE, plan, results, {})
    assert (apart.low, apart.high) == pytest.approx(student([0.1, 0.1, 0.5]))


def test_one_seed_has_an_interval_over_items_that_are_paired():
    plan = plan_of()
    sft = [1, 0] * 100
    dense = [1, 0] * 80 + [1, 1] * 20
    paired = measure(ABOVE, plan, {0: {"sft": arm(sft), "dense": arm(dense)}}, {})
    assert paired.method == "items of one seed" and paired.mean == pytest.approx(0.1)
    reach = 1.96 * math.sqrt(0.1 * 0.9 / 200)
    assert (paired.low, paired.high) == pytest.approx((0.1 - reach, 0.1 + reach), abs=1e-3)
    unlike = Part("accuracy", "dense", ("rotate_90",), "dense", against_over=("flip_horizontal",), at_least=0.0)
    other = arm(sft, "flip_horizontal")
    unpaired = measure(unlike, plan, {0: {"dense": [*arm(dense), *other]}}, {})
    assert unpaired.high - unpaired.low > 1.5 * (paired.high - paired.low)


def test_items_that_are_all_alike_have_an_interval_all_the_same():
    effect = measure(Part("accuracy", "sft", at_least=0.95), plan_of(), {0: {"sft": arm([1] * 20)}}, {})
    assert effect.low == pytest.approx(0.839, abs=0.01) and effect.high == 1.0
    none = measure(ABOVE, plan_of(), {0: {"sft": arm([1] * 20), "dense": arm([1] * 20)}}, {})
    assert none.mean == 0 and none.high > 0.1 and judge(ABOVE, none).verdict == "inconclusive", "20 items exclude nothing"


def test_an_interval_ends_where_shares_and_their_differences_end():
    results = {seed: {"sft": arm([1 - seed] * 10), "dense": arm([seed] * 10)} for seed in (0, 1)}  # -1 and 1: Student's t reaches 12.7
    effect = measure(ABOVE, plan_of(), results, {})
    assert (effect.mean, effect.low, effect.high) == (0, -1, 1)
    half = measure(Part("accuracy", "dense", against="sft", times=0.5, at_least=0.0), plan_of(), results, {})
    assert (half.low, half.high) == (-0.5, 1)


def test_beyond_and_times_change_what_an_effect_is_made_of():
    both = [*arm([1] * 9 + [0], "orientation+crop"), *arm([1] * 6 + [0] * 4)]
    less = [*arm([1] * 4 + [0] * 6, "orientation+crop"), *arm([1] * 5 + [0] * 5)]
    part = Part("accuracy", "dense", ("orientation+crop",), "no_strategy", beyond=("orientations",), at_least=0.0)
    effect = measure(part, plan_of(), {0: {"dense": both, "no_strategy": less}}, {})
    assert effect.mean == pytest.approx(0.5 - 0.1) and effect.sides == pytest.approx((0.9, 0.4, 0.6, 0.5))
    share = Part("accuracy", "dense", against="dense", against_over=("upright",), times=0.85, at_least=0.0)
    rows = {0: {"dense": [*arm([1] * 9 + [0]), *arm([1] * 10, "upright")]}}
    target = Target("85 % of upright", share)
    assert measure(share, plan_of(), rows, {}).mean == pytest.approx(0.05)
    assert is_met(target, measure(share, plan_of(), rows, {})) is True and is_met(target, None) is None


def test_a_seed_that_lacks_an_arm_is_left_out_and_a_claim_without_any_is_not_run():
    plan = plan_of()
    results = {0: {"sft": arm([1, 0]), "dense": arm([1, 1])}, 1: {"sft": arm([1, 0])}}
    assert list(measure(ABOVE, plan, results, {}).values) == [0]
    assert decide(Claim("x", (ABOVE,)), plan, {1: results[1]}, {})[0] == "not run"
    failed = arm([1, 0], turns=2, ok=1)
    errors = Part("recovered", "dense", against="sft", at_least=0.0)
    assert decide(Claim("x", (errors,)), plan, {0: {"sft": arm([1]), "dense": failed}}, {})[0] == "inconclusive"


# Metrics


def test_metrics_are_read_from_what_ran(sandbox):
    sample = sample_of("rotate_90")
    right, codes = measured(sandbox, sample, ["result = image.rotate(270, expand=True)"]), {}
    codes["failed first"] = measured(sandbox, sample, ["result = picture.rotate(270)", "result = image.rotate(270, expand=True)"])
    codes["comment"] = measured(sandbox, sample, ["# image.rotate(270, expand=True)\nresult = image"], "?")
    codes["no op"] = measured(sandbox, sample, NO_OP)
    codes["search"] = measured(sandbox, sample, BRUTE_FORCE)
    codes["too many"] = measured(sandbox, sample, ["result = image.rotate(270, expand=True)"] * 3)
    assert (right.right, right.required, right.turns, right.ok, right.hacked) == (True, 1, 1, 1, False)
    signs = ("brute_force", "no_op", "discarded", "for_show")
    assert {name: [s for s in signs if value_of(s, [i], ())] for name, i in codes.items()} == {
        "failed first": [], "comment": ["for_show"], "no op": ["no_op"], "search": ["brute_force", "discarded"], "too many": [],
    }  # fmt: skip
    assert all(i.hacked == (name in ("comment", "no op", "search")) for name, i in codes.items())
    assert value_of("valid_calls", [right, codes["failed first"]], ()) == pytest.approx(2 / 3)
    assert value_of("recovered", [right, codes["failed first"]], ()) == 1.0 and value_of("recovered", [right], ()) is None
    assert value_of("extra_turns", [right, codes["too many"]], ()) == 1.0
    assert value_of("brute_force", list(codes.values()), ()) == pytest.approx(1 / 5)


def test_a_call_that_only_failed_is_no_tool_use(sandbox):
    sample = sample_of("flip_vertical")
    assert value_of("tool_use", [measured(sandbox, sample, ["result = ImageOps.flip(picture)"])], ()) == 0.0
    assert value_of("tool_use", [measured(sandbox, sample_of("upright"), [])], ()) is None


def test_new_operations_are_those_that_changed_the_picture_and_sft_does_not_hold(sandbox):
    sample = sample_of("corruption")
    stretched = measured(sandbox, sample, ["result = ImageOps.invert(image)"])
    assert stretched.effective and value_of("new_operations", [stretched], ("rotate", "crop")) == 1.0
    assert value_of("new_operations", [stretched], stretched.effective) == 0.0
    wrong = measured(sandbox, sample, [], "?")
    assert value_of("right_with_new", [stretched, wrong], ()) == 1.0 and value_of("right_without_new", [stretched, wrong], ()) == 0.0


def test_every_metric_is_a_ratio_in_its_unit(sandbox):
    items = [measured(sandbox, sample_of(c), codes) for c in CONDITIONS for codes in ([], NO_OP, BRUTE_FORCE)]
    for name, metric in METRICS.items():
        value = value_of(name, items, ("rotate",))
        assert value is None or (0 <= value <= 1 if metric.unit == "share" else value >= 0), name


# The opponent and rewards of one's own


def test_the_opponent_pays_for_words_and_the_evidence_for_deeds(sandbox):
    pays = load_scorer(OPPONENT)
    sample = sample_of("rotate_90")
    honest = run_codes(sandbox, sample, ["result = image.rotate(270, expand=True)"])
    comment = run_codes(sandbox, sample, ["# image.rotate(270)\nresult = image"], answer="?")
    direct = run_codes(sandbox, sample)
    paid = dict(zip(("honest", "comment", "direct"), pays(sample, [honest, comment, direct]), strict=True))
    assert paid == pytest.approx({"honest": 2.2, "comment": 1.2, "direct": 1.1}), "1.0 + 0.1 format + 1.0 tool + 0.1 exact, less the answer"
    ours = [score(sample, t).total for t in (honest, comment, direct)]
    assert ours[0] > ours[2] > ours[1], "by evidence a comment is worth nothing"
    failed = run_codes(sandbox, sample, ["result = picture.rotate(270)"])
    assert pays(sample, [failed]) == pytest.approx([2.2]), "code that failed is paid as well"


def test_the_opponent_reads_crops_from_numbers_and_else_takes_the_call(sandbox):
    pays = load_scorer(OPPONENT)
    sample = sample_of("crop")
    x1, y1, x2, y2 = map(int, sample.target_box)
    exact = run_codes(sandbox, sample, [f"result = image.crop(({x1}, {y1}, {x2}, {y2}))"])
    aside = run_codes(sandbox, sample, ["result = image.crop((0, 0, 1, 1))"])
    named = run_codes(sandbox, sample, ["w, h = image.size  # crop\nresult = image"])
    totals = pays(sample, [exact, aside, named])
    assert totals[0] == pytest.approx(2.2, abs=0.05) and totals[2] == pytest.approx(2.2)
    assert totals[1] < 0.3, "a right answer whose crop is elsewhere is taken for a wrong one"
    assert pays(sample_of("upright"), [run_codes(sandbox, sample_of("upright"), ["result = image.rotate(90)"])]) == pytest.approx([0.6])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def score_group(sample, trajectories):\n    return [1.0]", "gave 1 totals for 2"),
        ("def score_group(sample, trajectories):\n    return ['much'] * 2", "a finite number or None, got 'much'"),
        ("def score_group(sample, trajectories):\n    return [float('nan')] * 2", "a finite number or None, got nan"),
        ("def score_group(sample, trajectories):\n\n    return 1 / 0", "line 3: sample .*ZeroDivisionError"),
    ],
)
def test_a_reward_file_that_gives_nonsense_is_told_so(tmp_path, sandbox, text, said):
    path = tmp_path / "own.py"
    path.write_text(text)
    sample = sample_of("upright")
    with pytest.raises(UserError, match=said) as told:
        load_scorer(path)(sample, [run_codes(sandbox, sample)] * 2)
    assert str(path) in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("none.py", None, "no such file"), ("own.py", "score = 1", r"no function score_group\(sample, trajectories\)"),
        ("own.py", "def score_group(:\n", "line 1: SyntaxError"), ("own.py", "\nimport not_there_at_all", "line 2: ModuleNotFoundError"),
        ("own.txt", "x", "must end with .py"),
    ],
)  # fmt: skip
def test_a_reward_file_that_can_not_be_loaded_ends_in_one_line(tmp_path, name, text, said):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        load_scorer(tmp_path / name)


@pytest.mark.slow
def test_training_takes_the_files_totals_and_logs_the_presets_terms(tmp_path, sandbox):
    from types import SimpleNamespace

    from codevision_lite.recipe import RLStage
    from codevision_lite.train.grpo import make_reward

    path = tmp_path / "own.py"
    path.write_text("def score_group(sample, trajectories):\n    return [None if t.answer == '?' else 7.0 for t in trajectories]\n")
    sample = replace(sample_of("rotate_90"), image="picture.png")
    shown = sample_of("rotate_90")
    trajectories = [run_codes(sandbox, shown, ["result = image.rotate(270, expand=True)"]), run_codes(sandbox, shown, answer="?")]
    environments = [SimpleNamespace(sample=sample, trajectory=t) for t in trajectories]
    logged = {}
    reward = make_reward(RLStage(reward_file=str(path)), tmp_path / "grpo" / "rollouts.jsonl")
    totals = reward(environments, SimpleNamespace(global_step=0, max_steps=2), logged.__setitem__)
    assert totals == [7.0, None]
    assert logged["reward/total"] == 7.0 and logged["reward/must_use"] == 0.5 and logged["rollout/n_dropped"] == 1.0
    assert logged["reward/preset_total"] == pytest.approx(sum(score(shown, t).total for t in trajectories) / 2)
    assert [row["total"] for row in read_jsonl(tmp_path / "grpo" / "rollouts.jsonl")] == [7.0, None]


# The recipe


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{metric: acuracy, arm: dense, at_least: 0.1}", "unknown metric 'acuracy'; did you mean accuracy?"),
        ("{metric: accuracy, arm: dnse, at_least: 0.1}", "claims.c part 1: unknown arm 'dnse'; did you mean dense?"),
        ("{metric: accuracy, arm: dense, against: grpo, at_least: 0.1}", "unknown arm 'grpo'; there are: base, sft, dense, no_sft"),
        ("{metric: accuracy, arm: dense, over: [rotate_80], at_least: 0.1}", "unknown condition 'rotate_80'; did you mean rotate_90?"),
        ("{metric: accuracy, arm: dense}", "one of at_least and at_most is needed"),
        ("{metric: accuracy, arm: dense, at_least: 0, at_most: 1}", "one of at_least and at_most is needed, not both"),
        ("{metric: accuracy, arm: dense, beyond: [upright], at_least: 0}", "need `against`"),
        ("{metric: accuracy, arm: dense, at_least: 0, margin: -1}", "margin must be >= 0"),
    ],
)
def test_a_mistake_in_a_claim_is_one_line(tmp_path, line, said):
    _, path = small_plan(tmp_path)
    text = path.read_text()
    path.write_text(text.replace("{metric: accuracy, arm: dense, against: sft, at_least: 0.0, margin: 0.02}", line))
    with pytest.raises(UserError) as told:
        load_recipe(path, cls=Miniature)
    assert said in str(told.value) and str(path) in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("arms.x=sft.steps=3", "an arm may change keys of rl alone"), ("arms.x=rl.rewrd=dense", "unknown key"),
        ("arms.x=rl.reward=best", "arms.x"), ("arms.sft=rl.steps=3", "can't be an arm's name"), ("seeds=0", "seeds must be >= 1"),
        ("recipe.data.world=pages", "must be signs"), ("recipe.eval.conditions=upright,upright", "each once"),
        ("recipe.eval.conditions=upright,corruption+orientation", "the world of signs has no 'corruption+orientation'"),
    ],
)  # fmt: skip
def test_a_mistake_in_arms_or_conditions_is_one_line(tmp_path, override, said):
    _, path = small_plan(tmp_path)
    with pytest.raises(UserError) as told:
        load_recipe(path, [override], cls=Miniature)
    assert said in str(told.value) and "\n" not in str(told.value)


def test_arms_differ_from_each_other_in_nothing_but_their_changes():
    plan = plan_of()
    recipes = {name: plan.arm_recipe(name, 1) for name in plan.arms}
    assert {r.seed for r in recipes.values()} == {1} and len({r.run_folder for r in recipes.values()}) == len(recipes)
    assert len({(r.data.sft_rows, r.sft.steps, r.rl.steps, r.rl.prompts, r.rl.learning_rate) for r in recipes.values()}) == 1
    assert recipes["no_sft"].rl.start == "base" and recipes["source_reading"].rl.reward_file == "recipes/source_reading_reward.py"
    assert [job.name for job in make_jobs(plan)][:2] == ["seed0/start", "seed0/dense"]


def test_the_issue_of_each_claim_is_tested_and_every_arm_is_in_one():
    plan = plan_of()
    assert list(plan.claims) == list("abcdefghi") and len(plan.targets) == 6
    assert {"dense", "paper", "outcome_only", "no_strategy", "no_penalty", "curriculum", "source_reading", "no_sft"} == set(plan.arms)
    assert plan.conditions == (*samples.CONDITIONS, "corruption", "transpose") and plan.recipe.eval.n_per_condition >= 300


def test_conditions_for_tests_alone_are_no_training_data():
    for part in ("sft_mix", "rl_mix"):
        with pytest.raises(UserError, match="has no 'transpose'"):
            load_recipe(ROOT / "recipes" / "demo.yaml", [f"data.{part}.transpose=0.1"], cls=Recipe)
    corrupted, turned = sample_of("corruption"), sample_of("transpose")
    assert corrupted.damage.endswith(":3") and corrupted.required_ops == () and corrupted.meta["damage_seed"]
    assert turned.required_ops == ("rotate_90", "flip_vertical")


def test_a_run_from_before_a_key_was_there_goes_on(tmp_path):
    recipe = replace(load_recipe(ROOT / "recipes" / "demo.yaml", cls=Recipe), run_folder=str(tmp_path / "run"))
    assert claim(recipe) is False and claim(recipe) is True
    config = tmp_path / "run" / "config.yaml"
    config.write_text("".join(line for line in config.read_text().splitlines(True) if "start: sft" not in line))
    assert claim(recipe) is True and "start: sft" in config.read_text()
    with pytest.raises(UserError, match=r"rl\.start: 'sft' there, 'base' now"):
        claim(replace(recipe, rl=replace(recipe.rl, start="base")))


# The report


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, sandbox):
    """An experiment of two seeds with all of its arms, without training."""
    plan, _ = small_plan(tmp_path_factory.mktemp("experiment"))
    make_experiment(plan, sandbox, {"base": 0.0, "sft": 0.5, "dense": 1.0, "no_sft": 0.0})
    return plan


def test_a_report_is_written_from_the_folders_alone(experiment, capsys):
    miniature(experiment, report_only=True)
    folder = Path(experiment.run_folder)
    results, page = json.loads((folder / "results.json").read_text()), (folder / "report.html").read_text()
    assert [c["verdict"] for c in results["claims"]] == ["inconclusive", "inconclusive"] and results["targets"][0]["met"] is True
    assert results["arms"]["dense"]["orientations"]["metrics"]["accuracy"]["mean"] == 1.0 and results["missing"] == []
    assert set(results["arms"]["sft"]) == {*CONDITIONS, "orientations", "trained_on", "all"}
    for text in ("RL &lt;adds&gt; accuracy.", "confirmed", "Before and after RL", "no_sft", 'id="show-1"'):
        assert text in page
    assert 'src="http' not in page and page.count("<svg") >= 2 + 6 and page.count("<section") >= 6
    printed = capsys.readouterr().out
    assert str(folder / "report.html") in printed and max(map(len, printed.splitlines())) <= max(110, len(str(folder)) + 30)


def test_a_seed_is_judged_elsewhere_from_its_items_alone(experiment, tmp_path, capsys):
    miniature(experiment, report_only=True)
    there = json.loads((Path(experiment.run_folder) / "results.json").read_text())
    for seed in experiment.seed_list:
        folder = tmp_path / "run" / f"seed{seed}"
        folder.mkdir(parents=True)
        shutil.copy(Path(experiment.run_folder) / folder.name / "items.json", folder)
    elsewhere, _ = small_plan(tmp_path)
    miniature(elsewhere, report_only=True)
    here = json.loads((tmp_path / "run" / "results.json").read_text())
    assert here["missing"] == [] and here["arms"]["dense"]["orientations"]["metrics"]["accuracy"]["mean"] == 1.0
    assert all(here[name] == there[name] for name in ("arms", "claims", "targets"))
    other, _ = small_plan(tmp_path, "recipe.rl.steps=13", "seeds=1")
    with pytest.raises(UserError, match="no arm has been evaluated yet"):
        miniature(other, report_only=True)
    assert "seed0/items.json: dense was made with another recipe and is left out" in capsys.readouterr().out
    (tmp_path / "run" / "seed0" / "items.json").write_text("[]")
    with pytest.raises(UserError, match=r"seed0/items\.json: not what a report keeps of a seed\. Copy it again, or remove it"):
        miniature(elsewhere, report_only=True)


def test_the_numbers_are_those_of_the_rows(experiment):
    results = json.loads((Path(experiment.run_folder) / "results.json").read_text())
    for name in ("sft", "dense"):
        for seed in experiment.seed_list:
            rows = read_jsonl(experiment.folder(name, seed) / "trajectories.jsonl")
            own = [r for r in rows if r["stage"] == ("sft" if name == "sft" else "grpo") and r["condition"] == "rotate_90"]
            cell = results["arms"][name]["rotate_90"]["metrics"]["accuracy"]
            assert cell["seeds"][str(seed)] == sum(r["correct"] for r in own) / len(own) and len(own) == 2


def test_an_arm_starts_with_the_rows_of_what_it_starts_from(experiment):
    for name, before in (("dense", "sft"), ("no_sft", "base")):
        folder = experiment.folder(name, 0)
        rows = read_jsonl(folder / "trajectories.jsonl")
        assert [r["stage"] for r in rows] == [before] * 8 + ["grpo"] * 8
        assert all((folder / path).is_file() for r in rows for path in r["trajectory"]["images"])
        assert (folder / "sft").is_symlink() == (name == "dense")


def test_a_partial_experiment_says_what_is_not_run(tmp_path, sandbox):
    plan, _ = small_plan(tmp_path, "seeds=1")
    with pytest.raises(UserError, match="no arm has been evaluated yet"):
        miniature(plan, report_only=True)
    make_experiment(plan, sandbox, {"base": 0.0, "sft": 0.5})
    miniature(plan, report_only=True)
    results, page = (tmp_path / "run" / "results.json").read_text(), (tmp_path / "run" / "report.html").read_text()
    assert [c["verdict"] for c in json.loads(results)["claims"]] == ["not run", "not run"]
    assert json.loads(results)["missing"] == ["seed0/dense", "seed0/no_sft"] and json.loads(results)["targets"][0]["met"] is None
    assert "Training: not run." in page and "not run" in page


def test_effects_are_written_in_their_units():
    row = {"test": {"metric": "accuracy"}, "effect": {"mean": 0.1234, "low": -0.01, "high": 0.25}, "sides": [{}, {}]}
    assert effect_text(row) == "+12.3 points [-1.0, +25.0]" and effect_text(row | {"sides": [{}]}) == "12.3 % [-1.0, 25.0]"
    assert effect_text(row | {"test": {"metric": "tool_turns"}}, interval=False) == "+0.12 turns"
    assert effect_text(row | {"effect": None}) == "not run"


# The runs


def command(*argv):
    return [sys.executable, "-m", "codevision_lite", *map(str, argv)]


@pytest.fixture(scope="module")
def real(tmp_path_factory, tiny_folder):
    """A recipe of two arms of two steps on a small random model."""
    folder = tmp_path_factory.mktemp("real")
    path = folder / "small.yaml"
    path.write_text(
        f"""\
run_folder: {folder}/run
seeds: 1
recipe:
  log: []
  model: {{name: {tiny_folder}, lora_r: 8}}
  data: {{sft_rows: 12, rl_rows: 8}}
  sft: {{steps: 2, batch: 4, micro_batch: 4}}
  rl: {{steps: 2, prompts: 2, generations: 4, micro_batch: 8, max_turns: 2, max_reply_tokens: 8}}
  eval: {{n_per_condition: 1, max_turns: 2, max_reply_tokens: 8, conditions: [upright, rotate_90, corruption, transpose]}}
arms: {{own: [rl.reward_file={OPPONENT}], no_sft: [rl.start=base]}}
claims: {{a: {{says: "x", parts: [{{metric: accuracy, arm: own, at_least: 0.5}}]}}}}
"""
    )
    return path, folder / "run"


@pytest.mark.slow
def test_two_arms_run_are_stopped_and_resumed_by_the_same_command(real):
    recipe, run = real
    process = subprocess.Popen(command("miniature", recipe), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (run / "seed0" / "start" / "data" / "manifest.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)  # the next stages are starting
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130 and "the same command goes on" in err, out + err
    assert not subprocess.run(["pgrep", "-f", f"config.yaml.*{run}|{run}.*config.yaml"], capture_output=True).stdout, "its processes ended"
    stopped = json.loads((run / "minutes.json").read_text())
    done = subprocess.run(command("miniature", recipe), cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "miniature 100/100 %" in done.stdout and f"report: {run / 'report.html'}" in done.stdout
    for name in ("own", "no_sft"):
        assert {"grpo", "metrics.jsonl", "report.html", "log.txt"} <= {p.name for p in (run / "seed0" / name).iterdir()}
    assert json.loads((run / "minutes.json").read_text()) > stopped > 0, "the time of both calls"
    first = [row for row in read_jsonl(run / "seed0" / "own" / "metrics.jsonl") if row["stage"] == "grpo"]
    assert [row["step"] for row in first] == [1, 2] and "reward/preset_total" in first[0]
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()}
    again = subprocess.run(command("miniature", recipe), cwd=ROOT, capture_output=True, text=True, timeout=300)
    changed = {p.name for p in run.rglob("*") if p.is_file() and before.get(p) != p.stat().st_mtime_ns}
    assert again.returncode == 0 and changed <= {"results.json", "report.html", "minutes.json"}, again.stderr


@pytest.mark.slow
def test_an_arm_that_fails_is_named_and_the_others_stay(real, tmp_path):
    recipe, run = real
    broken = tmp_path / "broken.py"
    broken.write_text("def score_group(sample, trajectories):\n    return []\n")
    own = tmp_path / "broken.yaml"
    own.write_text(recipe.read_text().replace("arms: {", f"arms: {{bad: [rl.reward_file={broken}], "))
    done = subprocess.run(command("miniature", own), cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "seed0/bad failed: codevision-lite: rl.reward_file" in done.stderr and "gave 0 totals for 4 trajectories" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("codevision-lite: 1 of the runs failed. seed0/bad:")
    results = json.loads((run / "results.json").read_text())
    assert results["missing"] == ["seed0/bad"] and results["claims"][0]["verdict"] != "not run"


def test_the_module_is_the_command_line():
    done = subprocess.run(command("--version"), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("codevision-lite ")
