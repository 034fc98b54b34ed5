"""The benchmarks' official rules, case by case: tests/data/bench_*.json hold cases that were derived from the stated rules, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codevision_lite.bench import chartqapro, hrbench, ocrbench, vstar
from codevision_lite.bench.benchmark import BENCHMARKS, Row, Scored, get_benchmark, read_switches, stratified
from codevision_lite.bench.multiple_choice import infer_option, right_letter, score_option
from codevision_lite.datasets.record import BadRow
from codevision_lite.errors import UserError
from codevision_lite.records import Sample

DATA = Path(__file__).parent / "data"


def cases(name):
    rows = json.loads((DATA / name).read_text(encoding="utf-8"))
    return [pytest.param(row, id=f"{k}-{row['why'][:40]}") for k, row in enumerate(rows)]


def sample(number=0, answers=("a",), **meta):
    return Sample(f"s{number}", "?", "", tuple(answers), meta={"category": "c", "group": str(number), **meta})


def switches(name, **given):
    return read_switches(get_benchmark(name), given)


@pytest.mark.parametrize("case", cases("bench_ocrbench.json"))
def test_ocrbench(case):
    asked = sample(answers=case["answers"], is_formula=case["formula"])
    scored = ocrbench.score(asked, case["prediction"], switches("ocrbench", full_width=case["full_width"]))
    assert (scored.value, scored.correct) == (case["value"], bool(case["value"])), scored.how


@pytest.mark.parametrize("case", cases("bench_chartqapro.json"))
def test_chartqapro(case):
    asked = sample(answers=[case["reference"]], category=case.get("category", "Factoid"), year=case["years"])
    given = {name: case[name] for name in ("exact", "quotes") if name in case}
    scored = chartqapro.score(asked, case["prediction"], switches("chartqapro", **given))
    assert scored.value == pytest.approx(case["score"], abs=1e-9), scored.how
    assert scored.correct == (case["score"] == 1)


@pytest.mark.parametrize("case", cases("bench_options.json"))
def test_option_that_is_named(case):
    assert infer_option(case["prediction"], case["options"])[0] == case["letter"]
    assert infer_option(case["prediction"], case["options"], knows_answer_is=False)[0] == case["without_answer_is"]


def test_there_are_enough_cases():
    assert sum(len(json.loads(path.read_text())) for path in DATA.glob("bench_*.json")) >= 250


COLORS = {"A": "red", "B": "blue", "C": "green", "D": "black"}


@pytest.mark.parametrize(
    "prediction, extraction, correct",
    [
        ("option b", "strict", True),
        ("<answer>B</answer>", "strict", True),
        ("A B", "strict", False),
        ("blue", "strict", True),
        ("option b", "vlmevalkit", False),
        ("I think the answer is B because of the color", "vlmevalkit", True),
        ("I think the answer is B because of the color", "vlmevalkit_2024", False),
        (None, "strict", False),
        (None, "vlmevalkit", False),
    ],
)
def test_extraction_switch(prediction, extraction, correct):
    asked = sample(answers=["B"], options=COLORS, answer="B")
    scored = score_option(asked, prediction, switches("vstar", extraction=extraction))
    assert (scored.correct, scored.value) == (correct, float(correct)), scored.how


@pytest.mark.parametrize("given, letter", [("B", "B"), (" b ", "B"), ("(C)", "C"), ("D.", "D"), ("green", "C")])
def test_right_letter(given, letter):
    assert right_letter(given, COLORS, "answer") == letter


@pytest.mark.parametrize("given", ["E", "", "yellow", "AB"])
def test_an_answer_that_is_no_option_is_refused(given):
    with pytest.raises(BadRow, match="none of the options"):
        right_letter(given, COLORS, "answer")


@pytest.mark.parametrize(
    "text, question, options",
    [
        ("Which? (A) red (B) blue", "Which?", {"A": "red", "B": "blue"}),
        ("Which?\n(A) red\n(B) blue\n(C) dark green\nAnswer with the option's letter from the given choices directly.", "Which?",
         {"A": "red", "B": "blue", "C": "dark green"}),
        ("Which? (A) red (B) blue Answer with the option's letter.", "Which?", {"A": "red", "B": "blue"}),
        ("Is it (B) or not?\n(A) yes (really)\n(B) no", "Is it (B) or not?", {"A": "yes (really)", "B": "no"}),
    ],
)  # fmt: skip
def test_options_within_a_text(text, question, options):
    assert vstar.split_options(text) == (question, options)


@pytest.mark.parametrize("text", ["Which?", "Which? (A) red", "Which? (B) red (C) blue", ""])
def test_a_text_without_options_is_refused(text):
    with pytest.raises(BadRow, match="no options"):
        vstar.split_options(text)


# ---------------------------------------------------------------- headline numbers, counted by hand


def row(asked, value):
    return Row(asked, "said", Scored(float(value), value == 1, ""))


def ocrbench_rows(section, kind, right, n):
    return [row(sample(k, category=kind, section=section, is_formula=False), k < right) for k in range(n)]


def test_ocrbench_of_the_whole_is_a_count_out_of_1000():
    rows = []
    for section, kinds in ocrbench.SECTIONS.items():
        n = {"Text Recognition": 50, ocrbench.HME: 100}.get(section, 200)
        for kind in kinds:
            rows += ocrbench_rows(section, kind, n // 2 + 1, n)
    numbers = ocrbench.aggregate(rows, {})
    assert (numbers["headline"], numbers["unit"], numbers["n"], numbers["is_estimate"]) == (6 * 26 + 3 * 101 + 51, "of 1000", 1000, False)
    recognition = numbers["parts"]["Text Recognition"]
    assert (recognition["correct"], recognition["of"], recognition["n"]) == (156, 300, 300)
    assert recognition["types"]["Digit String Recognition"] == {"correct": 26, "n": 50}
    assert numbers["accuracy"] == pytest.approx(51.0)


def test_ocrbench_of_a_subset_is_an_estimate_by_section():
    rows = ocrbench_rows("Doc-oriented VQA", "Doc-oriented VQA", 1, 2) + ocrbench_rows(ocrbench.HME, ocrbench.HME, 4, 4)
    numbers = ocrbench.aggregate(rows, {})
    assert numbers["is_estimate"]
    assert numbers["headline"] == pytest.approx(1000 * (200 * 0.5 + 100 * 1.0) / 300)
    assert numbers["parts"]["Key Information Extraction"]["value"] is None


def test_chartqapro_means_of_graded_scores():
    given = [("Factoid", 1), ("Factoid", 0.5), ("Fact Checking", 0.9), ("Odd", 0)]
    rows = [row(sample(k, category=c), v) for k, (c, v) in enumerate(given)]
    numbers = chartqapro.aggregate(rows, {})
    assert numbers["headline"] == pytest.approx(60.0)
    assert numbers["fully_right"] == pytest.approx(25.0)
    assert numbers["parts"] == {
        "Factoid": {"value": pytest.approx(75.0), "n": 2}, "Fact Checking": {"value": pytest.approx(90.0), "n": 1},
        "Odd": {"value": 0.0, "n": 1},
    }  # fmt: skip
    assert list(numbers["parts"]) == ["Factoid", "Fact Checking", "Odd"]


def test_vstar_by_category():
    options = {"A": "x", "B": "y"}
    given = [("direct_attributes", 1), ("direct_attributes", 0), ("direct_attributes", 0), ("relative_position", 1)]
    numbers = vstar.aggregate([row(sample(k, category=c, options=options), v) for k, (c, v) in enumerate(given)], {})
    assert numbers["headline"] == pytest.approx(50.0)
    assert numbers["parts"]["direct_attributes"] == {"value": pytest.approx(100 / 3), "n": 3}
    assert numbers["chance"] == pytest.approx(50.0)


def hr_rows(right):
    """`right`: {(item, cycle): score}; items a and b are single, c is cross."""
    return [
        row(sample(k, category="cross" if item == "c" else "single", cycle=cycle, item=item), v)
        for k, ((item, cycle), v) in enumerate(right.items())
    ]


def test_hrbench_is_the_mean_of_the_cycles():
    right = {(item, cycle): 0 for item in "abc" for cycle in "0123"}
    right |= {("a", cycle): 1 for cycle in "0123"} | {("b", "0"): 1, ("c", "3"): 1}
    numbers = hrbench.aggregate(hr_rows(right), {})
    assert numbers["cycles"]["all"] == {"0": pytest.approx(200 / 3), "1": pytest.approx(100 / 3), "2": pytest.approx(100 / 3),
                                        "3": pytest.approx(200 / 3)}  # fmt: skip
    assert numbers["headline"] == pytest.approx(50.0)
    assert numbers["parts"]["single"] == {"value": pytest.approx(62.5), "n": 8}
    assert numbers["parts"]["cross"] == {"value": pytest.approx(25.0), "n": 4}
    assert (numbers["items"], numbers["items_without_all_cycles"]) == (3, 0)
    assert numbers["all_cycles_right"] == pytest.approx(100 / 3)


def test_hrbench_weighs_cycles_alike_where_rows_are_missing():
    numbers = hrbench.aggregate(hr_rows({("a", "0"): 1, ("b", "0"): 1, ("c", "0"): 1, ("a", "1"): 0}), {})
    assert numbers["headline"] == pytest.approx(50.0)
    assert (numbers["items_without_all_cycles"], numbers["all_cycles_right"]) == (3, None)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_nothing_measured_is_no_number(name):
    benchmark = get_benchmark(name)
    numbers = benchmark.aggregate([], read_switches(benchmark))
    assert (numbers["headline"], numbers["n"]) == (None, 0)
    assert json.dumps(numbers, allow_nan=False)


# ---------------------------------------------------------------- subsets and switches


def test_a_subset_is_spread_over_the_categories_and_stays_in_order():
    everything = [sample(k, category="big" if k % 4 else "small") for k in range(200)]
    chosen = stratified(everything, 20, seed=1)
    assert len(chosen) == 20
    assert sum(s.meta["category"] == "small" for s in chosen) == 5
    assert [int(s.id[1:]) for s in chosen] == sorted(int(s.id[1:]) for s in chosen)
    assert chosen == stratified(everything, 20, seed=1) != stratified(everything, 20, seed=2)
    assert stratified(everything, 500, seed=1) == everything


@pytest.mark.parametrize("n", [1, 2, 7, 99, 199])
def test_a_subset_has_the_size_that_was_asked_for(n):
    everything = [sample(k, category=str(k % 7)) for k in range(200)]
    assert len(stratified(everything, n, seed=0)) == n


def test_a_subset_of_hrbench_has_whole_questions_only():
    everything = [sample(k, category=("single", "cross")[k // 4 % 2], item=str(k // 4), cycle=str(k % 4)) for k in range(80)]
    chosen = hrbench.subset(everything, 18, seed=0)
    assert len(chosen) == 16
    items = [s.meta["item"] for s in chosen]
    assert all(items.count(item) == 4 for item in items)
    assert sum(s.meta["category"] == "single" for s in chosen) == 8
    with pytest.raises(UserError, match="Use --n 4 or more"):
        hrbench.subset(everything, 3, seed=0)


@pytest.mark.parametrize(
    "name, given, message",
    [
        ("ocrbench", {"fullwidth": "fold"}, "has no switch 'fullwidth'"),
        ("ocrbench", {"full_width": "maybe"}, "Use keep or fold"),
        ("signs", {"n": "many"}, "whole number"),
        ("signs", {"n": "-1"}, "whole number"),
    ],
)
def test_a_wrong_switch_is_named(name, given, message):
    with pytest.raises(UserError, match=message):
        read_switches(get_benchmark(name), given)


def test_an_unknown_benchmark_names_the_nearest():
    with pytest.raises(UserError, match="Use ocrbench"):
        get_benchmark("OCRbench".lower() + "s")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_holds_to_the_contract(name):
    benchmark = get_benchmark(name)
    assert benchmark.name == name
    for switch in benchmark.switches.values():
        assert switch.default in switch.values or (not switch.values and switch.default.isdigit())
        assert switch.help and "\n" not in switch.help
