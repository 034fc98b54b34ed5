"""Weights, adapter and processor from a local folder or a hub name, by transformers or by Unsloth (models/backend.py).

The same code serves the tiny model and Qwen2.5-VL-3B/7B. 4-bit NF4 covers the language model's linear layers; the vision
tower stays unquantised (its activations are few and its errors are the costliest), and so do the embeddings and the output
head. A folder that is quantised already is taken as it is.
"""

from __future__ import annotations

import ctypes
import logging
import os
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer, BitsAndBytesConfig
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.processing_utils import ProcessorMixin

from codevision_lite.errors import UserError
from codevision_lite.imaging import set_pixel_budget
from codevision_lite.models.backend import Backend, is_unsloth, start_backend
from codevision_lite.models.nf4 import count_blocks_through_rows, one_kernel, require_bitsandbytes, widen_skipped
from codevision_lite.protocol import CHAT_TEMPLATE, RESPONSE_TEMPLATE

logger = logging.getLogger(__name__)

Quantize = Literal["nf4", "none"]
# Why a model that looks alike can't be used.
NOT_READ = {"qwen3_vl": "its tower also feeds the language model's inner layers (deepstack), which rollouts here don't carry"}


class PictureProcessor(Qwen2_5_VLProcessor):
    """Qwen2.5-VL's processor for pictures only: no video processor, hence no torchvision (whose wheel can't load
    beside a CPU build of torch, and whose resize gives other pixels). Everything about pictures and text is inherited."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None, **_: Any):
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


def load_processor(name: str, min_pixels: int | None = None, max_pixels: int | None = None) -> Any:
    """Processor with this project's chat template and pixel budget (pixels of area; None: as its folder says).

    Padding is on the left, which TRL's positions rely on. Raises UserError where `name` can't be loaded.
    """
    try:
        processor = PictureProcessor(Qwen2VLImageProcessorPil.from_pretrained(name), AutoTokenizer.from_pretrained(name))
    except (OSError, ValueError) as e:
        raise UserError(_not_found(name, e)) from e
    processor.chat_template = processor.tokenizer.chat_template = CHAT_TEMPLATE
    processor.tokenizer.response_template = RESPONSE_TEMPLATE
    processor.tokenizer.padding_side = "left"
    size = processor.image_processor.size
    set_pixel_budget(processor, min_pixels or size["shortest_edge"], max_pixels or size["longest_edge"])
    return processor


def load_base(
    name: str, *, adapter: str | None = None, quantize: Quantize = "nf4", min_pixels: int | None = None, max_pixels: int | None = None,
    threads: int | None = None, backend: Backend = "auto",
) -> tuple[Any, Any]:  # fmt: skip
    """(model, processor) for inference; `adapter` is a PEFT folder put on top, not trainable.

    `threads`: CPU threads; None chooses one for a tiny model, which two threads slow down several times.
    Raises UserError for a missing model or adapter, for a model of another kind, and for a GPU or a bitsandbytes that can't do it.
    """
    library, reason = start_backend(backend)
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as e:
        raise UserError(_not_found(name, e)) from e
    if config.model_type != "qwen2_5_vl":
        why = NOT_READ.get(config.model_type, "another kind of model")
        raise UserError(f"model {name!r} is a {config.model_type}: {why}. Use a Qwen2.5-VL")
    require_bfloat16()
    processor = load_processor(name, min_pixels, max_pixels)
    on_gpu = torch.cuda.is_available()
    tiny = config.text_config.hidden_size < 1024
    if not on_gpu and (threads or tiny):
        torch.set_num_threads(threads or 1)
        keep_freed_memory()
    dtype = torch.float32 if tiny else torch.bfloat16
    quantization = None
    if quantize == "nf4" and not _is_quantised(config):
        quantization = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=["model.visual", "lm_head"],
        )  # fmt: skip
    in_4bit = quantization is not None or _is_quantised(config)
    if in_4bit:
        require_bitsandbytes(name, asked=quantization is not None)
    load = _load_unsloth if library == "unsloth" else _load_transformers
    model = load(name, config, dtype, quantization)
    _share_special_tokens(model, processor.tokenizer)
    if in_4bit and not on_gpu:
        count_blocks_through_rows()
        one_kernel(model)
    if adapter is not None:
        model = load_adapter(model, adapter, trainable=False)
    model.eval()
    logger.info(describe(model, processor, f"{name} by {library} ({reason})"))
    return model, processor


def _load_transformers(name: str, config: Any, dtype: torch.dtype, quantization: BitsAndBytesConfig | None) -> Any:
    if _is_quantised(config):
        widen_skipped(config.quantization_config)
    # On a CPU the tiny model computes with plain attention: the fused kernel's backward is slower at its size.
    attention = "eager" if dtype == torch.float32 and not torch.cuda.is_available() else "sdpa"
    model, info = AutoModelForImageTextToText.from_pretrained(
        name, config=config, dtype=dtype, quantization_config=quantization, attn_implementation=attention,
        device_map=_device_map(), output_loading_info=True,
    )  # fmt: skip
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise UserError(f"model {name!r} lacks weights: {missing[0]} and {len(missing) - 1} more. Fetch or copy it again")
    return model


def _load_unsloth(name: str, config: Any, dtype: torch.dtype, quantization: BitsAndBytesConfig | None) -> Any:
    """The quantisation is given in full: the names that Unsloth skips by itself no longer match Qwen's vision tower under
    transformers 5, so that it would be quantised. The exact name: Unsloth would swap in its own 4-bit upload."""
    from unsloth import FastVisionModel

    in_4bit = quantization is not None or _is_quantised(config)
    model, _ = FastVisionModel.from_pretrained(
        name, dtype=dtype, load_in_4bit=in_4bit, load_in_16bit=not in_4bit, use_exact_model_name=True,
        max_seq_length=config.text_config.max_position_embeddings, use_gradient_checkpointing=_checkpointing(),
        device_map=_device_map(), **({} if quantization is None else {"quantization_config": quantization}),
    )  # fmt: skip
    return model


def require_bfloat16() -> None:
    """Raise UserError where the GPU has no bfloat16 of its own: torch would imitate it, many times slower."""
    if torch.cuda.is_available() and (capability := torch.cuda.get_device_capability(0)) < (8, 0):
        raise UserError(
            f"{torch.cuda.get_device_name(0)} has compute capability {capability[0]}.{capability[1]} and no bfloat16. Use a GPU of 8.0 or "
            "more (A100, RTX 30 or newer); for the tiny model also the CPU: CUDA_VISIBLE_DEVICES= codevision-lite ..."
        )


def _share_special_tokens(model: Any, tokenizer: Any) -> None:
    """The tokenizer's special tokens in the model's configurations: a trainer does it too, with a warning that says nothing to do."""
    generation = model.generation_config
    ends = generation.eos_token_id if isinstance(generation.eos_token_id, list) else [generation.eos_token_id]
    generation.eos_token_id = [tokenizer.eos_token_id, *(e for e in ends if e not in (None, tokenizer.eos_token_id))]
    model.config.eos_token_id = tokenizer.eos_token_id
    for config in (model.config, generation):
        config.bos_token_id, config.pad_token_id = tokenizer.bos_token_id, tokenizer.pad_token_id


def _device_map() -> dict[str, str]:
    """The whole model on one device: each process of `accelerate launch` and torchrun has a GPU of its own."""
    return {"": f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"}


def _checkpointing() -> str | bool:
    return "unsloth" if torch.cuda.is_available() else False  # Unsloth's own keeps activations in pinned memory


def new_adapter(model: Any, targets: str, r: int, alpha: int, seed: int) -> Any:
    """The model with a new LoRA adapter of rank `r` on the modules that the pattern `targets` matches, trainable, in float32."""
    from peft import LoraConfig

    torch.manual_seed(seed)
    return _wrap(model, LoraConfig(r=r, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM"), seed)


def load_adapter(model: Any, folder: str, *, trainable: bool) -> Any:
    """The model with the LoRA adapter of `folder`, its rank and scale the folder's own. Raises UserError where there is none
    or it is another model's."""
    from peft import PeftConfig, load_peft_weights, set_peft_model_state_dict

    if not (Path(folder) / "adapter_config.json").is_file():
        raise UserError(f"{folder}: no adapter there (adapter_config.json is missing). Train one with: make sft")
    config = PeftConfig.from_pretrained(folder)
    config.inference_mode = not trainable
    try:
        model = _wrap(model, config, seed=0)
        result = set_peft_model_state_dict(model, load_peft_weights(folder, device="cpu"))
    except (OSError, ValueError, RuntimeError) as e:
        raise UserError(f"{folder}: the adapter can't be put on this model: {_first_line(e)} Was it trained on another base?") from e
    left = [*result.unexpected_keys, *(key for key in result.missing_keys if "lora_" in key)]
    if left:
        raise UserError(f"{folder}: {left[0]} and {len(left) - 1} more weights don't fit this model. Was it trained on another base?")
    return model


