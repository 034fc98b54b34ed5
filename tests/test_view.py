"""The viewer: complete from every kind of rows, safe against what models write, and usable in a browser by mouse and keyboard."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from chromium import CHROMIUM, Browser
from PIL import Image
from run_folder import make_run

from codevision_lite.cli import main
from codevision_lite.errors import UserError
from codevision_lite.files import append_jsonl, read_jsonl
from codevision_lite.records import Frame, Observation, Piece, Sample, ToolCall, Trajectory, Turn
from codevision_lite.report.highlight import highlight
from codevision_lite.report.view import write_view
from codevision_lite.report.view_rows import read_entries

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
EVIL = "</script><script>document.title='owned'</script><!--<script><img src=x onerror=\"document.title='owned'\">"


def data_of(path: Path) -> dict:
    """The object that the page holds."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.S)
    return json.loads(text)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run folder of three stages and 40 samples; its last row is what a hostile model wrote."""
    folder = make_run(tmp_path_factory.mktemp("view") / "runs" / "demo run", samples=40)
    sample = Sample("evil", f"What? {EVIL}", "images/0-0.png", (EVIL,), target_box=(1.0, 2.0, 30.0, 40.0))
    turns = (
        Turn(EVIL, EVIL, ToolCall(f"x = '{EVIL}'"), observation=Observation("error", EVIL, source_index=0)),
        Turn(EVIL, EVIL, answer=EVIL),
    )
    trajectory = Trajectory("evil", turns, ("images/0-0.png",), EVIL, "answer")
    reward = {"total": 0.0, "terms": {"accuracy": {"value": None, "weight": 1.0, "reason": EVIL}}}
    row = {"stage": "grpo", "condition": EVIL, "correct": False, "sample": sample.to_json("images/0-0.png"), "reward": reward}
    append_jsonl(folder / "trajectories.jsonl", row | {"trajectory": trajectory.to_json(["images/0-0.png"])})
    return folder


@pytest.fixture(scope="module")
def page(run) -> Path:
    return write_view([run])[0]


# ---------------------------------------------------------------- the data


def test_every_trajectory_is_there_whole(run, page):
    data, rows = data_of(page), read_jsonl(run / "trajectories.jsonl")
    assert page == run / "view.html"
    assert len(data["rows"]) == len(rows) == 121
    for (entry,), row in zip(data["rows"], rows, strict=True):
        sample, trajectory = data["samples"][entry["sample"]], row["trajectory"]
        assert [sample[name] for name in ("id", "question", "answers")] == [row["sample"][name] for name in ("id", "question", "answers")]
        assert (entry["correct"], entry["end"], entry["answer"]) == (row["correct"], trajectory["end_reason"], trajectory["answer"])
        assert {name: value for name, value, *_ in entry["terms"]} == {n: t["value"] for n, t in row["reward"]["terms"].items()}
        for shown, turn in zip(entry["turns"], trajectory["turns"], strict=True):
            assert shown["think"] == turn["think"] and shown.get("flaw", False) != turn["well_formed"]
            assert ("code" in shown) == bool(turn["call"])
            if turn["call"]:
                assert data["codes"][shown["code"]] == highlight(turn["call"]["code"])
            if turn["observation"]:
                assert shown["seen"]["message"] == turn["observation"]["message"]


def test_pictures_are_files_beside_the_page_each_named_once(run, page, tmp_path):
    pictures = data_of(page)["pictures"]
    assert len({src for src, *_ in pictures}) == len(pictures) > 40
    for src, width, height in pictures:
        with Image.open(page.parent / unquote(src)) as image:
            assert image.size == (width, height)
    elsewhere, _ = write_view([run], tmp_path / "a b" / "page.html")
    assert all((elsewhere.parent / unquote(src)).is_file() for src, *_ in data_of(elsewhere)["pictures"])


def test_an_embedded_page_names_no_file(run, tmp_path):
    path, _ = write_view([run], tmp_path / "page.html", embed=True)
    assert all(src.startswith("data:image/") for src, *_ in data_of(path)["pictures"])


def test_frames_are_outlines_on_the_source_picture(page):
    seen = [t["seen"] for (e,) in data_of(page)["rows"] for t in e["turns"] if t.get("seen", {}).get("map")]
    crops = [s for s in seen if s["map"][-2:] == [84, 84] and s["map"][0] != -1]
    halves = [s for s in seen if s["map"][0] == -1]
    assert crops and halves
    for s in crops:  # the whole crop is the target here
        (x1, y1), _, (x2, _), _ = s["regions"][0]
        assert s["top"] == [[x1, y1], [x2, y1]]
        assert np.allclose(s["target"], [[0, 0], [84, 0], [84, 84], [0, 84]], atol=0.2)
    for s in halves:  # upside down: the result's top edge is the bottom of the source, from right to left
        assert s["top"] == [[84.0, 84.0], [0.0, 84.0]]


def rollout(step: int, number: int, images: list[str], sample: Sample) -> dict:
    """A row as train/grpo.py writes it: the picture that came back is not kept."""
    corners = ((0.0, 0.0), (40.0, 0.0), (40.0, 20.0), (0.0, 20.0))
    frame = Frame((Piece(corners, ((1.0, 0.0, 10.0), (0.0, 1.0, 5.0), (0.0, 0.0, 1.0))),))
    seen = Observation("ok", "Image 1", 1, 0, frame=frame)
    call = Turn("...", "Look.", ToolCall("result = image.crop((10, 5, 50, 25))"), observation=seen)
    turns = (call, Turn("...", "Now.", answer=f"{number}"))
    trajectory = Trajectory(sample.id, turns, tuple(images), f"{number}", "answer")
    row = {"step": step, "sample_id": sample.id, "total": number / 2, "end_reason": "answer", "turns": ["...", "..."]}
    row |= {"terms": {"accuracy": float(number > 0), "judge": None}}
    return row | {"sample": sample.to_json(images[0]), "trajectory": trajectory.to_json(images)}


@pytest.fixture
def rollouts(tmp_path) -> Path:
    """A stage folder with two steps of two rollouts of one prompt."""
    (tmp_path / "data").mkdir()
    Image.new("RGB", (84, 60), "navy").save(tmp_path / "data" / "a.png")
    sample = Sample("s", "Which?", "", ("1",), ("crop",), (12.0, 6.0, 30.0, 20.0), meta={"condition": "crop"})
    for step in range(2):
        for number in range(2):
            append_jsonl(tmp_path / "grpo" / "rollouts.jsonl", rollout(step, number, ["../data/a.png"], sample))
    return tmp_path / "grpo"


def test_rollouts_of_training_are_read(rollouts):
    path, n = write_view([rollouts])
    data = data_of(path)
    assert n == 4 and [entry["step"] for (entry,) in data["rows"]] == [0, 0, 1, 1]
    assert [entry["correct"] for (entry,) in data["rows"]] == [False, True, False, True]
    assert data["pictures"] == [["../data/a.png", 84, 60]]
    seen = data["rows"][0][0]["turns"][0]["seen"]
    assert seen["picture"] is None and seen["map"] == [1, 0, 10, 0, 1, 5, 40, 20]
    assert data["rows"][0][0]["terms"] == [["accuracy", 0.0, None, ""], ["judge", None, None, ""]]


def test_rows_of_a_benchmark_and_of_training_data_are_read(tmp_path):
    sample = Sample("q1", "How many?", "", ("3",), damage="rotate_90")
    trajectory = Trajectory("q1", (Turn("4", "", answer="4"),), (), "4", "answer")
    row = {"id": "q1@rotate_90", "item": "q1", "stage": "tiny", "condition": "rotate_90", "correct": False, "how": "other number"}
    append_jsonl(tmp_path / "trajectories.jsonl", row | {"sample": sample.to_json(""), "trajectory": trajectory.to_json([])})
    append_jsonl(tmp_path / "sft.jsonl", {"sample": sample.to_json(""), "trajectory": trajectory.to_json([""])})
    (entry,) = read_entries(tmp_path / "trajectories.jsonl")
    assert (entry.key, entry.correct, entry.why, entry.condition) == (("q1", "rotate_90"), False, "other number", "rotate_90")
    (entry,) = read_entries(tmp_path / "sft.jsonl")
    assert (entry.correct, entry.total, entry.condition) == (None, None, "rotate_90")
    data = data_of(write_view([tmp_path])[0])
    assert data["samples"][0]["picture"] is None


def test_two_stages_are_paired_by_item(run, tmp_path):
    path, n = write_view([run], tmp_path / "pairs.html", stages=("base", "grpo"))
    data = data_of(path)
    assert (n, data["names"], data["alone"]) == (40, ["Base", "GRPO"], [0, 1])
    assert all(a["sample"] == b["sample"] and (a["stage"], b["stage"]) == ("Base", "GRPO") for a, b in data["rows"])


def test_two_runs_are_paired_by_stage_and_item(run, tmp_path):
    other = make_run(tmp_path / "other", samples=24)
    data = data_of(write_view([run, other], tmp_path / "pairs.html")[0])
    assert len(data["rows"]) == 72 and data["alone"] == [49, 0]
    assert all(a["stage"] == b["stage"] for a, b in data["rows"])
    data = data_of(write_view([run, other], tmp_path / "pairs.html", stages=("sft", "grpo"))[0])
    assert {(a["stage"], b["stage"]) for a, b in data["rows"]} == {("SFT", "GRPO")}


def test_a_limit_is_spread_over_the_file(run, tmp_path):
    data = data_of(write_view([run], tmp_path / "some.html", limit=30)[0])
    assert len(data["rows"]) == 30 and len({entry["sample"] for (entry,) in data["rows"]}) >= 28
    assert {entry["stage"] for (entry,) in data["rows"]} == {"Base", "SFT", "GRPO"}


def test_same_run_gives_the_same_bytes(run, tmp_path):
    assert write_view([run], tmp_path / "a.html")[0].read_bytes() == write_view([run], tmp_path / "b.html")[0].read_bytes()


# ---------------------------------------------------------------- the command

WRONG = {
    "no such run": (["gone"], "gone is no such file or folder. Name a run folder, such as runs/demo"),
    "no trajectories there": (["empty"], "empty has neither trajectories.jsonl nor rollouts.jsonl"),
    "three runs": (["demo", "demo", "demo"], "view: one run, or two to compare, got 3"),
    "one stage": (["demo", "--compare", "base"], "--compare base: write two stages, such as base,grpo"),
    "an unknown stage": (["demo", "--compare", "base,rl"], "no stage 'rl' there; there are: base, sft, grpo"),
    "stages of rows without": (["samples.jsonl", "--compare", "base,rl"], "it has no stages; name two runs instead"),
    "no rows": (["demo", "--limit", "0"], "argument --limit: must be a whole number > 0, got '0'"),
    "a folder as file": (["demo", "--out", "empty"], "empty: this is a folder, a file is needed. Write: --out"),
    "a broken row": (["broken.jsonl"], "broken.jsonl line 2: field 'trajectory' is missing"),
    "a file without rows": (["none.jsonl"], "none.jsonl: no trajectories in it yet"),
    "nothing in common": (["demo", "samples.jsonl"], "have different stages"),
}


@pytest.mark.parametrize("argv, words", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_command_is_one_line_with_the_fix(run, tmp_path, monkeypatch, capsys, argv, words):
    monkeypatch.chdir(tmp_path)
    Path("demo").symlink_to(run)
    Path("empty").mkdir()
    Path("none.jsonl").write_text("")
    row = read_jsonl(run / "trajectories.jsonl")[0]
    Path("broken.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps({'sample': row['sample']})}\n")
    Path("samples.jsonl").write_text(json.dumps({"sample": row["sample"], "trajectory": row["trajectory"]}) + "\n")
    assert main(["view", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("codevision-lite: ") and words in err


def test_items_of_different_data_are_not_paired(tmp_path):
    for name in "ab":
        sample = Sample(name, "?", "", ("1",))
        nothing = Trajectory(name, (), (), None, "length")
        append_jsonl(tmp_path / f"{name}.jsonl", {"sample": sample.to_json(""), "trajectory": nothing.to_json([])})
    with pytest.raises(UserError, match="share no item: run both on the same samples and damages"):
        write_view([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])


def test_the_command_says_where_the_page_is(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["view", str(run), "--out", "page.html"]) == 0
    text = re.sub(r"[\d.]+(e\+\d+)?/s \| done in \d+s", "RATE", re.sub(r"[\d.]+ MiB", "SIZE", capsys.readouterr().out))
    assert text == "view 121/121 rows | RATE\nviewer: page.html (121 trajectories, SIZE)\n"
    assert main(["view", str(run), "--compare", "base,grpo", "--out", "page.html", "--limit", "5"]) == 0
    assert "viewer: page.html (5 items, " in capsys.readouterr().out


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser"), (1300, 850)) as opened:
        yield opened


def look(browser: Browser, path: Path, state: str = "") -> Browser:
    browser.open(path.as_uri() + state)
    browser.wait("document.body.dataset.ready")
    return browser


COUNT = "document.getElementById('count').textContent"
CHOSEN = "document.querySelector('[aria-selected=true]').id"


def pick(browser: Browser, name: str, value: str) -> str:
    """Choose a value as a user does; returns what the page says is shown."""
    browser.js(f"form.{name}.value = {json.dumps(value)}; form.{name}.dispatchEvent(new Event('input', {{bubbles: true}}))")
    return browser.js(COUNT)


@in_a_browser
def test_filters_count_what_the_file_holds(browser, run, page):
    look(browser, page)
    rows = read_jsonl(run / "trajectories.jsonl")

    def says(name: str, value: str, of) -> None:
        n = sum(map(of, rows))
        assert 0 < n < len(rows)
        assert pick(browser, name, value).startswith(f"{n} of 121 trajectories")
        assert pick(browser, name, "").startswith("121 trajectories")

    says("outcome", "wrong", lambda r: not r["correct"])
    says("stage", "GRPO", lambda r: r["stage"] == "grpo")
    says("condition", "rotated 90°", lambda r: r["condition"] == "rotate_90")
    says("call", "failed", lambda r: any(t["observation"] and t["observation"]["status"] != "ok" for t in r["trajectory"]["turns"]))
    says("term", "accuracy", lambda r: (r["reward"]["terms"]["accuracy"]["value"] or 0) > 0)
    says("text", "looks TURNED transpose", lambda r: "transpose(" in json.dumps(r) and "looks turned" in json.dumps(r))
    pick(browser, "term", "judge")
    assert pick(browser, "value", "unknown").startswith("120 of")
    pick(browser, "text", "no such words")
    assert "Nothing passes" in browser.js("document.getElementById('detail').textContent")


@in_a_browser
def test_it_is_used_by_the_keyboard(browser, page):
    look(browser, page)
    for key, place in (("j", 1), ("j", 2), ("k", 1)):
        browser.key(key)
        assert browser.js("at") == place
    browser.js("list.focus()")
    for key, place in (("ArrowDown", 2), ("End", 120), ("ArrowUp", 119), ("Home", 0), ("ArrowUp", 0)):
        browser.key(key)
        assert browser.js("at") == place
        assert browser.js("list.getAttribute('aria-activedescendant')") == browser.js(CHOSEN)
        top, bottom, low, high = browser.js(
            f"[...[document.getElementById({CHOSEN}), list].map((e) => e.getBoundingClientRect())].flatMap((r) => [r.top, r.bottom])"
        )
        assert low - 1 <= top and bottom <= high + 1, "the chosen row is in sight"
    browser.key("/")
    browser.type("what no one wrote")
    browser.wait(f"{COUNT}.startsWith('0 of')")
    browser.key("Escape")
    assert browser.js("document.activeElement === list")
    assert browser.js("[...document.querySelectorAll('pre, .scroll')].every((e) => e.tabIndex === 0)")


@in_a_browser
def test_a_trajectory_shows_code_pictures_frames_and_reward(browser, page):
    look(browser, page, "#condition=rotated+180%C2%B0&stage=SFT&at=1")
    assert browser.js(COUNT).startswith("5 of 121")
    browser.wait("[...detail.querySelectorAll('img')].length === 3 && [...detail.querySelectorAll('img')].every((i) => i.naturalWidth)")
    assert browser.js("[...document.images].every((i) => i.hasAttribute('alt')) && [...detail.querySelectorAll('img')].every((i) => i.alt)")
    assert browser.js("detail.querySelector('pre .k').textContent") == "from"
    assert browser.js("[...detail.querySelectorAll('.frame')].every((e) => !e.textContent)")
    assert browser.js("getComputedStyle(detail.querySelector('pre .k')).color !== getComputedStyle(detail.querySelector('pre')).color")
    assert browser.js("[...detail.querySelectorAll('.seen-part, .target')].length") == 3
    assert browser.js("[...detail.querySelectorAll('tbody tr')].map((r) => r.cells.length)") == [5, 5, 5]
    assert "must use" in browser.js("detail.querySelector('table').textContent")
    assert browser.errors == []
    state = browser.js("location.hash")
    look(browser, page, state)
    assert browser.js(COUNT).startswith("5 of 121"), "the address keeps the filters"


@in_a_browser
def test_what_a_model_writes_is_only_text(browser, page, run):
    look(browser, page, "#at=120")
    assert browser.js("document.title") == "runs/demo run"
    assert EVIL in browser.js("detail.querySelector('h2').textContent")
    assert EVIL in browser.js("detail.querySelector('pre code').textContent")
    assert browser.js("document.querySelectorAll('script').length") == 1
    assert not browser.js("[...document.images].some((i) => i.getAttribute('src') === 'x')")
    assert browser.errors == []


@in_a_browser
def test_a_comparison_is_side_by_side(browser, run, tmp_path):
    look(browser, write_view([run], tmp_path / "pairs.html", stages=("base", "grpo"))[0])
    right = {(r["stage"], r["sample"]["id"]): r["correct"] for r in read_jsonl(run / "trajectories.jsonl") if r["sample"]["id"] != "evil"}
    pairs = [(right["base", i], right["grpo", i]) for i in {i for _, i in right}]
    for name, of in {"fixed": (False, True), "broken": (True, False), "wrong": (False, False)}.items():
        assert pick(browser, "outcome", name).startswith(f"{pairs.count(of)} of 40 items")
    assert pick(browser, "outcome", "same").startswith(f"{sum(a == b for a, b in pairs)} of 40 items")
    pick(browser, "outcome", "fixed")
    columns = "[...detail.querySelectorAll('.attempt')]"
    sides = browser.js(f"{columns}.map((e) => [e.getBoundingClientRect().x, e.querySelector('h3').textContent])")
    assert [text for _, text in sorted(sides)] == ["Base ✗ wrong", "GRPO ✓ right"] and sides[0][0] < sides[1][0]


@in_a_browser
def test_a_rollouts_picture_is_drawn_again_from_its_geometry(browser, rollouts):
    look(browser, write_view([rollouts])[0], "#at=1")
    assert browser.js("detail.querySelector('.redrawn image').getAttribute('transform')") == "matrix(1,0,0,1,-10,-5)"
    assert browser.js("detail.querySelector('.redrawn').getBoundingClientRect().width") == pytest.approx(200, abs=1)
    assert "step 0" in browser.js("detail.querySelector('h3').textContent") and browser.errors == []


@in_a_browser
def test_it_fits_wide_and_narrow_windows_in_both_themes(page, tmp_path):
    for width, dark in ((1300, False), (390, True)):
        with Browser(tmp_path, (width, 800), dark=dark) as browser:
            look(browser, page, "#condition=rotated+180%C2%B0&stage=SFT")
            assert browser.js("document.documentElement.scrollWidth <= innerWidth")
            assert browser.js("document.querySelectorAll('*').length") < 700, "only rows in sight are in the document"
            assert browser.js(CONTRAST) == []


# Texts whose colour has less than 4.5:1 on the ground behind them (WCAG AA).
CONTRAST = """(() => {
  const rgb = (c) => c.match(/[\\d.]+/g).map(Number), linear = (v) => (v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  const light = (c) => [.2126, .7152, .0722].reduce((sum, share, i) => sum + share * linear(c[i] / 255), 0);
  const ground = (e) => {
    const own = rgb(getComputedStyle(e).backgroundColor);
    return own[3] !== 0 ? own : e.parentElement ? ground(e.parentElement) : [255, 255, 255];
  };
  const hasText = (e) => e.offsetParent && [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  const ratio = (e) => {
    const [high, low] = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    return (high + .05) / (low + .05);
  };
  const weak = [...document.querySelectorAll("body *")].filter((e) => hasText(e) && ratio(e) < 4.5);
  return weak.map((e) => `${e.tagName}.${e.className}: ${e.textContent.slice(0, 30)}`);
})()"""
