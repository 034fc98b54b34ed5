"""The runner of benchmarks: every item is a row or a named failure, a stopped run ends at the same numbers, and what is written can be
scored again, compared, exported and read by people."""

from __future__ import annotations

import json
import re
import time
import zipfile
from contextlib import nullcontext
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from chat_server import chat_server, n_replies, pictures_of
from pictures import picture

from codevision_lite.agent import AgentLimits, run_episodes
from codevision_lite.bench import context, jobs
from codevision_lite.bench import run as bench_run
from codevision_lite.bench.benchmark import BadRow, Benchmark, Scored, Switch, mean_percent
from codevision_lite.bench.blind import BlindModel
from codevision_lite.bench.compare import compare, comparison_text
from codevision_lite.bench.diagnosis import BENCHMARK as DIAGNOSIS
from codevision_lite.bench.diagnosis import LETTERS, OPTIONS, chosen_option
from codevision_lite.bench.export import export
from codevision_lite.bench.published import published_rows
from codevision_lite.bench.run import in_threads, prediction_of, save_preview
from codevision_lite.bench.settings import BenchConfig
from codevision_lite.bench.variants import SETS, Item, make_items, read_damages, shown_sample
from codevision_lite.cli import main
from codevision_lite.damage import restore
from codevision_lite.errors import UserError
from codevision_lite.files import read_jsonl
from codevision_lite.geometry import ORIENTATIONS
from codevision_lite.models import ScriptedModel
from codevision_lite.protocol import render_reply
from codevision_lite.records import Sample, ToolCall
from codevision_lite.report.benchmark import benchmark_table
from codevision_lite.report.pictures import embed

TURN = render_reply("Turn.", ToolCall("result = image.rotate(90, expand=True)"))
GREY = render_reply("Look.", ToolCall("result = image.resize((40, 30))"))


class Drawn:
    """A picture that is drawn when it is opened."""

    def __init__(self, seed, size=(60, 40)):
        self.seed, self.size = seed, size

    def decode(self):
        return picture(*self.size, self.seed)


class Missing:
    def decode(self):
        raise UserError("page.png: not a readable image")


