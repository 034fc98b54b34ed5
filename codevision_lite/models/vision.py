"""What the vision tower makes of pictures: computed once for each distinct picture while its features are kept.

Rollouts of one prompt share its picture, and most of them repair it the same way. Does not change what the model computes:
the features take the place of the image tokens' embeddings, as in the model's own forward.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from codevision_lite.imaging import content_name
from codevision_lite.models.encoding import image_inputs

KEPT_TOKENS = 32_768  # image tokens whose features are kept: 134 MB in bfloat16 at the 3B model's width
TOWER_TOKENS = 4096  # that go through the tower at once: enough for a GPU to be busy; more would only take memory
KEPT_NAMES = 256  # pictures whose pixels need not be read again


@dataclass
class _Picture:
    grid: torch.Tensor  # (3,) int64: patches in time, height, width
    pixels: torch.Tensor | None  # what the tower is given, until it was
    features: torch.Tensor | None = None  # (image tokens, width), on the model's device


class PictureFeatures:
    """The features of the pictures of late, by content."""

    def __init__(self, model: Any, processor: Any):
        self.model, self.processor = model, processor
        self._merge = processor.image_processor.merge_size**2
        self._pictures: OrderedDict[str, _Picture] = OrderedDict()
        self._names: dict[int, tuple[Image.Image, str]] = {}  # by id; holds the picture, so that its id stays its own

    def forget(self) -> None:
        """Drop everything (call after the weights changed or to free memory)."""
        self._pictures.clear()
        self._names.clear()

    def names(self, images: Sequence[Image.Image]) -> list[str]:
        """Equal pictures have equal names."""
        if len(self._names) > KEPT_NAMES:
            self._names.clear()
        for image in images:
            if id(image) not in self._names:
                self._names[id(image)] = (image, content_name(image))
        return [self._names[id(image)][1] for image in images]

    def grids(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """(pictures, 3) int64: patches in time, height, width of each picture."""
        return torch.stack([self._picture(name, image).grid for name, image in zip(self.names(images), images, strict=True)])

    def features(self, images: Sequence[Image.Image], device: torch.device) -> torch.Tensor:
        """(image tokens of all pictures, width): the tower's output in their order. Runs the tower for what is not kept."""
        names = self.names(images)
        pictures = {name: self._picture(name, image) for name, image in zip(names, images, strict=True)}
        new = [picture for picture in pictures.values() if picture.features is None]
        for part in self._in_parts(new):
            pixels = torch.cat([picture.pixels for picture in part]).to(device)
            grids = torch.stack([picture.grid for picture in part]).to(device)
            for picture, features in zip(part, self.model.get_image_features(pixels, grids).pooler_output, strict=True):
                picture.features, picture.pixels = features, None
        self._drop_oldest()
        return torch.cat([pictures[name].features for name in names])

    def _in_parts(self, pictures: Sequence[_Picture]) -> Iterator[list[_Picture]]:
        """In order, of at most TOWER_TOKENS, or one picture that has more."""
        part: list[_Picture] = []
        tokens = 0
        for picture in pictures:
            if part and tokens + self._tokens(picture) > TOWER_TOKENS:
                yield part
                part, tokens = [], 0
            part.append(picture)
            tokens += self._tokens(picture)
        if part:
            yield part

    def _tokens(self, picture: _Picture) -> int:
        return int(picture.grid.prod()) // self._merge

    def _picture(self, name: str, image: Image.Image) -> _Picture:
        if name not in self._pictures:
            inputs = image_inputs(self.processor, [image])
            self._pictures[name] = _Picture(inputs.grid_thw[0], inputs.pixel_values)
        self._pictures.move_to_end(name)
        return self._pictures[name]

    def _drop_oldest(self) -> None:
        tokens = sum(map(self._tokens, self._pictures.values()))
        while tokens > KEPT_TOKENS:
            _, picture = self._pictures.popitem(last=False)
            tokens -= self._tokens(picture)
