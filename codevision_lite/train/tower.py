"""Phase 1 of the tiny base model: its vision tower, pretrained with auxiliary heads.

A tower trained from scratch through a language model plateaus, so it first learns, from heads that are thrown away:
to name the symbol, word, cells and count of *upright* pictures (the base must be brittle, as real models are), and the
orientation and the place of a small label on *all* pictures. Called by train/pretrain.py (`make tiny-base`).
"""

from __future__ import annotations

import logging
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

from codevision_lite.geometry import ORIENTATIONS, apply_op
from codevision_lite.synth.glyphs import ASYMMETRIC, SYMBOLS, WORDS
from codevision_lite.synth.scene import Scene
from codevision_lite.synth.signs import CANVASES, KIND_WEIGHTS, KINDS, draw_scene
from codevision_lite.train.aside import weight_gradients_aside

logger = logging.getLogger(__name__)

VIEW = 84  # px: side of the pictures of this phase = the tiny model's pixel budget
FRAMES = ("none", *ORIENTATIONS)
TEXTS = SYMBOLS + WORDS
SMALL_CANVASES = (126, 168)  # px; drawn faster than the full ones and nearly the same at 84 px
# name -> (queries, classes)
HEADS = {
    "main": (1, len(TEXTS)), "orientation": (1, len(FRAMES)), "cells": (4, len(ASYMMETRIC)), "count": (1, 4), "label_cell": (1, 9),
}  # fmt: skip


# (share of all steps, kinds with weights, smallest symbol as a share of the page). Everything at once from the start
# stays at chance; large single symbols are learned first, and the rest follows from there.
CURRICULUM = ((0.1, {"sign": 1.0}, 0.45), (0.2, {"sign": 0.6, "word": 0.4}, 0.2), (1.0, dict(zip(KINDS, KIND_WEIGHTS, strict=True)), 0.0))


def views(rng: random.Random, progress: float, split_filter: Callable[[str], bool]) -> Iterator[tuple[np.ndarray, dict[str, list[int]]]]:
    """Three views (picture (84, 84, 3) uint8, labels per head; -100 = not asked) of one scene whose content key passes."""
    _, kinds, smallest = next(stage for stage in CURRICULUM if progress <= stage[0])
    while True:
        canvases = CANVASES if rng.random() < 0.3 else SMALL_CANVASES
        scene = draw_scene(rng, rng.choices(tuple(kinds), tuple(kinds.values()))[0], canvases)
        box = scene.target_box
        large = box is None or scene.kind == "label" or max(box[2] - box[0], box[3] - box[1]) >= smallest * scene.image.width
        if large and split_filter(scene.content_key):
            break
    whole = scene.image.resize((VIEW, VIEW), Image.Resampling.BICUBIC)
    for frame in ("none", *rng.sample(ORIENTATIONS, 2)):
        yield _view(scene, whole, frame, rng)


def _view(scene: Scene, whole: Image.Image, frame: str, rng: random.Random) -> tuple[np.ndarray, dict[str, list[int]]]:
    """`whole`: the scene's picture at the size of a view."""
    picture, facts = whole, dict(scene.facts)
    if scene.kind in ("label", "large") and scene.image.width in CANVASES and rng.random() < 0.5:
        picture, facts = _label_crop(scene, rng).resize((VIEW, VIEW), Image.Resampling.BICUBIC), {"main": facts["label"]}
    picture = apply_op(picture, frame) if frame != "none" else picture
    symmetric = scene.readable_under
    readable = frame == "none" or (symmetric is not None and frame in symmetric)
    labels = {name: [-100] * n for name, (n, _) in HEADS.items()}
    if "main" in facts and readable:
        labels["main"] = [TEXTS.index(facts["main"])]
    if symmetric == ():
        labels["orientation"] = [FRAMES.index(frame)]
    if "cells" in facts and readable:
        labels["cells"] = [ASYMMETRIC.index(t) for t in facts["cells"]]
    if "count" in facts and frame == "none":
        labels["count"] = [facts["count"] - 1]
    if "label_cell" in facts:
        labels["label_cell"] = [_turned_cell(facts["label_cell"], frame)]
    pixels = np.asarray(picture)
    noise = 1.5 * np.random.default_rng(rng.randrange(2**32)).standard_normal((VIEW, VIEW, 1), np.float32)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8), labels


