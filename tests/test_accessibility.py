"""The pages that the project makes, for people who read them by keyboard, by a screen reader, or with poor sight.

Without a browser: language, headings in order, a text for every picture, a name for every control. In headless Chromium, in light and
in dark: the contrast of every text that is shown, and that the keyboard reaches every control, visibly.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
import socket
from html.parser import HTMLParser

import pytest
from chromium import CHROMIUM, Browser
from pictures import picture
from run_folder import make_run

from codevision_lite.bench.jobs import run_benchmark
from codevision_lite.bench.settings import BenchConfig
from codevision_lite.models import ScriptedModel
from codevision_lite.protocol import render_reply
from codevision_lite.records import ToolCall
from codevision_lite.report import write_report
from codevision_lite.report.sheet import write_sheet
from codevision_lite.report.view import write_view

PAGES = ("report", "view", "comparison", "benchmark", "sheet")
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
REPLIES = [render_reply("Turn it.", ToolCall("result = image.rotate(90, expand=True)")), render_reply("I see.", answer="F")]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of every kind, by name."""
    folder = tmp_path_factory.mktemp("pages")
    run = make_run(folder / "run", samples=12)
    run_benchmark(BenchConfig("signs", n=4, damages=("none", "rotate_90")), folder / "bench", ScriptedModel(REPLIES))
    return {
        "report": write_report(run), "view": write_view([run])[0], "benchmark": folder / "bench" / "report.html",
        "comparison": write_view([run], folder / "pairs.html", stages=("base", "grpo"))[0],
        "sheet": write_sheet(run / "trajectories.jsonl", folder / "sheet.html")[0],
    }  # fmt: skip


# ---------------------------------------------------------------- without a browser


class Outline(HTMLParser):
    """What a page says about itself: its language, headings, pictures, controls and their labels."""

    VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())

    def __init__(self, html):
        super().__init__()
        self.lang = self.title = ""
        self.headings: list[tuple[int, str]] = []
        self.nameless: list[str] = []
        self.ids: list[str] = []
        self.tabindex: list[int] = []
        self._open: list[tuple[str, dict, list[str]]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.tabindex += [int(given["tabindex"])] if "tabindex" in given else []
        if tag == "html":
            self.lang = given.get("lang", "")
        if tag == "img" and "alt" not in given:
            self.nameless.append(self.get_starttag_text())
        if tag == "input":
            self._control(tag, given, "")
        if tag not in self.VOID:
            self._open.append((tag, given, []))

    def handle_data(self, data):
        for _, _, text in self._open:
            text.append(data)

    def handle_endtag(self, tag):
        while self._open:
            name, given, text = self._open.pop()
            words = " ".join("".join(text).split())
            if re.fullmatch("h[1-6]", name):
                self.headings.append((int(name[1]), words))
            elif name == "title":
                self.title = words
            elif name == "svg" and not words and "aria-label" not in given and given.get("aria-hidden") != "true":
                self.nameless.append(f"<svg {given}>")
            elif name in ("button", "a", "select", "textarea", "summary"):
                self._control(name, given, words if name in ("button", "a", "summary") else "")
            if name == tag:
                return

    def _control(self, tag, given, words):
        label = any(name == "label" for name, _, _ in self._open)
        if not (words or label or given.get("aria-label") or given.get("aria-labelledby")):
            self.nameless.append(f"<{tag} {given}>")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_its_language_and_what_is_on_it(pages, name):
    outline = Outline(re.sub(r"(?s)<script.*?</script>", "", pages[name].read_text()))
    assert outline.lang == "en" and outline.title
    assert outline.nameless == [], "a picture without alt, or a control without a name"
    assert len(outline.ids) == len(set(outline.ids))
    assert max(outline.tabindex, default=0) <= 0, "the order of the page is the order of Tab"
    levels = [level for level, _ in outline.headings]
    assert levels[0] == 1 and levels.count(1) == 1 and all(words for _, words in outline.headings)
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels)), "no level is left out"


# ---------------------------------------------------------------- in a browser

