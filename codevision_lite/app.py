"""The app in the browser: damage a picture, ask with and without tools side by side, watch the turns. Needs requirements-ui.txt.

Listens on this machine only, shares nothing, sends no statistics and loads nothing from elsewhere.
"""

from __future__ import annotations

import base64
import io
import json
import os
import traceback
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from codevision_lite.agent import AgentLimits, Episode
from codevision_lite.ask import NO_ANSWER, ModelChoice, Running, Step, open_model
from codevision_lite.damage import CORRUPTIONS, MAX_TILT_DEG, damage_image
from codevision_lite.errors import MissingPackage, UserError
from codevision_lite.imaging import open_image
from codevision_lite.models import ChatModel
from codevision_lite.models.shared import SharedModel, shared
from codevision_lite.report.highlight import highlight
from codevision_lite.sandbox import Sandbox

HOST = "127.0.0.1"
AT_ONCE = 4  # questions that are answered together; the two of a side-by-side are two
MAX_FILE = "32mb"
_SAMPLES = Path(__file__).parent.parent / "sample_data"
_TURNS = {"as it is": "", "90° left": "rotate_90", "180°": "rotate_180", "90° right": "rotate_270"}
_MIRRORS = {"no": "", "left and right": "flip_horizontal", "top and bottom": "flip_vertical"}
_SHOWN_PX = 520  # long side of a picture on the page: sharp at twice the density
_NO_OPTIONS = {"max_turns": "the turns were used up", "length": "the tokens were used up"}  # where the command line names an option


def run_app(choice: ModelChoice, limits: AgentLimits, port: int, model: ChatModel | None = None) -> None:
    """Load the model and show the app until Ctrl-C. Raises MissingPackage without gradio, UserError where the port is taken."""
    import_gradio()
    print(choice.describe(), flush=True)
    model = shared(model or open_model(choice, batch_size=AT_ONCE))
    with Sandbox(mode="worker", workers=2) as sandbox:
        app = build_app(model, sandbox, limits, choice.describe())
        try:
            launch(app, port)
        except OSError as e:
            raise UserError(f"port {port} can't be used ({e}). Choose another with --port") from e
        print(f"the app is at http://{HOST}:{port} (Ctrl-C ends it)", flush=True)
        try:
            app.block_thread()
        except KeyboardInterrupt:
            print("stopped", flush=True)
        finally:
            app.close(verbose=False)
    if isinstance(model, SharedModel):
        model.close()


def import_gradio() -> Any:
    """gradio, told to send nothing. Raises MissingPackage where it is not installed."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import gradio
    except ImportError as e:
        raise MissingPackage(f"the app needs gradio ({e}). Install it: pip install --no-deps -r requirements-ui.txt") from e
    return gradio


def launch(app: Any, port: int, **options: Any) -> None:
    """Start serving the app on this machine, in threads of its own; returns at once."""
    gr = import_gradio()
    theme = gr.themes.Default(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    theme = theme.set(button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700")  # contrast 5.2
    app.queue(default_concurrency_limit=AT_ONCE, api_open=False).launch(
        server_name=HOST, server_port=port, share=False, inbrowser=False, prevent_thread_lock=True, quiet=True, show_error=True,
        footer_links=[], enable_monitoring=False, ssr_mode=False, run_history=False, max_file_size=MAX_FILE, theme=theme,
        css_paths=[Path(__file__).with_name("app.css")], **options,
    )  # fmt: skip


def build_app(model: ChatModel, sandbox: Any, limits: AgentLimits, about: str) -> Any:
    """The page (a gradio.Blocks). `model` may be asked from several threads; `about`: a sentence on what it can do."""
    gr = import_gradio()
    first, question = _first_sample()

    def preview(path: str | None, *damage: Any) -> str:
        return shown_html(None if path is None else _damaged(gr, path, *damage))

    def ask(tools: bool) -> Any:
        def run(path: str | None, question: str, *damage: Any) -> Iterator[str]:
            if path is None:
                raise gr.Error("Drop a picture first.", print_exception=False)
            yield from watch(model, sandbox, _damaged(gr, path, *damage), question, replace(limits, tools=tools))

        return run

    with gr.Blocks(title="codevision-lite", analytics_enabled=False, delete_cache=(3600, 3600)) as app:
        gr.HTML(f'<div class="cv-head"><h1>codevision-lite</h1><p>{escape(about)}</p></div>', elem_id="about")
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=380):
                with gr.Row(equal_height=True):
                    picture = gr.Image(first, type="filepath", format="png", sources=["upload", "clipboard"], height=230, min_width=180,
                                       buttons=[], label="Your picture", elem_id="picture")  # fmt: skip
                    shown = gr.HTML(shown_html(None), min_width=180, elem_id="shown")
                with gr.Row():
                    turn = gr.Dropdown(list(_TURNS), value="as it is", label="Turn", min_width=120, elem_id="turn")
                    mirror = gr.Dropdown(list(_MIRRORS), value="no", label="Mirror", min_width=120)
                with gr.Row():
                    corruption = gr.Dropdown(["none", *CORRUPTIONS], value="none", label="Corruption", min_width=120)
                    severity = gr.Slider(1, 5, value=3, step=1, label="Severity", min_width=120)
                tilt = gr.Slider(-MAX_TILT_DEG, MAX_TILT_DEG, value=0, step=0.5, label="Tilt, degrees to the left", elem_id="tilt")
            with gr.Column(scale=7, min_width=420):
                with gr.Row(equal_height=True):
                    text = gr.Textbox(question, label="Question", scale=5, max_lines=3, elem_id="question")
                    go = gr.Button("Ask", variant="primary", scale=1, min_width=90, elem_id="ask")
                with gr.Row(equal_height=False):
                    with_tools = gr.HTML(panel_html("With tools", [], None), min_height=220, elem_id="with-tools")
                    without = gr.HTML(panel_html("Without tools", [], None), min_height=220, elem_id="without-tools")
        damage = [turn, mirror, tilt, corruption, severity]
        gr.on([app.load, picture.change, *(control.change for control in damage)], preview, [picture, *damage], shown,
              show_progress="hidden", trigger_mode="always_last")  # fmt: skip
        for tools, out in ((True, with_tools), (False, without)):
            gr.on([go.click, text.submit], ask(tools), [picture, text, *damage], out, show_progress="hidden")
    return app


def watch(model: ChatModel, sandbox: Any, picture: Image.Image, question: str, limits: AgentLimits) -> Iterator[str]:
    """A panel's HTML, again after every step of the episode; closing the generator ends the episode."""
    title = "With tools" if limits.tools else "Without tools"
    steps: list[Step] = []
    run = Running(model, sandbox, [picture], question, limits)
    end: Episode | Exception | str = "busy"
    try:
        while end == "busy":
            yield panel_html(title, steps, end)
            new = [run.events.get()]
            while not run.events.empty():  # what has piled up is drawn once
                new.append(run.events.get())
            steps += [event for event in new if isinstance(event, Step)]
            end = end if isinstance(new[-1], Step) else new[-1]
        yield panel_html(title, steps, end)
    finally:
        run.stop()
    if isinstance(end, Exception) and not isinstance(end, UserError):
        traceback.print_exception(end)