def _label_crop(scene: Scene, rng: random.Random) -> Image.Image:
    """The third of the page around the label, as a crop would return it."""
    third = scene.image.width / 3
    left, top = third * (scene.facts["label_cell"] % 3), third * (scene.facts["label_cell"] // 3)
    grow = rng.choice((0, 0, 0.1)) * third
    return scene.image.crop(tuple(round(v) for v in (left - grow, top - grow, left + third + grow, top + third + grow)))


def _turned_cell(cell: int, frame: str) -> int:
    """Where cell (0..8, row-major) of a 3x3 grid lies after the damage."""
    if frame == "none":
        return cell
    grid = Image.new("L", (3, 3))
    grid.putpixel((cell % 3, cell // 3), 1)
    return int(np.asarray(apply_op(grid, frame)).argmax())


class _Batches(IterableDataset):
    """Batch number `step` depends on the seed and the step alone, so a resumed run sees the same pictures."""

    def __init__(
        self, seed: int, start: int, steps: int, batch: int, split_filter: Callable[[str], bool], mean: list[float], std: list[float]
    ):
        self.seed, self.start, self.steps, self.batch, self.split_filter = seed, start, steps, batch, split_filter
        self.mean, self.std = mean, std

    def __iter__(self):
        for step in own_steps(self.start, self.steps):
            rng = random.Random(f"{self.seed}/{step}")
            rows = [row for _ in range(self.batch // 3) for row in views(rng, step / self.steps, self.split_filter)]
            pixels = patches(torch.from_numpy(np.stack([picture for picture, _ in rows])), self.mean, self.std)
            yield (
                pixels.to(torch.bfloat16),  # as autocast would, ahead of the training
                {name: torch.tensor([labels[name] for _, labels in rows]) for name in HEADS},
            )


def own_steps(start: int, steps: int) -> range:
    """Those of the steps that this process draws: DataLoader asks its workers in turn, so that batches come in order."""
    worker = get_worker_info()
    return range(start, steps) if worker is None else range(start + worker.id, steps, worker.num_workers)


def loader(batches: IterableDataset, device: torch.device) -> DataLoader:
    """Draws ahead: by one process on a CPU, whose cores the training needs; for a GPU by as many as there are cores for it."""
    workers = 1 if device.type == "cpu" else max(1, min(12, (os.cpu_count() or 2) - 2))
    return DataLoader(batches, batch_size=None, num_workers=workers, prefetch_factor=8)


def patches(pictures: torch.Tensor, mean: list[float], std: list[float]) -> torch.Tensor:
    """(B, 84, 84, 3) uint8 -> (B, 36, 1176) float32, as Qwen's image processor lays patches out (a test compares)."""
    batch, side = pictures.shape[0], VIEW // 28
    x = (pictures.float() / 255.0 - pictures.new_tensor(mean, dtype=torch.float32)) / pictures.new_tensor(std, dtype=torch.float32)
    x = x.permute(0, 3, 1, 2).reshape(batch, 3, side, 2, 14, side, 2, 14)
    x = x.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(batch, side * side * 4, 3, 1, 14, 14)
    return x.expand(-1, -1, -1, 2, -1, -1).reshape(batch, side * side * 4, 1176)


def tower_tokens(visual: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """(B, 36, 1176) -> (B, 9, D): the tower's own layers on equal-sized pictures in one batch."""
    return merged_tokens(visual, tower_states(visual, pixels))


def tower_states(visual: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """(B, 36, 1176) -> (B, 36, D of the tower): its blocks without the merger.

    The stock forward attends picture by picture, which on a CPU costs more than all its matrix products. Same numbers
    (a test compares); valid because 84 px pictures fit one attention window.
    """
    batch, n_patches, _ = pixels.shape
    grid = torch.tensor([[1, VIEW // 14, VIEW // 14]], device=pixels.device)
    weight = visual.patch_embed.proj.weight
    x = F.linear(pixels, weight.reshape(weight.shape[0], -1))
    cos, sin = _vision_rope(visual, grid, x)
    for block in visual.blocks:
        y = block.norm1(x)
        heads = block.attn.num_heads
        q, k, v = block.attn.qkv(y).reshape(batch, n_patches, 3, heads, -1).unbind(2)
        q, k = apply_rotary_pos_emb_vision(q, k, cos, sin)
        y = _attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        x = x + block.attn.proj(y.transpose(1, 2).reshape(batch, n_patches, -1))
        x = x + block.mlp(block.norm2(x))
    return x


def merged_tokens(visual: nn.Module, states: torch.Tensor) -> torch.Tensor:
    """(B, 36, D of the tower) -> (B, 9, D): one token for each 2 x 2 patches."""
    batch, n_patches, _ = states.shape
    return visual.merger(states.reshape(batch * n_patches, -1)).reshape(batch, n_patches // 4, -1)


def _vision_rope(visual: nn.Module, grid: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import get_vision_position_ids

    positions = get_vision_position_ids(grid, visual.spatial_merge_size, kwargs={})
    return visual.rotary_pos_emb(like, positions)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    # Written out: the fused CPU kernel's backward is several times slower than this on 36 tokens.
    weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1)
    return weights.to(v.dtype) @ v


def _initialise(visual: nn.Module) -> None:
    """Unit-variance weights: transformers' default (std 0.02) leaves so narrow a tower near the identity."""
    for module in visual.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    nn.init.normal_(visual.patch_embed.proj.weight, std=visual.patch_embed.proj.weight[0].numel() ** -0.5)


class Heads(nn.Module):
    """Learned queries that read the tower's 9 tokens, one linear classifier each."""

    def __init__(self, dim: int):
        super().__init__()
        self.names = [name for name, (n, _) in HEADS.items() for _ in range(n)]
        self.queries = nn.Parameter(torch.randn(len(self.names), dim) * 0.02)
        self.places = nn.Parameter(torch.randn(9, dim) * 0.02)
        self.norm, self.norm_out = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.classify = nn.ModuleDict({name: nn.Linear(dim, classes) for name, (_, classes) in HEADS.items()})

    def forward(self, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, 9, D) -> per head (B, queries, classes)."""
        keys = self.norm(tokens) + self.places
        read, _ = self.attention(self.queries.expand(len(tokens), -1, -1), keys, keys, need_weights=False)
        read = self.norm_out(read + self.mlp(read))
        out: dict[str, torch.Tensor] = {}
        at = 0
        for name, (n, _) in HEADS.items():
            out[name] = self.classify[name](read[:, at : at + n])
            at += n
        return out


def train_tower(
    visual: nn.Module, *, mean: list[float], std: list[float], steps: int, batch: int, learning_rate: float, seed: int,
    split_filter: Callable[[str], bool], checkpoint: Path,
) -> dict[str, float]:  # fmt: skip
    """Train `visual` in place; resumes from `checkpoint`. Returns the accuracy of each head over the last 200 steps."""
    torch.manual_seed(seed)
    _initialise(visual)
    device = next(visual.parameters()).device
    heads = Heads(visual.config.out_hidden_size).to(device)
    optimizer = torch.optim.AdamW([*visual.parameters(), *heads.parameters()], lr=learning_rate, weight_decay=0.02, betas=(0.9, 0.98))
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        visual.load_state_dict(state["visual"])
        heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    data = iter(loader(_Batches(seed, start, steps, batch, split_filter, mean, std), device))
    hits: dict[str, list[torch.Tensor]] = {name: [] for name in HEADS}
    began = time.time()
    with weight_gradients_aside(visual, heads) as wait:
        for step in range(start, steps):
            rate = learning_rate * min(1.0, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
            for group in optimizer.param_groups:
                group["lr"] = rate
            pixels, labels = next(data)
            with torch.autocast(device.type, torch.bfloat16):
                out = heads(tower_tokens(visual, pixels.to(device)))
            loss = torch.zeros((), device=device)
            for name, logits in out.items():
                wanted = labels[name].flatten()
                asked = (wanted != -100).nonzero()[:, 0]
                if len(asked):
                    flat, right = logits.float().flatten(0, 1)[asked.to(device)], wanted[asked].to(device)
                    loss = loss + F.cross_entropy(flat, right, label_smoothing=0.02)
                    hits[name].append((flat.argmax(-1) == right).float().mean())
            optimizer.zero_grad()
            loss.backward()
            wait()
            nn.utils.clip_grad_norm_([*visual.parameters(), *heads.parameters()], 1.0)
            optimizer.step()
            if (step + 1) % 100 == 0 or step + 1 == steps:
                seconds = (time.time() - began) / (step + 1 - start)
                accuracy = " ".join(f"{name} {_mean(hits[name][-100:]):.3f}" for name in HEADS if hits[name])
                print(f"tower {step + 1:05d}/{steps} | loss {loss.item():.3f} | {accuracy} | {seconds:.2f} s/step | "
                      f"eta {seconds * (steps - step - 1) / 60:.0f} min", flush=True)  # fmt: skip
            if (step + 1) % 500 == 0 or step + 1 == steps:
                save_checkpoint(
                    checkpoint,
                    {"visual": visual.state_dict(), "heads": heads.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1},
                )
    return {name: _mean(values[-200:]) for name, values in hits.items() if values}


def _mean(values: list[torch.Tensor]) -> float:
    return torch.stack(values).mean().item()


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint in one step, so that a kill leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    partial.replace(path)