def toy(n=8, missing=(), bad=()):
    """A benchmark of `n` items, two of each picture; item k has the answer "k"."""

    def load(path, switches):
        for k in range(n):
            if k in bad:
                yield BadRow("toy.tsv", k + 1, "no answer")
                continue
            meta = {"benchmark": "toy", "category": "even" if k % 2 == 0 else "odd", "group": f"g{k // 2}", "index": k}
            drawn = Missing() if k in missing else Drawn(k // 2)
            yield Sample(f"toy-{k}", f"Which number? {k}", drawn, (str(k),), target_box=(5.0, 5.0, 25.0, 15.0), source="toy", meta=meta)

    def score(sample, prediction, switches):
        right = prediction is not None and (switches["rule"] == "all" or prediction.strip() in sample.answers)
        return Scored(float(right), right, "equal" if right else "not equal")

    def aggregate(rows, switches):
        return {"headline": mean_percent([r.scored.value for r in rows]), "n": len(rows)}

    switches = {"rule": Switch("exact", ("exact", "all"), "the rule"), "asks": Switch("so", ("so", "else"), "the prompt", True)}
    return Benchmark("toy", "Toy", load, score, aggregate, switches=switches, needs_file=False)


@pytest.fixture
def use(monkeypatch, sandbox):
    """Let the name "toy" stand for a benchmark, and spare the start of a process for each run."""
    monkeypatch.setattr(jobs, "Sandbox", lambda mode: nullcontext(sandbox))
    monkeypatch.setattr(context, "machine", lambda: "this machine")

    def stand(benchmark):
        monkeypatch.setattr(jobs, "get_benchmark", lambda name: benchmark if name == "toy" else pytest.fail(name))

    stand(toy())
    return stand


class Reader:
    """Answers with the number of the question, after `turns` tool turns; wrong for `wrong`; stops the run after some items."""

    batch_size = 4

    def __init__(self, turns=0, wrong=(), stop_after=10**9):
        self.turns, self.wrong, self.left, self.started = turns, set(wrong), stop_after, 0

    def reply(self, dialogues, max_new_tokens):
        if len(dialogues[0].segments) == 1:
            self.started += len(dialogues)
            self.left -= len(dialogues)
            if self.left < 0:
                raise KeyboardInterrupt
        replies = []
        for dialogue in dialogues:
            number = re.search(r"Which number\? (\d+)", dialogue.segments[0].text)[1]
            n = sum(s.role == "reply" for s in dialogue.segments)
            answer = render_reply("Read.", answer="?" if int(number) in self.wrong else number)
            replies += ScriptedModel([*[TURN] * self.turns, answer]).reply([dialogue]) if n <= self.turns else []
        return replies


def config(**fields):
    return BenchConfig(**{"benchmark": "toy", "name": "reader"} | fields)


def run(folder, model=None, **fields):
    return jobs.run_benchmark(config(**fields), folder, model or Reader())


def numbers(results):
    """Everything that a second run must give again."""
    kept = json.loads(json.dumps(results))
    for row in [*kept["conditions"], kept["orientations"] or {"tools": {}}]:
        row["tools"].pop("seconds", None)
    return {k: v for k, v in kept.items() if k not in ("wall_s", "context")}


# ---------------------------------------------------------------- items


def test_damages_are_read_and_the_undamaged_picture_is_always_there():
    assert read_damages("none") == ("none",)
    assert read_damages("orientations") == ("none", *ORIENTATIONS)
    assert len(read_damages("all")) == 1 + len(SETS["orientations"]) + len(SETS["corruptions"])
    assert read_damages("tilt:3, rotate_90,rotate_90") == ("none", "tilt:3", "rotate_90")


@pytest.mark.parametrize("text", ["rotate90", "noise", "noise:9", "corruption"])
def test_a_wrong_damage_is_named(text):
    with pytest.raises(UserError, match="--damage: damage"):
        read_damages(text)


@pytest.mark.parametrize("damage", ORIENTATIONS)
def test_an_orientation_moves_the_box_and_is_undone_by_what_is_required(damage):
    (sample,) = list(toy(1).load(None, {}))
    shown = shown_sample(Item(replace(sample, required_ops=("crop",)), damage))
    upright = sample.image.decode()
    assert restore(shown.image, damage).tobytes() == upright.tobytes()
    assert len(shown.required_ops) == 2 and shown.required_ops[-1] == "crop"
    box = tuple(int(v) for v in shown.target_box)
    assert restore(shown.image.crop(box), damage).tobytes() == upright.crop((5, 5, 25, 15)).tobytes()
    assert (shown.id, shown.damage, shown.answers) == (sample.id, damage, sample.answers)


def test_a_damage_comes_on_top_of_the_samples_own():
    (sample,) = list(toy(1).load(None, {}))
    shown = shown_sample(Item(replace(sample, damage="rotate_90", required_ops=("rotate_270", "crop")), "rotate_180"))
    assert (shown.damage, shown.required_ops) == ("rotate_90+rotate_180", ("rotate_90", "crop"))
    assert shown_sample(Item(replace(sample, damage="rotate_90", required_ops=()), "none")).required_ops == ()


def test_a_corruption_is_the_same_on_every_run_and_another_one_for_each_item():
    samples = list(toy(4).load(None, {}))
    items = make_items([samples[0], replace(samples[1], image=samples[0].image)], ("none", "noise:3"))
    assert [item.id for item in items] == ["toy-0@none", "toy-0@noise:3", "toy-1@none", "toy-1@noise:3"]
    first, again, other = (shown_sample(items[k]).image.tobytes() for k in (1, 1, 3))
    assert first == again != other


# ---------------------------------------------------------------- rows


def test_every_item_is_a_row_and_the_numbers_are_theirs(tmp_path, use):
    found = run(tmp_path, Reader(turns=1, wrong=(3, 4)), damages=("none", "rotate_90"))
    rows = read_jsonl(tmp_path / "trajectories.jsonl")
    assert {row["id"] for row in rows} == {f"toy-{k}@{d}" for k in range(8) for d in ("none", "rotate_90")}
    plain, turned = found["conditions"]
    assert (plain["condition"], plain["n"], plain["n_groups"], plain["accuracy"], plain["drop"]) == ("none", 8, 4, 0.75, None)
    assert (turned["drop"]["difference"], turned["drop"]["n"], turned["drop"]["p_value"]) == (0.0, 8, 1.0)
    assert plain["official"] == {"headline": 75.0, "n": 8}
    assert found["categories"]["odd"]["none"]["accuracy"] == 0.75
    assert plain["tools"]["tool_turns"] == 1.0 and plain["tools"]["operations"] == {"rotate": 8}
    assert (found["n_items"], found["n_scored"], found["failures"]["n"], found["ids"]) == (16, 16, 0, [f"toy-{k}" for k in range(8)])
    assert found["paper_average"] is None and found["orientations"] is None
    assert rows[0]["sample"]["image"] and (tmp_path / rows[0]["sample"]["image"]).exists()


def test_the_orientations_are_pooled_with_items_as_clusters_and_averaged_as_in_the_paper(tmp_path, use):
    found = run(tmp_path, Reader(wrong=(3,)), damages=("none", *ORIENTATIONS))
    pooled = found["orientations"]
    assert (pooled["n"], pooled["n_groups"], pooled["accuracy"], pooled["drop"]["n"]) == (40, 4, 7 / 8, 40)
    assert pooled["n_effective"] < 8 and found["paper_average"] == pytest.approx(7 / 8)
    assert "all orientations" in benchmark_table(found) and "paper-style average" in benchmark_table(found)


def test_results_say_how_they_were_made(tmp_path, use):
    run(tmp_path, n=4, seed=3)
    found = json.loads((tmp_path / "results.json").read_text())
    context = found["context"]
    assert context["seed"] == 3 and context["config"]["n"] == 4 and context["config"]["switches"] == {"rule": "exact", "asks": "so"}
    assert {"commit", "hardware", "versions", "config_hash", "python"} <= set(context)
    assert len(found["ids"]) == 4 and found["conditions"][0]["low"] < found["conditions"][0]["accuracy"]


def test_the_subset_is_the_same_for_the_same_seed(tmp_path, use):
    a, b, c = (run(tmp_path / str(k), n=4, seed=seed)["ids"] for k, seed in enumerate((1, 1, 2)))
    assert a == b and len(a) == 4
    assert a != c


def test_a_stopped_run_goes_on_to_the_same_numbers(tmp_path, use):
    options = {"damages": ("none", "rotate_90", "flip_vertical")}  # 24 items, in two calls of the agent loop
    whole = run(tmp_path / "whole", Reader(turns=1, wrong=(2,)), **options)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", Reader(turns=1, wrong=(2,), stop_after=18), **options)
    path = tmp_path / "stopped" / "trajectories.jsonl"
    path.write_bytes(path.read_bytes()[:-300])  # and the last row was cut by a crash
    n_done = len(read_jsonl(path, cut_tail=True))
    rest = Reader(turns=1, wrong=(2,))
    assert numbers(run(tmp_path / "stopped", rest, **options)) == numbers(whole)
    assert n_done == 15 and rest.started == 24  # the batch that lost a row is run whole
    again = Reader()
    assert numbers(run(tmp_path / "stopped", again, **options)) == numbers(whole)
    assert again.started == 0


def test_a_folder_of_another_run_is_refused(tmp_path, use):
    run(tmp_path)
    with pytest.raises(UserError, match="holds another run"):
        run(tmp_path, tools="off")


def test_rows_of_the_file_and_pictures_that_are_broken_are_named_and_counted(tmp_path, use, capsys):
    use(toy(8, missing=(2, 3), bad=(5,)))
    found = run(tmp_path, damages=("none", "rotate_90"))
    assert (found["bad_rows"], found["n_in_file"]) == ({"n": 1, "rows": ["toy.tsv row 6: no answer"]}, 8)
    assert (found["failures"]["n"], found["failures"]["by_kind"]) == (4, {"picture": 4})
    assert found["failures"]["items"][0] == {"id": "toy-2@none", "kind": "picture", "reason": "page.png: not a readable image"}
    assert [(c["n"], c["n_failed"], c["accuracy"]) for c in found["conditions"]] == [(5, 2, 1.0)] * 2
    assert "left out: toy.tsv row 6: no answer" in capsys.readouterr().out
    use(toy(8, bad=(5,)))  # the pictures are mended
    assert run(tmp_path, damages=("none", "rotate_90"))["failures"]["n"] == 0


def test_a_file_without_a_good_row_is_one_line(tmp_path, use):
    use(toy(2, bad=(0, 1)))
    with pytest.raises(UserError, match=r"none of its 2 rows can be used. The first: toy.tsv row 1: no answer"):
        run(tmp_path)


def test_pictures_are_kept_of_the_first_samples_only(tmp_path, use):
    use(toy(50))
    run(tmp_path)
    rows = {row["item"]: row for row in read_jsonl(tmp_path / "trajectories.jsonl")}
    assert sum(bool(row["sample"]["image"]) for row in rows.values()) == 40
    assert rows["toy-45"]["sample"]["image"] == "" and rows["toy-45"]["trajectory"]["turns"]


def test_few_large_pictures_are_open_at_once(tmp_path, use, monkeypatch):
    opened = []
    monkeypatch.setattr(bench_run, "_MAX_OPEN_PIXELS", 2 * 60 * 40)
    monkeypatch.setattr(bench_run, "run_episodes", lambda *args: opened.append(len(args[2])) or run_episodes(*args))
    use(toy(8, missing=(2,)))
    found = run(tmp_path, damages=("none", "rotate_90"))
    assert opened == [3, 3, 3, 3, 2]  # the fourteen of sixteen that can be opened; a third picture goes over the limit
    assert (found["n_scored"], found["failures"]["n"], found["conditions"][0]["accuracy"]) == (14, 2, 1.0)


def test_a_large_picture_is_kept_small_with_its_true_size(tmp_path):
    name = save_preview(picture(2000, 1000), tmp_path)
    assert name.endswith(".jpg") and embed(str(tmp_path / name))[1:] == (2000, 1000)
    assert save_preview(picture(84, 84), tmp_path).endswith(".png")


# ---------------------------------------------------------------- tools: on, off, blind


def test_without_tools_the_whole_reply_is_the_prediction(tmp_path, use):
    found = run(tmp_path, ScriptedModel(["<think>Small.</think> 3"]), tools="off")
    rows = read_jsonl(tmp_path / "trajectories.jsonl")
    assert {row["prediction"] for row in rows} == {"3"} and found["untagged"] == 8
    assert found["conditions"][0]["accuracy"] == 1 / 8
    assert all(len(row["trajectory"]["turns"]) == 1 for row in rows)


@pytest.mark.parametrize("text, tools, expected", [
    ("<answer>3</answer>", True, ("3", True)), ("3", True, (None, False)), ("3", False, ("3", False)), ("", False, (None, False)),
    ("<think>cut in the middle", False, (None, False)), (TURN, False, (None, False)), ("<answer>3</answer>", False, ("3", True)),
])  # fmt: skip
def test_what_counts_as_a_prediction(sandbox, text, tools, expected):
    (shown,) = [shown_sample(Item(s, "none")) for s in toy(1).load(None, {})]
    episode = run_episodes(ScriptedModel([text, text]), sandbox, [shown], AgentLimits(max_turns=1, tools=tools))[0]
    assert prediction_of(episode.trajectory(), tools) == expected


class Watching(ScriptedModel):
    """Keeps the pictures that it was shown."""

    def __init__(self, *replies):
        super().__init__(replies)
        self.shown, self.asked = [], []

    def reply(self, dialogues, max_new_tokens=0):
        self.asked += dialogues
        self.shown += [[image.copy() for image in d.images] for d in dialogues]
        return super().reply(dialogues)


def test_a_blind_model_sees_grey_while_the_code_sees_the_pictures(sandbox):
    watching = Watching(TURN, GREY, render_reply("Read.", answer="0"))
    shown = [shown_sample(Item(s, "none")) for s in toy(2).load(None, {})]
    episodes = run_episodes(BlindModel(watching), sandbox, shown, AgentLimits())
    last = watching.shown[-1]
    assert [image.size for image in last] == [(60, 40), (40, 60), (40, 30)]
    assert last[0].tobytes() == shown[1].image.tobytes()
    assert [image.getcolors() for image in last[1:]] == [[(2400, (127, 127, 127))], [(1200, (127, 127, 127))]]
    assert episodes[1].images[1].tobytes() == shown[1].image.rotate(90, expand=True).tobytes()
    # each dialogue stays one object, which a model may keep its cache by
    assert len({id(d) for d in watching.asked}) == 2 and len(watching.asked) == 6


@pytest.mark.slow
def test_a_blind_model_with_a_cache_counts_its_tokens(model, processor, sandbox):
    from codevision_lite.models.hf import HFModel

    shown = [shown_sample(Item(s, "none")) for s in toy(1).load(None, {})]
    (episode,) = run_episodes(BlindModel(HFModel(model, processor)), sandbox, shown, AgentLimits(max_turns=2, max_reply_tokens=8))
    assert episode.dialogue.n_tokens > 0 and all(s.token_ids for s in episode.dialogue.segments[:2])


# ---------------------------------------------------------------- servers


def reading(body):
    """The server's model: turns the picture once, then reads."""
    if n_replies(body) == 0:
        return TURN
    text = body["messages"][1]["content"][-1]["text"]
    return render_reply("Read.", answer=re.search(r"Which number\? (\d+)", text)[1])


def on_server(url, folder, **fields):
    return jobs.run_benchmark(config(server=url, model="served", timeout_s=0.2, concurrency=4, **fields), folder)


def test_a_server_is_asked_at_once_and_gives_the_numbers_of_a_local_model(tmp_path, use):
    def answer(body):
        time.sleep(0.02)
        return reading(body)

    with chat_server(answer) as served:
        found = on_server(served.url, tmp_path / "server", damages=("none", "rotate_90"))
    local = run(tmp_path / "local", Reader(turns=1), damages=("none", "rotate_90"))
    assert 2 <= served.most_at_once <= 4 and len(served.requests) == 32
    a, b = numbers(found), numbers(local)
    for row in a["conditions"] + b["conditions"]:
        row["tools"].pop("tokens")
    assert a == b
    assert found["conditions"][0]["tools"]["tokens"] == 14
    assert found["context"]["max_pixels"] == "the server's" and served.url in found["context"]["hardware"]


def test_a_server_that_dies_stops_the_run_with_one_line_and_the_run_goes_on(tmp_path, use):
    use(toy(40))
    alive = [20]

    def answer(body):
        alive[0] -= 1
        return reading(body) if alive[0] >= 0 else (503, "out of memory")

    with chat_server(answer) as served, pytest.raises(UserError) as raised:
        on_server(served.url, tmp_path)
    message = str(raised.value)
    assert re.search(r"8 items failed one after another, the last with: http.*HTTP 503.*out of memory", message)
    assert re.search(r"run the same command again: \d+ of 40 items are done and kept", message) and "\n" not in message
    n_done = len(read_jsonl(tmp_path / "trajectories.jsonl"))
    assert 5 <= n_done < 40
    with chat_server(reading) as served:
        found = on_server(served.url, tmp_path)
    assert (found["n_scored"], found["failures"]["n"]) == (40, 0)
    assert len(served.requests) == 2 * (40 - n_done)


def test_a_few_failures_are_counted_and_the_others_go_on(tmp_path, use):
    def answer(body):
        text = body["messages"][1]["content"][-1]["text"]
        if "Which number? 3" in text:
            return 400, '{"message": "maximum context length"}'
        return b"{broken" if "Which number? 6" in text else reading(body)

    with chat_server(answer) as served:
        found = on_server(served.url, tmp_path)
    assert (found["n_scored"], found["failures"]["by_kind"]) == (6, {"server": 2})
    reasons = {f["id"]: f["reason"] for f in found["failures"]["items"]}
    assert "maximum context length" in reasons["toy-3@none"] and "JSONDecodeError" in reasons["toy-6@none"]
    assert found["conditions"][0]["accuracy"] == 1.0 and found["conditions"][0]["n_failed"] == 2


def test_blind_works_over_a_server(tmp_path, use):
    with chat_server(reading) as served:
        on_server(served.url, tmp_path, tools="blind")
    second = next(r for r in served.requests if n_replies(r) == 1)
    assert pictures_of(second)[1].getcolors() == [(2400, (127, 127, 127))]


def test_threads_give_every_result_once_and_the_first_exception():
    assert sorted(in_threads(lambda k: k * k, range(50), 8)) == [k * k for k in range(50)]
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda k: 1 // (k - 5), range(50), 4))


# ---------------------------------------------------------------- afterwards


def test_a_run_is_scored_again_without_its_model(tmp_path, use):
    before = run(tmp_path, Reader(wrong=(1, 2)), damages=("none", "rotate_90"))
    again = jobs.rescore(tmp_path)
    assert numbers(again) == numbers(before) and again["context"] == before["context"]
    lenient = jobs.rescore(tmp_path, {"rule": "all"})
    assert lenient["conditions"][0]["accuracy"] == 1.0
    assert jobs.load_config(tmp_path).switches == {"rule": "all", "asks": "so"}
    assert lenient["bad_rows"] == before["bad_rows"]


def test_what_was_read_can_not_be_read_otherwise_by_scoring_again(tmp_path, use):
    run(tmp_path, Reader())
    before = (tmp_path / "config.yaml").read_text()
    with pytest.raises(UserError, match="asks says how the file is read"):
        jobs.rescore(tmp_path, {"asks": "else"})
    assert (tmp_path / "config.yaml").read_text() == before


@pytest.mark.parametrize("made, words", [(False, "no run here"), (True, "no rows there yet")])
def test_there_must_be_something_to_score_again(tmp_path, use, made, words):
    if made:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, Reader(stop_after=0))
    with pytest.raises(UserError, match=words):
        jobs.rescore(tmp_path)


