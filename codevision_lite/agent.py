"""The loop and nothing else: model <-> sandbox over several turns, one sample or a batch in step.

Errors are observations: a reply that can't be read, a refused import, a crash or a timeout becomes a message that the
model can act on. Does not score, save or print.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from codevision_lite.errors import UserError
from codevision_lite.geometry import compose
from codevision_lite.imaging import open_image
from codevision_lite.models import ChatModel, Dialogue, Segment
from codevision_lite.protocol import image_line, parse_reply, render_observation, render_prompt
from codevision_lite.records import EndReason, Frame, Observation, Sample, ToolCall, Trajectory, Turn


@dataclass(frozen=True)
class AgentLimits:
    """Where a trajectory stops."""

    max_turns: int = 6  # replies; a call in the last one is not run
    max_reply_tokens: int = 512  # per reply
    max_tokens: int = 8192  # whole trajectory with picture tokens; needs a model that counts them
    max_images: int = 8  # the user's included
    tools: bool = True  # False: the prompt names no tool (direct answers)


@dataclass(eq=False)
class Episode:
    """A trajectory in the making, with the dialogue that the model continues."""

    sample: Sample
    dialogue: Dialogue
    images: list[Image.Image]
    frames: list[Frame | None]  # of each image, to image 0
    turns: list[Turn] = field(default_factory=list)
    answer: str | None = None
    end_reason: EndReason | None = None
    started: float = field(default_factory=time.perf_counter)

    def trajectory(self) -> Trajectory:
        assert self.end_reason is not None, f"{self.sample.id} is still running"
        seconds = time.perf_counter() - self.started
        return Trajectory(self.sample.id, tuple(self.turns), tuple(self.images), self.answer, self.end_reason, seconds)


def run_episode(model: ChatModel, sandbox: Any, sample: Sample, limits: AgentLimits = AgentLimits()) -> Trajectory:
    """One sample from question to answer. `sandbox`: a codevision_lite.sandbox.Sandbox."""
    return run_episodes(model, sandbox, [sample], limits)[0].trajectory()


def run_batch(
    model: ChatModel, sandbox: Any, samples: Sequence[Sample], limits: AgentLimits = AgentLimits(),
    on_progress: Callable[[int], None] | None = None,
) -> list[Trajectory]:  # fmt: skip
    """Many samples, `model.batch_size` at a time; `on_progress` is told how many are done."""
    trajectories: list[Trajectory] = []
    for at in range(0, len(samples), model.batch_size):
        episodes = run_episodes(model, sandbox, samples[at : at + model.batch_size], limits)
        trajectories.extend(episode.trajectory() for episode in episodes)
        if on_progress:
            on_progress(len(trajectories))
    return trajectories


def run_episodes(model: ChatModel, sandbox: Any, samples: Sequence[Sample], limits: AgentLimits) -> list[Episode]:
    """Run all samples in step, in one batch, and give the finished episodes with their dialogues (token ids for RL)."""
    episodes = [start_episode(sample, limits) for sample in samples]
    running = list(episodes)
    for turn in range(limits.max_turns):
        replies = model.reply([e.dialogue for e in running], limits.max_reply_tokens)
        calls: list[tuple[Episode, ToolCall]] = []
        for episode, reply in zip(running, replies, strict=True):
            episode.dialogue.segments.append(reply)
            call = _read_reply(episode, reply, limits, is_last=turn + 1 == limits.max_turns)
            if call is not None:
                calls.append((episode, call))
        _run_calls(calls, sandbox, limits)
        running = [e for e in running if e.end_reason is None]
        if not running:
            break
    return episodes


def start_episode(sample: Sample, limits: AgentLimits) -> Episode:
    """The episode before its first reply. Raises UserError where the sample's image can't be opened."""
    image = open_image(sample.image)
    prompt = Segment("prompt", render_prompt(sample.question, image.size, limits.tools), (image,))
    return Episode(sample, Dialogue([prompt]), [image], [Frame.identity(*image.size)])


def _read_reply(episode: Episode, segment: Segment, limits: AgentLimits, is_last: bool) -> ToolCall | None:
    """Record the reply as a turn; gives the call to run, if that is what it asks for."""
    reply = parse_reply(segment.text)
    n_tokens = len(segment.token_ids or ())
    turn = Turn(segment.text, reply.think, reply.call, reply.answer, None, reply.well_formed and segment.finished, n_tokens)
    episode.turns.append(turn)
    if reply.answer is not None:
        episode.answer, episode.end_reason = reply.answer, "answer"
    elif not segment.finished or episode.dialogue.n_tokens >= limits.max_tokens:
        episode.end_reason = "length"
    elif reply.no_action and len(episode.turns) > 1 and _had_no_action(episode.turns[-2]):
        episode.end_reason = "no_action"  # told once, and again nothing to act on
    elif is_last:
        episode.end_reason = "max_turns"
    elif reply.error is not None:
        _observe(episode, Observation("format", reply.error))
    elif not 0 <= reply.call.image_index < len(episode.images):
        last = len(episode.images) - 1
        _observe(episode, Observation("error", f"There is no image {reply.call.image_index}; image_index goes from 0 to {last}."))
    else:
        return reply.call
    return None


def _had_no_action(turn: Turn) -> bool:
    return turn.call is None and turn.answer is None and parse_reply(turn.text).no_action


def _run_calls(calls: list[tuple[Episode, ToolCall]], sandbox: Any, limits: AgentLimits) -> None:
    runs = sandbox.run_batch([(call.code, episode.images, call.image_index) for episode, call in calls]) if calls else []
    for (episode, call), run in zip(calls, runs, strict=True):
        if run.status == "ok" and len(episode.images) >= limits.max_images:
            episode.end_reason = "too_many_images"
            continue
        index = len(episode.images) if run.status == "ok" else None
        observation = Observation(
            run.status, _message(run, index), index, call.image_index, tuple(run.ops),
            compose(run.frame, episode.frames) if index is not None and run.frame is not None else None,
            run.stdout, run.seconds,
        )  # fmt: skip
        if index is None:
            _observe(episode, observation)
            continue
        result = open_image(run.result)  # as it will be read back from a row: RGB, transparency on white
        episode.images.append(result)
        episode.frames.append(observation.frame)
        _observe(episode, observation, (result,))


def _message(run: Any, index: int | None) -> str:
    if index is None:
        return run.message
    printed = f"\nPrinted: {run.stdout.strip()}" if run.stdout.strip() else ""
    return image_line(index, run.result.size) + printed


def _observe(episode: Episode, observation: Observation, images: tuple[Image.Image, ...] = ()) -> None:
    episode.turns[-1] = replace(episode.turns[-1], observation=observation)
    episode.dialogue.segments.append(Segment("observation", render_observation(observation.message, bool(images)), images))


def dialogue_of(sample: Sample, trajectory: Trajectory, tools: bool = True) -> Dialogue:
    """The dialogue that the agent loop had, rebuilt from the record (a test holds the two together)."""
    images = [open_image(image) for image in trajectory.images]
    segments = [Segment("prompt", render_prompt(sample.question, images[0].size, tools), (images[0],))]
    for turn in trajectory.turns:
        segments.append(Segment("reply", turn.text))
        if turn.observation is not None:
            index = turn.observation.image_index
            pictures = () if index is None else (images[index],)
            segments.append(Segment("observation", render_observation(turn.observation.message, bool(pictures)), pictures))
    if segments[-1].role == "observation" and trajectory.answer is not None:
        raise UserError(f"{sample.id}: the trajectory has an answer but ends with an observation. Rebuild it with: make synth")
    return Dialogue(segments)
