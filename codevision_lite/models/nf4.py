"""4-bit NF4 weights by bitsandbytes: that it is there, quantised folders of older versions, and its kernels for CPUs put right."""

from __future__ import annotations

import functools
import math
import re
import warnings
from typing import Any

import torch

from codevision_lite.errors import UserError


def require_bitsandbytes(name: str, asked: bool) -> None:
    """Raise UserError where 4-bit weights can't be computed with. `asked`: by the recipe; else the model's folder has them."""
    fix = "Install it again: pip install --force-reinstall --no-deps bitsandbytes; or " + (
        "set model.quantize=none" if asked else "give a model that is not quantised"
    )
    try:
        from bitsandbytes import cextension
    except (ImportError, OSError, RuntimeError, AttributeError) as e:
        first_line = (str(e).strip() or type(e).__name__).splitlines()[0]
        raise UserError(f"model {name!r} in 4 bits needs bitsandbytes, which does not load: {first_line}. {fix}") from e
    # Without its compiled part it imports all the same, and fails at the first layer. On a CPU it has a slow way.
    if torch.cuda.is_available() and isinstance(cextension.lib, cextension.ErrorHandlerMockBNBNativeLibrary):
        why = cextension.lib.error_msg.strip().splitlines()[0]
        raise UserError(f"model {name!r} in 4 bits needs bitsandbytes, whose CUDA part does not load: {why}. {fix}")


def widen_skipped(quantization: dict[str, Any]) -> None:
    """Let a quantised folder's list of unquantised modules match today's names: older transformers wrote other prefixes and
    matched a name anywhere, so that weights in 16 bits would be taken for packed ones."""
    patterns = []
    for name in quantization.get("llm_int8_skip_modules") or ():
        tail = name.removeprefix("model.").removeprefix("language_model.").removeprefix("model.")
        patterns += [name, rf"(.*\.)?{re.escape(tail)}(\.|$)"]
    quantization["llm_int8_skip_modules"] = patterns or None


@functools.cache
def count_blocks_through_rows() -> None:
    """Repair bitsandbytes' 4-bit kernel for CPUs: it begins a new block with every row, where quantisation, and CUDA, count blocks
    of 64 weights through the rows. Rows of another length, such as the tiny model's 160, came out 25 % wrong in place of 9 %.
    The kernel is given rows of one block; the values are then those of its slow path and of CUDA."""
    from bitsandbytes import cextension  # registers the operator

    if isinstance(cextension.lib, cextension.ErrorHandlerMockBNBNativeLibrary):
        return  # without its compiled part bitsandbytes has no kernel here to be put right
    operator = "bitsandbytes::dequantize_4bit"
    kernel = torch.library.get_kernel(operator, "CPU")

    def dequantize(keys: Any, packed: Any, absmax: Any, blocksize: int, quant_type: str, shape: Any, dtype: torch.dtype) -> torch.Tensor:
        n = math.prod(shape)
        rows = shape if n % blocksize else (n // blocksize, blocksize)
        return kernel.call_boxed(keys, packed, absmax, blocksize, quant_type, rows, dtype).reshape(shape)

    with warnings.catch_warnings(action="ignore"):  # that it overrides
        _CPU_REPAIRS.impl(operator.split("::")[1], dequantize, "CPU", with_keyset=True, allow_override=True)


_CPU_REPAIRS = torch.library.Library("bitsandbytes", "IMPL")  # an override lasts as long as this does


def one_kernel(model: Any) -> None:
    """Keep bitsandbytes on its plain CPU kernel. Its bf16 one serves evaluation alone, so that rollouts and the training
    forward would disagree, repacks the weights in place, and refuses widths that are not multiples of 64."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