def test_two_runs_are_compared_by_item(tmp_path, use):
    run(tmp_path / "a", Reader(wrong=(0, 1, 2, 3)), damages=("none", "rotate_90"))
    run(tmp_path / "b", Reader(wrong=(3, 4)), damages=("none", "rotate_90"), max_turns=5)
    found = compare(tmp_path / "a", tmp_path / "b")
    plain = found["conditions"][0]
    assert (plain["n"], plain["difference"], plain["only_a"], plain["only_b"], plain["p_value"]) == (8, 0.25, 1, 3, 0.625)
    assert [c["condition"] for c in found["conditions"]] == ["none", "rotate_90", "all"]
    assert "max_turns: 6 / 5" in found["differs"]
    text = comparison_text(found)
    assert "+25.0" in text and "0.6250" in text and max(map(len, text.splitlines())) <= 120


def test_runs_under_different_rules_are_not_compared(tmp_path, use):
    run(tmp_path / "a")
    run(tmp_path / "b", switches={"rule": "all"})
    with pytest.raises(UserError, match="can't be compared: switches"):
        compare(tmp_path / "a", tmp_path / "b")


def test_the_report_shows_numbers_failures_and_trajectories_without_a_script_of_the_models(tmp_path, use):
    use(toy(8, missing=(2,), bad=(5,)))
    model = Reader(turns=1, wrong=(3,))
    run(tmp_path, model, damages=("none", "rotate_90"), name="<b>reader</b>")
    page = (tmp_path / "report.html").read_text()
    for words in ("rotated 90°", "toy-2@none", "toy.tsv row 6", "data:image/png;base64", "image.rotate", "McNemar", "tool turns"):
        assert words in page, words
    assert "<b>reader" not in page and not re.search(r"https?://", page)


