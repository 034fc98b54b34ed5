"""Which pictures a worker already has, so that a trajectory sends each picture once.

A picture is recognised by object identity plus a fingerprint of a grid of its pixels. limit: an edit in place that misses every grid
point is not noticed; pictures given to a sandbox should be replaced, not drawn on.
"""

from __future__ import annotations

import itertools
import threading
import weakref
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from PIL import Image

from codevision_lite.sandbox import wire

GRID = (128, 96)  # points of the fingerprint; ~40 us
MAX_BYTES = 384 << 20  # kept in one worker; its address space leaves room for this
DIRECT_MODES = ("L", "RGB", "RGBA")
KEPT_MODES = ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "RGBX")


class Keys:
    """Numbers for pictures: the same object with the same content has the same number."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[Any, Any, int]] = {}
        self.alive: set[int] = set()  # numbers whose picture still exists, unchanged
        self.counter, self.lock = itertools.count(1), threading.Lock()

    def of(self, image: Image.Image) -> int:
        mark = fingerprint(image)
        with self.lock:
            row = self.rows.get(id(image))
            if row is not None and row[0]() is image and row[1] == mark:
                return row[2]
            if row is not None:
                self.alive.discard(row[2])
            key = next(self.counter)
            self.alive.add(key)
            self.rows[id(image)] = (weakref.ref(image, lambda _, key=key: self.alive.discard(key)), mark, key)
            if len(self.rows) > 4096:
                self.rows = {k: r for k, r in self.rows.items() if r[0]() is not None}
            return key


def fingerprint(image: Image.Image) -> Any:
    small = image.resize((min(GRID[0], image.width), min(GRID[1], image.height)), Image.Resampling.NEAREST)
    return image.mode, image.size, id(image.im), zlib.crc32(small.tobytes())


class Shelf:
    """What one worker has, oldest first."""

    def __init__(self) -> None:
        self.sizes: OrderedDict[int, int] = OrderedDict()

    def overlap(self, numbers: Sequence[int]) -> int:
        return sum(n in self.sizes for n in numbers)

    def plan(
        self, images: Sequence[Image.Image], numbers: Sequence[int], keys: Keys
    ) -> tuple[list[dict[str, Any]], list[bytes], list[int]]:
        """Rows of the request, pixels to send, keys to drop, for pictures with these numbers."""
        rows, parts, wanted = [], [], set()
        drop = [key for key in self.sizes if key not in keys.alive]
        for key in drop:
            del self.sizes[key]
        for image, key in zip(images, numbers, strict=True):
            wanted.add(key)
            if key in self.sizes:
                self.sizes.move_to_end(key)
                rows.append({"key": key, "bytes": 0})
                continue
            sent = (
                image if image.mode in KEPT_MODES and image.mode != "P" else image.convert("RGBA" if image.has_transparency_data else "RGB")
            )
            data = wire.raw_of(sent)
            parts.append(data)
            rows.append({"key": key, "bytes": len(data), "mode": sent.mode, "size": list(sent.size)})
            self.sizes[key] = max(1, len(data))
        while sum(self.sizes.values()) > MAX_BYTES:
            oldest = next(iter(self.sizes))
            if oldest in wanted:
                break
            drop.append(oldest)
            del self.sizes[oldest]
        return rows, parts, drop
