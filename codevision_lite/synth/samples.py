"""Items of the world of signs: a scene, a damage, and what it takes to answer. Splits never share a content key.

A split owns every content key that hashes into its share, so the same seed gives the same rows on any machine and
held-out pictures can't appear in training, whatever the number of rows.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator

from codevision_lite.damage import CORRUPTIONS, damage_box, damage_image, undo
from codevision_lite.geometry import ORIENTATIONS
from codevision_lite.records import Sample
from codevision_lite.synth.gold import Item
from codevision_lite.synth.signs import CANVASES, KIND_WEIGHTS, KINDS, draw_scene, is_clear

SPLITS = {"train": (0, 70), "rl": (70, 85), "test": (85, 100)}  # percent of content keys
READ_KINDS = tuple(k for k in KINDS if k != "label")
READ_WEIGHTS = tuple(w for k, w in zip(KINDS, KIND_WEIGHTS, strict=True) if k != "label")
CONDITIONS = ("upright", *ORIENTATIONS, "crop", "orientation+crop")
TRANSPOSE = "rotate_90+flip_vertical"  # a mirror on the diagonal, which none of ORIENTATIONS undoes by itself
SEVERITY = 3  # of a corruption: clearly bad, and still to be read


def split_of(content_key: str) -> str:
    """The split that owns a content key."""
    share = int(hashlib.sha256(content_key.encode()).hexdigest()[:8], 16) % 100
    return next(name for name, (low, high) in SPLITS.items() if low <= share < high)


def make_item(rng: random.Random, split: str, condition: str, canvases: tuple[int, ...] = CANVASES) -> Item:
    """One item of a condition: "upright", an orientation, "crop" or "orientation+crop"; for tests alone "corruption" and "transpose".

    Scenes that the damage would make ambiguous (a flipped A) and signs that are not clear (signs.is_clear) are drawn again, so
    every orientation in `required_ops` is one that can be seen; a damage that leaves the answer readable requires nothing.
    """
    needs_crop = condition in ("crop", "orientation+crop")
    damage = _draw_damage(rng, condition)
    kind = "label" if needs_crop else rng.choices(READ_KINDS, READ_WEIGHTS)[0]
    while True:
        scene = draw_scene(rng, kind, canvases)
        harmless = scene.readable_under is None or damage in scene.readable_under
        if split_of(scene.content_key) == split and is_clear(scene) and (damage == "none" or not scene.readable_under or harmless):
            break
    required = (() if harmless else undo(damage)) + (("crop",) if needs_crop else ())
    size = scene.image.size
    key = hashlib.sha256(f"{scene.content_key}|{scene.question}|{damage}".encode()).hexdigest()[:12]
    seed = int(key, 16) if condition == "corruption" else 0
    drawn = {"damage_seed": seed} if seed else {}
    image = damage_image(scene.image, damage, seed, keep=scene.target_box)
    box = scene.target_box and damage_box(scene.target_box, damage, size, seed)
    sample = Sample(
        id=f"{condition}-{key}", question=scene.question, image=image, answers=(scene.answer,), required_ops=required, target_box=box,
        damage=damage, source="synth", meta={"condition": condition, "kind": scene.kind, "content_key": scene.content_key} | drawn,
    )  # fmt: skip
    return Item(sample, scene)


def _draw_damage(rng: random.Random, condition: str) -> str:
    if condition == "orientation+crop":
        return rng.choice(ORIENTATIONS)
    if condition == "corruption":
        return f"{rng.choice(CORRUPTIONS)}:{SEVERITY}"
    return {"upright": "none", "crop": "none", "transpose": TRANSPOSE}.get(condition, condition)


def make_items(seed: int | str, split: str, n: int, weights: dict[str, float]) -> Iterator[Item]:
    """`n` items, the same for the same seed; conditions in the proportion of `weights`, evenly spread, no two alike."""
    rng = random.Random(f"{seed}/{split}")
    seen: set[str] = set()
    for condition in itertools.islice(evenly(weights), n):
        item = make_item(rng, split, condition)
        while item.sample.id in seen:
            item = make_item(rng, split, condition)
        seen.add(item.sample.id)
        yield item


def evenly(weights: dict[str, float]) -> Iterator[str]:
    """Names without end, in the proportion of `weights`, each as evenly spread as can be.

    >>> "".join(itertools.islice(evenly({"a": 2, "b": 1}), 6))
    'abaaba'
    """
    total, owed = sum(weights.values()), dict.fromkeys(weights, 0.0)
    while True:
        for name in weights:
            owed[name] += weights[name] / total
        name = max(owed, key=lambda n: owed[n])
        owed[name] -= 1
        yield name