AUDIT = """
(() => {
  const rgb = text => { const m = text.match(/[\\d.]+/g).map(Number); return {c: m.slice(0, 3), a: m.length > 3 ? m[3] : 1}; };
  const lay = (top, under) => top.c.map((v, i) => v * top.a + under[i] * (1 - top.a));
  const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
                       return .2126 * r + .7152 * g + .0722 * b; };
  const ground = e => { const up = []; for (let n = e; n; n = n.parentElement) up.push(rgb(getComputedStyle(n).backgroundColor));
                        return up.reverse().reduce((under, top) => lay(top, under), [255, 255, 255]); };
  const shown = e => e.checkVisibility({opacityProperty: true, visibilityProperty: true}) && e.getClientRects().length > 0;
  const found = {faint: [], nameless: [], headings: [], stuck: []};
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (words.nextNode()) {
    const e = words.currentNode.parentElement, text = words.currentNode.data.trim();
    if (!text || !shown(e) || e.closest('script, style, noscript, [disabled]')) continue;
    const style = getComputedStyle(e), under = ground(e);
    const colour = lay(rgb(e.closest('svg') && style.fill !== 'none' ? style.fill : style.color), under);
    const [a, b] = [light(colour), light(under)].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
    const what = `${e.tagName}.${e.className.baseVal ?? e.className}: ${text.slice(0, 40)}`;
    if (ratio < (large ? 3 : 4.5)) found.faint.push(`${ratio.toFixed(2)} ${what}`);
  }
  for (const e of document.querySelectorAll('img, svg')) {
    if (!shown(e) || e.closest('[aria-hidden=true]') || e.parentElement.closest('svg')) continue;
    const named = e.tagName === 'IMG' ? e.hasAttribute('alt')
      : e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.querySelector('title') || e.textContent.trim()
        || e.closest('button, a, label, [aria-label]');
    if (!named) found.nameless.push(e.outerHTML.slice(0, 120));
  }
  for (const e of document.querySelectorAll('button, a[href], input, select, textarea, summary')) {
    if (!shown(e)) continue;
    const label = e.labels?.length || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.textContent.trim() || e.title;
    if (!label) found.nameless.push(e.outerHTML.slice(0, 120));
  }
  found.headings = [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].filter(shown).map(e => +e.tagName[1]);
  for (const e of document.querySelectorAll('*')) {
    const style = getComputedStyle(e), scrolls = /auto|scroll/.test(style.overflowX + style.overflowY);
    if (!scrolls || !shown(e) || e.scrollWidth <= e.clientWidth + 1 && e.scrollHeight <= e.clientHeight + 1) continue;
    if (e.tabIndex < 0 && !e.querySelector('a[href], button, input, select, textarea, summary, [tabindex="0"]') && e !== document.body
        && e !== document.documentElement) found.stuck.push(e.outerHTML.slice(0, 120));
  }
  return found;
})()
"""
# What has the focus, and whether that can be seen: an outline, or another border or shadow than without it.
FOCUS = """
(() => {
  const e = document.activeElement, s = getComputedStyle(e);
  if (e === document.body) return null;
  const outline = s => s.outlineStyle === 'none' ? 'none' : s.outlineStyle + s.outlineWidth + s.outlineColor;
  const look = s => [outline(s), s.boxShadow, s.borderColor].join();
  const focused = look(s); e.blur(); const plain = look(getComputedStyle(e)); e.focus({preventScroll: true, focusVisible: true});
  const all = [...document.querySelectorAll('*')];
  return [all.indexOf(e), e.tagName + (e.id && '#' + e.id) + (e.name ? '[' + e.name + ']' : ''), focused !== plain];
})()
"""
CONTROLS = """
[...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')].filter(
  e => e.checkVisibility() && e.getClientRects().length && !e.disabled && e.tabIndex >= 0 && !['file', 'hidden'].includes(e.type)).length
"""


def check(found):
    assert found["faint"] == [], "text with too little contrast"
    assert found["nameless"] == [], "a picture or a control without a name"
    assert found["stuck"] == [], "a region that scrolls and that the keyboard does not reach"
    levels = found["headings"]
    assert levels[0] == 1 and all(b - a <= 1 for a, b in itertools.pairwise(levels)), levels


def tabbed(page, most=400):
    """The controls that Tab reaches, in order, each with whether its focus is seen."""
    seen = {}
    for _ in range(most):
        page.key("Tab")
        at = page.js(FOCUS)
        if at is None or at[0] in seen:
            break
        seen[at[0]] = tuple(at[1:])
    return list(seen.values())


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_can_be_read_and_every_control_reached(pages, tmp_path, dark):
    with Browser(tmp_path, (1280, 900), dark=dark) as page:
        for name in PAGES:
            page.open(pages[name].as_uri())
            if name in ("view", "comparison"):
                page.wait("document.querySelector('#detail h2') !== null")
                page.js("document.querySelectorAll('details').forEach(e => e.open = true)")
            check(page.js(AUDIT))
            if not dark:
                reached = tabbed(page)
                assert len(reached) >= min(page.js(CONTROLS), 400), f"{name}: {reached}"
                assert all(visible for _, visible in reached), f"{name}: {[what for what, visible in reached if not visible]}"


@pytest.mark.slow
@in_a_browser
@pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="no gradio")
def test_the_app_can_be_read_and_used_by_keyboard(sandbox, tmp_path):
    from codevision_lite.agent import AgentLimits
    from codevision_lite.app import build_app, launch

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    replies = [render_reply("Try.", ToolCall("result = nothing")), *REPLIES]
    app = build_app(ScriptedModel(replies), sandbox, AgentLimits(), "about the model")
    launch(app, port)
    try:
        for dark in (False, True):
            with Browser(tmp_path, (1280, 900), dark=dark) as page:
                page.open(f"http://127.0.0.1:{port}/?__theme={'dark' if dark else 'light'}")
                page.wait("document.querySelector('#ask') !== null && document.querySelector('#shown img') !== null")
                page.js("document.querySelector('#question textarea').focus()")
                page.key("Tab")  # from the question to the button, and no further key than Enter
                assert page.js("document.activeElement.id") == "ask" and page.js(FOCUS)[2], "the focus is seen"
                page.key("Enter")
                page.wait("document.querySelectorAll('.cv-answer').length == 2")
                assert page.js("document.documentElement.lang") == "en"
                page.js("document.activeElement.blur()")
                page.wait("document.getAnimations().length === 0")  # colours that are on their way to others
                found = page.js(AUDIT.replace("document.body", "document.querySelector('main')"))
                found["nameless"] = [what for what in found["nameless"] if "dropdown-arrow" not in what]  # beside a list that has its name
                check(found)
    finally:
        app.close(verbose=False)


def test_a_text_of_the_model_is_not_taken_for_a_heading(sandbox):
    """A panel's headings are ours: what a model writes is escaped (tests/test_app.py), its own marks stay text."""
    from codevision_lite.agent import AgentLimits
    from codevision_lite.app import watch

    said = render_reply("<h1>Big</h1>", answer="# Big")
    html = list(watch(ScriptedModel([said]), sandbox, picture(), "What?", AgentLimits()))[-1]
    assert [level for level, _ in Outline(html).headings] == [2]
