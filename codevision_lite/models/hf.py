"""Generation with a transformers (or Unsloth) Qwen-VL model: batched, multi-turn, with the KV cache kept between turns.

One loop serves RL rollouts and evaluation. Equal prompts are prefilled once; in later turns only the new tokens are
prefilled; vision tokens can't be sampled. Greedy replies equal `generate()`'s (a test compares).
Does not load models: models/load.py does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from codevision_lite.imaging import content_name
from codevision_lite.models import Dialogue, Segment
from codevision_lite.models.dense import merged_linears
from codevision_lite.models.encoding import ImageInputs, encode_segment, image_inputs, rope_positions
from codevision_lite.models.kv import CacheRows, join_rows, take_rows

VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")


class HFModel:
    """A ChatModel over (model, processor). Holds the KV cache of the dialogues of its last call."""

    def __init__(self, model: Any, processor: Any, *, temperature: float = 0.0, seed: int = 0, batch_size: int = 64):
        """`temperature` 0 is greedy. `seed` fixes what is sampled, for a fixed order of calls."""
        self.model, self.processor = model, processor
        self.temperature, self.batch_size = temperature, batch_size
        self._generator = torch.Generator().manual_seed(seed)
        tokenizer = processor.tokenizer
        self.end_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
        self._image_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self._pad_id = tokenizer.pad_token_id
        self._suppressed = torch.tensor([tokenizer.convert_tokens_to_ids(t) for t in VISION_TOKENS])
        self._rows: list[Dialogue] = []  # which dialogue each row of the cache belongs to
        self._kv = CacheRows.empty(0)
        self._grids: dict[int, list[np.ndarray]] = {}  # id(dialogue) -> grids of its pictures so far

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def forget(self) -> None:
        """Drop the cache (call after the weights changed or to free memory)."""
        self._rows, self._kv, self._grids = [], CacheRows.empty(0), {}

    def reseed(self, seed: int) -> None:
        """Fix what is sampled from here on."""
        self._generator.manual_seed(seed)

    @torch.no_grad()
    def reply(self, dialogues: Sequence[Dialogue], max_new_tokens: int) -> list[Segment]:
        """See ChatModel. Sets the token ids of the dialogues' new segments."""
        training = self.model.training
        self.model.eval()
        with merged_linears(self.model):
            replies = self._reply(dialogues, max_new_tokens)
        self.model.train(training)
        return replies

    def _reply(self, dialogues: Sequence[Dialogue], max_new_tokens: int) -> list[Segment]:
        kept = self._keep_rows(dialogues)
        seen: dict[tuple[int, ...], ImageInputs] = {}  # the rollouts of one prompt share its picture
        fresh = [self._encode_new(dialogue, seen) for dialogue in dialogues]
        if kept:
            logits = self._prefill(dialogues, fresh)
        else:
            logits = self._prefill_unique(dialogues, fresh)
        return self._decode(dialogues, logits, max_new_tokens)

    def _encode_new(self, dialogue: Dialogue, seen: dict[tuple[int, ...], ImageInputs]) -> ImageInputs | None:
        """Tokenise the segments that have no ids yet; returns the pictures that the KV cache has not seen."""
        kept = dialogue in self._rows
        segments = [s for s in dialogue.segments if s.token_ids is None or not kept]
        images = [image for s in dialogue.segments if s.token_ids is None or not kept for image in s.images]
        key = tuple(map(id, images))
        if images and key not in seen:
            seen[key] = image_inputs(self.processor, images)
        inputs = seen.get(key)
        at = 0
        for segment in segments:
            n = len(segment.images)
            if segment.token_ids is None:
                segment.token_ids = encode_segment(self.processor, segment, inputs.grid_thw[at : at + n] if n else None)
            at += n
        grids = self._grids[id(dialogue)] = self._grids.get(id(dialogue), []) if kept else []
        if inputs is not None:
            grids.extend(inputs.grid_thw.numpy())
        return inputs

    def _keep_rows(self, dialogues: Sequence[Dialogue]) -> bool:
        """Narrow the cache to these dialogues; False, and no cache, where it does not hold them all."""
        places = {id(d): i for i, d in enumerate(self._rows)}
        if not self._rows or any(id(d) not in places for d in dialogues):
            self.forget()
            return False
        index = torch.tensor([places[id(d)] for d in dialogues])
        if len(index) != len(self._rows) or not torch.equal(index, torch.arange(len(index))):
            self._kv = take_rows(self._kv, index)
        self._rows = list(dialogues)
        return True

    def _prefill_unique(self, dialogues: Sequence[Dialogue], fresh: list[ImageInputs | None]) -> torch.Tensor:
        """Start a new cache: each different prompt once, then its rows copied to the dialogues that share it."""
        first: dict[tuple, int] = {}
        unique: list[int] = []
        row_of = []
        for i, dialogue in enumerate(dialogues):
            key = (*(t for s in dialogue.segments for t in s.token_ids or ()), *(content_name(image) for image in dialogue.images))
            if key not in first:
                first[key] = len(unique)
                unique.append(i)
            row_of.append(first[key])
        self._kv = CacheRows.empty(len(unique))
        logits = self._prefill([dialogues[i] for i in unique], [fresh[i] for i in unique])
        self._rows = list(dialogues)
        if len(unique) < len(dialogues):
            self._kv, logits = take_rows(self._kv, torch.tensor(row_of)), logits[row_of]
        return logits

    def _prefill(self, dialogues: Sequence[Dialogue], fresh: list[ImageInputs | None]) -> torch.Tensor:
        """Run the tokens that the cache has not seen, left-padded to one length; returns the last logits (rows, vocabulary)."""
        cached = self._kv.mask.sum(1).tolist()
        ids = [[t for s in d.segments for t in s.token_ids or ()] for d in dialogues]
        new = [row[n:] for row, n in zip(ids, cached, strict=True)]
        width = max(map(len, new))
        input_ids = torch.full((len(new), width), self._pad_id)
        mask = torch.zeros(len(new), width, dtype=torch.long)
        positions = torch.zeros(3, len(new), width, dtype=torch.long)
        for i, row in enumerate(new):
            grids = np.array(self._grids[id(dialogues[i])]).reshape(-1, 3)
            rope = rope_positions(ids[i], grids, self._image_id, self.processor.image_processor.merge_size)
            input_ids[i, width - len(row) :] = torch.tensor(row)
            mask[i, width - len(row) :] = 1
            positions[:, i, width - len(row) :] = torch.from_numpy(rope[:, len(ids[i]) - len(row) :])
            self._kv.next_position[i] = int(rope[0, -1]) + 1  # the last token is text: all three positions agree
        self._kv.mask = torch.cat([self._kv.mask, mask], dim=1)
        pictures = [f for f in fresh if f is not None]
        vision = {}
        if pictures:
            vision["pixel_values"] = torch.cat([f.pixel_values for f in pictures]).to(self.device)
            vision["image_grid_thw"] = torch.cat([f.grid_thw for f in pictures]).to(self.device)
        return self._forward(input_ids, positions, **vision)

    def _forward(self, input_ids: torch.Tensor, positions: torch.Tensor, **vision: torch.Tensor) -> torch.Tensor:
        # In training, accelerate wraps `forward` in bf16 autocast; on a CPU rollouts compute as evaluation does, in float32.
        forward = getattr(self.model, "_original_forward", self.model) if self.device.type == "cpu" else self.model
        out = forward(
            input_ids=input_ids.to(self.device), attention_mask=self._kv.mask.to(self.device), position_ids=positions.to(self.device),
            past_key_values=self._kv.cache, use_cache=True, logits_to_keep=1, **vision,
        )  # fmt: skip
        return out.logits[:, -1].float()

    def _decode(self, dialogues: Sequence[Dialogue], logits: torch.Tensor, max_new_tokens: int) -> list[Segment]:
        tokens: list[list[int]] = [[] for _ in dialogues]
        logprobs: list[list[float]] = [[] for _ in dialogues]
        live = torch.arange(len(dialogues))  # the dialogue of each row that is still decoded
        running = torch.ones(len(dialogues), dtype=torch.bool)
        parked: list[tuple[torch.Tensor, CacheRows]] = []
        for _ in range(max_new_tokens):
            chosen, chosen_logprobs = self._choose(logits)
            for i in running.nonzero()[:, 0].tolist():
                tokens[live[i]].append(int(chosen[i]))
                logprobs[live[i]].append(float(chosen_logprobs[i]))
            logits = self._feed(chosen, running)  # a row's end-of-turn token is fed, what comes after it is not
            running = running & (chosen != self.end_id)
            if not running.any():
                break
            if running.sum() <= len(live) / 2:  # finished rows wait outside: one long reply must not carry the batch along
                parked.append((live[~running], take_rows(self._kv, (~running).nonzero()[:, 0])))
                self._kv, logits = take_rows(self._kv, running.nonzero()[:, 0]), logits[running]
                live, running = live[running], running[running]
        if parked:
            self._kv = join_rows([self._kv, *(rows for _, rows in parked)], torch.cat([live, *(index for index, _ in parked)]))
        decode = self.processor.tokenizer.decode
        replies = []
        for ids, lps in zip(tokens, logprobs, strict=True):
            finished = ids[-1] == self.end_id
            text = decode(ids[:-1] if finished else ids, skip_special_tokens=False)
            replies.append(Segment("reply", text, token_ids=ids, logprobs=lps, finished=finished))
        return replies

    def _feed(self, tokens: torch.Tensor, fed: torch.Tensor) -> torch.Tensor:
        """Append one token to the rows where `fed` (a pad that nothing attends to elsewhere); returns the next logits."""
        self._kv.mask = torch.cat([self._kv.mask, fed.long()[:, None]], dim=1)
        positions = self._kv.next_position.view(1, -1, 1).expand(3, -1, 1)
        self._kv.next_position = self._kv.next_position + fed.long()
        return self._forward(torch.where(fed, tokens, self._pad_id)[:, None], positions)

    def _choose(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, vocabulary) logits -> token and log-probability of each row, on the CPU.

        The log-probability is that of the full softmax, which the training forward recomputes; only the choice is
        kept away from vision tokens.
        """
        scaled = logits / self.temperature if self.temperature > 0 else logits
        logprobs = torch.log_softmax(scaled, dim=-1)
        allowed = scaled.index_fill(1, self._suppressed.to(scaled.device), float("-inf"))
        if self.temperature > 0:
            chosen = torch.multinomial(torch.softmax(allowed, dim=-1).cpu(), 1, generator=self._generator)[:, 0]
        else:
            chosen = allowed.argmax(dim=-1).cpu()
        return chosen, logprobs.cpu().gather(1, chosen[:, None])[:, 0]
