"""Models to train: the base with a LoRA adapter, new or going on from an earlier stage, on either backend (models/backend.py)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from codevision_lite.models.backend import Backend, start_backend
from codevision_lite.recipe import ModelConfig

# The language model's linears alone: the pattern can't match in the vision tower, which stays frozen and unquantised.
LORA_TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def load_for_training(config: ModelConfig, adapter: str | None = None, seed: int = 0) -> tuple[Any, Any]:
    """(PEFT model, processor): a new adapter of the recipe's size, or the one in the folder `adapter`, trainable.

    Prints one line that says what was loaded, how and why. Raises UserError for a missing model or adapter.
    """
    backend, why = start_backend(config.backend)  # before anything that imports transformers
    from codevision_lite.models.load import describe, load_adapter, load_base, new_adapter

    model, processor = load_base(
        config.name, quantize=config.quantize, min_pixels=config.min_pixels, max_pixels=config.max_pixels, threads=config.threads,
        backend=config.backend,
    )  # fmt: skip
    model.requires_grad_(False)
    leave_tower_out(model)
    if adapter is not None:
        model = load_adapter(model, adapter, trainable=True)
    else:
        model = new_adapter(model, LORA_TARGETS, config.lora_r, config.lora_alpha, seed)
    print(describe(model, processor, f"{config.name} by {backend} ({why})"), flush=True)
    return model, processor


def leave_tower_out(model: Any) -> None:
    """Keep the frozen vision tower out of the graph. Gradient checkpointing makes the inputs of every part ask for gradients
    (`enable_input_require_grads`); the tower's would be checkpointed, recomputed and walked through backwards for nothing."""
    for module in model.modules():
        if hasattr(module, "visual"):
            module.visual.get_input_embeddings = lambda: None


def trl_classes(wanted: Backend | None = None) -> tuple[type, type]:
    """(SFTTrainer, GRPOTrainer): Unsloth's where Unsloth runs, else TRL's own.

    None: as this process has started, which `load_for_training` does. Names imported from trl earlier may be TRL's own.
    """
    if wanted is not None:
        start_backend(wanted)
    import trl

    return trl.SFTTrainer, trl.GRPOTrainer


def trl_configs() -> tuple[type, type]:
    """(SFTConfig, GRPOConfig) that go with `trl_classes`: Unsloth's trainers need fields that TRL's configs lack."""
    import trl

    return trl.SFTConfig, trl.GRPOConfig


@contextmanager
def precise_adapter(model: Any, beta: float = 0.0) -> Iterator[None]:
    """Build a TRL trainer inside. TRL rounds the adapter of a 4-bit model to bfloat16, where steps below 0.4 % of a weight
    (all of GRPO's) are lost; afterwards its weights are what they were, in float32.

    `beta`: weight of the KL term; above 0 the reference is the adapter as it is now (`keep_reference`).
    """
    before = {name: parameter.data for name, parameter in model.named_parameters() if parameter.requires_grad}
    yield
    for name, parameter in model.named_parameters():
        if name in before:
            parameter.data = before[name]
    if beta > 0:
        keep_reference(model)


def keep_reference(model: Any) -> None:
    """Freeze a copy of the adapter under the name "ref", the one that GRPO's KL term compares with.

    TRL makes one where it starts from an adapter, in the rounded precision; Unsloth makes none, so that its reference
    would be the bare base and the KL term would pull SFT out again.
    """
    if "ref" not in model.peft_config:
        model.add_adapter("ref", model.peft_config["default"])
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if ".default." in name:
            reference = parameters[name.replace(".default.", ".ref.")]
            reference.data = parameter.data.clone()
            reference.requires_grad_(False)
    model.set_adapter("default")
