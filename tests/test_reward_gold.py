"""Every gold trajectory that synth makes earns the most that its type can earn, and nothing where its answer is empty."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from codevision_lite.recipe import DataConfig
from codevision_lite.reward import RewardConfig, score
from codevision_lite.synth import pages
from codevision_lite.synth.gold import Gold, make_golds
from codevision_lite.synth.page_scripts import TYPES
from codevision_lite.synth.samples import CONDITIONS, make_items
from codevision_lite.synth.signs_scripts import write_script
from codevision_lite.synth.sources import weighted

DENSE = RewardConfig.preset("dense")
CROP_SLACK = 0.6 * 0.15  # a page's crops keep a margin of several pixels, which is much around a tiny target
PENALTIES = {"turn_limit", "poor_reasoning", "inappropriate", "exhaustive", "relief"}


@pytest.fixture(scope="module")
def signs(sandbox):
    rng = random.Random(0)
    scripts = [write_script(item, rng, 0.4, 0.3) for item in make_items(0, "train", 96, dict.fromkeys(CONDITIONS, 1.0))]
    return [gold for gold in make_golds(scripts, sandbox) if isinstance(gold, Gold)]


@pytest.fixture(scope="module")
def page_golds(sandbox):
    scripts = pages.chunk_scripts(0, "train", 0, list(TYPES) * 8, weighted(DataConfig().families, (), 0.0))
    return [gold for gold in make_golds(scripts, sandbox) if isinstance(gold, Gold)]


def most(gold):
    """What the type can earn, by hand: 1.1 for the answer, 0.8 for tools, less what its mistakes and further turns cost."""
    required, seen = gold.item.sample.required_ops, gold.trajectory.observations
    failed = sum(o.status != "ok" for o in seen)
    wrong = sum(o.status == "ok" and not trained for o, trained in zip(seen, gold.trained, strict=False))
    further = 0.05 * max(0, len(seen) - failed - len(required))  # windows of a multi-crop, remedies, the wrong turn itself
    if not required:
        return 1.1 - further
    if gold.type == "error_handling":  # no completion bonus; a wrong turn halves the orientation's budget
        return 1.7 - further - (0.3 / len(required) if wrong else 0.0)
    if gold.type == "multi_crop":
        return 1.9 - further
    return 1.9 - further - (0.2 if further else 0.0)  # a remedy is a turn more than the required ones


def check(golds, slack):
    for gold in golds:
        breakdown = score(gold.item.sample, gold.trajectory, DENSE)
        room = slack if "crop" in gold.item.sample.required_ops else 0.0
        assert most(gold) - room - 1e-9 <= breakdown.total <= most(gold) + 1e-9, (gold.type, gold.item.sample.id, most(gold), breakdown)
        assert not any(breakdown.terms[name].value for name in PENALTIES), (gold.item.sample.id, breakdown)


def test_golds_of_the_signs_earn_the_most(signs):
    assert set(Counter(gold.type for gold in signs)) == {"no_tool", "single_tool", "multi_tool", "error_handling"}
    check(signs, slack=0.0)


def test_golds_of_the_pages_earn_the_most(page_golds):
    assert set(Counter(gold.type for gold in page_golds)) == set(TYPES)
    check(page_golds, slack=CROP_SLACK)


@pytest.mark.parametrize("golds", ["signs", "page_golds"])
def test_an_empty_answer_earns_the_least(golds, request):
    for gold in request.getfixturevalue(golds):
        sample, trajectory = gold.item.sample, gold.trajectory
        right, wrong, blank, none = (
            score(sample, replace(trajectory, answer=answer), DENSE).total for answer in (trajectory.answer, "something else", " ", None)
        )
        assert none == blank <= 0.0 < wrong < right, sample.id
