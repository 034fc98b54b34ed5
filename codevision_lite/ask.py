"""One question about your own pictures: the agent loop, shown step by step as it goes.

The command line, the server and the app all ask through `answer`; what they show are its Steps.
"""

from __future__ import annotations

import io
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TextIO

from PIL import Image

from codevision_lite.agent import AgentLimits, Episode, run_episodes
from codevision_lite.datasets.rows import IMAGES, trajectory_row
from codevision_lite.errors import UserError
from codevision_lite.files import append_jsonl, explain_os_errors
from codevision_lite.imaging import content_name, open_image, save_png, set_pixel_budget
from codevision_lite.models import ChatModel, load_model
from codevision_lite.models.openai import ServerModel
from codevision_lite.models.server import ChatServer, ServerError
from codevision_lite.records import Observation, Sample, Trajectory, Turn
from codevision_lite.report.terminal_pictures import picture_escape, picture_protocol
from codevision_lite.sandbox import Sandbox

TINY = Path("sample_data/tiny_base")
DEMO = Path("runs/demo")
ROWS = "trajectories.jsonl"
# Of the view of one picture where neither the model nor the user says less: 1,280 tokens of Qwen2.5-VL, whose own limit is 16,384.
_MAX_PIXELS = 1_003_520


@dataclass(frozen=True)
class ModelChoice:
    """Which model answers. Nothing given: the tiny model of sample_data, with the newest adapter of runs/demo."""

    model: str | None = None  # local folder, hub name, or the server's name of the model
    adapter: str | None = None
    server: str | None = None  # URL of an OpenAI-compatible server, up to /v1
    quantize: Literal["nf4", "none"] = "nf4"
    backend: Literal["auto", "unsloth", "transformers"] = "auto"
    max_pixels: int | None = None  # of the model's view of a picture
    timeout_s: float = 300.0  # of one request to a server

    def resolved(self) -> ModelChoice:
        """With the default model in place of nothing. Raises UserError where a server is given without the name of its model, or with
        an adapter."""
        if self.server and self.adapter:
            raise UserError(f"--adapter {self.adapter}: a server loads its adapters itself; name the one to ask with --model NAME")
        if self.server and not self.model:
            raise UserError(f"--server {self.server}: name its model with --model NAME (the server lists them: {self.server}/models)")
        if self.model:
            return self
        tiny = TINY if TINY.is_dir() else Path(__file__).parent.parent / TINY  # from another folder than the project's
        return replace(self, model=str(tiny), adapter=self.adapter or newest_adapter(DEMO))

    @property
    def is_tiny(self) -> bool:
        return self.server is None and self.model is not None and Path(self.model).name == TINY.name

    @property
    def name(self) -> str:
        """Short, for people and for clients: the model's folder or hub name, with the stage of its adapter."""
        stage = f"+{Path(self.adapter).parent.name or Path(self.adapter).name}" if self.adapter else ""
        return f"{self.model if self.server else Path(str(self.model)).name}{stage}"

    def describe(self) -> str:
        """One or two plain sentences: who answers, and what to expect of the tiny model."""
        at = f" at {self.server}" if self.server else f" with {self.adapter}" if self.adapter else ""
        if not self.is_tiny:
            return f"model: {self.model}{at}"
        trained = "" if self.adapter else " It has no adapter yet and hardly uses its tool: make demo trains one."
        return (
            f"model: the tiny model{at}. It reads single characters and short words on drawn signs such as those of sample_data/images, "
            f"turned or mirrored, and nothing else; for photographs give --model or --server.{trained}"
        )


def newest_adapter(run_folder: Path) -> str | None:
    """The adapter of a run that was written last; None where none is there."""
    written = [path for stage in ("sft", "grpo") if (path := run_folder / stage / "adapter" / "adapter_config.json").is_file()]
    return str(max(written, key=lambda path: path.stat().st_mtime).parent) if written else None


def open_model(choice: ModelChoice, batch_size: int = 1) -> ChatModel:
    """The model of a resolved choice. Raises UserError where it can't be loaded."""
    if choice.server:
        return ServerModel(ChatServer(choice.server, choice.model, timeout_s=choice.timeout_s))
    options = {"adapter": choice.adapter, "quantize": choice.quantize, "backend": choice.backend, "max_pixels": choice.max_pixels}
    model = load_model(choice.model, batch_size=batch_size, **options)
    size = model.processor.image_processor.size
    if choice.max_pixels is None and size["longest_edge"] > _MAX_PIXELS:
        set_pixel_budget(model.processor, min(size["shortest_edge"], _MAX_PIXELS), _MAX_PIXELS)
    return model


