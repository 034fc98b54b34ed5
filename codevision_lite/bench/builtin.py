"""Built-in benchmarks that need no file: held-out scenes of the worlds of signs and of pages, drawn by seed.

They belong to the split "test", so no training data of this project, of any seed, shares their content (synth/samples.py). Pictures
are upright by default: the runner damages them.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from codevision_lite.bench.benchmark import BadRow, Benchmark, Row, Scored, Switch, mean_percent, parts_by
from codevision_lite.bench.pictures import EncodedPicture
from codevision_lite.datasets.own import content_hash
from codevision_lite.recipe import FAMILIES
from codevision_lite.records import Sample
from codevision_lite.reward.answer import match
from codevision_lite.synth import pages, samples
from codevision_lite.synth.gold import Item
from codevision_lite.synth.sources import weighted

_CHUNK = 20  # pages that are drawn at a time
_UNDAMAGED = {"upright": 1.0, "crop": 1.0}


def load(path: Path | None, switches: Mapping[str, str], *, world: str) -> Iterator[Sample | BadRow]:
    """`switches["n"]` different samples; `path` is not read. The first n of a larger n are the same."""
    seen: set[str] = set()
    conditions = {"upright": {"upright": 1.0}, "undamaged": _UNDAMAGED, "all": dict.fromkeys(_CONDITIONS[world], 1.0)}[switches["items"]]
    items = _ITEMS[world](int(switches["seed"]), conditions)
    while len(seen) < int(switches["n"]):
        sample = next(items).sample
        if sample.id not in seen:
            seen.add(sample.id)
            meta = {
                **sample.meta, "benchmark": world, "category": sample.meta["kind"].split("/")[0],
                "group": content_hash(sample.meta["content_key"]), "needs_crop": "crop" in sample.required_ops,
            }  # fmt: skip
            yield replace(sample, image=EncodedPicture(_png(sample.image)), meta=meta)


def _signs(seed: int, conditions: Mapping[str, float]) -> Iterator[Item]:
    rng = random.Random(f"bench/{seed}")
    for condition in samples.evenly(dict(conditions)):
        item = samples.make_item(rng, "test", condition)
        while conditions.keys() <= _UNDAMAGED.keys() and item.scene.readable_under:
            # An A mirrored is an A, but upside down it might be a V: the runner's damages must all be seen.
            item = samples.make_item(rng, "test", condition)
        yield item


def _pages(seed: int, conditions: Mapping[str, float]) -> Iterator[Item]:
    draw, names = weighted(FAMILIES), samples.evenly(dict(conditions))
    for chunk in itertools.count():
        yield from pages.chunk_items(seed, "test", chunk, list(itertools.islice(names, _CHUNK)), draw)


_ITEMS = {"signs": _signs, "pages": _pages}
_CONDITIONS = {"signs": samples.CONDITIONS, "pages": pages.CONDITIONS}


def _png(image: Image.Image) -> bytes:
    """Lossless, in a quarter of the time of Pillow's default."""
    flat = cv2.imencode(".png", np.asarray(image)[:, :, ::-1], (
        cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP,
    ))  # fmt: skip
    assert flat[0], f"OpenCV could not encode a picture of {image.size} pixels"
    return flat[1].tobytes()


def score(sample: Sample, prediction: str | None, switches: Mapping[str, str]) -> Scored:
    """The comparison that the reward uses; long transcriptions are graded, and right only where they are exact."""
    if prediction is None:
        return Scored(0.0, False, "no answer")
    judged = match(prediction, sample.answers)
    return Scored(judged.value, judged.value == 1.0, judged.reason)


def aggregate(rows: Sequence[Row], switches: Mapping[str, str]) -> dict[str, Any]:
    """Accuracy over all questions, by kind of question, and with and without the need for a crop, in percent."""
    return {
        "headline": mean_percent([r.scored.value for r in rows]), "unit": "%", "n": len(rows), "parts": parts_by(rows),
        "needs_crop": {str(key).lower(): part for key, part in parts_by(rows, "needs_crop").items()},
    }  # fmt: skip


def _benchmark(world: str, title: str, n: int) -> Benchmark:
    return Benchmark(
        name=world, title=title, load=partial(load, world=world), score=score, aggregate=aggregate, needs_file=False,
        switches={
            "n": Switch(str(n), (), "how many questions are drawn", True),
            "seed": Switch("0", (), "of the drawing", True),
            "items": Switch(
                "undamaged", ("undamaged", "upright", "all"),
                "undamaged: half can be read whole, half need a crop; upright: no crop; all: each condition of the world, damaged", True,
            ),
        },
    )  # fmt: skip


SIGNS, PAGES = _benchmark("signs", "Signs (built in)", 300), _benchmark("pages", "Pages (built in)", 100)
