"""The shape of a Qwen2.5-VL from its config.json alone: sizes, parameters and bytes, without loading a weight.

The files beside this module are the configurations of the published 3B and 7B models, so that nothing needs a network.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codevision_lite.errors import UserError
from codevision_lite.files import explain_os_errors

KNOWN = ("qwen2.5-vl-3b", "qwen2.5-vl-7b")
HUB_MAX_PIXELS = 12_845_056  # of the published models' preprocessor_config.json
_NF4_BLOCK, _ABSMAX_BLOCK = 64, 256  # weights that share an absmax; absmaxes that share a second one (bitsandbytes' defaults)
_NF4_TABLES = 16 * 4 + 256 * 4 + 4  # the two code tables and the offset that every quantised layer keeps, in bytes


@dataclass(frozen=True)
class Shape:
    """Sizes of a Qwen2.5-VL; `v_` is the vision tower's."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    tied: bool  # the output head is the embedding
    v_hidden: int
    v_intermediate: int
    v_depth: int
    patch: int  # px, side
    merge: int  # patches to a token, in each direction
    patch_values: int  # numbers of a patch: channels x temporal patch x patch x patch
    max_pixels: int  # the folder's own limit on a picture's area

    @property
    def attention(self) -> int:
        """Width of the queries of all heads."""
        return self.hidden

    @property
    def kv(self) -> int:
        """Width of the keys, and of the values, of one token in one layer."""
        return self.kv_heads * (self.hidden // self.heads)

    @property
    def token_pixels(self) -> int:
        """Area of a picture that becomes one token, in pixels."""
        return (self.patch * self.merge) ** 2

    @property
    def linears(self) -> tuple[tuple[int, int, bool], ...]:
        """(in, out, has a bias) of one decoder layer's linears: those that are quantised and adapted."""
        h, i, kv = self.hidden, self.intermediate, self.kv
        return ((h, h, True), (h, kv, True), (h, kv, True), (h, h, False), (h, i, False), (h, i, False), (i, h, False))

    def vision_parameters(self) -> int:
        h, i, wide = self.v_hidden, self.v_intermediate, self.v_hidden * self.merge**2
        block = 2 * h + (3 * h * h + 3 * h) + (h * h + h) + 2 * (h * i + i) + (i * h + h)
        merger = h + (wide * wide + wide) + (wide * self.hidden + self.hidden)
        return self.patch_values * h + self.v_depth * block + merger

    def linear_weights(self) -> int:
        """Weights of the language model's linears, without biases."""
        return self.layers * sum(a * b for a, b, _ in self.linears)

    def other_parameters(self) -> int:
        """Everything of the language model but the linears' weights: embeddings, head, norms and biases."""
        biases = sum(b for _, b, bias in self.linears if bias)
        norms = self.layers * (2 * self.hidden + biases) + self.hidden
        return norms + self.vocab * self.hidden * (1 if self.tied else 2)

    def parameters(self) -> int:
        return self.vision_parameters() + self.linear_weights() + self.other_parameters()

    def lora_parameters(self, r: int) -> int:
        """Of an adapter of rank `r` on every linear of the language model."""
        return self.layers * sum(r * (a + b) for a, b, _ in self.linears)

    def nf4_bytes(self) -> int:
        """The language model's linears in NF4 with double quantisation."""
        return self.layers * sum(nf4_bytes(a * b) for a, b, _ in self.linears)


def nf4_bytes(weights: int) -> int:
    """Bytes of one NF4 layer with double quantisation: two weights a byte, an 8-bit absmax for each 64 weights and a 32-bit one
    for each 256 of those, and its tables (arXiv 2305.14314, section 3; bitsandbytes)."""
    absmaxes = -(-weights // _NF4_BLOCK)
    return -(-weights // 2) + absmaxes + 4 * -(-absmaxes // _ABSMAX_BLOCK) + _NF4_TABLES


def load_shape(name: str) -> Shape:
    """The shape of the model `name`: a local folder, a Qwen2.5-VL-3B/7B by any hub name, or a name in the local hub cache.

    Raises UserError for a model that is not a Qwen2.5-VL, or whose configuration is not on this machine.
    """
    folder = Path(name)
    if (folder / "config.json").is_file():
        return parse_shape(_read(folder / "config.json"), _max_pixels(folder))
    known = next((k for k in KNOWN if k in name.lower()), None)
    if known and not folder.exists():
        return parse_shape(known_config(known), HUB_MAX_PIXELS)
    if folder.exists():
        raise UserError(f"{name}: no config.json there. Give a model's folder or a hub name")
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json") if "/" in name else None
    if not isinstance(cached, str):
        raise UserError(f"model {name!r}: its config.json is not on this machine. Give a local folder, or one of {', '.join(KNOWN)}")
    return parse_shape(_read(Path(cached)), _max_pixels(Path(cached).parent))


def known_config(known: str) -> dict[str, Any]:
    """config.json of one of KNOWN."""
    return _read(Path(__file__).parent / f"{known}.json")


def parse_shape(config: dict[str, Any], max_pixels: int = HUB_MAX_PIXELS) -> Shape:
    """A config.json, in the layout of transformers 5 or in the flat one of the hub's files. Raises UserError."""
    if config.get("model_type") != "qwen2_5_vl":
        raise UserError(f"memory can be planned for a Qwen2.5-VL, this is a {config.get('model_type')!r}")
    text, vision = config.get("text_config") or config, config.get("vision_config") or {}
    channels = vision.get("in_channels", vision.get("in_chans", 3))
    patch, temporal = vision.get("patch_size", 14), vision.get("temporal_patch_size", 2)
    return Shape(
        hidden=text["hidden_size"], intermediate=text["intermediate_size"], layers=text["num_hidden_layers"],
        heads=text["num_attention_heads"], kv_heads=text["num_key_value_heads"], vocab=text["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
        v_hidden=vision.get("hidden_size", 1280), v_intermediate=vision.get("intermediate_size", 3420), v_depth=vision.get("depth", 32),
        patch=patch, merge=vision.get("spatial_merge_size", 2), patch_values=channels * temporal * patch * patch, max_pixels=max_pixels,
    )  # fmt: skip


def _max_pixels(folder: Path) -> int:
    path = folder / "preprocessor_config.json"
    config = _read(path) if path.is_file() else {}
    return config.get("max_pixels") or (config.get("size") or {}).get("longest_edge") or HUB_MAX_PIXELS


def _read(path: Path) -> dict[str, Any]:
    with explain_os_errors(path):
        text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except ValueError as e:
        raise UserError(f"{path}: not JSON: {e}") from e
