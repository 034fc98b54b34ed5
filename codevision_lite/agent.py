"""The loop and nothing else: model <-> sandbox over several turns, one sample or many at once.

Dialogues do not wait for each other: while some are decoded, the calls of others run, and those that have their results join
again in groups. When they join is decided by counts alone, never by a clock, so that equal seeds give equal trajectories.
Errors are observations: a reply that can't be read, a refused import, a crash or a timeout becomes a message that the
model can act on. Does not score, save or print.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from codevision_lite.errors import UserError
from codevision_lite.geometry import compose
from codevision_lite.imaging import open_image
from codevision_lite.models import ChatModel, Dialogue, Segment, StreamingModel, streaming
from codevision_lite.protocol import LAST_TURN, NOT_SHOWN, image_line, parse_reply, render_observation, render_prompt
from codevision_lite.records import EndReason, Frame, Observation, Sample, ToolCall, Trajectory, Turn

# A group joins when it is this large a share of those that are decoded: every join is a prefill, which all wait for.
JOIN_SHARE = 0.5
CALLS_AT_ONCE = 8  # handed to the sandbox, which has as many workers as it was given


@dataclass(frozen=True)
class AgentLimits:
    """Where a trajectory stops."""

    max_turns: int = 6  # replies; a call in the last one is not run
    max_reply_tokens: int = 512  # per reply
    max_tokens: int = 8192  # whole trajectory with picture tokens; needs a model that counts them
    max_images: int = 8  # the user's included
    tools: bool = True  # False: the prompt names no tool (direct answers)
    final_answer: bool = False  # True: when turns, tokens or images run out, the model is told to answer, with tokens held free for it

    @classmethod
    def of(cls, stage: Any) -> AgentLimits:
        """Those of a recipe's stage (RLStage, EvalStage)."""
        names = ("max_turns", "max_reply_tokens", "max_tokens", "max_images", "final_answer")
        return cls(**{name: getattr(stage, name) for name in names})


@dataclass(eq=False)
class Episode:
    """A trajectory in the making, with the dialogue that the model continues."""

    sample: Sample
    dialogue: Dialogue
    images: list[Image.Image]
    frames: list[Frame | None]  # of each image, to the user's (Piece.source says which)
    turns: list[Turn] = field(default_factory=list)
    answer: str | None = None
    end_reason: EndReason | None = None
    last_word: EndReason | None = None  # set once the model was told to answer: why
    started: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0

    def trajectory(self) -> Trajectory:
        assert self.end_reason is not None, f"{self.sample.id} is still running"
        return Trajectory(self.sample.id, tuple(self.turns), tuple(self.images), self.answer, self.end_reason, self.seconds)


def run_episode(model: ChatModel, sandbox: Any, sample: Sample, limits: AgentLimits = AgentLimits()) -> Trajectory:
    """One sample from question to answer. `sandbox`: a codevision_lite.sandbox.Sandbox."""
    return run_episodes(model, sandbox, [sample], limits)[0].trajectory()


def run_batch(
    model: ChatModel, sandbox: Any, samples: Sequence[Sample], limits: AgentLimits = AgentLimits(),
    on_progress: Callable[[int], None] | None = None,
) -> list[Trajectory]:  # fmt: skip
    """Many samples, `model.batch_size` at once; `on_progress` is told how many are done."""
    return [episode.trajectory() for episode in run_episodes(model, sandbox, samples, limits, on_progress)]


