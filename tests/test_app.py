"""The app: what a panel shows, what the controls do to the picture, and, in a real browser, upload, ask, and see the answer."""

from __future__ import annotations

import importlib.util
import socket
import sys
import threading

import pytest
from chromium import CHROMIUM, Browser
from pictures import picture
from PIL import Image

from codevision_lite import app as application
from codevision_lite.agent import AgentLimits
from codevision_lite.app import build_app, damage_of, launch, panel_html, shown_html, watch
from codevision_lite.damage import parse_damage
from codevision_lite.errors import MissingPackage
from codevision_lite.models import ScriptedModel
from codevision_lite.protocol import render_reply
from codevision_lite.records import ToolCall

EVIL = '<script>window.evil = 1</script><img src=x onerror="window.evil = 1"> ${window.evil = 1} {{evil}}'
TURN = render_reply(f"It is turned. {EVIL}", ToolCall("# <b>left</b>\nresult = image.rotate(270, expand=True)"))
ANSWER = render_reply("I see.", answer="FORK <i>")


class ByTools(ScriptedModel):
    """Answers at once where the prompt names no tool, else after two calls, the first of which fails."""

    def __init__(self):
        super().__init__([render_reply("Try.", ToolCall("result = nothing")), TURN, ANSWER])

    def reply(self, dialogues, max_new_tokens=0):
        if "<tools>" not in dialogues[0].segments[0].text:
            return ScriptedModel([render_reply("A guess.", answer="??")]).reply(dialogues)
        return super().reply(dialogues)


def panels(sandbox, model, **limits):
    return list(watch(model, sandbox, picture(40, 30), "What?", AgentLimits(**limits)))


def test_a_panel_grows_with_the_turns_and_ends_with_the_answer(sandbox):
    shown = panels(sandbox, ByTools())
    assert "The model is writing" in shown[0] and all("Answer:" not in html for html in shown[:-1])
    last = shown[-1]
    order = ["Turn 1", "Try.", "nothing", "cv-problem", "Turn 2", "It is turned.", "ran <code>rotate(270, True)</code>", "data:image/png",
             "picture 1 · 30×40 px", "Turn 3", "I see.", "Answer: <b>FORK &lt;i&gt;</b>", "3 replies"]  # fmt: skip
    at = [last.index(words) for words in order]
    assert at == sorted(at) and "The model is writing" not in last
    assert 'alt="Picture 1, returned by the code: rotate(270, True)"' in last


def test_what_a_model_writes_is_shown_as_text(sandbox):
    last = panels(sandbox, ByTools())[-1]
    assert "<script" not in last and "<img src=x" not in last and "<b>left" not in last and "&lt;script&gt;" in last


@pytest.mark.parametrize("replies, words", [
    (["Hm."] * 2, "No answer: its replies hold neither"), ([TURN] * 3, "No answer: the turns were used up</p>"),
])  # fmt: skip
def test_no_answer_says_why(sandbox, replies, words):
    assert words in panels(sandbox, ScriptedModel(replies), max_turns=3)[-1]


def test_what_fails_is_in_the_panel(sandbox, capsys):
    assert "list index out of range" in panels(sandbox, ScriptedModel([]))[-1]
    assert "IndexError" in capsys.readouterr().err
    html = list(watch(ScriptedModel([ANSWER]), sandbox, picture(), " ", AgentLimits()))[-1]
    assert "the question is empty" in html


def test_closing_a_panel_stops_its_episode(sandbox):
    go, asked, before = threading.Event(), [], set(threading.enumerate())

    class Model(ScriptedModel):
        def reply(self, dialogues, max_new_tokens=0):
            asked.append(1)
            assert len(asked) == 1 or go.wait(10)
            return super().reply(dialogues)

    panel = watch(Model([TURN] * 6), sandbox, picture(), "What?", AgentLimits())
    next(panel), next(panel)
    panel.close()
    (running,) = [thread for thread in threading.enumerate() if thread.name == "answer" and thread not in before]
    go.set()
    running.join(10)
    assert len(asked) <= 2 and not running.is_alive()


def test_every_setting_of_the_controls_is_a_damage():
    for turn in application._TURNS:
        for mirror in application._MIRRORS:
            for corruption in ("none", *application.CORRUPTIONS):
                parse_damage(damage_of(turn, mirror, -7.5, corruption, 5.0))
    assert damage_of("as it is", "no", 0, "none", 3) == "none"
    assert damage_of("180°", "left and right", 2, "jpeg", 1) == "jpeg:1+tilt:2+rotate_180+flip_horizontal"
    assert "30×40 px" in shown_html(Image.new("RGB", (30, 40))) and "<img" not in shown_html(None)


def test_before_anything_is_asked_a_panel_says_so():
    assert "Nothing asked yet" in panel_html("With tools", [], None)


def test_without_gradio_the_install_line_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MissingPackage, match=r"pip install --no-deps -r requirements-ui\.txt"):
        application.run_app(None, AgentLimits(), 0)


MISSING = [name for name, there in (("gradio", importlib.util.find_spec("gradio")), ("chromium", CHROMIUM)) if not there]


@pytest.fixture
def page(sandbox, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = build_app(ByTools(), sandbox, AgentLimits(), "about the model")
    launch(app, port)
    try:
        with Browser(tmp_path, (1280, 900)) as page:
            page.open(f"http://127.0.0.1:{port}/")
            page.wait("document.querySelector('#ask') !== null && document.querySelector('#shown img') !== null")
            yield page
    finally:
        app.close(verbose=False)


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"not here: {', '.join(MISSING)}")
def test_upload_damage_ask_and_see_both_answers_in_a_browser(page, tmp_path):
    picture(60, 30, 5).save(tmp_path / "mine.png")
    page.upload("input[type=file]", tmp_path / "mine.png")
    page.wait("document.querySelector('#shown').innerText.includes('60×30 px')")
    page.click("#turn input")
    page.wait("document.querySelectorAll('[role=option]').length == 4")
    page.js("[...document.querySelectorAll('[role=option]')][1].dispatchEvent(new MouseEvent('mousedown', {bubbles: true}))")
    page.wait("document.querySelector('#shown').innerText.includes('30×60 px')")
    page.fill("#question textarea", "What is here?")
    page.click("#ask")
    page.wait("document.querySelectorAll('.cv-answer').length == 2")
    with_tools, without = (page.js(f"document.querySelector('#{name}').innerText") for name in ("with-tools", "without-tools"))
    assert "Answer: FORK <i>" in with_tools and "ran rotate(270, True)" in with_tools and "picture 1 · 60×30 px" in with_tools
    assert "Answer: ??" in without and "ran" not in without.replace("Answer", "")
    assert "${window.evil = 1} {{evil}}" in with_tools and page.js("window.evil === undefined"), "shown as text, never run"
    assert all(page.js("[...document.querySelectorAll('.cv-panel img, #shown img')].map(i => i.alt.length > 0 && i.naturalWidth > 0)"))
    elsewhere = [url for url in page.requests if not url.startswith(("http://127.0.0.1:", "data:", "blob:", "about:", "ws://127.0.0.1:"))]
    assert elsewhere == [] and page.errors == [], "nothing is loaded from elsewhere"
    page.screenshot(tmp_path / "app.png")
