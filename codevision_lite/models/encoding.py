"""Text and pictures to tensors, one way for SFT, RL and evaluation.

Each segment is tokenised on its own; an image placeholder becomes as many tokens as the image processor's grid says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from codevision_lite.models import Dialogue, Segment
from codevision_lite.protocol import END_OF_TURN, IMAGE_TOKEN


@dataclass(frozen=True)
class ImageInputs:
    """What the vision tower is given for some pictures, in order."""

    pixel_values: torch.Tensor  # (patches of all pictures, channels * temporal * patch * patch) float32
    grid_thw: torch.Tensor  # (pictures, 3) int64: patches in time, height, width


def image_inputs(processor: Any, images: Sequence[Image.Image]) -> ImageInputs:
    """The model's view of full-resolution RGB pictures, under the processor's pixel budget."""
    out = processor.image_processor(images=list(images), return_tensors="pt")
    return ImageInputs(out["pixel_values"], out["image_grid_thw"])


def encode_segment(processor: Any, segment: Segment, grid_thw: torch.Tensor | None) -> list[int]:
    """Token ids of one segment; `grid_thw` (images of the segment, 3) sets the number of tokens of each picture.

    A reply ends with the end-of-turn token. Asserts that placeholders and pictures agree.
    """
    parts = segment.text.split(IMAGE_TOKEN)
    n_grids = 0 if grid_thw is None else len(grid_thw)
    assert len(parts) - 1 == n_grids, f"{len(parts) - 1} image placeholders, {n_grids} pictures in a {segment.role} segment"
    merge = processor.image_processor.merge_size**2
    text = parts[0]
    for i, part in enumerate(parts[1:]):
        text += IMAGE_TOKEN * (int(grid_thw[i].prod()) // merge) + part
    if segment.role == "reply":
        text += END_OF_TURN
    return processor.tokenizer(text, add_special_tokens=False)["input_ids"]


def encode_dialogue(processor: Any, dialogue: Dialogue) -> ImageInputs | None:
    """Set the token ids of every segment that has none yet; returns the inputs of all the dialogue's pictures."""
    inputs = image_inputs(processor, dialogue.images) if dialogue.images else None
    at = 0
    for segment in dialogue.segments:
        n = len(segment.images)
        if segment.token_ids is None:
            segment.token_ids = encode_segment(processor, segment, inputs.grid_thw[at : at + n] if n else None)
        at += n
    return inputs


def rope_positions(token_ids: Sequence[int], grid_thw: np.ndarray, image_token_id: int, merge: int) -> np.ndarray:
    """(3, T) multimodal rotary positions (time, height, width) of one unpadded sequence, as Qwen's `get_rope_index`.

    Text counts up in all three; a picture's tokens share one time and spread over rows and columns; the text after it
    goes on from its longer side. `grid_thw`: (pictures, 3) int.
    """
    ids = np.asarray(token_ids)
    positions = np.zeros((3, len(ids)), dtype=np.int64)
    at = position = 0
    for t, h, w in grid_thw:
        rows, columns = int(h) // merge, int(w) // merge
        start = at + int(np.argmax(ids[at:] == image_token_id))
        positions[:, at:start] = np.arange(position, position + start - at)
        position += start - at
        end = start + int(t) * rows * columns
        positions[0, start:end] = position
        positions[1, start:end] = position + np.tile(np.repeat(np.arange(rows), columns), int(t))
        positions[2, start:end] = position + np.tile(np.arange(columns), rows * int(t))
        position += max(rows, columns)
        at = end
    positions[:, at:] = np.arange(position, position + len(ids) - at)
    return positions
