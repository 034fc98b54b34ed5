"""The KV cache of rows that come and go: a row is one tensor when it waits, and a slot of one buffer while it is decoded.

Rows in the buffer end at the same column, so that a step writes one column. Positions are rotated into the keys, so a row
may lie in any columns. A step attends to the whole buffer, unwritten columns masked: a part of it would be copied by every
matrix product on a CPU. Used by hf.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache, CacheLayerMixin

HEADROOM = 32  # columns to grow by: the buffer is copied once in as many steps, and each step attends to half of them in vain


class DecodingRows:
    """The rows under way. Row i holds the columns [end - lengths[i], end) of slot i; slots in front of it are all taken."""

    def __init__(self) -> None:
        self.buffer: torch.Tensor | None = None  # (2 * layers, slots, heads, columns, head size): keys and values in turn
        self.lengths: list[int] = []
        self.end = 0
        self.cache: Cache | None = None  # what the model's forward is given

    def append(self, rows: Sequence[torch.Tensor]) -> None:
        """Take up waiting rows, (2 * layers, heads, tokens, head size) each, in the next slots."""
        n, total = len(self.lengths), len(self.lengths) + len(rows)
        end = max(self.end, *(row.shape[2] for row in rows))
        if self.buffer is None:
            n_tensors, heads, _, size = rows[0].shape
            self.buffer = rows[0].new_zeros(n_tensors, 0, heads, 0, size)
            self.cache = Cache(layers=[_Layer(self, number) for number in range(n_tensors // 2)])
        if total > self.buffer.shape[1] or end > self.end:
            self._move(total, end, max(self.buffer.shape[3], end + HEADROOM))
        for slot, row in enumerate(rows, n):
            self.buffer[:, slot, :, end - row.shape[2] : end] = row
            self.lengths.append(row.shape[2])

    def remove(self, slot: int, surplus: int) -> torch.Tensor:
        """A copy of the row without its last `surplus` columns; the last row moves into its slot."""
        last, length = len(self.lengths) - 1, self.lengths[slot]
        row = self.buffer[:, slot, :, self.end - length : self.end - surplus].clone()
        if slot != last:
            columns = slice(self.end - self.lengths[last], self.end)
            self.buffer[:, slot, :, columns] = self.buffer[:, last, :, columns]
            self.lengths[slot] = self.lengths[last]
        self.lengths.pop()
        if not self.lengths:
            self.end = 0
        return row

    def make_room(self, steps: int) -> None:
        """For that many columns more; drops what no row needs."""
        if self.end + steps > self.buffer.shape[3]:
            width = max(self.lengths)
            self._move(len(self.lengths), width, width + max(steps, HEADROOM))

    def mask(self) -> torch.Tensor:
        """(rows, columns) int64: the rows so far, and the column of the step to come."""
        columns = torch.arange(self.buffer.shape[3], device=self.buffer.device)
        first = torch.tensor([self.end - length for length in self.lengths]).to(self.buffer.device)
        return ((columns >= first[:, None]) & (columns <= self.end)).long()

    def step(self) -> None:
        """A column was written by the forward."""
        self.end += 1
        self.lengths = [length + 1 for length in self.lengths]

    def _move(self, slots: int, end: int, columns: int) -> None:
        """To a buffer of another size, ending at another column. Padding is zero: masked or not, it must be finite."""
        old, n, width = self.buffer, len(self.lengths), max(self.lengths, default=0)
        self.buffer = old.new_zeros(old.shape[0], slots, old.shape[2], columns, old.shape[4])
        self.buffer[:, :n, :, end - width : end] = old[:, :n, :, self.end - width : self.end]
        self.end = end


class _Layer(CacheLayerMixin):
    """One layer's view of the buffer, as attention wants it."""

    is_sliding = False

    def __init__(self, rows: DecodingRows, number: int):
        super().__init__()
        self._rows, self._number, self.is_initialized = rows, number, True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to do: the buffer is there before the first step."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        rows = self._rows
        buffer, n, end = rows.buffer, len(rows.lengths), rows.end
        keys, values = buffer[2 * self._number], buffer[2 * self._number + 1]
        keys[:n, :, end : end + 1] = key_states
        values[:n, :, end : end + 1] = value_states
        return keys[:n], values[:n]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._rows.buffer.shape[3], 0

    def get_seq_length(self) -> int:
        return self._rows.buffer.shape[3] - 1  # the new token comes after all columns; the mask says which of them count

    def get_max_length(self) -> int:
        return -1


def prefill_cache(rows: Sequence[torch.Tensor | None]) -> tuple[DynamicCache, torch.Tensor]:
    """A cache for a forward of new tokens after these waiting rows (None: nothing seen yet), and its mask.

    The mask is (rows, longest row) int64 on the CPU, with the padding on the left.
    """
    lengths = [0 if row is None else row.shape[2] for row in rows]
    width, cache = max(lengths), DynamicCache()
    mask = (torch.arange(width) >= width - torch.tensor(lengths)[:, None]).long()
    if width:
        first = next(row for row in rows if row is not None)
        buffer = first.new_zeros(first.shape[0], len(rows), first.shape[1], width, first.shape[3])
        for i, row in enumerate(rows):
            if row is not None:
                buffer[:, i, :, width - row.shape[2] :] = row
        for number in range(len(buffer) // 2):
            cache.update(buffer[2 * number], buffer[2 * number + 1], number)
    return cache, mask


def waiting_rows(cache: DynamicCache, mask: torch.Tensor) -> list[torch.Tensor]:
    """After that forward, its rows without padding. `mask`: (rows, columns), 0 where a column is padding."""
    tensors = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    rows = []
    for i, columns in enumerate(mask.bool()):
        kept = columns.nonzero()[:, 0].to(tensors[0].device)
        rows.append(torch.stack([tensor[i, :, kept] for tensor in tensors]))
    return rows
