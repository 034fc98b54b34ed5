"""An item of a run: a sample of a benchmark under one damage. The undamaged ones are always among them: drops are paired with them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from codevision_lite.damage import CORRUPTIONS, damage_box, damage_image, parse_damage, undo
from codevision_lite.errors import UserError
from codevision_lite.geometry import ORIENTATIONS
from codevision_lite.imaging import open_image
from codevision_lite.records import Sample

UNDAMAGED = "none"
SETS = {
    "orientations": ORIENTATIONS,  # the paper's five
    "corruptions": (*(f"{name}:3" for name in CORRUPTIONS), "tilt:5"),  # severity 3 of 5: clearly bad, mostly readable
}
SETS["all"] = (*SETS["orientations"], *SETS["corruptions"])


@dataclass(frozen=True, eq=False)
class Item:
    """What the model is asked: `sample` as the benchmark gives it, and what is done to its picture first."""

    sample: Sample
    damage: str

    @property
    def id(self) -> str:
        return f"{self.sample.id}@{self.damage}"


def read_damages(text: str) -> tuple[str, ...]:
    """"none", "all", names of SETS and damages of damage.py, separated by commas; the undamaged picture comes first.

    Raises UserError for what is not a damage.

    >>> read_damages("rotate_90,noise:2")
    ('none', 'rotate_90', 'noise:2')
    """
    names = [UNDAMAGED]
    for part in filter(None, (p.strip() for p in text.split(","))):
        for name in SETS.get(part, (part,)):
            try:
                parse_damage(name)
            except UserError as e:
                raise UserError(f"--damage: {e}; or a set: {', '.join(SETS)}") from e
            names.append(name)
    return tuple(dict.fromkeys(names))


def make_items(samples: Sequence[Sample], damages: Sequence[str]) -> list[Item]:
    """Every sample under every damage; those of one sample follow each other, so that a stopped run is paired as well."""
    return [Item(sample, damage) for sample in samples for damage in damages]


def shown_sample(item: Item, source: Image.Image | None = None) -> Sample:
    """The sample as the model is shown it: damaged picture, box in its pixels, and the operations that undo all orientations.

    `source`: the undamaged picture, where it is open already. A damage does the same to the same item on any machine.
    # limit: a question that asks where things are ("on the left") keeps its answer under a damage, as in the paper.
    Raises UserError where the picture can't be opened.
    """
    sample, damage = item.sample, item.damage
    image = open_image(sample.image) if source is None else source
    if damage == UNDAMAGED:
        return replace(sample, image=image)
    seed = int.from_bytes(hashlib.sha256(sample.id.encode()).digest()[:4])
    box = sample.target_box and damage_box(sample.target_box, damage, image.size, seed)
    whole = damage if sample.damage == UNDAMAGED else f"{sample.damage}+{damage}"
    others = tuple(op for op in sample.required_ops if op not in ORIENTATIONS)
    return replace(
        sample, image=damage_image(image, damage, seed, keep=sample.target_box), damage=whole, target_box=box,
        required_ops=(*undo(whole), *others),
    )  # fmt: skip
