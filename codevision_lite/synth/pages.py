"""The world of pages: scenes of sources.py, damaged, as items of a wanted condition and as scripts of a wanted type.

Rows are made in chunks. A chunk depends on the seed, the split and its number alone, so any number of processes makes the
same rows. Within a chunk every scene that is drawn goes to the first open place that it suits, since drawing is what costs.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence

from codevision_lite.damage import CORRUPTIONS, damage_box, damage_image, undo
from codevision_lite.errors import UserError
from codevision_lite.geometry import ORIENTATIONS
from codevision_lite.records import Sample
from codevision_lite.synth.code_styles import REMEDIED
from codevision_lite.synth.gold import Item, Script
from codevision_lite.synth.page_scripts import NoScript, write_script
from codevision_lite.synth.samples import evenly, split_of
from codevision_lite.synth.scene import Scene
from codevision_lite.synth.sources import Draw

CONDITIONS = ("upright", *ORIENTATIONS, "crop", "orientation+crop", "corruption", "corruption+orientation")
# type of trajectory -> conditions that it solves, with weights
_SOLVES: dict[str, dict[str, float]] = {
    "no_tool": {"upright": 0.8, "corruption": 0.2},
    "single_tool": {**dict.fromkeys(ORIENTATIONS, 0.12), "crop": 0.25, "corruption": 0.15},
    "multi_tool": {"orientation+crop": 0.65, "corruption+orientation": 0.35},
    "multi_crop": {"crop": 0.6, "orientation+crop": 0.4},
    "error_handling": {**dict.fromkeys(ORIENTATIONS, 0.09), "crop": 0.25, "orientation+crop": 0.3},
}
_HELPED = (*REMEDIED, "tilt")  # what a script knows a remedy for
_DRAWS = 60  # a place that stays open for so many draws is given up


def make_item(scene: Scene, condition: str, rng: random.Random, *, severities: Sequence[int] = (1, 2, 3), helped: bool = False) -> Item:
    """The scene under a condition of CONDITIONS. `helped`: only corruptions that a script has a remedy for."""
    orientation = rng.choice(ORIENTATIONS) if "orientation" in condition else condition if condition in ORIENTATIONS else ""
    corruption = _corruption(rng, severities, helped, scene) if "corruption" in condition else ""
    damage = "+".join(part for part in (corruption, orientation) if part) or "none"
    seed = rng.getrandbits(31)
    size, box = scene.image.size, scene.target_box
    image = damage_image(scene.image, damage, seed, keep=box)
    key = hashlib.sha256(f"{scene.content_key}|{scene.question}|{damage}".encode()).hexdigest()[:12]
    return Item(
        Sample(
            id=f"{condition}-{key}", question=scene.question, image=image, answers=(scene.answer, *scene.also),
            required_ops=(*undo(damage), *(("crop",) if scene.needs_crop else ())),
            target_box=box and damage_box(box, damage, size, seed), damage=damage, source="synth",
            meta={"condition": condition, "kind": scene.kind, "content_key": scene.content_key, "damage_seed": seed},
        ),
        scene,
    )  # fmt: skip


def _corruption(rng: random.Random, severities: Sequence[int], helped: bool, scene: Scene) -> str:
    names = list(_HELPED if helped else (*CORRUPTIONS, "tilt"))
    if scene.target_box is None and "occlusion" in names:
        names.remove("occlusion")  # it could cover the answer
    name = rng.choice(names)
    if name == "tilt":
        return f"tilt:{rng.choice((-1, 1)) * rng.randint(3, 12)}"
    return f"{name}:{rng.choice(severities)}"


def chunk_items(seed: int, split: str, chunk: int, conditions: Sequence[str], draw: Draw) -> Iterator[Item]:
    """Items of one chunk, one for each entry of `conditions`, in order. Raises UserError where the sources can't fill them."""
    rng = random.Random(f"{seed}/{split}/{chunk}")
    for scene, place in _fill(rng, split, ["crop" in c for c in conditions], draw):
        yield make_item(scene, conditions[place], rng)


def chunk_scripts(seed: int, split: str, chunk: int, types: Sequence[str], draw: Draw) -> Iterator[Script]:
    """Scripts of one chunk, one for each entry of `types`; an item that can't be solved that way is drawn again."""
    rng = random.Random(f"{seed}/{split}/{chunk}/sft")
    wanted = list(types)
    for _ in range(6):
        conditions = [rng.choices(tuple(_SOLVES[t]), tuple(_SOLVES[t].values()))[0] for t in wanted]
        again = []
        for scene, place in _fill(rng, split, ["crop" in c for c in conditions], draw):
            kind = wanted[place]
            mild = (1, 2) if kind == "no_tool" else (2, 3, 4)
            try:
                yield write_script(make_item(scene, conditions[place], rng, severities=mild, helped=kind != "no_tool"), kind, rng)
            except NoScript:
                again.append(kind)
        wanted = again
        if not wanted:
            return


def _fill(rng: random.Random, split: str, crops: Sequence[bool], draw: Draw) -> list[tuple[Scene, int]]:
    """(scene, place) for each place of `crops`, which says whether the scene must need a crop; places in order."""
    places: dict[int, Scene] = {}
    patience = _DRAWS * len(crops)
    while len(places) < len(crops):
        patience -= 1
        if patience < 0:
            missing = sorted({"need a crop" if crops[i] else "can be read whole" for i in range(len(crops)) if i not in places})
            raise UserError(
                f"data: the sources give too few scenes that {' or that '.join(missing)} for the split {split!r}. Add to data.families or "
                "data.own, or change data.sft_types and data.rl_mix"
            )
        scene = draw(rng)
        if split_of(scene.content_key) != split:
            continue
        place = next((i for i, crop in enumerate(crops) if crop == scene.needs_crop and i not in places), None)
        if place is not None:
            places[place] = scene
    return [(places[i], i) for i in range(len(crops))]


def slots(weights: dict[str, float], n: int, size: int) -> list[list[str]]:
    """Names in the proportion of `weights`, evenly spread, cut into chunks of `size`; `n` of them and more (a reserve)."""
    names = evenly(weights)
    return [[next(names) for _ in range(size)] for _ in range(2 * -(-n // size) + 4)]
