"""Asking from the command line: steps as they come, pictures as paths, several pictures, and one line for what goes wrong."""

from __future__ import annotations

import base64
import io
import json
import threading
from types import SimpleNamespace

import pytest
from chat_server import chat_server, n_replies, pictures_of
from pictures import picture, same
from PIL import Image

from codevision_lite import ask as asking
from codevision_lite.agent import AgentLimits, dialogue_of, run_episodes
from codevision_lite.ask import ModelChoice, Running, Step, answer, ask, newest_adapter, terminal_text
from codevision_lite.cli import main
from codevision_lite.datasets.ours import parse_ours
from codevision_lite.datasets.record import BadRow
from codevision_lite.datasets.rows import load_training_rows
from codevision_lite.errors import UserError
from codevision_lite.files import read_jsonl
from codevision_lite.models import ScriptedModel
from codevision_lite.protocol import IMAGE, render_prompt, render_reply
from codevision_lite.records import Sample, ToolCall
from codevision_lite.report.terminal_pictures import picture_escape, picture_protocol
from codevision_lite.sandbox import Sandbox


def call(code, index=0):
    return render_reply("I look.", ToolCall(code, image_index=index))


TURN = call("result = image.rotate(90, expand=True)")
ANSWER = render_reply("I see.", answer="F")


@pytest.fixture(autouse=True)
def no_processes(monkeypatch):
    """Starting workers takes a second; one test below has them."""
    monkeypatch.setattr(asking, "Sandbox", lambda mode: Sandbox(mode="inline"))


@pytest.fixture
def photo(tmp_path):
    picture(40, 30).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def steps(model, sandbox, pictures, **limits):
    seen = []
    answer(model, sandbox, pictures, "What?", AgentLimits(**limits), seen.append)
    return [(step.kind, step.turn, step.image_index) for step in seen]


def test_steps_come_in_order_each_once(sandbox):
    model = ScriptedModel([TURN, "Hm.", call("result = 7"), call("result = image.rotate(90)", 9), ANSWER])
    assert steps(model, sandbox, [picture(40, 30)]) == [
        ("thought", 1, None), ("code", 1, None), ("result", 1, 1), ("raw", 2, None), ("problem", 2, None),
        ("thought", 3, None), ("code", 3, None), ("problem", 3, None), ("thought", 4, None), ("code", 4, None), ("problem", 4, None),
        ("thought", 5, None),
    ]  # fmt: skip


def test_a_step_is_told_before_the_next_reply(sandbox):
    order = []

    class Model(ScriptedModel):
        def reply(self, dialogues, max_new_tokens=0):
            order.append("reply")
            return super().reply(dialogues)

    answer(Model([TURN, ANSWER]), sandbox, [picture()], "What?", AgentLimits(), lambda step: order.append(step.kind))
    assert order == ["reply", "thought", "code", "result", "reply", "thought"]


