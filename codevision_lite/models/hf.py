"""Generation with a transformers (or Unsloth) Qwen2.5-VL model: continuous batching of multi-turn dialogues.

One engine serves RL rollouts and evaluation. A dialogue may join while others are decoded; its KV cache is kept between its
turns, so that only new tokens are prefilled; equal prompts are prefilled once, and equal pictures go through the vision tower
once. What is sampled depends on the seed, the dialogue's number and the position alone, not on who else is in the batch or
when the sandbox was done. Vision tokens can't be sampled. Greedy replies equal `generate()`'s (a test compares).
Does not load models: models/load.py does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from PIL import Image

from codevision_lite.models import Dialogue, Segment, reply_in_step
from codevision_lite.models.backend import generation_mode
from codevision_lite.models.dense import merged_linears
from codevision_lite.models.encoding import encode_segment, rope_positions
from codevision_lite.models.kv import RowCache, Slot
from codevision_lite.models.vision import PictureFeatures

VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
PREFILL_TOKENS = 16_384  # of one forward, padding included; bounds its activations
GPU_CHECK_EVERY = 4  # steps between looks at which replies have ended: a look waits for the GPU


@dataclass(eq=False)
class _Row:
    """What the engine holds of one dialogue."""

    dialogue: Dialogue
    slot: Slot | None = None  # its keys and values, those of the tokens that the model has seen
    n_segments: int = 0  # whose ids and pictures are known
    grids: list[np.ndarray] = field(default_factory=list)  # of all pictures so far
    new_tokens: list[int] = field(default_factory=list)  # those that the model has not seen
    new_images: list[Image.Image] = field(default_factory=list)  # in them
    next_position: int = 0  # rotary position of the reply's first token
    limit: int = 0  # tokens of the reply
    draws: np.ndarray | None = None  # (limit,) in [0, 1): one for each token
    tokens: list[int] = field(default_factory=list)  # of the reply; the last one's keys are not cached
    logprobs: list[float] = field(default_factory=list)

    @property
    def token_ids(self) -> list[int]:
        return [t for s in self.dialogue.segments for t in s.token_ids or ()]


class HFModel:
    """A StreamingModel over (model, processor). `batch_size` dialogues are held at once: their KV caches set the memory."""

    def __init__(self, model: Any, processor: Any, *, temperature: float = 0.0, seed: int = 0, batch_size: int = 64):
        """`temperature` 0 is greedy. `seed` fixes what is sampled, for a fixed order of dialogues."""
        self.model, self.processor = model, processor
        self.temperature, self.batch_size = temperature, batch_size
        tokenizer = processor.tokenizer
        self.end_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
        self._image_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self._pad_id, self._n_words = tokenizer.pad_token_id, model.config.text_config.vocab_size
        self._suppressed = torch.tensor([tokenizer.convert_tokens_to_ids(t) for t in VISION_TOKENS], device=self.device)
        self._on_gpu = self.device.type == "cuda"
        self._check_every = GPU_CHECK_EVERY if self._on_gpu else 1
        self._pictures = PictureFeatures(model, processor)
        self._is_open = False
        self._kv: RowCache | None = None
        self.seconds = {"prefill": 0.0, "decode": 0.0}  # spent so far
        self.reseed(seed)
        self.forget()

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def forget(self) -> None:
        """Drop all caches (call after the weights changed or to free memory)."""
        self._rows: dict[int, _Row] = {}  # by id(dialogue); they hold the dialogue, so ids stay its own
        self._ready: list[_Row] = []  # to be prefilled
        self._decoding: list[_Row] = []  # in the order of the slots of _kv
        if self._kv is not None:
            self._kv.clear()
        self._kv = RowCache(self.model.config.text_config.num_hidden_layers, windowed=self._on_gpu)
        self._last_prompt: tuple[Any, list[torch.Tensor], torch.Tensor] | None = None  # key, keys and values, logits
        self._pictures.forget()

    def reseed(self, seed: int) -> None:
        """Fix what is sampled from here on; dialogues are numbered anew, in the order in which they come."""
        self._seed, self._numbers, self._n_numbered = seed, WeakKeyDictionary(), 0

    @contextmanager
    def generating(self) -> Iterator[None]:
        """`advance` works inside: evaluation mode, no gradients, and on a CPU merged weights."""
        if self._is_open:
            yield
            return
        self._is_open = True
        try:
            with generation_mode(self.model), torch.no_grad(), merged_linears(self.model):
                yield
        finally:
            self._is_open = False

    def reply(self, dialogues: Sequence[Dialogue], max_new_tokens: int) -> list[Segment]:
        """See ChatModel: all in step. Keeps the caches of these dialogues, and no others'."""
        for row in list(self._rows.values()):
            if row.dialogue not in dialogues:
                self.drop(row.dialogue)
        return reply_in_step(self, dialogues, max_new_tokens)

    def encode(self, segment: Segment) -> int:
        """Set the token ids of a segment, unless they are; returns how many there are, those of its pictures included."""
        if segment.token_ids is None:
            grids = self._pictures.grids(segment.images) if segment.images else None
            segment.token_ids = encode_segment(self.processor, segment, grids)
        return len(segment.token_ids)

    def add(self, dialogue: Dialogue, max_new_tokens: int) -> None:
        """Let the model continue the dialogue: the reply, at most `max_new_tokens` long, comes from an `advance` to come."""
        row = self._rows.get(id(dialogue))
        if row is None or (row.tokens and not any(s.token_ids is row.tokens for s in dialogue.segments)):
            self.drop(dialogue)
            row = self._rows[id(dialogue)] = _Row(dialogue)  # new, or it was continued with another reply than ours
        for segment in dialogue.segments[row.n_segments :]:
            self.encode(segment)
            if segment.images:
                row.grids.extend(self._pictures.grids(segment.images).numpy())
                row.new_images.extend(segment.images)
        row.n_segments = len(dialogue.segments)
        row.new_tokens = row.token_ids[row.slot.length if row.slot else 0 :]
        row.limit, row.tokens, row.logprobs = max_new_tokens, [], []
        row.draws = self._draws(row)
        self._ready.append(row)

    def drop(self, dialogue: Dialogue) -> None:
        """Forget a dialogue that is over; where the model is replying to it, when that reply is finished."""
        row = self._rows.pop(id(dialogue), None)
        if row and row.slot and row.slot.index >= self._kv.n_decoded and row not in self._ready:
            self._kv.free(row.slot)

    def advance(self) -> list[tuple[Dialogue, Segment]]:
        """Go on until one or more replies are finished; gives them, the caller appends them. None where nothing was added."""
        finished = self._prefill_ready()
        while not finished and self._decoding:
            finished = self._decode()
        decode, replies = self.processor.tokenizer.decode, []
        for row in finished:
            if self._rows.get(id(row.dialogue)) is not row:  # dropped meanwhile
                self._kv.free(row.slot)
            ended = row.tokens[-1] == self.end_id
            text = decode(row.tokens[:-1] if ended else row.tokens, skip_special_tokens=False)
            replies.append((row.dialogue, Segment("reply", text, token_ids=row.tokens, logprobs=row.logprobs, finished=ended)))
        return replies

    def _draws(self, row: _Row) -> np.ndarray:
        """A uniform number for each token of the reply, keyed by seed, dialogue and turn."""
        if row.dialogue not in self._numbers:
            self._numbers[row.dialogue] = self._n_numbered
            self._n_numbered += 1
        n_replies = sum(s.role == "reply" for s in row.dialogue.segments)
        rng = np.random.Generator(np.random.Philox(key=[self._seed, self._numbers[row.dialogue]], counter=[0, 0, 0, n_replies]))
        return rng.random(row.limit)

    def _prefill_ready(self) -> list[_Row]:
        """Prefill the dialogues that were added and take each reply's first token; returns those that end with it."""
        rows, self._ready = self._ready, []
        if not rows:
            return []
        started = time.perf_counter()
        sharing: dict[Any, list[_Row]] = {}
        for row in rows:
            key = (tuple(row.new_tokens), *self._pictures.names(row.new_images)) if row.slot is None else id(row)
            sharing.setdefault(key, []).append(row)
        last_key, last_kv, last_logits = self._last_prompt or (None, [], torch.empty(0))
        batches = list(_by_length([group[0] for key, group in sharing.items() if key != last_key]))  # last_key: the others had no room
        joining = [row for batch in batches for row in batch]
        alone = set(map(id, joining))
        joining += [row for row in rows if id(row) not in alone]
        for row, slot in zip(joining, self._kv.join([(row.slot, len(row.new_tokens)) for row in joining]), strict=True):
            row.slot = slot
        logits: dict[int, torch.Tensor] = {}
        for batch in batches:
            logits.update(zip(map(id, batch), self._prefill(batch, len(self._decoding)), strict=True))
            self._decoding.extend(batch)
        self._decoding.extend(joining[len(alone) :])
        for key, group in sharing.items():
            if key == last_key:
                kv, logits[id(group[0])] = last_kv, last_logits
                self._place(group[0])
                self._kv.write(group[0].slot, kv)
            elif not isinstance(key, int):
                kv = self._kv.read(group[0].slot)
                self._last_prompt = (key, kv, logits[id(group[0])])
            for row in group[1:]:
                self._kv.write(row.slot, kv)
                row.next_position, logits[id(row)] = group[0].next_position, logits[id(group[0])]
        draws = torch.from_numpy(np.array([row.draws[0] for row in rows])).to(self.device)
        chosen, logprobs = self._choose(torch.stack([logits[id(row)] for row in rows]), draws)
        for row, token, logprob in zip(rows, chosen.tolist(), logprobs.tolist(), strict=True):
            row.new_tokens, row.new_images = [], []
            row.tokens.append(token)
            row.logprobs.append(logprob)
        for row in rows:
            if self._has_ended(row):
                self._park(row, surplus=0)
        self.seconds["prefill"] += time.perf_counter() - started
        return [row for row in rows if self._has_ended(row)]

    def _park(self, row: _Row, surplus: int) -> None:
        """A row whose reply has ended leaves its place to the last one that is decoded."""
        self._decoding[row.slot.index] = self._decoding[-1]
        self._decoding.pop()
        self._kv.park(row.slot, surplus)

    def _has_ended(self, row: _Row) -> bool:
        return row.tokens[-1] == self.end_id or len(row.tokens) == row.limit

    def _place(self, row: _Row) -> np.ndarray:
        """(3, T) rotary positions of the dialogue; notes where the reply begins."""
        grids = np.array(row.grids).reshape(-1, 3)
        rope = rope_positions(row.token_ids, grids, self._image_id, self.processor.image_processor.merge_size)
        row.next_position = int(rope[0, -1]) + 1  # the last token is text: all three positions agree
        return rope

    def _prefill(self, rows: Sequence[_Row], first: int) -> torch.Tensor:
        """Run the tokens that the model has not seen, left-padded to one length; returns the last logits (rows, vocabulary).

        `first`: the slot of the first of these rows, which follow each other."""
        new = [row.new_tokens for row in rows]
        width = max(map(len, new))
        input_ids = torch.full((len(new), width), self._pad_id)
        positions = torch.zeros(3, len(new), width, dtype=torch.long)
        for i, (row, ids) in enumerate(zip(rows, new, strict=True)):
            input_ids[i, width - len(ids) :] = torch.tensor(ids)
            positions[:, i, width - len(ids) :] = torch.from_numpy(self._place(row)[:, -len(ids) :])
        input_ids = input_ids.to(self.device)
        embeddings = self.model.get_input_embeddings()(input_ids)
        images = [image for row in rows for image in row.new_images]
        if images:
            with self._autocast():
                features = self._pictures.features(images, self.device).to(embeddings.dtype)
            places = input_ids == self._image_id
            assert places.sum() == len(features), f"{int(places.sum())} image tokens, {len(features)} features of {len(images)} pictures"
            embeddings = embeddings.masked_scatter(places[..., None], features)
        mask = self._kv.prefilling(first, list(map(len, new)))
        return self._forward(positions.to(self.device), mask.to(self.device), inputs_embeds=embeddings)

    def _decode(self) -> list[_Row]:
        """A few steps for all rows under way; returns those that have ended, which leave their slots."""
        started = time.perf_counter()
        rows = self._decoding
        steps = min(self._check_every, min(row.limit - len(row.tokens) for row in rows))
        tokens = torch.tensor([row.tokens[-1] for row in rows]).to(self.device)
        positions = torch.tensor([row.next_position + len(row.tokens) - 1 for row in rows]).to(self.device)
        draws = torch.from_numpy(np.stack([row.draws[len(row.tokens) : len(row.tokens) + steps] for row in rows])).to(self.device)
        self._kv.make_room(steps)
        chosen = []
        for j in range(steps):
            place = (positions + j).view(1, -1, 1).expand(3, -1, 1)
            logits = self._forward(place, self._step_mask(self._kv.decoding()), input_ids=tokens[:, None])
            tokens, logprobs = self._choose(logits, draws[:, j])
            chosen.append((tokens, logprobs))
        new_tokens, new_logprobs = (torch.stack(column, dim=1).tolist() for column in zip(*chosen, strict=True))
        ended = []
        for slot in reversed(range(len(rows))):
            row, ids = rows[slot], new_tokens[slot]
            n = ids.index(self.end_id) + 1 if self.end_id in ids else steps  # what follows the end is not the reply's
            row.tokens += ids[:n]
            row.logprobs += new_logprobs[slot][:n]
            if self._has_ended(row):
                self._park(row, steps - n)
                ended.append(row)
        self.seconds["decode"] += time.perf_counter() - started
        return ended[::-1]

    def _step_mask(self, mask: torch.Tensor) -> torch.Tensor:
        """In the shape that attention uses it in, where that can be told: of (rows, columns) transformers would first ask the GPU
        whether anything is masked, and wait for it at every step."""
        is_used_as_is = self._on_gpu and self.model.config._attn_implementation == "sdpa"
        return mask[:, None, None] if is_used_as_is else mask.long()

    def _forward(self, positions: torch.Tensor, mask: torch.Tensor, **tokens: torch.Tensor) -> torch.Tensor:
        # In training, accelerate wraps `forward` in bf16 autocast; on a CPU rollouts compute as evaluation does, in float32.
        forward = getattr(self.model, "_original_forward", self.model) if self.device.type == "cpu" else self.model
        seen = {"attention_mask": mask, "position_ids": positions, "past_key_values": self._kv.cache}
        out = forward(**seen, **tokens, use_cache=True, logits_to_keep=1)
        assert out.logits.shape[-1] == self._n_words, f"{out.logits.shape[-1]} logits for {self._n_words} words: not the model's own output"
        return out.logits[:, -1].float()

    def _autocast(self) -> Any:
        """The tower runs outside of the wrapped forward, in the same precision."""
        is_wrapped = self.device.type == "cuda" and hasattr(self.model, "_original_forward")
        return torch.autocast("cuda", torch.bfloat16) if is_wrapped else nullcontext()

    def _choose(self, logits: torch.Tensor, draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, vocabulary) logits, (rows,) uniform draws -> token and log-probability of each row, on the logits' device.

        The log-probability is that of the full softmax, which the training forward recomputes; only the choice is
        kept away from vision tokens. It inverts the cumulative distribution: one draw for each token.
        """
        scaled = logits / self.temperature if self.temperature > 0 else logits
        logprobs = torch.log_softmax(scaled, dim=-1)
        allowed = scaled.index_fill(1, self._suppressed, float("-inf"))
        if self.temperature > 0:
            cumulative = torch.softmax(allowed, dim=-1).cumsum(-1)
            at = draws[:, None].to(cumulative.dtype).clamp(max=1 - 1e-6) * cumulative[:, -1:]
            chosen = torch.searchsorted(cumulative, at, right=True)  # the first token whose sum is above: never one of probability 0
        else:
            chosen = allowed.argmax(dim=-1, keepdim=True)
        return chosen[:, 0], logprobs.gather(1, chosen)[:, 0]


def _by_length(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    """Batches of rows with about as many new tokens, each at most PREFILL_TOKENS with its padding."""
    batch: list[_Row] = []
    width = 0
    for row in sorted(rows, key=lambda row: -len(row.new_tokens)):
        width = width or len(row.new_tokens)
        if batch and width * (len(batch) + 1) > PREFILL_TOKENS:
            yield batch
            batch, width = [], len(row.new_tokens)
        batch.append(row)
    if batch:
        yield batch
