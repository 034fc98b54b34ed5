"""Rows of a KV cache as a value: pick some, put them back together. Used by hf.py's decoding loop.

Columns that are padding in every row are dropped on the way: rotary positions are in the keys, so columns may move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import pad
from transformers import DynamicCache


@dataclass
class CacheRows:
    """What the model has seen of some dialogues."""

    cache: DynamicCache
    mask: torch.Tensor  # (rows, columns) int64 on the CPU; 0 = padding
    next_position: torch.Tensor  # (rows,) int64: rotary position of each row's next token

    @classmethod
    def empty(cls, n: int) -> CacheRows:
        return cls(DynamicCache(), torch.zeros(n, 0, dtype=torch.long), torch.zeros(n, dtype=torch.long))


def take_rows(rows: CacheRows, index: torch.Tensor) -> CacheRows:
    """The rows numbered by `index` (1-D; a row may be taken twice), copied, without columns that are padding in all of them."""
    mask = rows.mask[index]
    columns = mask.any(0).nonzero()[:, 0]
    cache = DynamicCache()
    for number, layer in enumerate(rows.cache.layers):
        at = index.to(layer.keys.device)
        keys, values = layer.keys[at], layer.values[at]
        if len(columns) < mask.shape[1]:
            kept = columns.to(layer.keys.device)
            keys, values = keys[:, :, kept], values[:, :, kept]
        cache.update(keys, values, number)
    return CacheRows(cache, mask[:, columns], rows.next_position[index])


def join_rows(parts: Sequence[CacheRows], order: torch.Tensor) -> CacheRows:
    """All rows of the parts, one after the other, then sorted by `order`; shorter parts are padded on the right."""
    width = max(part.mask.shape[1] for part in parts)
    missing = [width - part.mask.shape[1] for part in parts]
    back = torch.argsort(order)
    cache = DynamicCache()
    for number, layer in enumerate(parts[0].cache.layers):
        at = back.to(layer.keys.device)
        keys = torch.cat([pad(p.cache.layers[number].keys, (0, 0, 0, m)) for p, m in zip(parts, missing, strict=True)])
        values = torch.cat([pad(p.cache.layers[number].values, (0, 0, 0, m)) for p, m in zip(parts, missing, strict=True)])
        cache.update(keys[at], values[at], number)
    mask = torch.cat([pad(p.mask, (0, m)) for p, m in zip(parts, missing, strict=True)])
    return CacheRows(cache, mask[back], torch.cat([p.next_position for p in parts])[back])