@dataclass(frozen=True)
class Step:
    """Something that has just happened in an episode."""

    kind: Literal["thought", "code", "raw", "result", "problem"]  # raw: a reply that is neither call nor answer
    text: str  # of a result: the operations that ran; of a problem: what the model was told
    turn: int  # from 1
    image: Image.Image | None = None  # the picture that the code returned, RGB
    image_index: int | None = None


def answer(
    model: ChatModel, sandbox: Any, pictures: Sequence[str | Path | Image.Image], question: str, limits: AgentLimits,
    on_step: Callable[[Step], None] | None = None,
) -> Episode:  # fmt: skip
    """Ask one question about one or more pictures. Files are turned upright by their EXIF orientation (imaging.open_image).

    `on_step` is told what happens as it does; what it raises ends the episode.
    Raises UserError for a picture that can't be opened, too many of them, an empty question, or a server that fails.
    """
    if not question.strip():
        raise UserError("the question is empty")
    if not 1 <= len(pictures) <= limits.max_images - limits.tools:
        room = ", one of them the tool's" if limits.tools else ""
        most = limits.max_images - limits.tools
        raise UserError(f"{len(pictures)} pictures: give 1 to {most} (at most {limits.max_images} in all{room})")
    first, *more = [open_image(picture) for picture in pictures]
    name = f"ask-{content_name(first)}-{time.strftime('%Y%m%d-%H%M%S')}"
    sample = Sample(name, question, first, answers=(), source="ask", more_images=tuple(more))
    watch = on_step and _Watch(on_step)
    try:
        return run_episodes(model, sandbox, [sample], limits, on_turn=watch)[0]
    except ServerError as e:
        raise UserError(f"the model's server could not be asked: {terminal_text(str(e))}") from e


class Running:
    """An `answer` under way in a thread of its own, for those who show or send its steps.

    `events`: Steps, and at last the Episode or the exception that ended it. `at_end` is called when the thread is done.
    """

    def __init__(
        self, model: ChatModel, sandbox: Any, pictures: Sequence[str | Path | Image.Image], question: str, limits: AgentLimits,
        at_end: Callable[[], None] = lambda: None,
    ):  # fmt: skip
        self.events: queue.Queue[Step | Episode | Exception] = queue.Queue()
        self._stopped = threading.Event()
        asked = model, sandbox, pictures, question, limits, at_end
        threading.Thread(target=self._work, args=asked, name="answer", daemon=True).start()

    def stop(self) -> None:
        """End it at its next step: nobody listens any more."""
        self._stopped.set()

    def _work(
        self, model: ChatModel, sandbox: Any, pictures: Sequence[Any], question: str, limits: AgentLimits, at_end: Callable[[], None]
    ) -> None:  # fmt: skip
        try:
            self.events.put(answer(model, sandbox, pictures, question, limits, self._step))
        except Exception as e:
            self.events.put(e)
        finally:
            at_end()

    def _step(self, step: Step) -> None:
        if self._stopped.is_set():
            raise InterruptedError("nobody waits for the answer")
        self.events.put(step)


class _Watch:
    """Turns what is new in an episode into steps; an agent loop's `on_turn`."""

    def __init__(self, on_step: Callable[[Step], None]):
        self.on_step, self.n_turns = on_step, 0

    def __call__(self, episode: Episode) -> None:
        number, turn = len(episode.turns), episode.turns[-1]
        if number > self.n_turns:
            self.n_turns = number
            self._reply(turn, number)
        if turn.observation is not None:
            self._observation(turn.observation, episode, number)

    def _reply(self, turn: Turn, number: int) -> None:
        if turn.think:
            self.on_step(Step("thought", turn.think, number))
        if turn.call is not None:
            self.on_step(Step("code", turn.call.code, number))
        elif turn.answer is None:
            self.on_step(Step("raw", turn.text, number))

    def _observation(self, seen: Observation, episode: Episode, number: int) -> None:
        if seen.image_index is None:
            self.on_step(Step("problem", seen.message, number))
            return
        ran = ", ".join(map(str, seen.ops)) or "no operation was seen"
        self.on_step(Step("result", ran, number, episode.images[seen.image_index], seen.image_index))


