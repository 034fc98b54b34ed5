"""Small models on a CPU generate with plain weights: 4-bit weights unpacked and LoRA added once, not at every token.

The numbers are those of the quantised model with its adapter, up to float32 rounding (a test compares). On a GPU, and for
large models, nothing is done: the plain weights would not fit, and the kernels are fast.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

MAX_PARAMETERS = 50_000_000  # above it, unpacking costs more memory than it saves time


@contextmanager
def merged_linears(model: nn.Module) -> Iterator[None]:
    """While it is open, the model's 4-bit and LoRA linears compute with merged float32 weights; inference only."""
    on_cpu = next(model.parameters()).device.type == "cpu"
    if not on_cpu or sum(p.numel() for p in model.parameters()) > MAX_PARAMETERS:
        yield
        return
    changed = []
    for module in _outermost(model):
        weight = _dense_weight(module)
        if weight is not None:
            module.forward = _plain(weight, _bias(module))  # shadows the class's method; deleted below
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _plain(weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
    return lambda x, *_, **__: linear(x, weight, bias)


def _bias(module: nn.Module) -> torch.Tensor | None:
    bias = getattr(module, "base_layer", module).bias
    return None if bias is None else bias.detach().float()


def _outermost(model: nn.Module) -> list[nn.Module]:
    """LoRA layers, and 4-bit linears that no LoRA layer wraps."""
    wrapped = {id(m.base_layer) for m in model.modules() if hasattr(m, "lora_A")}
    return [m for m in model.modules() if hasattr(m, "lora_A") or (_is_4bit(m) and id(m) not in wrapped)]


def _is_4bit(module: nn.Module) -> bool:
    return getattr(getattr(module, "weight", None), "quant_state", None) is not None


def _dense_weight(module: nn.Module) -> torch.Tensor | None:
    """(out, in) float32, or None for a layer with DoRA or several adapters, which is left alone."""
    base = module.base_layer if hasattr(module, "lora_A") else module
    adapters = list(getattr(module, "active_adapters", [])) if hasattr(module, "lora_A") else []
    if len(adapters) > 1 or getattr(module, "lora_magnitude_vector", None):
        return None
    weight = base.weight
    if _is_4bit(base):
        from bitsandbytes.functional import dequantize_4bit

        weight = dequantize_4bit(weight.data, weight.quant_state)
    weight = weight.detach().float()
    if adapters and not module.disable_adapters:
        weight = weight + module.get_delta_weight(adapters[0]).detach().float()
    return weight
