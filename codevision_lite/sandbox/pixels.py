"""Whether pixel by pixel Python loops keep the geometry.

A pixel that is written must have been read at the same place of a picture with the same origin. Painting without reading is allowed for
a small part of the picture (a dot, a box); more than that is reported as unknown.
"""

from __future__ import annotations

from typing import Any

from codevision_lite.sandbox.facade import session

PAINTED_PART = 0.02


class PixelRule:
    """The places read since the last write, and how much was painted without reading."""

    def __init__(self) -> None:
        self.place: Any = None
        self.mixed = False
        self.source: Any = None  # the picture or array that was read
        self.painted = 0
        self.pair: tuple[Any, Any, bool] = (None, None, True)  # the last two that were compared, and whether their origins agree

    def read(self, picture: Any, place: Any) -> None:
        if self.place is None:
            self.place, self.source = place, picture
        elif self.place != place or self.source is not picture:
            self.mixed = True

    def written(self, picture: Any, pixels: int, place: Any) -> None:
        if self.place is None:
            self.painted += 1
            moved = self.painted > PAINTED_PART * pixels
        else:
            moved = self.mixed or self.place != place or not self.agree(self.source, picture)
        if moved:
            session.traces.spoil(picture)
        self.place, self.mixed, self.source = None, False, None

    def agree(self, source: Any, target: Any) -> bool:
        if source is target:
            return True
        if self.pair[0] is not source or self.pair[1] is not target:
            shown, kept = session.traces.of(source), session.traces.of(target)
            self.pair = (source, target, shown is None or kept is None or not kept.regions or shown == kept)
        return self.pair[2]