def run_episodes(
    model: ChatModel, sandbox: Any, samples: Sequence[Sample], limits: AgentLimits, on_progress: Callable[[int], None] | None = None,
    on_turn: Callable[[Episode], None] | None = None,
) -> list[Episode]:  # fmt: skip
    """Run all samples and give the finished episodes, in order, with their dialogues (token ids for RL).

    `on_turn` is given an episode after each reply, and again when the result of its call was shown; what it raises ends the run.

    At most `model.batch_size` are open at once; the next one starts when one ends.
    """
    episodes: list[Episode] = []
    replying: dict[int, Episode] = {}  # by id of the dialogue
    pending: list[tuple[Episode, Callable[[], Any] | None]] = []  # to be asked again, with the call whose result is shown first
    done = 0
    with streaming(model) as stream, _calls(sandbox) as start_call:
        while replying or pending or len(episodes) < len(samples):
            n_new = min(model.batch_size - len(replying) - len(pending), len(samples) - len(episodes))
            if len(pending) + n_new >= max(1, JOIN_SHARE * len(replying)):
                for episode, result in pending:
                    if result is not None:
                        _show_result(episode, result(), limits, stream)
                        if on_turn:
                            on_turn(episode)
                started = [start_episode(sample, limits) for sample in samples[len(episodes) : len(episodes) + n_new]]
                episodes += started
                for episode in [*(e for e, _ in pending), *started]:
                    if episode.end_reason is None:
                        replying[id(episode.dialogue)] = episode
                        stream.add(episode.dialogue, limits.max_reply_tokens)
                    else:
                        stream.drop(episode.dialogue)
                pending = []
            for dialogue, reply in stream.advance() if replying else ():
                episode = replying.pop(id(dialogue))
                dialogue.segments.append(reply)
                call = _read_reply(episode, reply, limits, stream)
                if on_turn:
                    on_turn(episode)
                if episode.end_reason is None:
                    pending.append((episode, call and start_call(call, episode.images)))
                else:
                    stream.drop(dialogue)
            n_done = sum(e.end_reason is not None for e in episodes)
            if on_progress and n_done > done:
                on_progress(n_done)
            done = n_done
    return episodes


@contextmanager
def _calls(sandbox: Any) -> Iterator[Callable[[ToolCall, list[Image.Image]], Callable[[], Any]]]:
    """Gives a function that starts a call and returns one that waits for its result.

    With worker processes calls run while the model goes on. An inline sandbox shares this process: its calls run when they
    are waited for.
    """
    if sandbox.mode == "inline":
        yield lambda call, images: lambda: sandbox.run(call.code, images, call.image_index)
        return
    with ThreadPoolExecutor(CALLS_AT_ONCE) as threads:
        yield lambda call, images: threads.submit(sandbox.run, call.code, images, call.image_index).result


def start_episode(sample: Sample, limits: AgentLimits) -> Episode:
    """The episode before its first reply. Raises UserError where the sample's image can't be opened."""
    images = [open_image(image) for image in (sample.image, *sample.more_images)]
    frames = [Frame.identity(*image.size, source) for source, image in enumerate(images)]
    return Episode(sample, Dialogue([_prompt_segment(sample, images, limits.tools)]), images, frames)


def _prompt_segment(sample: Sample, images: Sequence[Image.Image], tools: bool) -> Segment:
    """`images`: those of a trajectory, of which the user's come first."""
    shown = tuple(images[: 1 + len(sample.more_images)])
    sizes = [image.size for image in shown]
    return Segment("prompt", render_prompt(sample.question, sizes[0], tools, sizes[1:]), shown)


def _read_reply(episode: Episode, segment: Segment, limits: AgentLimits, stream: StreamingModel) -> ToolCall | None:
    """Record the reply as a turn; gives the call to run, if that is what it asks for."""
    reply = parse_reply(segment.text)
    n_tokens = len(segment.token_ids or ())
    turn = Turn(segment.text, reply.think, reply.call, reply.answer, None, reply.well_formed and segment.finished, n_tokens)
    episode.turns.append(turn)
    if reply.answer is not None:
        episode.answer = reply.answer
        _end(episode, "answer")
    elif not segment.finished:
        _end(episode, "length")
    elif reply.no_action and len(episode.turns) > 1 and _had_no_action(episode.turns[-2]):
        _end(episode, "no_action")  # told once, and again nothing to act on
    elif episode.last_word is not None:
        _end(episode, episode.last_word)
    elif len(episode.turns) == limits.max_turns:
        _end(episode, "max_turns")
    elif episode.dialogue.n_tokens >= limits.max_tokens:
        _end(episode, "length")
    elif reply.error is not None:
        _observe(episode, Observation("format", reply.error), None, limits, stream)
    elif not 0 <= reply.call.image_index < len(episode.images):
        last = len(episode.images) - 1
        message = f"There is no image {reply.call.image_index}; image_index goes from 0 to {last}."
        _observe(episode, Observation("error", message), None, limits, stream)
    else:
        return reply.call
    return None