def cells(path):
    """The sheet of a workbook, as another program reads it."""
    with zipfile.ZipFile(path) as file:
        sheet = ElementTree.fromstring(file.read("xl/worksheets/sheet1.xml"))
    space = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    rows = [["".join(c.itertext()) for c in row.iter(f"{space}c")] for row in sheet.iter(f"{space}row")]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def test_predictions_are_exported_in_other_harnesses_layouts(tmp_path, use):
    run(tmp_path, Reader(wrong=(3,)), damages=("none", "rotate_90"))
    lines = export(tmp_path, "vlmevalkit").splitlines()
    assert len(lines) == 2 and lines[0].endswith("reader_toy.xlsx: 8 predictions") and "reader_toy_rotate_90.xlsx" in lines[1]
    sheet = cells(lines[0].split(": ")[0])
    assert [row["index"] for row in sheet] == [str(k) for k in range(8)]
    assert sheet[3] == {"index": "3", "question": "Which number? 3", "answer": "3", "category": "odd", "prediction": "?"}
    lines = export(tmp_path, "lmms-eval").splitlines()
    rows = read_jsonl(lines[0].split(": ")[0])
    assert (rows[3]["doc_id"], rows[3]["target"], rows[3]["filtered_resps"], rows[3]["resps"]) == (3, "3", ["?"], [["?"]])


