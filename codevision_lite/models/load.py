"""Weights, adapter and processor from a local folder or a hub name, by transformers or by Unsloth (models/backend.py).

The same code serves the tiny model and Qwen2.5-VL-3B/7B. 4-bit NF4 covers the language model's linear layers; the vision
tower stays unquantised (its activations are few and its errors are the costliest), and so do the embeddings and the output
head. A folder that is quantised already is taken as it is.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import math
import os
import re
import warnings
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
    Raises UserError for a missing model or adapter, and for a model of another kind.
    """
    library, reason = start_backend(backend)
    processor = load_processor(name, min_pixels, max_pixels)
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as e:
        raise UserError(_not_found(name, e)) from e
    if config.model_type != "qwen2_5_vl":
        why = NOT_READ.get(config.model_type, "another kind of model")
        raise UserError(f"model {name!r} is a {config.model_type}: {why}. Use a Qwen2.5-VL")
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
    load = _load_unsloth if library == "unsloth" else _load_transformers
    model = load(name, config, dtype, quantization)
    if not on_gpu:
        count_blocks_through_rows()
        _one_kernel(model)
    if adapter is not None:
        model = load_adapter(model, adapter, trainable=False)
    model.eval()
    logger.info(describe(model, processor, f"{name} by {library} ({reason})"))
    return model, processor


def _load_transformers(name: str, config: Any, dtype: torch.dtype, quantization: BitsAndBytesConfig | None) -> Any:
    if _is_quantised(config):
        _widen_skipped(config.quantization_config)
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
    """One line: what was loaded, its precision, attention, adapter and view of pictures."""
    parts = [f"model: {loaded}"]
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


def _is_quantised(config: Any) -> bool:
    """Whether the folder's weights are in 4 or 8 bits already."""
    return getattr(config, "quantization_config", None) is not None


def _widen_skipped(quantization: dict[str, Any]) -> None:
    """Let a quantised folder's list of unquantised modules match today's names: older transformers wrote other prefixes and
    matched a name anywhere, so that weights in 16 bits would be taken for packed ones."""
    patterns = []
    for name in quantization.get("llm_int8_skip_modules") or ():
        tail = name.removeprefix("model.").removeprefix("language_model.").removeprefix("model.")
        patterns += [name, rf"(.*\.)?{re.escape(tail)}(\.|$)"]
    quantization["llm_int8_skip_modules"] = patterns or None


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


@functools.cache
def count_blocks_through_rows() -> None:
    """Repair bitsandbytes' 4-bit kernel for CPUs: it begins a new block with every row, where quantisation, and CUDA, count blocks
    of 64 weights through the rows. Rows of another length, such as the tiny model's 160, came out 25 % wrong in place of 9 %.
    The kernel is given rows of one block; the values are then those of its slow path and of CUDA."""
    import bitsandbytes  # noqa: F401  registers the operator

    operator = "bitsandbytes::dequantize_4bit"
    kernel = torch.library.get_kernel(operator, "CPU")

    def dequantize(keys: Any, packed: Any, absmax: Any, blocksize: int, quant_type: str, shape: Any, dtype: torch.dtype) -> torch.Tensor:
        n = math.prod(shape)
        rows = shape if n % blocksize else (n // blocksize, blocksize)
        return kernel.call_boxed(keys, packed, absmax, blocksize, quant_type, rows, dtype).reshape(shape)

    with warnings.catch_warnings(action="ignore"):  # that it overrides
        _CPU_REPAIRS.impl(operator.split("::")[1], dequantize, "CPU", with_keyset=True, allow_override=True)


_CPU_REPAIRS = torch.library.Library("bitsandbytes", "IMPL")  # an override lasts as long as this does


def _one_kernel(model: Any) -> None:
    """Keep bitsandbytes on its plain CPU kernel. Its bf16 one serves evaluation alone, so that rollouts and the training
    forward would disagree, repacks the weights in place, and refuses widths that are not multiples of 64."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _not_found(name: str, e: Exception) -> str:
    return f"model {name!r} can't be loaded: {_first_line(e)} Give a local folder or a hub name (the tiny model: sample_data/tiny_base)"


def _first_line(e: Exception) -> str:
    return (str(e).strip() or type(e).__name__).splitlines()[0]
