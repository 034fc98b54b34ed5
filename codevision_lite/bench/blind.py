"""A model that does not see what its code returns: every returned picture is replaced by a grey one of the same size.

Code still runs on the real pictures, and all texts stay. What accuracy this costs is how much the answers depend on the
pictures that the tool gave back, rather than on having called it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from PIL import Image

from codevision_lite.models import ChatModel, Dialogue, Segment, streaming

_GREY = (127, 127, 127)


class BlindModel:
    """A StreamingModel over any model, which is given a copy of each dialogue without the returned pictures. Not for several threads."""

    def __init__(self, model: ChatModel):
        self.model, self.batch_size = model, model.batch_size
        self._copies: dict[int, tuple[Dialogue, Dialogue]] = {}  # id of either -> (the dialogue, its copy)

    def reply(self, dialogues: Sequence[Dialogue], max_new_tokens: int) -> list[Segment]:
        """See ChatModel."""
        return self.model.reply([self._copy(dialogue) for dialogue in dialogues], max_new_tokens)

    @contextmanager
    def generating(self) -> Iterator[None]:
        with streaming(self.model) as self._stream:
            yield

    def encode(self, segment: Segment) -> int:
        """Equal for the grey picture: its number of tokens comes from its size."""
        return self._stream.encode(segment)

    def add(self, dialogue: Dialogue, max_new_tokens: int) -> None:
        self._stream.add(self._copy(dialogue), max_new_tokens)

    def advance(self) -> list[tuple[Dialogue, Segment]]:
        return [(self._copies[id(copy)][0], reply) for copy, reply in self._stream.advance()]

    def drop(self, dialogue: Dialogue) -> None:
        _, copy = self._copies.pop(id(dialogue))
        del self._copies[id(copy)]
        self._stream.drop(copy)

    def _copy(self, dialogue: Dialogue) -> Dialogue:
        """The copy, brought up to date. The same object in every turn: a model keeps its cache by it."""
        pair = self._copies.get(id(dialogue)) or (dialogue, Dialogue())
        copy = pair[1]
        self._copies[id(dialogue)] = self._copies[id(copy)] = pair
        for segment in dialogue.segments[len(copy.segments) :]:
            returned = segment.role == "observation" and segment.images
            grey = tuple(Image.new("RGB", image.size, _GREY) for image in segment.images)
            copy.segments.append(replace(segment, images=grey) if returned else segment)
        return copy
