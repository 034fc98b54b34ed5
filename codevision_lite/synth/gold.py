"""Gold trajectories: scripts that were run in the sandbox and did what they claim, step by step.

A script says for every call what must come back: a failure, or a picture that shows a given part of the undamaged one,
upright (by the traced geometry and by the pixels), or one that is nearer to it than before. What does not is rejected, with
the reason. Writing scripts is the business of signs_scripts.py and page_scripts.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image

from codevision_lite.agent import AgentLimits, Episode, run_episodes
from codevision_lite.damage import damage_image, damage_matrix, parse_damage
from codevision_lite.geometry import apply_op, box_polygon, map_polygon
from codevision_lite.models import ScriptedModel
from codevision_lite.records import Box, Frame, Sample, Trajectory
from codevision_lite.synth.scene import Scene

LIMITS = AgentLimits(max_turns=12, max_images=16)
CORNER_PX = 1.0  # how far a corner may lie from where it should
PIXEL_ERROR = 14.0  # mean absolute difference, of 255, that enlarging a region may leave
NEARER = 0.97  # a remedy leaves at most this share of the error
LEVEL_DEG = 0.6


@dataclass(frozen=True)
class Item:
    """A sample with the scene it was made from (its undamaged picture and facts)."""

    sample: Sample
    scene: Scene


@dataclass(frozen=True)
class ScriptedReply:
    """One reply of a script and what must come of it."""

    text: str
    trained: bool = True  # its tokens are in the loss
    works: bool | None = None  # it is a call that must succeed, False: must fail, None: no call
    check: Literal["region", "nearer", "level"] | None = None  # what the returned picture must be
    shows: Box | None = None  # "region": the part of the undamaged picture, in its pixels


@dataclass(frozen=True)
class Script:
    """How an item is solved. `type`: "no_tool" | "single_tool" | "multi_tool" | "multi_crop" | "error_handling"."""

    item: Item
    type: str
    replies: tuple[ScriptedReply, ...]


@dataclass(frozen=True)
class Gold:
    """A verified trajectory. `trained` says, reply by reply, whether its tokens are in the loss."""

    item: Item
    type: str
    trajectory: Trajectory
    trained: tuple[bool, ...]


@dataclass(frozen=True)
class Rejected:
    """A script that did not do what it claims."""

    script: Script
    reason: str


def make_golds(scripts: Iterable[Script], sandbox: Any) -> Iterator[Gold | Rejected]:
    """Run every script in the sandbox and check every step. Times are left out of the record, so equal seeds give equal rows."""
    for script in scripts:
        model = ScriptedModel([r.text for r in script.replies])
        (episode,) = run_episodes(model, sandbox, [script.item.sample], LIMITS)
        problem = verify(script, episode)
        if problem is not None:
            yield Rejected(script, problem)
            continue
        yield Gold(script.item, script.type, timeless(episode.trajectory()), tuple(r.trained for r in script.replies))


def verify(script: Script, episode: Episode) -> str | None:
    """Why the episode is not gold, or None."""
    scene = script.item.scene
    if episode.end_reason != "answer" or episode.answer != scene.answer:
        return f"ended with {episode.end_reason}, answer {episode.answer!r} in place of {scene.answer!r}"
    for n, (turn, reply) in enumerate(zip(episode.turns, script.replies, strict=True)):
        seen = turn.observation
        if seen is None:
            continue
        if (seen.status == "ok") != reply.works:
            return f"reply {n} came back as {seen.status}: {seen.message.splitlines()[0][:100]}"
        if reply.check is None:
            continue
        picture, before = episode.images[seen.image_index], episode.images[seen.source_index]
        problem = _problem(script.item, reply, picture, seen.frame, before)
        if problem:
            return f"reply {n}: {problem}"
    return None


def _problem(item: Item, reply: ScriptedReply, picture: Image.Image, frame: Frame | None, before: Image.Image) -> str | None:
    canonical, sample = item.scene.image, item.sample
    if reply.check == "nearer":
        if picture.size != canonical.size or before.size != canonical.size:
            return f"{picture.width}x{picture.height} pixels can't be compared with the undamaged picture"
        gain = difference(picture, canonical) / max(1e-9, difference(before, canonical))
        return None if gain <= NEARER else f"no nearer to the undamaged picture (error x {gain:.2f})"
    if frame is None or len(frame.pieces) != 1:
        return "its geometry is not known"
    damaged = damage_matrix(sample.damage, canonical.size, sample.meta.get("damage_seed", 0))  # undamaged -> as shown
    matrix = np.linalg.inv(damaged) @ frame.matrix  # returned picture -> undamaged
    if reply.check == "level":
        angle = np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))
        mirrored = matrix[0, 0] * matrix[1, 1] < matrix[0, 1] * matrix[1, 0]
        return None if abs(angle) <= LEVEL_DEG and not mirrored else f"it is mirrored or hangs by {angle:.1f} degrees"
    corners = map_polygon(matrix, box_polygon((0, 0, *picture.size)))
    off = max((max(abs(x - u), abs(y - v)) for (x, y), (u, v) in zip(corners, box_polygon(reply.shows), strict=True)), default=np.inf)
    if off > CORNER_PX:
        return f"it shows another region, or not upright (off by {off:.1f} px)"
    if ":" in sample.damage:  # corrupted pixels: only the geometry can be exact
        return None
    wanted = canonical.crop(tuple(round(v) for v in reply.shows))
    if wanted.size == picture.size:
        return None if same_pixels(picture, wanted) else "its pixels are not those of the undamaged picture"
    error = difference(picture, wanted.resize(picture.size, Image.Resampling.BICUBIC))
    return None if error <= PIXEL_ERROR else f"its pixels differ from the undamaged picture by {error:.0f} of 255"


def restores(item: Item) -> bool:
    """Whether the required orientations, applied to the shown picture, give the undamaged one back, pixel by pixel. What has
    no exact inverse is left as it is: then the picture as it was before it was turned must come back."""
    image, damage = item.sample.image, item.sample.damage
    for op in item.sample.required_ops:
        image = image if op == "crop" else apply_op(image, op)
    left = "+".join(f"{name}:{value:g}" for name, value in parse_damage(damage) if value is not None)
    wanted = damage_image(item.scene.image, left or "none", item.sample.meta.get("damage_seed", 0), keep=item.scene.target_box)
    return same_pixels(image, wanted)


def replay(sample: Sample, trajectory: Trajectory, sandbox: Any) -> str | None:
    """Run a trajectory's replies again: why it does not give the same observations and pictures, or None."""
    (episode,) = run_episodes(ScriptedModel([t.text for t in trajectory.turns]), sandbox, [sample], LIMITS)
    again = timeless(episode.trajectory())
    if again.answer != trajectory.answer or len(again.images) != len(trajectory.images):
        return f"another end: answer {again.answer!r}, {len(again.images)} pictures"
    for n, (old, new) in enumerate(zip(trajectory.turns, again.turns, strict=True)):
        a, b = old.observation, new.observation
        if (a and (a.status, a.message)) != (b and (b.status, b.message)):
            return f"reply {n} is answered differently: {b and b.message!r}"
    for n, (old, new) in enumerate(zip(trajectory.images, again.images, strict=True)):
        if not same_pixels(old if isinstance(old, Image.Image) else Image.open(old), new):
            return f"picture {n} differs"
    return None


def timeless(trajectory: Trajectory) -> Trajectory:
    """Without the seconds that it took."""
    turns = tuple(replace(t, observation=t.observation and replace(t.observation, seconds=0.0)) for t in trajectory.turns)
    return replace(trajectory, turns=turns, seconds=0.0)


def same_pixels(a: Image.Image, b: Image.Image) -> bool:
    return a.size == b.size and a.mode == b.mode and a.tobytes() == b.tobytes()


def difference(a: Image.Image, b: Image.Image) -> float:
    """Mean absolute difference of two pictures of one size, in grey levels of 255."""
    return float(cv2.norm(np.asarray(a), np.asarray(b), cv2.NORM_L1)) / (a.width * a.height * 3)
