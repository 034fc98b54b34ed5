"""The report: complete from a whole run, honest about a partial one, self-contained, and safe against what models write."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from run_folder import CONDITIONS, make_results, make_run

from codevision_lite.errors import UserError
from codevision_lite.files import append_jsonl
from codevision_lite.records import Frame, Observation, Op, Piece, Sample, ToolCall, Trajectory, Turn
from codevision_lite.report import print_table, write_report
from codevision_lite.report.choose import OUTCOMES, choose_cases
from codevision_lite.report.highlight import highlight
from codevision_lite.report.load import load_run, parse_results
from codevision_lite.report.pictures import box_outline, outline_in_result
from codevision_lite.report.plots import line_plot, nice_ticks, running_mean
from codevision_lite.report.summary import conclusion
from codevision_lite.report.training import metric_series


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    return write_report(make_run(tmp_path_factory.mktemp("runs") / "demo")).read_text()


class Reader(HTMLParser):
    """Collects tags, and checks that they are closed in order."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def test_page_is_whole_and_holds_everything(page):
    reader = Reader(page)
    assert reader.open == []
    assert len(reader.all("article")) >= 12
    assert page.count('<section class="attempt">') >= 36
    shown = ("reward/accuracy", "rollout/tool_turns", "loss", "8a1fb22c90d1", "13.5 min", "3.2 GiB", "damaged mean", "max pixels")
    assert [text for text in shown if text not in page] == []
    assert "not run" not in page


def test_page_needs_no_network(page):
    addresses = re.findall(r'(?:src|href|xlink:href|action)="([^"]*)"|url\(([^)]*)\)|@import', page)
    assert addresses and all(a.startswith("data:image/") for a, _ in addresses)
    assert "default-src 'none'" in page


def test_page_is_accessible(page):
    reader = Reader(page)
    assert all(image["alt"] for image in reader.all("img"))
    assert all(cell.get("scope") for cell in reader.all("th"))
    assert all(plot.get("aria-label") or plot.get("aria-hidden") for plot in reader.all("svg"))
    assert all(region.get("tabindex") == "0" for region in reader.all("div") if region.get("class") == "scroll")
    assert reader.all("html")[0]["lang"] == "en"


