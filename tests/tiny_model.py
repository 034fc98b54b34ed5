"""A random Qwen2.5-VL of the tiny base's shape, dialogues with several pictures, and a model that is told what to sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration

from codevision_lite.models import Dialogue, Segment
from codevision_lite.models.hf import HFModel
from codevision_lite.protocol import render_observation, render_prompt
from codevision_lite.train.pretrain import _initialise_language, build_config
from codevision_lite.train.tower import _initialise


def random_model(processor: Any) -> Qwen2_5_VLForConditionalGeneration:
    """Weights large enough that every picture and position changes the logits; transformers' own are nearly constant.

    The end of a turn has a long embedding, hence a logit of large variance, so that random replies end at different lengths.
    """
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(build_config(processor.tokenizer))
    _initialise(model.model.visual)
    _initialise_language(model)
    with torch.no_grad():
        for layer in model.model.language_model.layers:  # louder than the embedding that they add to: no reply repeats one token
            layer.self_attn.o_proj.weight *= 3
            layer.mlp.down_proj.weight *= 3
        embeddings = model.get_input_embeddings().weight
        embeddings.normal_(std=0.2)
        embeddings[processor.tokenizer.convert_tokens_to_ids("<|im_end|>")] *= 6
    return model.eval()


def save_random_model(folder: Path, processor: Any) -> Path:
    random_model(processor).save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)
    processor.tokenizer.save_pretrained(folder)
    return folder


def converse(model: Any, dialogues: Sequence[Dialogue], observed: Sequence[Sequence[Image.Image | None]], max_new_tokens: int = 10) -> None:
    """Let the model reply to all dialogues, show each its next picture (None: a message alone), and so on; the last word is the model's."""
    answer(model, dialogues, max_new_tokens)
    for pictures in zip(*observed, strict=True):
        for dialogue, image in zip(dialogues, pictures, strict=True):
            show(dialogue, image)
        answer(model, dialogues, max_new_tokens)


def answer(model: Any, dialogues: Sequence[Dialogue], max_new_tokens: int) -> None:
    for dialogue, reply in zip(dialogues, model.reply(dialogues, max_new_tokens), strict=True):
        dialogue.segments.append(reply)


def show(dialogue: Dialogue, image: Image.Image | None) -> None:
    text = "The code stopped." if image is None else f"Image: {image.width}x{image.height} pixels."
    dialogue.segments.append(Segment("observation", render_observation(text, image is not None), () if image is None else (image,)))


def ask(question: str, image: Image.Image) -> Dialogue:
    return Dialogue([Segment("prompt", render_prompt(question, image.size), (image,))])


def token_ids(dialogue: Dialogue) -> list[int]:
    return [t for s in dialogue.segments for t in s.token_ids]


class ToldModel(HFModel):
    """Draws the tokens of given replies in place of random ones; their log-probabilities are the model's own.

    `script`: the reply to a dialogue, given the dialogue and its number.
    """

    def __init__(self, *args: Any, script: Callable[[Dialogue, int], str], **options: Any):
        super().__init__(*args, **options)
        self.script = script

    def _draws(self, row: Any) -> np.ndarray:
        super()._draws(row)  # numbers the dialogue
        reply = self.script(row.dialogue, self._numbers[row.dialogue])
        told = [*self.processor.tokenizer.encode(reply, add_special_tokens=False), self.end_id]
        return np.array((told + [self.end_id] * row.limit)[: row.limit])

    def _choose(self, logits: torch.Tensor, draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logprobs = torch.log_softmax(logits / (self.temperature or 1.0), dim=-1)
        return draws, logprobs.gather(1, draws[:, None])[:, 0]