def _wrap(model: Any, config: Any, seed: int) -> Any:
    """A PEFT model with a new adapter."""
    if is_unsloth(model) and not config.inference_mode:
        from unsloth import FastVisionModel

        return FastVisionModel.get_peft_model(
            model, r=config.r, lora_alpha=config.lora_alpha, lora_dropout=0.0, bias="none", target_modules=config.target_modules,
            finetune_vision_layers=False, use_gradient_checkpointing=_checkpointing(), random_state=seed,
        )  # fmt: skip
    from peft import get_peft_model

    return get_peft_model(model, config)


def describe(model: Any, processor: Any, loaded: str) -> str:
    """One line: what was loaded, where, its precision, attention, adapter and view of pictures."""
    parts = [f"model: {loaded}", _place(model)]
    linears = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    packed = {name for name, module in linears.items() if getattr(module.weight, "quant_state", None) is not None}
    dtypes = {p.dtype for name, p in model.named_parameters() if p.is_floating_point() and "lora_" not in name}
    dtype = "/".join(sorted(str(d).removeprefix("torch.") for d in dtypes))
    if packed:
        tower = "in part quantised too, as the folder has it" if any(".visual." in n or n.startswith("visual.") for n in packed) else dtype
        parts.append(f"NF4 in {len(packed)} linears, vision tower {tower}, the rest {dtype}")
    else:
        parts.append(f"not quantised, {dtype}")
    parts.append(f"attention {model.config._attn_implementation}")
    if hasattr(model, "peft_config"):
        lora, (trained, total) = model.peft_config["default"], model.get_nb_trainable_parameters()
        parts.append(f"LoRA r={lora.r} alpha={lora.lora_alpha}, {trained:,} of {total:,} parameters trainable ({trained / total:.2%})")
    size = processor.image_processor.size
    parts.append(f"view of a picture {size['shortest_edge']} to {size['longest_edge']} pixels")
    return "; ".join(parts)