# ---------------------------------------------------------------- the diagnosis and the paper's numbers


def test_the_diagnosis_is_balanced_and_knows_its_answers():
    switches = {"world": "signs", "n": "40", "seed": "0"}
    samples = list(DIAGNOSIS.load(None, switches))
    assert sorted(s.damage for s in samples) == sorted(list(ORIENTATIONS) * 8)
    assert [s.damage for s in samples] != [ORIENTATIONS[k % 5] for k in range(40)]
    first = samples[0]
    assert first.image.decode().tobytes() == first.image.decode().tobytes()
    assert DIAGNOSIS.score(first, LETTERS[first.damage], switches).correct
    assert not DIAGNOSIS.score(first, "Z", switches).correct and not DIAGNOSIS.score(first, None, switches).correct
    assert len({s.id for s in samples}) == 40


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("form", ["{letter}", "({letter})", "{letter}.", "The answer is {letter}.", "{letter}. {text}", "{text}"])
def test_an_option_is_read_in_every_form(name, form):
    assert chosen_option(form.format(letter=LETTERS[name], text=OPTIONS[name])) == name


@pytest.mark.parametrize("text", [None, "", "A or B", "it was turned", "F", "AB"])
def test_what_names_no_single_option_is_none(text):
    assert chosen_option(text) is None


