"""The KV cache of all open dialogues, held once: a row is a slot of one buffer for each layer, decoded or waiting for its call.

Rows that are decoded end at the same column, so that a step writes one column; a row that waits stays where it is. Positions
are rotated into the keys, so a row may lie in any columns. Prefill and decoding write in place: nothing is there twice, except
one layer at a time while the buffer grows or rows change places. Used by hf.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

# Columns to grow by, at least, and as a share of the longest row: growing copies the buffer, and on a CPU each step attends to
# columns that nobody has written.
HEADROOM, HEADROOM_SHARE = 32, 1 / 16


def grown(columns: int) -> int:
    """How wide a buffer is made that has to hold so many columns."""
    return columns + max(HEADROOM, int(columns * HEADROOM_SHARE))


@dataclass(eq=False)
class Slot:
    """Where a row's keys and values are: columns [end - length, end) of slot `index`."""

    index: int
    length: int = 0
    end: int = 0


class RowCache:
    """Slots of rows: first those that are decoded, then those that wait."""

    def __init__(self, n_layers: int, windowed: bool) -> None:
        """`windowed`: a step attends to the columns that its longest row has; else to all, masked: on a CPU every matrix product
        would copy a part of them."""
        self.windowed = windowed
        self.tensors: list[torch.Tensor | None] = [None] * (2 * n_layers)  # (slots, heads, columns, head size): keys and values in turn
        self.cache = Cache(layers=[_Layer(self, number) for number in range(n_layers)])  # what the model's forward is given
        self.slots: list[Slot] = []  # by index
        self.n_decoded = 0
        self.end = 0  # of the rows that are decoded: the column that the next step writes
        self._n_slots = self._n_columns = 0  # what there is room for
        self._reading, self._view, self._new = slice(0), slice(0), [0]  # of the forward under way: slots, columns, new columns of each row
        self._first_columns = torch.empty(0)  # of the rows that are decoded, on their device: it does not change with a step

    @property
    def n_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in self.tensors if t is not None)

    def clear(self) -> None:
        """Give all memory back. It must be asked for: layers and rows refer to each other, so that the buffers would stay until
        Python's collector comes by, which is many rollouts later."""
        self.tensors = [None] * len(self.tensors)
        self.cache.layers.clear()

    def join(self, rows: Sequence[tuple[Slot | None, int]]) -> list[Slot]:
        """Let rows be decoded, in the slots after those that are; each has so many new columns at its end, which `prefilling` or
        `write` has to fill. None: a new row."""
        n_new_rows = sum(slot is None for slot, _ in rows)
        end = max(self.end if self.n_decoded else 0, *((slot.length if slot else 0) + n for slot, n in rows))
        self._fit(len(self.slots) + n_new_rows, end)
        self._align(end)
        joined = []
        for slot, n_new in rows:
            if slot is None:
                slot = Slot(len(self.slots))
                self.slots.append(slot)
            self._swap(slot.index, self.n_decoded)
            self.n_decoded += 1
            self._shift(slice(slot.index, slot.index + 1), slot.length, slot.end, end - n_new)
            slot.length, slot.end = slot.length + n_new, end
            joined.append(slot)
        return joined

    def park(self, slot: Slot, surplus: int = 0) -> None:
        """Take a row out of those that are decoded, without its last `surplus` columns; the last one that is takes its index."""
        slot.length, slot.end = slot.length - surplus, self.end - surplus
        self.n_decoded -= 1
        self._swap(slot.index, self.n_decoded)

    def free(self, slot: Slot) -> None:
        """Forget a row that waits."""
        assert slot.index >= self.n_decoded, "a row that is decoded"
        self._swap(slot.index, len(self.slots) - 1)
        self.slots.pop()

    def read(self, slot: Slot) -> list[torch.Tensor]:
        """A copy of a row: (heads, length, head size) keys and values of each layer."""
        return [t[slot.index, :, slot.end - slot.length : slot.end].clone() for t in self.tensors]

    def write(self, slot: Slot, row: Sequence[torch.Tensor]) -> None:
        """Fill a row with what `read` gave of another."""
        for t, values in zip(self.tensors, row, strict=True):
            t[slot.index, :, slot.end - slot.length : slot.end] = values

    def make_room(self, steps: int) -> None:
        """Make ready for so many calls of `decoding`; what no decoded row needs is given up first."""
        decoded = self.slots[: self.n_decoded]
        if self.end + steps > self._n_columns:
            self._align(max(slot.length for slot in decoded))
            self._fit(len(self.slots), self.end + steps)
        device = next(t for t in self.tensors if t is not None).device
        self._first_columns = torch.tensor([self.end - slot.length for slot in decoded]).to(device)

    def prefilling(self, first: int, n_new: Sequence[int]) -> torch.Tensor:
        """Make ready for a forward of the last `n_new` columns of each row from slot `first` on, padded on the left; its mask,
        (rows, longest row) int64 on the CPU."""
        lengths = torch.tensor([slot.length for slot in self.slots[first : first + len(n_new)]])
        width = int(lengths.max())
        self._reading, self._view, self._new = slice(first, first + len(n_new)), slice(self.end - width, self.end), list(n_new)
        return (torch.arange(width) >= width - lengths[:, None]).long()

    def decoding(self) -> torch.Tensor:
        """Go on to the next column; the mask of a step of all rows that are decoded, (rows, columns) bool on their device. Does not
        wait for the device."""
        decoded = self.slots[: self.n_decoded]
        self.end += 1
        for slot in decoded:
            slot.length, slot.end = slot.length + 1, self.end
        view = slice(self.end - max(slot.length for slot in decoded), self.end) if self.windowed else slice(0, self._n_columns)
        self._reading, self._view, self._new = slice(0, self.n_decoded), view, [1] * self.n_decoded
        columns = torch.arange(view.start, view.stop, device=self._first_columns.device)
        return (columns >= self._first_columns[:, None]) & (columns < self.end)

    def update(self, number: int, states: torch.Tensor) -> torch.Tensor:
        """Write a forward's new keys or values, (rows, heads, new columns, head size); gives the rows with what came before."""
        if self.tensors[number] is None:
            self.tensors[number] = states.new_zeros(self._n_slots, states.shape[1], self._n_columns, states.shape[3])
        rows, width = self.tensors[number][self._reading], states.shape[2]
        if min(self._new) == width:
            rows[:, :, self.end - width : self.end] = states
        else:
            for row, n, new in zip(rows, self._new, states, strict=True):
                row[:, self.end - n : self.end] = new[:, width - n :]
        return rows[:, :, self._view]

    def _fit(self, n_slots: int, n_columns: int) -> None:
        """Grow, one tensor after the other. New columns are zero: masked or not, they must be finite."""
        if n_slots <= self._n_slots and n_columns <= self._n_columns:
            return
        used, columns = len(self.slots), self._n_columns
        self._n_slots = max(n_slots, self._n_slots)
        self._n_columns = columns if n_columns <= columns else grown(n_columns)
        for number, old in enumerate(self.tensors):
            if old is not None:
                self.tensors[number] = old.new_zeros(self._n_slots, old.shape[1], self._n_columns, old.shape[3])
                self.tensors[number][:used, :, :columns] = old[:used]
                del old

    def _align(self, end: int) -> None:
        """Let the rows that are decoded end at another column."""
        decoded = self.slots[: self.n_decoded]
        self._shift(slice(0, self.n_decoded), max((slot.length for slot in decoded), default=0), self.end, end)
        self.end = end
        for slot in decoded:
            slot.end = end

    def _shift(self, rows: slice, width: int, end: int, to: int) -> None:
        """Move the columns [end - width, end) of these slots so that they end at another column."""
        if width == 0 or end == to:
            return
        for t in self.tensors:
            t[rows, :, to - width : to] = t[rows, :, end - width : end].clone()

    def _swap(self, i: int, j: int) -> None:
        """Let two rows change places."""
        if i == j:
            return
        for t in self.tensors:
            if t is not None:
                held = t[i].clone()
                t[i] = t[j]
                t[j] = held
        self.slots[i], self.slots[j] = self.slots[j], self.slots[i]
        self.slots[i].index, self.slots[j].index = i, j


class _Layer(CacheLayerMixin):
    """One layer's view of the rows, as attention wants it."""

    is_sliding = False

    def __init__(self, rows: RowCache, number: int):
        super().__init__()
        self._rows, self._number, self.is_initialized = rows, number, True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to do: `update` makes the buffer."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return self._rows.update(2 * self._number, key_states), self._rows.update(2 * self._number + 1, value_states)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._rows._view.stop - self._rows._view.start, 0

    def get_seq_length(self) -> int:
        # The new tokens come after all columns that are seen; the mask says which of them count.
        return self._rows._view.stop - self._rows._view.start - max(self._rows._new)

    def get_max_length(self) -> int:
        return -1