def luminance(colour: str) -> float:
    full = "".join(c * 2 for c in colour) if len(colour) == 3 else colour
    channels = [int(full[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_colours_reach_wcag_aa_in_light_and_dark(page):
    light, dark = (dict(re.findall(r"--([\w]+): #(\w{3,6});", block)) for block in re.findall(r":root \{(.*?)\}", page, re.S))
    for theme in (light, dark):
        for text in ("text", "soft", "right", "wrong"):
            assert all(contrast(theme[text], theme[ground]) >= 4.5 for ground in ("page", "card", "code")), text
        assert all(contrast(theme[token], theme["code"]) >= 4.5 for token in "kscnb")
        assert all(contrast(theme[f"s{i}"], theme[ground]) >= 3 for i in range(5) for ground in ("page", "card"))


def test_same_run_gives_the_same_bytes(tmp_path):
    folder = make_run(tmp_path / "demo", samples=8)
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first


def test_missing_stages_are_said_to_be_not_run(tmp_path):
    page = write_report(make_run(tmp_path / "part", ("base", "sft"), samples=8)).read_text()
    assert "GRPO: not run." in page
    assert page.count('colspan="2">not run</td>') == len(CONDITIONS) + 1


def test_run_that_just_started_has_a_report(tmp_path):
    (tmp_path / "config.yaml").write_text("name: demo\n")
    page = write_report(tmp_path).read_text()
    assert "Nothing has been evaluated in this run yet." in page
    assert "Evaluation: not run." in page
    assert "No trajectories have been written yet." in page


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.yaml", None, "no run here (no config.yaml)"),
        ("results.json", "{", "results.json: not a table of results"),
        ("results.json", '{"stages": [{"rows": []}]}', "results.json: not a table of results"),
        ("metrics.jsonl", "{}\n{\n", "metrics.jsonl line 2: not JSON"),
        ("trajectories.jsonl", '{"stage": "sft"}\n', "trajectories.jsonl line 1: field 'sample' is missing"),
    ],
)
def test_broken_run_folder_is_a_user_error_with_file_and_row(tmp_path, name, content, message):
    (tmp_path / "config.yaml").write_text("name: demo\n")
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as e:
        write_report(tmp_path)
    assert message in str(e.value)


def test_row_that_a_stop_cut_is_left_out(tmp_path):
    folder = make_run(tmp_path / "demo", samples=2)
    with open(folder / "trajectories.jsonl", "a") as file:
        file.write('{"stage": "gr')
    assert len(load_run(folder).attempts) == 6


def test_missing_picture_is_said_and_the_rest_is_shown(tmp_path):
    folder = make_run(tmp_path / "demo", samples=2)
    (folder / "images" / "1-0.png").unlink()
    (folder / "images" / "0-0.png").write_bytes(b"not a picture")
    page = write_report(folder).read_text()
    assert "picture not found: 1-0.png" in page and "picture not found: 0-0.png" in page


def test_what_a_model_writes_stays_text(tmp_path):
    evil = '</pre></script><script>alert(1)</script><img src=x onerror="alert(2)">'
    folder = make_run(tmp_path / "demo", samples=0)
    Image.new("RGB", (28, 28)).save(folder / "images" / "0.png")
    seen = Observation("error", evil, 0, 0, (Op(evil, {evil: evil}),), Frame.identity(28, 28), evil)
    turn = Turn(evil, evil, ToolCall(evil), observation=seen)
    trajectory = Trajectory(evil, (turn, Turn(evil, well_formed=False)), ("images/0.png",), evil, "answer")
    sample = Sample(evil, evil, "images/0.png", (evil,), (evil,), (0, 0, 9, 9), evil)
    row = {"stage": evil, "condition": evil, "correct": False, "sample": sample.to_json("images/0.png")}
    row["trajectory"] = trajectory.to_json(["images/0.png"])
    row["reward"] = {"total": None, "terms": {evil: {"value": 1.0, "weight": None, "reason": evil}}}
    append_jsonl(folder / "trajectories.jsonl", row)
    append_jsonl(folder / "metrics.jsonl", {"stage": evil, "step": 1, evil: 2.0})
    (folder / "config.yaml").write_text(evil)
    reader = Reader(write_report(folder).read_text())
    assert len(reader.all("script")) == 1
    assert all(image["src"].startswith("data:") and "onerror" not in image for image in reader.all("img"))


def test_large_pictures_are_embedded_small(tmp_path):
    folder = make_run(tmp_path / "demo", samples=12)
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    for path in (folder / "images").glob("*.png"):
        path.unlink()
        Image.fromarray(noise).save(path, "JPEG", quality=80)
    report = write_report(folder)
    assert report.stat().st_size < 8 * 2**20
    assert report.read_text().count("1200×900 px") >= 12


def test_cases_spread_over_outcomes_and_conditions(tmp_path):
    cases = choose_cases(load_run(make_run(tmp_path / "demo", samples=40)).attempts)
    assert len(cases) == len({c.sample.id for c in cases}) == 16
    assert {c.condition for c in cases} == set(CONDITIONS)
    assert {"fixed_by_rl", "fixed_by_sft", "recovered", "no_tool"} <= {o for c in cases for o in c.outcomes} <= set(OUTCOMES)
    assert all([a.stage for a in c.attempts] == ["base", "sft", "grpo"] for c in cases)


def test_conclusion_says_the_change_and_whether_it_is_within_the_intervals():
    text = conclusion(parse_results(make_results()))
    assert text.startswith("On 420 damaged pictures, the base model answers 21 % correctly, SFT 62 % (+41 points) and GRPO 71 %")
    assert "GRPO 71 % (+9 points);" in text
    assert "within the 95 % intervals" in conclusion(parse_results(make_results(n=10)))
    worse = make_results(("base", "sft"))
    worse["stages"].reverse()
    worse["stages"][0]["name"], worse["stages"][1]["name"] = "base", "sft"
    assert "SFT 21 % (−41 points)" in conclusion(parse_results(worse))


def test_damaged_mean_is_over_the_conditions_that_it_names():
    results = make_results()
    for stage in results["stages"]:
        stage["damaged_conditions"] = ["rotate_90", "rotate_180"]
    assert conclusion(parse_results(results)).startswith("On 120 damaged pictures")


def test_terminal_table_is_aligned_and_fits():
    for stages in (("base", "sft", "grpo"), ("base",)):
        lines = print_table(make_results(stages)).splitlines()
        assert max(map(len, lines)) <= 100
        rows = [line for line in lines if line.startswith((*CONDITIONS, "damaged"))]
        assert len(rows) == len(CONDITIONS) + 1
        assert len({row.index("[") for row in rows}) == 1
        assert sum("not run" in row for row in rows) == (0 if len(stages) == 3 else len(rows))
    assert print_table(make_results()).isascii()


def test_rerun_steps_count_once_and_gaps_are_left_out():
    rows = [{"stage": "sft", "step": s, "loss": v} for s, v in ((1, 1.0), (2, 2.0), (2, 3.0), (3, None), (4, float("nan")))]
    assert metric_series([*rows, {"stage": "grpo", "step": 1, "loss": 9.0}], "sft") == {"loss": [(1, 1.0), (2, 3.0)]}


def watched_run(folder, tool_use):
    """A run whose GRPO metrics hold what the monitor watches: this tool use, and a brute force that rises by a hundredth a step."""
    make_run(folder, samples=8)
    for step, rate in enumerate(tool_use, 60):
        row = {"stage": "grpo", "step": step, "rollout/tool_use_where_required": rate, "monitor/brute_force": step / 100}
        append_jsonl(folder / "metrics.jsonl", row | {"rollout/dropped": 0.0})
    return write_report(folder).read_text()


def test_collapsing_tool_use_is_an_alarm_with_its_steps(tmp_path):
    fallen = watched_run(tmp_path / "fallen", [0.9] * 20 + [0.0] * 20)
    assert fallen.count('role="alert"') == 1
    assert "<b>Tool use collapsed</b> from step 84 to the end: 90.0 %" in fallen and "0.0 % at the end" in fallen
    recovered = watched_run(tmp_path / "recovered", [0.9] * 20 + [0.0] * 8 + [0.9] * 20)
    assert re.search(r"from step 84 for \d+ steps, and recovered", recovered)
    assert 'role="alert"' not in watched_run(tmp_path / "steady", [0.9, 0.8] * 20)


def test_the_reward_hacking_monitor_is_a_table_with_meanings_and_a_plot_for_each_sign(tmp_path):
    page = watched_run(tmp_path / "run", [0.9] * 40)
    assert Reader(page).open == []
    table = re.search(r'<table class="monitor">(.*?)</table>', page, re.S)[1]
    row = re.search(r'<th scope="row">brute force</th>(.*?)</tr>', table)[1]
    assert re.findall(r"<td>([\d.]+ %)</td>", row) == ["62.0 %", "97.0 %", "99.0 %"]
    assert "several orientations in one run" in row
    assert "tool use where required" in table and "dropped" in table and "missed crop" not in table
    assert page.index("monitor/brute_force <b>") < page.index('<table class="monitor">')


def test_a_run_without_a_monitor_has_no_table(page):
    assert "Reward-hacking monitor" not in page and 'role="alert"' not in page


@pytest.mark.parametrize("values", [[0.0], [0.0, 0.0], [1e-5, 1e-5], [-3.0, 5.0], [1e9, 1e9 + 1], [0.1] * 3])
def test_line_plot_takes_any_values(values):
    svg = line_plot(list(enumerate(values)), "a < b")
    assert "nan" not in svg and "inf" not in svg and "a &lt; b" in svg
    ticks = nice_ticks(min(values), max(values))
    assert ticks[0] <= min(values) and ticks[-1] >= max(values) and 2 <= len(ticks) <= 7


def test_running_mean_keeps_constants_and_length():
    assert running_mean([2.0] * 5, 2) == [2.0] * 5
    assert running_mean([0.0, 3.0, 6.0], 1) == [1.5, 3.0, 4.5]


@pytest.mark.parametrize("code", ["x = 1  # <c>", "'a\\'b' + \"\"\"open", "def f(:\n\t€ 0x1F 1e-3", "", "s = '<b>'\n" * 50])
def test_highlight_changes_no_text(code):
    texts: list[str] = []
    reader = HTMLParser()
    reader.handle_data = texts.append
    reader.feed(highlight(code))
    reader.close()
    assert "".join(texts) == code


def test_target_is_outlined_where_the_frame_says_it_is():
    crop = Frame((Piece(((0, 0), (84, 0), (84, 84), (0, 84)), ((0.5, 0, 10), (0, 0.5, 20), (0, 0, 1))),))
    assert outline_in_result((10, 20, 52, 62), crop) == [(0, 0), (84, 0), (84, 84), (0, 84)]
    assert box_outline((1, 2, 3, 4)) == ((1, 2), (3, 2), (3, 4), (1, 4))
    assert outline_in_result((0, 0, 1, 1), None) is None
