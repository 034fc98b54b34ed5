"""The orientation diagnosis: what was done to this picture? One of five orientation changes, five options.

As the paper's Figure 1: 200 pictures of several domains, each change equally often, chance 20 %. It asks whether a model sees the
orientation at all, apart from whether it can repair it. Pictures are drawn by this project, or the user's own upright ones.
# differs: the paper's pictures and wording are not public; its rows stand beside ours as published ones.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from codevision_lite.bench.benchmark import BadRow, Benchmark, Row, Scored, Switch, mean_percent, parts_by
from codevision_lite.damage import damage_image, undo
from codevision_lite.errors import UserError
from codevision_lite.geometry import ORIENTATIONS
from codevision_lite.imaging import open_image
from codevision_lite.records import Sample
from codevision_lite.reward.answer import match
from codevision_lite.synth.samples import READ_KINDS, READ_WEIGHTS, split_of
from codevision_lite.synth.scene import Scene
from codevision_lite.synth.signs import draw_scene
from codevision_lite.synth.sources import FAMILIES

OPTIONS = {
    "rotate_90": "rotated by 90 degrees counter-clockwise", "rotate_180": "rotated by 180 degrees",
    "rotate_270": "rotated by 90 degrees clockwise", "flip_horizontal": "mirrored left to right",
    "flip_vertical": "flipped upside down, top to bottom",
}  # fmt: skip
LETTERS = dict(zip(OPTIONS, "ABCDE", strict=True))
QUESTION = "This picture was upright. What was done to it?\n{}\nAnswer with the letter of one option.".format(
    "\n".join(f"{LETTERS[name]}. {text}" for name, text in OPTIONS.items())
)
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True)
class DrawnPicture:
    """A held-out scene that is drawn when it is opened; `family` of synth.sources.FAMILIES, or "signs"."""

    family: str
    seed: str
    damage: str

    def decode(self) -> Image.Image:
        rng = random.Random(self.seed)
        while True:
            scene = self._draw(rng)
            # One that reads the same in two ways (a palindrome, a symmetric letter) has no answer here.
            if scene.readable_under == () and split_of(scene.content_key) == "test":
                return damage_image(scene.image, self.damage)

    def _draw(self, rng: random.Random) -> Scene:
        return draw_scene(rng, rng.choices(READ_KINDS, READ_WEIGHTS)[0]) if self.family == "signs" else FAMILIES[self.family](rng)


@dataclass(frozen=True)
class OwnPicture:
    """A user's upright picture, turned when it is opened."""

    path: Path
    damage: str

    def decode(self) -> Image.Image:
        """Raises UserError where it can't be opened."""
        return damage_image(open_image(self.path), self.damage)


def load(path: Path | None, switches: Mapping[str, str]) -> Iterator[Sample | BadRow]:
    """Balanced over the five changes; the same for the same seed. `path`: a folder of upright pictures; None: drawn ones."""
    seed = switches["seed"]
    if path is None:
        families = ("signs",) if switches["world"] == "signs" else tuple(FAMILIES)
        n = int(switches["n"])
        sources: Sequence[Any] = [(families[k % len(families)], f"orientation/{seed}/{k}") for k in range(n)]
    else:
        if not path.is_dir():
            raise UserError(f"{path}: a folder of upright pictures is needed ({', '.join(_SUFFIXES)})")
        sources = sorted(p for p in path.rglob("*") if p.suffix.lower() in _SUFFIXES)
        if not sources:
            raise UserError(f"{path}: no pictures there ({', '.join(_SUFFIXES)})")
    changes = [ORIENTATIONS[k % len(ORIENTATIONS)] for k in range(len(sources))]
    random.Random(f"orientation/{seed}").shuffle(changes)
    for number, (source, change) in enumerate(zip(sources, changes, strict=True), 1):
        if path is None:
            picture, domain, key = DrawnPicture(*source, change), source[0], f"{source[0]}-{number:04}"
        else:
            picture, domain, key = OwnPicture(source, change), source.parent.name, source.relative_to(path).as_posix()
            try:
                open_image(source)
            except UserError as e:
                yield BadRow(str(path), number, str(e))
                continue
        yield Sample(
            id=f"{key}-{hashlib.sha256(f'{key}/{change}/{seed}'.encode()).hexdigest()[:8]}", question=QUESTION, image=picture,
            answers=(LETTERS[change],), required_ops=undo(change), damage=change, source="orientation",
            meta={"benchmark": "orientation", "category": change, "group": key, "domain": domain},
        )  # fmt: skip


def chosen_option(prediction: str | None) -> str | None:
    """The change that a prediction names, by letter or by text; None where it names none, or several.

    >>> chosen_option("C"), chosen_option("(b) rotated by 180 degrees"), chosen_option("A or B")
    ('rotate_270', 'rotate_180', None)
    """
    texts = tuple(OPTIONS.values())
    named = [name for name, letter in LETTERS.items() if match(prediction, (letter,), rule="choice", choices=texts).value == 1.0]
    return named[0] if len(named) == 1 else None


def score(sample: Sample, prediction: str | None, switches: Mapping[str, str]) -> Scored:
    """Right or wrong; a prediction that names no single option is wrong."""
    chosen = chosen_option(prediction)
    right = chosen is not None and LETTERS[chosen] in sample.answers
    return Scored(float(right), right, f"chose {chosen}" if chosen else "no single option")


def aggregate(rows: Sequence[Row], switches: Mapping[str, str]) -> dict[str, Any]:
    """Accuracy in percent, for each change, and the confusion matrix: {what was done: {what the model says, or "none": count}}."""
    confusion = {name: dict.fromkeys((*ORIENTATIONS, "none"), 0) for name in ORIENTATIONS}
    for row in rows:
        confusion[row.sample.meta["category"]][chosen_option(row.prediction) or "none"] += 1
    headline = mean_percent([row.scored.value for row in rows])
    return {"headline": headline, "unit": "%", "n": len(rows), "parts": parts_by(rows), "confusion": confusion}


BENCHMARK = Benchmark(
    name="orientation", title="Orientation diagnosis (five options)", load=load, score=score, aggregate=aggregate,
    switches={
        "world": Switch("pages", ("pages", "signs"), "drawn pictures: documents, charts and photographs, or the tiny model's signs"),
        "n": Switch("200", (), "how many are drawn"),
        "seed": Switch("0", (), "of the drawing, and of which picture gets which change"),
    },
    needs_file=False, is_official=False, prompt_note="five options, lettered; the letter is asked for", chance=0.2,
)  # fmt: skip