def _end(episode: Episode, reason: EndReason) -> None:
    episode.end_reason, episode.seconds = reason, time.perf_counter() - episode.started


def _had_no_action(turn: Turn) -> bool:
    return turn.call is None and turn.answer is None and parse_reply(turn.text).no_action


def _show_result(episode: Episode, run: Any, limits: AgentLimits, stream: StreamingModel) -> None:
    """Show the model what came of its call."""
    source = episode.turns[-1].call.image_index
    index = len(episode.images) if run.status == "ok" else None
    frame = compose(run.frame, episode.frames) if index is not None and run.frame is not None else None
    observation = Observation(run.status, result_message(run, index), index, source, tuple(run.ops), frame, run.stdout, run.seconds)
    picture = None if index is None else open_image(run.result)  # as it will be read back from a row: RGB, transparency on white
    _observe(episode, observation, picture, limits, stream)


def result_message(run: Any, index: int | None) -> str:
    """What the model reads about a run. `index`: the number of the picture that came of it, None where none did."""
    if index is None:
        return run.message
    printed = f"\nPrinted: {run.stdout.strip()}" if run.stdout.strip() else ""
    return image_line(index, run.result.size) + printed


def _observe(
    episode: Episode, observation: Observation, picture: Image.Image | None, limits: AgentLimits, stream: StreamingModel
) -> None:  # fmt: skip
    """Append the observation, unless there is no room for it: then the model is told to answer, or the episode ends.

    With `final_answer`, room means that after it a reply, the last words to the model and the final reply fit as well.
    """
    held_free, room = 1, limits.max_tokens - episode.dialogue.n_tokens
    if limits.final_answer:
        last_words = _observation_segment(NOT_SHOWN, None)
        n_last = stream.encode(last_words)
        held_free = 2 * limits.max_reply_tokens + n_last
        if len(episode.turns) + 1 == limits.max_turns:
            observation = replace(observation, message=f"{observation.message}\n{LAST_TURN}")
            episode.last_word, held_free = "max_turns", limits.max_reply_tokens
    if picture is not None and len(episode.images) >= limits.max_images:
        reason: EndReason = "too_many_images"
    else:
        segment = _observation_segment(observation.message, picture)
        n_tokens = stream.encode(segment)
        if n_tokens == 0 or n_tokens + held_free <= room:  # 0: a model that does not count
            episode.turns[-1] = replace(episode.turns[-1], observation=observation)
            episode.dialogue.segments.append(segment)
            if picture is not None:
                episode.images.append(picture)
                episode.frames.append(observation.frame)
            return
        reason = "length"
    if not limits.final_answer or n_last > room:
        _end(episode, reason)
        return
    episode.last_word = reason
    status = "output" if observation.status == "ok" else observation.status
    unseen = replace(observation, status=status, message=NOT_SHOWN, image_index=None, frame=None)
    episode.turns[-1] = replace(episode.turns[-1], observation=unseen)
    episode.dialogue.segments.append(last_words)


def _observation_segment(message: str, picture: Image.Image | None) -> Segment:
    return Segment("observation", render_observation(message, picture is not None), () if picture is None else (picture,))


def dialogue_of(sample: Sample, trajectory: Trajectory, tools: bool = True) -> Dialogue:
    """The dialogue that the agent loop had, rebuilt from the record (a test holds the two together)."""
    images = [open_image(image) for image in trajectory.images]
    segments = [_prompt_segment(sample, images, tools)]
    for turn in trajectory.turns:
        segments.append(Segment("reply", turn.text))
        if turn.observation is not None:
            index = turn.observation.image_index
            segments.append(_observation_segment(turn.observation.message, None if index is None else images[index]))
    if segments[-1].role == "observation" and trajectory.answer is not None:
        raise UserError(f"{sample.id}: the trajectory has an answer but ends with an observation. Rebuild it with: make synth")
    return Dialogue(segments)
