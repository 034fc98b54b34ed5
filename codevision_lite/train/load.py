"""Models to train: the base with a LoRA adapter, new or going on from an earlier stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from codevision_lite.models.load import load_adapter, load_base
from codevision_lite.recipe import ModelConfig

# The language model's linears alone: the pattern can't match in the vision tower, which stays frozen and unquantised.
LORA_TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def load_for_training(config: ModelConfig, adapter: str | None = None, seed: int = 0) -> tuple[Any, Any]:
    """(PEFT model, processor): a new adapter of the recipe's size, or the one in the folder `adapter`, trainable.

    Raises UserError for a missing model or adapter.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    model, processor = load_base(
        config.name, quantize=config.quantize, min_pixels=config.min_pixels, max_pixels=config.max_pixels, threads=config.threads
    )
    model.requires_grad_(False)
    if adapter is not None:
        model = load_adapter(model, adapter, trainable=True)
    else:
        torch.manual_seed(seed)
        lora = LoraConfig(
            r=config.lora_r, lora_alpha=config.lora_alpha, lora_dropout=0.0, target_modules=LORA_TARGETS, task_type="CAUSAL_LM"
        )
        model = get_peft_model(model, lora)
    return model, processor


@contextmanager
def precise_adapter(model: Any) -> Iterator[None]:
    """Build a TRL trainer inside. TRL rounds the adapter of a 4-bit model to bfloat16, where steps below 0.4 % of a weight
    (all of GRPO's) are lost; afterwards its weights are what they were, in float32."""
    before = {name: parameter.data for name, parameter in model.named_parameters() if parameter.requires_grad}
    yield
    for name, parameter in model.named_parameters():
        if name in before:
            parameter.data = before[name]