def test_own_pictures_are_diagnosed_and_broken_ones_named(tmp_path):
    for k in range(5):
        picture(60, 40, k).save(tmp_path / f"{k}.png")
    (tmp_path / "5.jpg").write_bytes(b"no picture")
    rows = list(DIAGNOSIS.load(tmp_path, {"world": "pages", "n": "200", "seed": "0"}))
    assert [type(r) for r in rows] == [Sample] * 5 + [BadRow] and "5.jpg" in rows[5].reason
    assert restore(rows[0].image.decode(), rows[0].damage).tobytes() == picture(60, 40, 0).tobytes()
    with pytest.raises(UserError, match="no pictures there"):
        (tmp_path / "empty").mkdir()
        list(DIAGNOSIS.load(tmp_path / "empty", {"world": "pages", "n": "200", "seed": "0"}))


def test_the_confusion_matrix_counts_every_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(context, "machine", lambda: "this machine")
    found = jobs.run_benchmark(
        BenchConfig("orientation", n=10, switches={"world": "signs"}, tools="off", name="always A"), tmp_path, ScriptedModel(["A"])
    )
    confusion = found["conditions"][0]["official"]["confusion"]
    assert [confusion[name]["rotate_90"] for name in ORIENTATIONS] == [2] * 5
    assert (found["conditions"][0]["accuracy"], found["chance"]) == (0.2, 0.2)
    assert {row["model"]: row["values"]["none"] for row in found["published"]}["human"] == 1.0


