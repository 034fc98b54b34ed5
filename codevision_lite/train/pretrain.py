"""The tiny base model from nothing: tokenizer, tower, then the language model on reading, chat and thoughts (`make tiny-base`).

It plays the part of a pretrained VLM: it reads upright pictures directly, can weakly name how a picture is turned, and
has seen the chat format, the JSON call and Python image code as text only. It never sees a tool trajectory.
    codevision-lite tiny-base recipes/tiny_base.yaml
"""

from __future__ import annotations

import logging
import math
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.data import IterableDataset
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from codevision_lite.damage import damage_image, undo
from codevision_lite.geometry import ORIENTATIONS
from codevision_lite.models import Segment
from codevision_lite.models.encoding import encode_segment, image_inputs, rope_positions
from codevision_lite.models.load import PictureProcessor, keep_freed_memory, release_freed_memory
from codevision_lite.protocol import CHAT_TEMPLATE, IMAGE, RESPONSE_TEMPLATE, image_line, render_call, render_prompt, system_text
from codevision_lite.recipe import PretrainConfig
from codevision_lite.records import ToolCall
from codevision_lite.sandbox import Sandbox
from codevision_lite.synth.glyphs import SYMBOLS, WORDS
from codevision_lite.synth.samples import split_of
from codevision_lite.synth.scene import Scene
from codevision_lite.synth.signs import CELL_NAMES, QUESTIONS, draw_scene
from codevision_lite.synth.signs_scripts import (
    HOW_TURNED,
    LOOKS,
    PLACES,
    REPAIRS,
    WHERE_LABEL,
    break_code,
    crop_code,
    say_place,
    say_turned,
)
from codevision_lite.train.tower import loader, merged_tokens, own_steps, save_checkpoint, tower_states, train_tower

logger = logging.getLogger(__name__)