NO_ANSWER = {
    "max_turns": "the turns were used up. Allow more with --max-turns",
    "length": "the tokens were used up. Allow more with --max-reply-tokens and --max-tokens, or lower --max-pixels",
    "no_action": "its replies hold neither a tool call nor <answer>...</answer>. Ask a model that was trained for it",
    "too_many_images": "too many pictures came back",
}


def ask(
    choice: ModelChoice, photos: Sequence[Path], question: str, limits: AgentLimits, out: Path, *, as_json: bool = False,
    stream: TextIO | None = None, model: ChatModel | None = None,
) -> Trajectory:  # fmt: skip
    """The verb: answer one question, show its steps on `stream` (default: stdout), keep the row in `out`/trajectories.jsonl.

    `model`: what answers in place of the one that `choice` names. Raises UserError where there is no answer in the end.
    """
    stream = stream or sys.stdout
    for photo in photos:
        if not photo.is_file():
            raise UserError(f'{photo}: no such image file. Pictures come first: codevision-lite ask photo.jpg "What is written here?"')
    choice = choice.resolved()
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")  # a terminal that can't show a letter shows its number
    if not as_json:
        print(terminal_text(choice.describe()), file=sys.stderr, flush=True)
    model = model or open_model(choice)
    show = None if as_json else _Printer(stream, out)
    with Sandbox(mode="worker" if limits.tools else "inline") as sandbox:  # without tools no code runs, no process is needed
        episode = answer(model, sandbox, photos, question, limits, show)
    sample, trajectory = episode.sample, episode.trajectory()
    row = trajectory_row(out, sample, trajectory, stage=choice.name, asked=[str(photo) for photo in photos])
    append_jsonl(out / ROWS, row)
    if as_json:
        print(json.dumps(_result(choice, sample, trajectory, row, out), ensure_ascii=False, indent=1), file=stream)
    if trajectory.answer is None:
        raise UserError(f"no answer: {NO_ANSWER[trajectory.end_reason]} (kept in {out / ROWS})")
    if not as_json:
        print(f"Answer: {terminal_text(trajectory.answer)}", file=stream, flush=True)
    return trajectory


def _result(choice: ModelChoice, sample: Sample, trajectory: Trajectory, row: dict[str, Any], out: Path) -> dict[str, Any]:
    return {
        "question": sample.question, "answer": trajectory.answer, "end_reason": trajectory.end_reason,
        "seconds": round(trajectory.seconds, 2), "model": choice.model, "adapter": choice.adapter, "server": choice.server,
        "images": [str(out / name) for name in row["trajectory"]["images"]], "n_user_images": 1 + len(sample.more_images),
        "turns": row["trajectory"]["turns"],
    }  # fmt: skip


class _Printer:
    """Shows steps on a stream; pictures as their paths, and in the terminal where it says that it can."""

    def __init__(self, stream: TextIO, folder: Path):
        self.stream, self.folder, self.turn = stream, folder, 0
        self.protocol = picture_protocol(os.environ, stream.isatty())

    def __call__(self, step: Step) -> None:
        if step.turn != self.turn:
            self.turn = step.turn
            self._line(f"[{step.turn}]")
        if step.kind == "thought":
            self._line(f"  {terminal_text(step.text)}")
        elif step.kind in ("code", "raw"):
            text = terminal_text(step.text).strip("\n")
            self._line("\n".join(f"    {line}" for line in text.split("\n")))
        elif step.kind == "problem":
            self._line(f"  problem: {terminal_text(step.text)}")
        else:
            with explain_os_errors(self.folder):
                path = self.folder / IMAGES / save_png(step.image, self.folder / IMAGES)
            self._line(f"  ran {terminal_text(step.text)} -> picture {step.image_index}, {step.image.width}x{step.image.height}: {path}")
            if self.protocol:
                self._line(picture_escape(step.image, self.protocol))

    def _line(self, text: str) -> None:
        print(text, file=self.stream, flush=True)


def terminal_text(text: str) -> str:
    """What a model or a server wrote, with control characters as question marks: they could move the cursor, or worse.

    >>> terminal_text("a\\x1b[2Jb")
    'a?[2Jb'
    """
    return "".join(c if c in "\n\t" or c.isprintable() else "?" for c in text)
