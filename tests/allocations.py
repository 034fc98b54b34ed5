"""A count of the memory that a computation holds at its peak, without doing it: fake tensors of the true sizes, no weights."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from codevision_lite.train.load import LORA_TARGETS, leave_tower_out
from codevision_lite.train.shapes import known_config


class Allocations(TorchDispatchMode):
    """Bytes of the storages that operations made and that are still referred to: `live`, and their `peak`."""

    def __init__(self, given: Any = ()):
        """`given`: tensors that were there before and don't count."""
        super().__init__()
        self.live = self.peak = 0
        self._known = {t.untyped_storage()._cdata for t in given}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)

        def forget() -> None:
            self._known.discard(key)
            self.live -= size

        weakref.finalize(storage, forget)

    def mark(self) -> int:
        """Begin a new peak; returns what is live."""
        self.peak = self.live
        return self.live


def meta_model(known: str, layers: int | None = None, depth: int | None = None) -> Any:
    """The model on the meta device, in bf16, cut to `layers` decoder layers and `depth` vision layers."""
    config = known_config(known)
    if layers:
        config["text_config"]["num_hidden_layers"] = layers
    if depth:
        config["vision_config"] |= {"depth": depth, "fullatt_block_indexes": [depth - 1]}
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**config))
    finally:
        torch.set_default_dtype(torch.float32)


def to_train(model: Any, r: int) -> Any:
    """As train/load.py and the trainers prepare it: frozen, with a float32 adapter, checkpointed."""
    from peft import LoraConfig, get_peft_model

    model.requires_grad_(False)
    leave_tower_out(model)
    with torch.device("meta"):
        model = get_peft_model(model, LoraConfig(r=r, lora_alpha=r, target_modules=LORA_TARGETS, task_type="CAUSAL_LM"))
    model.train()
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    return model


def faked(model: Any) -> Any:
    """Fake tensors on the CPU in place of the meta model's; call it in a FakeTensorMode."""
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None:
                dtype = torch.float32 if p.requires_grad else p.dtype
                module._parameters[name] = torch.nn.Parameter(torch.empty(p.shape, dtype=dtype), requires_grad=p.requires_grad)
        for name, b in module._buffers.items():
            if b is not None:
                module._buffers[name] = torch.empty(b.shape, dtype=b.dtype)
    return model


class FusedLoss(torch.autograd.Function):
    """Keeps and makes what TRL's kernel for log-probabilities does on a GPU: the logits, and a gradient of their size."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(logits)
        return logits.new_zeros(logits.shape[:-1])

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (logits,) = ctx.saved_tensors
        return torch.empty_like(logits, memory_format=torch.contiguous_format)
