"""Weights and processor from a local folder or a hub name; the same code for the tiny model and for Qwen2.5-VL-3B/7B.

4-bit NF4 covers the language model's linear layers; the vision tower stays unquantised (its activations are few and its
errors are the costliest), and so do the embeddings and the output head.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoProcessor, AutoTokenizer, BitsAndBytesConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.processing_utils import ProcessorMixin

from codevision_lite.errors import UserError
from codevision_lite.imaging import set_pixel_budget
from codevision_lite.protocol import CHAT_TEMPLATE, RESPONSE_TEMPLATE

logger = logging.getLogger(__name__)

Quantize = Literal["nf4", "none"]


class PictureProcessor(Qwen2_5_VLProcessor):
    """Qwen2.5-VL's processor for pictures only: no video processor, hence no torchvision (whose wheel can't load
    beside a CPU build of torch). Everything about pictures and text is inherited."""

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
        if importlib.util.find_spec("torchvision"):
            processor = AutoProcessor.from_pretrained(name)
        else:
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
    threads: int | None = None,
) -> tuple[Any, Any]:  # fmt: skip
    """(model, processor) for inference; `adapter` is a PEFT folder put on top, not trainable.

    `threads`: CPU threads; None chooses one for a tiny model, which two threads slow down several times.
    Raises UserError for a missing model or adapter.
    """
    processor = load_processor(name, min_pixels, max_pixels)
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as e:
        raise UserError(_not_found(name, e)) from e
    on_gpu = torch.cuda.is_available()
    tiny = config.text_config.hidden_size < 1024
    if not on_gpu and (threads or tiny):
        torch.set_num_threads(threads or 1)
        keep_freed_memory()
    # The tiny model computes in float32, and on a CPU with plain attention: the fused kernel's backward is slower at its size.
    dtype = torch.float32 if tiny else torch.bfloat16
    quantization = None
    if quantize == "nf4":
        quantization = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=["model.visual", "lm_head"],
        )  # fmt: skip
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        name, dtype=dtype, quantization_config=quantization, attn_implementation="eager" if tiny and not on_gpu else "sdpa",
        device_map={"": "cuda:0" if on_gpu else "cpu"},
    )  # fmt: skip
    if not on_gpu:
        _one_kernel(model)
    if adapter is not None:
        model = load_adapter(model, adapter, trainable=False)
    model.eval()
    logger.info("loaded %s: %s, %s, adapter %s", name, quantize, dtype, adapter)
    return model, processor


def load_adapter(model: Any, folder: str, *, trainable: bool) -> Any:
    """The model with the PEFT adapter of `folder`. Raises UserError where there is none."""
    from peft import PeftModel

    if not (Path(folder) / "adapter_config.json").is_file():
        raise UserError(f"{folder}: no adapter there (adapter_config.json is missing). Train one with: make sft")
    return PeftModel.from_pretrained(model, folder, is_trainable=trainable)


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


def _one_kernel(model: Any) -> None:
    """Keep bitsandbytes on its plain CPU kernel. Its bf16 one serves evaluation alone, so that rollouts and the training
    forward would disagree, repacks the weights in place, and refuses widths that are not multiples of 64."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _not_found(name: str, e: Exception) -> str:
    first = str(e).strip().splitlines()[0]
    return f"model {name!r} can't be loaded: {first} Give a local folder or a hub name (the tiny model: sample_data/tiny_base)"