def _place(model: Any) -> str:
    if model.device.type != "cuda":
        return f"on the {model.device.type.upper()}"
    n, alone = torch.cuda.device_count(), os.environ.get("WORLD_SIZE", "1") == "1"
    others = f", one of {n} GPUs (all of them: accelerate launch, docs/TRAINING.md)" if n > 1 and alone else ""
    return f"on {model.device} {torch.cuda.get_device_name(model.device)}{others}"


def _is_quantised(config: Any) -> bool:
    """Whether the folder's weights are in 4 or 8 bits already."""
    return getattr(config, "quantization_config", None) is not None


def keep_freed_memory() -> None:
    """Let glibc keep large freed blocks: asking the kernel for them again at every step slows the
    training of a small model. Does nothing on other C libraries."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD: below 1 GiB from the heap
    mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: never given back


def release_freed_memory() -> None:
    """Give freed blocks back once: between phases of different shapes, what `keep_freed_memory` kept is of no use."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return


def gpu_name() -> str | None:
    """Name and memory of the first CUDA device that torch can use; None where there is none."""
    if not torch.cuda.is_available():
        return None
    return f"{torch.cuda.get_device_name(0)}, {torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB"


def peak_gpu_gib() -> float:
    """Most memory that torch's allocator held on the first CUDA device so far, in GiB."""
    return torch.cuda.max_memory_allocated() / 2**30


def _not_found(name: str, e: Exception) -> str:
    return f"model {name!r} can't be loaded: {_first_line(e)} Give a local folder or a hub name (the tiny model: sample_data/tiny_base)"


def _first_line(e: Exception) -> str:
    return (str(e).strip() or type(e).__name__).splitlines()[0]