@pytest.mark.parametrize("name", ["ocrbench", "chartqapro"])
def test_the_papers_averages_are_those_of_its_rows(name):
    rows = published_rows(name)
    assert len(rows) == 15 and all(len(row["values"]) == 6 for row in rows)
    for row in rows:
        mean = sum(row["values"].values()) / 6
        assert row["average"] == pytest.approx(mean, abs=0.0012), row["model"]
        assert row["source"].startswith("published")


# ---------------------------------------------------------------- the command line


def test_the_command_line_runs_rescores_compares_and_exports(tmp_path, use, monkeypatch, capsys):
    made = []
    monkeypatch.setattr(jobs, "make_model", lambda config: made.append(config) or Reader())
    out = ["--out", str(tmp_path / "a"), "--n", "6", "--damage", "rotate_90", "--max-turns", "3", "--name", "reader"]
    assert main(["bench", "toy", *out]) == 0
    assert (made[0].n, made[0].damages, made[0].max_turns, made[0].tools) == (6, ("none", "rotate_90"), 3, "on")
    assert "report: " in capsys.readouterr().out
    assert main(["rescore", str(tmp_path / "a"), "--switch", "rule=all"]) == 0
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "a")]) == 0
    assert "+0.0" in capsys.readouterr().out
    assert main(["export-predictions", str(tmp_path / "a"), "--to", "lmms-eval"]) == 0
    assert main(["bench", "toy", "--switch", "rule", *out]) == 2
    assert main(["bench", "toy", "--n", "0"]) == 2
    assert main(["rescore", str(tmp_path / "a"), "--switch", "rule=some"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3 and "write NAME=VALUE" in errors[0] and "n must be >= 1" in errors[1] and "rule=some is not known" in errors[2]


def test_a_benchmark_without_its_file_says_which_is_needed(capsys):
    assert main(["bench", "ocrbench"]) == 2
    assert "ocrbench reads your copy of its file" in capsys.readouterr().err
    assert main(["bench", "ocrbanch"]) == 2