def test_a_file_is_turned_upright_by_its_exif(sandbox, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(40, 30).save(tmp_path / "phone.jpg", exif=exif)
    episode = answer(ScriptedModel([ANSWER]), sandbox, [tmp_path / "phone.jpg"], "What?", AgentLimits())
    assert episode.images[0].size == (30, 40) and "Image 0: 30x40 pixels." in episode.dialogue.segments[0].text


TWO = [picture(40, 30, 1), picture(50, 20, 2)]


def test_several_pictures_stand_in_the_prompt_each_before_its_line(sandbox):
    prompt = answer(ScriptedModel([ANSWER]), sandbox, TWO, "Which?", AgentLimits()).dialogue.segments[0]
    assert f"{IMAGE}Image 0: 40x30 pixels.\n{IMAGE}Image 1: 50x20 pixels.\nWhich?<" in prompt.text
    assert [image.size for image in prompt.images] == [(40, 30), (50, 20)]
    assert render_prompt("Q", (4, 3)) == render_prompt("Q", (4, 3), more=())


def test_code_reaches_every_picture_and_frames_name_theirs(sandbox):
    crop = "result = image.crop((10, 5, 30, 15))"
    model = ScriptedModel([call(crop, 1), call("result = image.rotate(90, expand=True)", 2), ANSWER])
    episode = answer(model, sandbox, TWO, "?", AgentLimits())
    assert [image.size for image in episode.images] == [(40, 30), (50, 20), (20, 10), (10, 20)]
    for turn in episode.turns[:2]:
        frame = turn.observation.frame
        assert [piece.source for piece in frame.pieces] == [1] and frame.box_in_source() == pytest.approx((10, 5, 30, 15))


def test_the_record_of_several_pictures_gives_the_dialogue_back(sandbox, tmp_path, photo):
    picture(50, 20, 2).save(tmp_path / "second.png")
    out = tmp_path / "out"
    photos, model = [photo, tmp_path / "second.png"], ScriptedModel([TURN, ANSWER])
    ask(ModelChoice("m"), photos, "Which?", AgentLimits(), out, stream=io.StringIO(), model=model)
    (row,) = load_training_rows(out / asking.ROWS)
    held = dialogue_of(row.sample, row.trajectory)
    sample = Sample("s", "Which?", picture(40, 30), (), more_images=(picture(50, 20, 2),))
    (episode,) = run_episodes(ScriptedModel([TURN, ANSWER]), sandbox, [sample], AgentLimits())
    assert [s.text for s in held.segments] == [s.text for s in episode.dialogue.segments]
    assert all(same(a, b) for a, b in zip(held.images, episode.dialogue.images, strict=True))
    (raw,) = read_jsonl(out / asking.ROWS)
    raw["sample"]["answers"] = ["F"]
    with pytest.raises(BadRow, match="several pictures"):  # no other format holds more than one
        parse_ours(raw, out)


def test_a_server_gets_several_pictures_in_their_places(tmp_path, photo):
    picture(50, 20, 2).save(tmp_path / "second.png")
    with chat_server(lambda body: [TURN, ANSWER][n_replies(body)]) as served:
        choice = ModelChoice("served", server=served.url)
        ask(choice, [photo, tmp_path / "second.png"], "Which?", AgentLimits(), tmp_path / "out", stream=io.StringIO())
    assert [p.size for p in pictures_of(served.requests[0])] == [(40, 30), (50, 20)]
    assert [p.size for p in pictures_of(served.requests[1])] == [(40, 30), (50, 20), (30, 40)]


def shown(photo, tmp_path, capsys, replies, *options):
    with chat_server(lambda body: replies[n_replies(body)]) as served:
        argv = ["ask", str(photo), "What?", "--server", served.url, "--model", "m", "--out", str(tmp_path / "out"), *options]
        code = main(argv)
    out, err = capsys.readouterr()
    return code, out, err, served


def test_the_command_shows_thought_code_picture_and_last_the_answer(photo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(asking, "Sandbox", Sandbox)
    code, out, err, _ = shown(photo, tmp_path, capsys, [TURN, ANSWER])
    path = out.split("picture 1, 30x40: ")[1].split("\n")[0]
    assert code == 0 and out.splitlines() == [
        "[1]", "  I look.", "    result = image.rotate(90, expand=True)", f"  ran rotate(90, True) -> picture 1, 30x40: {path}",
        "[2]", "  I see.", "Answer: F",
    ]  # fmt: skip
    assert Image.open(path).size == (30, 40) and err.startswith("model: m at http://127.0.0.1")
    assert read_jsonl(tmp_path / "out" / asking.ROWS)[0]["trajectory"]["answer"] == "F"


def test_json_is_one_object_and_nothing_else(photo, tmp_path, capsys):
    code, out, err, _ = shown(photo, tmp_path, capsys, [TURN, ANSWER], "--json")
    result = json.loads(out)
    assert (code, err) == (0, "")
    assert (result["answer"], result["end_reason"], result["n_user_images"], len(result["images"])) == ("F", "answer", 1, 2)
    assert [turn["observation"] is not None for turn in result["turns"]] == [True, False]
    assert Image.open(result["images"][1]).size == (30, 40)


def test_without_tools_the_prompt_names_none(photo, tmp_path, capsys):
    code, out, _, served = shown(photo, tmp_path, capsys, [ANSWER], "--no-tools")
    assert code == 0 and out.endswith("Answer: F\n")
    assert "<tools>" not in served.requests[0]["messages"][0]["content"]


def test_no_answer_is_one_line_with_the_reason_and_exit_code_2(photo, tmp_path, capsys):
    code, out, err, _ = shown(photo, tmp_path, capsys, ["Hm."] * 6)
    assert code == 2 and "Answer" not in out
    assert "no answer: its replies hold neither" in err.splitlines()[-1]
    code, out, err, served = shown(photo, tmp_path, capsys, [TURN] * 6, "--max-turns", "2")
    assert code == 2 and "--max-turns" in err.splitlines()[-1] and len(served.requests) == 2


def test_what_a_model_writes_cannot_steer_the_terminal(photo, tmp_path, capsys):
    evil = "\x1b[2J\x1b]0;owned\x07\u202e"
    replies = [render_reply(evil, ToolCall(f"# {evil}\nresult = image.rotate(90)")), render_reply("ok", answer=evil)]
    _, out, _, _ = shown(photo, tmp_path, capsys, replies)
    assert not set("\x1b\x07\u202e") & set(out) and "?[2J" in out
    assert terminal_text("Grüße, 漢字\n\tok") == "Grüße, 漢字\n\tok"


MISTAKES = {
    "the question first": (["What is it?", "{photo}"], "What is it?: no such image file. Pictures come first"),
    "no such file": (["{photo}x", "What?"], "photo.pngx: no such image file"),
    "an empty question": (["{photo}", " "], "the question is empty"),
    "too many pictures": (["{photo}"] * 8 + ["What?"], "8 pictures: give 1 to 7"),
    "a server with an adapter": (["{photo}", "What?", "--server", "http://x/v1", "--adapter", "a"], "loads its adapters itself"),
    "a server without its model": (["{photo}", "What?", "--server", "http://127.0.0.1:9/v1"], "--model NAME"),
}  # fmt: skip


@pytest.mark.parametrize("argv, words", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line(argv, words, photo, tmp_path, capsys, monkeypatch):
    if "--server" not in argv:
        monkeypatch.setattr(asking, "open_model", lambda choice: ScriptedModel([ANSWER]))
    code = main(["ask", *(word.replace("{photo}", str(photo)) for word in argv), "--out", str(tmp_path / "out")])
    lines = capsys.readouterr().err.splitlines()
    assert code == 2 and words in lines[-1] and len([line for line in lines if not line.startswith("model:")]) == 1


def test_a_server_that_fails_is_one_line(photo, tmp_path, capsys):
    code, _, err, _ = shown(photo, tmp_path, capsys, [(404, "no such model")])
    assert code == 2 and "could not be asked" in err.splitlines()[-1] and "404" in err


def test_the_default_is_the_tiny_model_with_the_newest_adapter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bare = ModelChoice().resolved()
    assert bare.is_tiny and bare.adapter is None and (asking.Path(bare.model) / "config.json").is_file(), "found from any folder"
    assert "no adapter yet" in bare.describe() and "single characters" in bare.describe()
    for stage, when in (("sft", 2_000), ("grpo", 1_000)):
        folder = tmp_path / "runs" / "demo" / stage / "adapter"
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text("{}")
        asking.os.utime(folder / "adapter_config.json", (when, when))
    chosen = ModelChoice().resolved()
    assert chosen.adapter == "runs/demo/sft/adapter" and chosen.name == "tiny_base+sft"
    assert "no adapter" not in chosen.describe()
    assert newest_adapter(tmp_path) is None
    assert ModelChoice("org/model").resolved() == ModelChoice("org/model"), "a model that is named gets no adapter of another"


@pytest.mark.parametrize("own, given, view", [(7_056, None, 7_056), (12_845_056, None, 1_003_520), (12_845_056, 2_000_000, 12_845_056)])
def test_a_photo_gets_no_larger_view_than_the_model_and_the_user_say(own, given, view, monkeypatch):
    image_processor = SimpleNamespace(size={"shortest_edge": 3_136, "longest_edge": own})
    loaded = SimpleNamespace(processor=SimpleNamespace(image_processor=image_processor))
    passed = {}
    monkeypatch.setattr(asking, "load_model", lambda name, **options: passed.update(options) or loaded)
    asking.open_model(ModelChoice("m", max_pixels=given))
    assert passed["max_pixels"] == given and image_processor.size["longest_edge"] == view, "what is given goes to load_model"


def test_letters_that_the_terminal_lacks_do_not_end_the_answer(photo, tmp_path):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii")
    model = ScriptedModel([render_reply("Grüße", answer="漢")])
    ask(ModelChoice("m"), [photo], "What?", AgentLimits(), tmp_path / "out", stream=stream, model=model)
    assert raw.getvalue().decode().endswith("Answer: \\u6f22\n")


def test_a_terminal_that_says_so_gets_pictures():
    assert picture_protocol({"TERM": "xterm-kitty"}, True) == "kitty"
    assert picture_protocol({"TERM_PROGRAM": "iTerm.app"}, True) == "iterm2"
    assert picture_protocol({"TERM": "xterm-kitty"}, False) is None
    assert picture_protocol({"TERM": "xterm-kitty", "TMUX": "/tmp/x"}, True) is None
    assert picture_protocol({"TERM": "xterm-256color"}, True) is None


def test_the_escapes_hold_the_picture():
    noisy = Image.effect_noise((300, 200), 90).convert("RGB")  # several chunks
    chunks = picture_escape(noisy, "kitty").split("\x1b\\")[:-1]
    assert len(chunks) > 3 and chunks[0].startswith("\x1b_Ga=T,f=100,m=1;") and chunks[-1].startswith("\x1b_Gm=0;")
    assert all(len(chunk.partition(";")[2]) <= 4096 for chunk in chunks)
    png = base64.b64decode("".join(chunk.partition(";")[2] for chunk in chunks))
    assert same(Image.open(io.BytesIO(png)), noisy)
    escape = picture_escape(picture(2000, 1000), "iterm2")
    data = base64.b64decode(escape.partition(":")[2].removesuffix("\a"))
    assert Image.open(io.BytesIO(data)).size == (480, 240) and f"size={len(data)};" in escape


def test_a_terminal_gets_the_picture_after_its_path(photo, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(asking.os, "environ", {"TERM": "xterm-kitty"})
    stream = Terminal()
    ask(ModelChoice("m"), [photo], "What?", AgentLimits(), tmp_path / "out", stream=stream, model=ScriptedModel([TURN, ANSWER]))
    assert stream.getvalue().count("\x1b_G") == 1 and stream.getvalue().index(".png") < stream.getvalue().index("\x1b_G")


def test_a_running_answer_can_be_stopped(sandbox):
    asked, go, ended = [], threading.Event(), threading.Event()

    class Model(ScriptedModel):
        def reply(self, dialogues, max_new_tokens=0):
            asked.append(1)
            assert len(asked) == 1 or go.wait(10)
            return super().reply(dialogues)

    run = Running(Model([TURN] * 6), sandbox, [picture()], "What?", AgentLimits(), ended.set)
    assert isinstance(run.events.get(timeout=10), Step)
    run.stop()
    go.set()
    assert ended.wait(10) and len(asked) <= 2


def test_what_breaks_in_a_running_answer_comes_as_its_last_event(sandbox):
    run = Running(ScriptedModel([]), sandbox, [picture()], "What?", AgentLimits())
    assert isinstance(run.events.get(timeout=10), IndexError)
    run = Running(ScriptedModel([ANSWER]), sandbox, [], "What?", AgentLimits())
    assert isinstance(run.events.get(timeout=10), UserError)