def panel_html(title: str, steps: list[Step], end: Episode | Exception | str | None) -> str:
    """One side: its steps by turn, and how it ended. `end`: "busy" while it goes on, None before it was asked."""
    turns: dict[int, str] = {}
    for step in steps:
        turns[step.turn] = turns.get(step.turn, "") + _step_html(step)
    items = "".join(f'<li><span class="cv-turn">Turn {number}</span>{html}</li>' for number, html in turns.items())
    tail = ""
    if end == "busy":
        tail = '<p class="cv-facts cv-busy">The model is writing</p>'
    elif end is None:
        tail = '<p class="cv-facts">Nothing asked yet.</p>'
    elif isinstance(end, Episode):
        facts = f'<p class="cv-facts">{len(end.turns)} {"reply" if len(end.turns) == 1 else "replies"}, {end.seconds:.1f} s</p>'
        if end.answer is None:
            why = _NO_OPTIONS.get(end.end_reason) or NO_ANSWER[end.end_reason]
            tail = f'<p class="cv-answer none">No answer: {escape(why)}</p>{facts}'
        else:
            tail = f'<p class="cv-answer">Answer: <b>{escape(end.answer) or "(empty)"}</b></p>{facts}'
    elif isinstance(end, Exception):
        tail = f'<p class="cv-problem">{escape(str(end) or type(end).__name__)}</p>'
    return f'<section class="cv-panel" aria-live="polite"><h2>{escape(title)}</h2><ol>{items}</ol>{tail}</section>'


def shown_html(picture: Image.Image | None) -> str:
    """What the model is shown, inside the page: gradio would write a file, and serve it while it is written anew."""
    size = f", {picture.width}×{picture.height} px" if picture else ""
    image = f'<img src="{_data_url(picture)}" alt="Your picture, as the model is shown it">' if picture else ""
    return f'<figure class="cv-shown"><figcaption>As shown{size}</figcaption>{image}</figure>'


def _step_html(step: Step) -> str:
    if step.kind == "thought":
        return f'<p class="cv-think">{escape(step.text)}</p>'
    if step.kind == "code":
        return f'<pre tabindex="0"><code>{highlight(step.text)}</code></pre>'
    if step.kind == "raw":
        return f'<pre tabindex="0">{escape(step.text)}</pre>'
    if step.kind == "problem":
        return f'<p class="cv-problem">{escape(step.text)}</p>'
    size = f"{step.image.width}×{step.image.height} px"
    alt = escape(f"Picture {step.image_index}, returned by the code: {step.text}")
    return (
        f'<p>ran <code>{escape(step.text)}</code></p><figure><img src="{_data_url(step.image)}" alt="{alt}">'
        f"<figcaption>picture {step.image_index} · {size}</figcaption></figure>"
    )


def _data_url(image: Image.Image) -> str:
    small, buffer = image.copy(), io.BytesIO()
    small.thumbnail((_SHOWN_PX, _SHOWN_PX))
    small.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def damage_of(turn: str, mirror: str, tilt: float, corruption: str, severity: float) -> str:
    """The damage that the controls name, as damage.py writes it.

    >>> damage_of("90° left", "no", -3.5, "noise", 2), damage_of("as it is", "no", 0, "none", 3)
    ('noise:2+tilt:-3.5+rotate_90', 'none')
    """
    corrupted = "" if corruption == "none" else f"{corruption}:{int(severity)}"
    parts = [corrupted, f"tilt:{tilt:g}" if tilt else "", _TURNS[turn], _MIRRORS[mirror]]
    return "+".join(part for part in parts if part) or "none"


def _damaged(gr: Any, path: str, *damage: Any) -> Image.Image:
    try:
        return open_image(damage_image(open_image(path), damage_of(*damage)))
    except UserError as e:
        raise gr.Error(str(e), print_exception=False) from e


def _first_sample() -> tuple[str | None, str]:
    """An upright picture of sample_data and its question, so that the first click shows something; none where it is not there."""
    rows = _SAMPLES / "pictures.jsonl"
    if rows.is_file():
        for line in rows.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["damage"] == "none" and (_SAMPLES / row["image"]).is_file():
                return str(_SAMPLES / row["image"]), row["question"]
    return None, "What is written here?"
