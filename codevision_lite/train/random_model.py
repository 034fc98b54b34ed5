"""A Qwen2.5-VL with random weights at its true shape, in NF4, in a local folder: what gpu-check trains. Needs no download.

Written parameter by parameter in the layout of the hub's quantised folders, so that it is loaded as any model is, host memory
stays below one shard, and a 7B takes 6.6 GB of disk in place of 16.6. The tokenizer is the tiny base's with its vocabulary
padded to the true size: the rows of the embedding and of the head are all there, most of them are never spoken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import BitsAndBytesConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from codevision_lite.files import explain_os_errors, require_space, write_atomic
from codevision_lite.train.load import LORA_TARGETS
from codevision_lite.train.shapes import HUB_MAX_PIXELS, known_config, parse_shape

TOKENIZER = Path("sample_data/tiny_base")
SHARD_BYTES = 2**31
_SMALL = {
    "text_config": {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
                    "num_key_value_heads": 2, "vocab_size": 2048},
    "vision_config": {"depth": 2, "hidden_size": 64, "intermediate_size": 96, "num_heads": 2, "out_hidden_size": 128,
                      "fullatt_block_indexes": [1]},
}  # fmt: skip


def write_random_model(folder: Path, known: str, *, small: bool = False, seed: int = 0) -> Path:
    """The folder of `known` (shapes.KNOWN) with random weights; nothing is done where it is whole. `small`: the same layout with
    every size cut down, for a CPU. Raises UserError where the disk is full or the tiny base's tokenizer is not there."""
    if (folder / "config.json").exists():  # written last
        return folder
    config = _config(known, small)
    shape = parse_shape(config)
    require_space(folder, shape.nf4_bytes() + 2 * (shape.vision_parameters() + shape.other_parameters()) + 2**28)
    folder.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(folder, config["text_config"]["vocab_size"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shards: list[dict[str, torch.Tensor]] = [{}]
    index: dict[str, int] = {}
    total = held = 0
    for name, tensor in _tensors(config, device, seed):
        size = tensor.numel() * tensor.element_size()
        if shards[-1] and held + size > SHARD_BYTES:
            _save(folder, len(shards) - 1, shards[-1])
            shards[-1].clear()
            shards.append({})
            held = 0
        shards[-1][name], index[name] = tensor.cpu().contiguous(), len(shards) - 1
        held, total = held + size, total + size
    _save(folder, len(shards) - 1, shards[-1])
    weight_map = {name: _shard_name(number) for name, number in index.items()}
    write_atomic(folder / "model.safetensors.index.json", json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))
    write_atomic(folder / "config.json", json.dumps(config, indent=1))
    return folder


def _config(known: str, small: bool) -> dict[str, Any]:
    config = known_config(known)
    for part, sizes in _SMALL.items() if small else ():
        config[part] |= sizes
    if small:
        config["text_config"]["rope_parameters"] = config["text_config"]["rope_parameters"] | {"mrope_section": [4, 6, 6]}
    tiny = json.loads((TOKENIZER / "config.json").read_text())
    config |= {name: tiny[name] for name in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")}
    config["text_config"] |= {name: tiny["text_config"][name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    dtype = "float32" if small else "bfloat16"
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=["model.visual", "lm_head"],
    )  # fmt: skip
    return config | {"dtype": dtype, "quantization_config": quantization.to_dict()}


def _tensors(config: dict[str, Any], device: str, seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    """(name in the hub's layout, tensor) of every parameter, made on `device` one at a time."""
    from bitsandbytes.functional import quantize_4bit

    torch.manual_seed(seed)
    settings = {name: value for name, value in config.items() if name not in ("quantization_config", "dtype")}
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**settings))
    dtype = getattr(torch, config["dtype"])
    for name, parameter in model.named_parameters():  # tied weights come once
        module, _, kind = name.rpartition(".")
        if kind == "bias":
            weight = torch.zeros(parameter.shape, dtype=dtype, device=device)
        elif parameter.dim() == 1:  # a norm's
            weight = torch.ones(parameter.shape, dtype=dtype, device=device)
        else:
            weight = torch.randn(parameter.shape, dtype=dtype, device=device) * 0.02
        name = name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")
        if kind == "weight" and re.fullmatch(LORA_TARGETS, module):
            packed, state = quantize_4bit(weight, quant_type="nf4", compress_statistics=True, blocksize=64)
            yield name, packed
            for part, tensor in state.as_dict(packed=True).items():
                yield f"{name}.{part}", tensor
        else:
            yield name, weight


def _save(folder: Path, number: int, tensors: dict[str, torch.Tensor]) -> None:
    with explain_os_errors(folder):
        save_file(tensors, folder / _shard_name(number), metadata={"format": "pt"})


def _shard_name(number: int) -> str:
    return f"model-{number:05d}.safetensors"


def _write_tokenizer(folder: Path, vocab: int) -> None:
    """The tiny base's tokenizer and image processor, with words that no text has up to `vocab`, and the hub's pixel limits."""
    with explain_os_errors(TOKENIZER):
        tokenizer = json.loads((TOKENIZER / "tokenizer.json").read_text(encoding="utf-8"))
        pictures = json.loads((TOKENIZER / "preprocessor_config.json").read_text())
        others = {name: (TOKENIZER / name).read_text() for name in ("tokenizer_config.json", "chat_template.jinja")}
    words = tokenizer["model"]["vocab"]
    used = {*words.values(), *(token["id"] for token in tokenizer["added_tokens"])}
    words.update({f"<unused-{i}>": i for i in range(vocab) if i not in used})
    pictures["size"] = {"shortest_edge": 4 * 28 * 28, "longest_edge": HUB_MAX_PIXELS}
    for name, text in {**others, "tokenizer.json": json.dumps(tokenizer), "preprocessor_config.json": json.dumps(pictures)}.items():
        write_atomic(folder / name, text)