VOCABULARY = 1280
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>",
    "<|video_pad|>",
)  # fmt: skip
TAGS = ("<think>", "</think>", "<answer>", "</answer>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
PIXELS = 84 * 84  # the pixel budget: 9 tokens a picture


# ---------------------------------------------------------------- text


def chat(user: str, assistant: str, image: Image.Image | None = None) -> list[Segment]:
    """One exchange in the final format, as prompt and reply segments."""
    if image is None:
        prompt = f"<|im_start|>system\n{system_text()}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
        return [Segment("prompt", prompt), Segment("reply", assistant)]
    return [Segment("prompt", render_prompt(user, image.size), (image,)), Segment("reply", assistant)]


def text_only(rng: random.Random) -> list[Segment]:
    """A text-only exchange: image code in Python, the call in JSON, thoughts and answers in their tags."""
    return chat(*_about_code(rng))


def _about_code(rng: random.Random) -> tuple[str, str]:
    """(what the user says, what the assistant replies)"""
    look = rng.choice(tuple(LOOKS)[1:])
    if rng.random() < 0.6:
        code = rng.choice(REPAIRS[undo(look)[0]])
        ask, see = f"The picture is {LOOKS[look]}. Repair it.", f"The picture is {LOOKS[look]}."
    else:
        cell = rng.randrange(9)
        code, ask, see = crop_code(cell), f"Crop the {PLACES[cell]} of nine cells.", f"The label is small, at the {PLACES[cell]}."
    form = rng.random()
    index = rng.choice((0, 0, 1, 2))
    if form < 0.12:
        broken, lesson = break_code(code, rng)
        return f"What went wrong? {error_message(broken)}", lesson
    if form < 0.35:
        return f"Write Python. {ask}", code
    if form < 0.7:
        return f"Write the call for image {index}. {ask}", render_call(ToolCall(code, image_index=index))
    if form < 0.85:
        return f"Write the call for image {index} with this code: {code}", render_call(ToolCall(code, image_index=index))
    thought = rng.choice(
        (see, "That was wrong.", f"That was wrong. {see}", "I can read it now.", "I can read it as it is.", "The picture is upright.")
    )
    return f"Write this thought in its tags: {thought}", f"<think>{thought}</think>"


# Kinds of scenes in the language phase: places are the slow part, so cells and labels are seen more often.
READING = {"sign": 0.26, "word": 0.13, "cells": 0.28, "count": 0.08, "label": 0.19, "large": 0.06}


def picture_rows(rng: random.Random, kind: str | None = None, ask_turned: float = 0.5) -> Iterator[list[Segment]]:
    """Exchanges about one scene: its question upright; now and then its orientation and its label's place."""
    while True:
        scene = draw_scene(rng, kind or _reading_kind(rng))
        if split_of(scene.content_key) == "train":
            break
    if scene.needs_crop:
        yield from _label_rows(scene, rng)
    else:
        yield chat(scene.question, f"<answer>{scene.answer}</answer>", scene.image)
    if scene.readable_under == () and rng.random() < ask_turned:
        damage = rng.choice(("none", *ORIENTATIONS))
        yield chat(HOW_TURNED, f"<answer>{LOOKS[damage]}</answer>", damage_image(scene.image, damage))


def _label_rows(scene: Scene, rng: random.Random) -> Iterator[list[Segment]]:
    """A tiny label can't be read in the whole page, but can in its cell; its place can be named."""
    third, cell = scene.image.width // 3, scene.facts["label_cell"]
    x, y = third * (cell % 3), third * (cell // 3)
    yield chat(scene.question, f"<answer>{scene.answer}</answer>", scene.image.crop((x, y, x + third, y + third)))
    if rng.random() < 0.8:
        yield chat(WHERE_LABEL, f"<answer>{PLACES[cell]}</answer>", scene.image)


THOUGHTS = ("The picture is upright.", "I can read it as it is.", "I can read it now.")


def chat_rows(rng: random.Random) -> Iterator[list[Segment]]:
    """As picture_rows, and as people chat: with a thought first, with an aside to another question, with talk about code
    in between, and with a second picture under the same question.

    Without it the model reads and names at one place of the context only, and the first fine-tuning step that moves the
    answer breaks it.
    """
    kind = _reading_kind(rng)
    rows = list(picture_rows(rng, kind))
    for row in rows[1:]:
        if rng.random() < 0.6:
            ask = HOW_TURNED if HOW_TURNED in row[0].text else WHERE_LABEL
            row[0].text = row[0].text.replace(ask, f"{_question(rows[0])} First: {ask}")
    for row in rows:
        if rng.random() < 0.6:
            row[1] = Segment("reply", f"<think>{_thought(row[0].text, row[1].text, rng)}</think>\n{row[1].text}")
    yield from rows[1:]
    talk = list(rows[0])
    more = rng.choice((1, 1, 1, 2))
    for _ in range(12):
        other = next(picture_rows(rng, kind))
        if _question(other) != _question(rows[0]):
            continue
        if rng.random() < 0.5:
            user, assistant = _about_code(rng)
            talk += [_next_turn(user), Segment("reply", assistant)]
        (image,) = other[0].images
        shown = f"{IMAGE}{image_line(sum(len(s.images) for s in talk), image.size)}"
        thought = rng.choice(("I can read it now.", f"I can read it now. {_question(other)}"))
        reply = other[1].text if rng.random() < 0.4 else f"<think>{thought}</think>\n{other[1].text}"
        talk += [_next_turn(rng.choice((shown, f"{shown}\nThe same question.")), image), Segment("reply", reply)]
        more -= 1
        if more == 0:
            break
    yield talk


def thought_rows(rng: random.Random) -> Iterator[list[Segment]]:
    """As chat_rows; thoughts to complete, under the question that belongs to the picture: how it is turned, where its label is;
    and chats that begin with such a thought, in which the question is asked anew and answered on a second, upright picture.

    Their first words are given and not learned: the base tells what it sees once it asks itself, but answers without asking.
    """
    reading, *named = picture_rows(rng, ask_turned=0.8)
    answered = f"I can read it now. {_question(reading)}</think>\n{reading[1].text}"
    for row in named:
        ask = HOW_TURNED if HOW_TURNED in row[0].text else WHERE_LABEL
        seen = _answer(row[1].text)
        thought = say_turned(seen) if ask == HOW_TURNED else say_place(PLACES.index(seen))
        if ask == WHERE_LABEL and rng.random() < 0.5:
            thought = f"{say_turned(LOOKS['none'])} {thought}"
        row[0].text = row[0].text.replace(ask, _question(reading))
        completed = _completing(row[0], f"<think>{thought}</think>")
        if ask == HOW_TURNED and rng.random() < 0.7:
            for _ in range(rng.choice((0, 1, 1, 2))):
                if rng.random() < 0.7:
                    completed += _thought_and_call(rng, _next_turn)
                else:
                    user, assistant = _about_code(rng)
                    completed += [_next_turn(user), Segment("reply", assistant)]
            for later in (*(other for other in named if other is not row), reading):  # of a page with a small label: page, then label
                (image,) = later[0].images
                shown = f"{IMAGE}{image_line(sum(len(s.images) for s in completed), image.size)}"
                reply = answered if later is reading else say_place(PLACES.index(_answer(later[1].text))) + "</think>"
                completed += [_next_turn(shown, image), Segment("reply", f"<think>{reply}")]
        yield completed
    if rng.random() < 0.8:  # the model answers the latest question it reads: without the first one asked anew, cells are missed
        yield _completing(reading[0], f"<think>{say_turned(LOOKS['none'])} {answered}")
    yield _thought_and_call(rng, lambda user: chat(user, "")[0])
    if rng.random() < 0.5:
        yield from chat_rows(rng)


def _thought_and_call(rng: random.Random, ask: Callable[[str], Segment]) -> list[Segment]:
    """Text only: a thought, which is given, and the call that belongs to it."""
    if rng.random() < 0.7:
        look = rng.choice(ORIENTATIONS)
        thought, code = say_turned(LOOKS[look]), rng.choice(REPAIRS[undo(look)[0]])
    else:
        cell = rng.randrange(9)
        thought, code = f"{say_turned(LOOKS['none'])} {say_place(cell)}", crop_code(cell)
    call = ToolCall(code, image_index=rng.choice((0, 0, 1)))
    prompt = ask(f"Write the call for image {call.image_index}.").text
    return [Segment("prompt", f"{prompt}<think>{thought}</think>\n"), Segment("reply", render_call(call))]


def _completing(prompt: Segment, reply: str) -> list[Segment]:
    """The reply, of which only what comes after the question in its thought is learned."""
    at = reply.index("?") + 1
    return [Segment("prompt", prompt.text + reply[:at], prompt.images), Segment("reply", reply[at:])]


def _answer(reply: str) -> str:
    return reply.split("<answer>")[1].removesuffix("</answer>")


def _next_turn(user: str, *images: Image.Image) -> Segment:
    return Segment("prompt", f"\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n", images)


def _reading_kind(rng: random.Random) -> str:
    return rng.choices(tuple(READING), tuple(READING.values()))[0]


def _question(row: list[Segment]) -> str:
    return row[0].text.split(" pixels.\n")[1].split("<|im_end|>")[0]


def _thought(prompt: str, reply: str, rng: random.Random) -> str:
    answer = _answer(reply)
    if HOW_TURNED in prompt:
        return f"The picture is {answer}."
    if WHERE_LABEL in prompt:
        return f"The label is small, at the {answer}."
    return rng.choice(THOUGHTS)


_WORD = re.compile(r" ?[A-Za-z_]+|\d|\n| ?[^\sA-Za-z\d]+|\s")


_BLANK = Image.new("RGB", (252, 252), "white")


def error_message(code: str) -> str:
    """What the sandbox says to broken code."""
    with Sandbox(mode="inline") as sandbox:
        return sandbox.run(code, [_BLANK]).message


# ---------------------------------------------------------------- tokenizer, processor, model


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with Qwen's special tokens; digits stand alone.

    Merges may cross spaces, unlike Qwen's, but are learned on running text only for the system message and the frame of
    a call: what is always the same costs few tokens, so that a CPU can train on whole trajectories; questions, thoughts
    and code stay words, names and signs. Hub models bring their own tokenizer.
    """
    tokenizer = Tokenizer(models.BPE())
    pieces = pre_tokenizers.Split(Regex(r"\d|\n|[^\d\n]+"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(TAGS),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(seed), trainer)
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left", model_max_length=32768,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def _corpus(seed: int) -> Iterator[str]:
    """Fixed text whole, everything else word by word; tags and special tokens are tokens of their own."""
    rng = random.Random(seed)
    tags = re.compile("|".join(re.escape(t) for t in (*SPECIAL, *TAGS)))
    frame_head, frame_tail = render_call(ToolCall("?")).split("?")
    lines = {line for seed in range(20) for line in error_message(break_code(crop_code(4), random.Random(seed))[0]).splitlines()[1:]}
    fixed = (system_text(), frame_head, frame_tail, *sorted(lines))
    for _ in range(400):
        yield from (piece for text in fixed for piece in tags.split(text) if piece)
    questions = [q.format(place=place) for q in QUESTIONS.values() for place in CELL_NAMES] + [HOW_TURNED, WHERE_LABEL]
    answers = (*SYMBOLS, *WORDS, *LOOKS.values(), *PLACES)
    for _ in range(2000):
        rows = [*text_only(rng), *chat(rng.choice(questions), rng.choice(answers), _BLANK)]
        for segment in rows:
            text = segment.text
            for known in fixed:
                text = text.replace(known, "")
            yield from (word for piece in tags.split(text) for word in _WORD.findall(piece))


def build_processor(tokenizer: PreTrainedTokenizerFast) -> PictureProcessor:
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.response_template = RESPONSE_TEMPLATE
    image_processor = Qwen2VLImageProcessorPil(size={"shortest_edge": PIXELS, "longest_edge": PIXELS})
    return PictureProcessor(image_processor, tokenizer, CHAT_TEMPLATE)


def build_config(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    """Small Qwen2.5-VL. Linear sizes are multiples of 32 (4-bit packing on a CPU) and weights multiples of 64 (NF4 blocks)."""
    ids = {t: tokenizer.convert_tokens_to_ids(t) for t in SPECIAL}
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": VOCABULARY, "hidden_size": 160, "intermediate_size": 448, "num_hidden_layers": 4, "num_attention_heads": 5,
            "num_key_value_heads": 5, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
            # theta 2.5: rows and columns of a picture get the lower frequencies, and with Qwen's theta a 3x3 grid would be one
            # point: questions about places then stay near chance.
            "rope_parameters": {"rope_type": "default", "rope_theta": 2.5, "mrope_section": [4, 6, 6]},
            "bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 6, "hidden_size": 128, "intermediate_size": 384, "num_heads": 4, "out_hidden_size": 160, "patch_size": 14,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112, "fullatt_block_indexes": [5], "hidden_act": "silu",
        },
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"], vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"], tie_word_embeddings=True,
    )  # fmt: skip


# ---------------------------------------------------------------- language phase


@dataclass(frozen=True)
class Phase:
    """One phase of training the language model: its name, length, rate, and how its rows about pictures are made and spread."""

    name: str
    steps: int
    batch: int
    learning_rate: float
    rows: Callable[[random.Random], Iterator[list[Segment]]]
    longest_gap: int = 0  # positions left out between two segments of a row at most


PICTURE_SHARE = 0.7
PARTS = 4  # of a batch on a CPU, which would compute its padding; on a GPU a batch is one part


class _Rows(IterableDataset):
    """Batch number `step` depends on the seed, the phase and the step alone, so a resumed run sees the same rows."""

    def __init__(
        self, processor: PictureProcessor, config: PretrainConfig, phase: Phase, start: int, parts: int = PARTS,
        frozen: torch.nn.Module | None = None,
    ):  # fmt: skip
        """`frozen`: the tower, whose blocks do not learn and can see the pictures here, ahead of the training."""
        self.processor, self.config, self.phase, self.start, self.parts = processor, config, phase, start, parts
        self.frozen = frozen

    def __iter__(self) -> Iterator[list[dict[str, torch.Tensor]]]:
        for step in own_steps(self.start, self.phase.steps):
            rng = random.Random(f"{self.config.seed}/{self.phase.name}/{step}")
            n_pictures = round(self.phase.batch * PICTURE_SHARE)
            rows = [text_only(rng) for _ in range(self.phase.batch - n_pictures)]
            while len(rows) < self.phase.batch:
                rows.extend(self.phase.rows(rng))
            # Rows of like lengths together: half of a common batch would be padding.
            rows = sorted(rows[: self.phase.batch], key=lambda row: sum(len(s.text) for s in row))
            part = math.ceil(self.phase.batch / self.parts)
            gaps = Gaps(rng, self.phase.longest_gap)
            yield [self._seen(collate(self.processor, rows[at : at + part], gaps)) for at in range(0, len(rows), part)]

    def _seen(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The batch with `states` in place of `pixels`."""
        if self.frozen is None or batch["pixels"] is None:
            return batch
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return {**batch, "pixels": None, "states": tower_states(self.frozen, batch["pixels"])}


class Gaps:
    """Positions left out between the segments of a row, so that what is said again of earlier turns hangs less on how long ago they were.

    Without them a question is asked anew without fault in the chats of these rows, and often wrongly in a trajectory, whose turns have
    other lengths.
    """

    SHARE = 0.25  # of the borders; with half of them and gaps twice as long the base calls tools by itself

    def __init__(self, rng: random.Random, longest: int):
        """`longest`: positions of a gap at most; 0: no gaps."""
        self.rng, self.longest = rng, longest

    def __call__(self, lengths: Sequence[int]) -> np.ndarray:
        """(sum of lengths,) int64: how far each token of segments of these lengths moves."""
        moved, shifts = 0, []
        for n in lengths:
            shifts += [moved] * n
            if self.longest and self.rng.random() < self.SHARE:
                moved += self.rng.randint(1, self.longest)
        return np.array(shifts)


def collate(processor: PictureProcessor, rows: list[list[Segment]], gaps: Gaps | None = None) -> dict[str, torch.Tensor]:
    """Right-padded batch: input_ids, labels (replies only, else -100), mask (B, T), positions (3, B, T), pixels (n, 36, 1176)."""
    image_id, merge = processor.image_token_id, processor.image_processor.merge_size
    ids, labels, ropes, images = [], [], [], []
    for row in rows:
        pictures = [image for segment in row for image in segment.images]
        inputs = image_inputs(processor, pictures) if pictures else None
        grids = torch.zeros(0, 3, dtype=torch.long) if inputs is None else inputs.grid_thw
        at, tokens, learned, lengths = 0, [], [], []
        for segment in row:
            n = len(segment.images)
            new = encode_segment(processor, segment, grids[at : at + n] if n else None)
            at += n
            tokens += new
            lengths.append(len(new))
            learned += new if segment.role == "reply" else [-100] * len(new)
        ids.append(tokens)
        labels.append(learned)
        positions = rope_positions(tokens, grids.numpy(), image_id, merge)
        ropes.append(positions if gaps is None else positions + gaps(lengths))
        if inputs is not None:
            images.append(inputs.pixel_values.reshape(len(pictures), -1, inputs.pixel_values.shape[-1]))
    width = max(map(len, ids))
    batch = {
        "input_ids": torch.full((len(ids), width), processor.tokenizer.pad_token_id), "labels": torch.full((len(ids), width), -100),
        "mask": torch.zeros(len(ids), width, dtype=torch.long), "positions": torch.zeros(3, len(ids), width, dtype=torch.long),
        "pixels": torch.cat(images) if images else None,
    }  # fmt: skip
    for i, row in enumerate(ids):
        batch["input_ids"][i, : len(row)] = torch.tensor(row)
        batch["labels"][i, : len(row)] = torch.tensor(labels[i])
        batch["mask"][i, : len(row)] = 1
        batch["positions"][:, i, : len(row)] = torch.from_numpy(ropes[i])
    return batch


def language_loss(model: Qwen2_5_VLForConditionalGeneration, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean cross-entropy of reply tokens, for each row whether every token of its replies is the most likely one)."""
    inner = model.model
    embeds = inner.language_model.embed_tokens(batch["input_ids"])
    states = batch.get("states")
    if batch["pixels"] is not None:
        states = tower_states(inner.visual, batch["pixels"])
    if states is not None:
        pictures = merged_tokens(inner.visual, states).flatten(0, 1)
        embeds = embeds.masked_scatter((batch["input_ids"] == model.config.image_token_id)[..., None], pictures.to(embeds.dtype))
    out = inner.language_model(inputs_embeds=embeds, attention_mask=batch["mask"], position_ids=batch["positions"], use_cache=False)
    targets = batch["labels"][:, 1:]
    asked = targets != -100
    logits = model.lm_head(out.last_hidden_state[:, :-1][asked]).float()
    right = torch.ones_like(asked)
    right[asked] = logits.argmax(-1) == targets[asked]
    return F.cross_entropy(logits, targets[asked]), right.all(1).float()


def train_language(
    model: Qwen2_5_VLForConditionalGeneration, processor: PictureProcessor, config: PretrainConfig, phase: Phase, checkpoint: Path
) -> None:
    """Train the language model and the tower's merger; the tower's blocks stay frozen. Resumes from `checkpoint`."""
    torch.manual_seed(config.seed)
    device = model.device
    model.model.visual.requires_grad_(False)
    model.model.visual.merger.requires_grad_(True)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=phase.learning_rate, weight_decay=0.02, betas=(0.9, 0.98))
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    if device.type == "cpu":
        rows = _Rows(processor, config, phase, start, frozen=model.model.visual)
    else:
        rows = _Rows(processor, config, phase, start, parts=1)
    data = iter(loader(rows, device))
    began = time.time()
    losses, exact = [], []
    # Parts side by side: two threads within so small a product gain nothing.
    with ThreadPoolExecutor(rows.parts // 2 or 1, "part", initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for step in range(start, phase.steps):
            rate = phase.learning_rate * min(1.0, (step + 1) / 200)
            rate *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / phase.steps))
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            parts = next(data)
            loss, right = add_gradients(model, trained, parts, pool)
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            losses.append(loss)
            exact.append(right.mean().item())
            done = step + 1
            if done % 50 == 0 or done == phase.steps:
                seconds = (time.time() - began) / (done - start)
                note = f"loss {np.mean(losses[-50:]):.3f} | replies exact {np.mean(exact[-50:]):.3f}"
                eta = seconds * (phase.steps - done) / 60
                print(f"{phase.name} {done:05d}/{phase.steps} | {note} | {seconds:.2f} s/step | eta {eta:.0f} min", flush=True)
                release_freed_memory()  # batches of ever new widths leave holes that no later one fits into
            if done % 250 == 0 or done == phase.steps:
                save_checkpoint(checkpoint, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": done})


def add_gradients(
    model: Qwen2_5_VLForConditionalGeneration, trained: list[torch.nn.Parameter], parts: list[dict[str, torch.Tensor]],
    pool: ThreadPoolExecutor,
) -> tuple[float, torch.Tensor]:  # fmt: skip
    """Add the gradients of a batch's loss, a mean over all its reply tokens, in the order of its parts, whichever thread of `pool` is
    done first. Returns the loss and, for each row, what language_loss says of it."""
    n_tokens = [int((part["labels"][:, 1:] != -100).sum()) for part in parts]
    weights = [n / sum(n_tokens) for n in n_tokens]
    longest_first = reversed([*zip(parts, weights, strict=True)])
    jobs = [pool.submit(_part_gradients, model, trained, *of_part) for of_part in longest_first]
    total, rights = 0.0, []
    for job in reversed(jobs):
        loss, right, gradients = job.result()
        for parameter, gradient in zip(trained, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        total += loss
        rights.append(right)
    return total, torch.cat(rights)


def _part_gradients(
    model: Qwen2_5_VLForConditionalGeneration, trained: list[torch.nn.Parameter], part: dict[str, torch.Tensor], weight: float
) -> tuple[float, torch.Tensor, tuple[torch.Tensor | None, ...]]:
    on_device = {name: None if values is None else values.to(model.device) for name, values in part.items()}
    with torch.autocast(model.device.type, torch.bfloat16):
        loss, right = language_loss(model, on_device)
    loss = loss * weight
    return loss.item(), right, torch.autograd.grad(loss, trained, allow_unused=True)


def build(config: PretrainConfig) -> None:
    """Train and write the base model folder (bf16 weights, processor files); resumes from checkpoints in the work folder."""
    out, work = Path(config.out_folder), Path(config.work_folder)
    torch.set_num_threads(1)
    keep_freed_memory()
    processor = build_processor(train_tokenizer(config.seed))
    torch.manual_seed(config.seed)
    model = Qwen2_5_VLForConditionalGeneration(build_config(processor.tokenizer))
    model.set_attn_implementation("eager")  # the fused CPU kernel's backward is slower at this size
    _initialise_language(model)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    image_processor = processor.image_processor
    train_tower(
        model.model.visual, mean=image_processor.image_mean, std=image_processor.image_std, steps=config.tower_steps,
        batch=config.tower_batch, learning_rate=config.tower_lr, seed=config.seed,
        split_filter=lambda key: split_of(key) == "train", checkpoint=work / "tower.pt",
    )  # fmt: skip
    phases = (
        Phase("language", config.language_steps, config.language_batch, config.language_lr, picture_rows),
        Phase("chat", config.chat_steps, config.chat_batch, config.chat_lr, chat_rows),
        Phase("thoughts", config.thought_steps, config.chat_batch, config.thought_lr, thought_rows, longest_gap=24),
    )
    for phase in phases:
        train_language(model, processor, config, phase, work / f"{phase.name}.pt")
    model.to(torch.bfloat16).save_pretrained(out)
    processor.image_processor.save_pretrained(out)
    processor.tokenizer.save_pretrained(out)


def _initialise_language(model: Qwen2_5_VLForConditionalGeneration) -> None:
    """As the tower's: unit-variance weights in place of std 0.02."""
    for module in model.model.language_model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=module.in_features**-0.5)
