"""Which library loads the models and speeds them up: Unsloth where it and a CUDA GPU are there, else plain transformers.

Unsloth rewrites transformers, PEFT and TRL while it is imported, so it comes before them: call `start_backend` first.
Importing this module imports none of them.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from codevision_lite.errors import UserError

Backend = Literal["auto", "unsloth", "transformers"]


def choose_backend(wanted: Backend = "auto") -> tuple[Literal["unsloth", "transformers"], str]:
    """(library, why). Raises UserError where Unsloth is asked for and can't run."""
    import torch

    on_gpu, installed = torch.cuda.is_available(), importlib.util.find_spec("unsloth") is not None
    if wanted == "transformers":
        return "transformers", "the recipe says so"
    if wanted == "unsloth":
        if not on_gpu:
            raise UserError("model.backend: unsloth needs an NVIDIA GPU that torch can use, and there is none. Set model.backend=auto")
        if not installed:
            raise UserError("model.backend: Unsloth is not installed. Install it with: pip install -r requirements.txt")
        return "unsloth", "the recipe says so"
    if not on_gpu:
        return "transformers", "no CUDA GPU"
    return ("unsloth", "CUDA GPU, Unsloth installed") if installed else ("transformers", "Unsloth is not installed")


def start_backend(wanted: Backend = "auto") -> tuple[Literal["unsloth", "transformers"], str]:
    """As `choose_backend`; imports Unsloth where it is chosen. Call it before transformers, peft or trl are imported: names
    that others took from them before stay what they were, slower and without Unsloth's repairs.

    Raises UserError where this process has started Unsloth already and plain transformers are asked for.
    """
    backend, why = choose_backend(wanted)
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_news)
    if backend == "unsloth":
        _import_unsloth()
    elif "unsloth" in sys.modules:
        raise UserError("model.backend: this process has loaded Unsloth, which changes transformers for good. Use a new process")
    return backend, why


def _is_news(record: logging.LogRecord) -> bool:
    """Not that bitsandbytes lacks a kernel from the hub for some CPUs: no model of ours uses it (models/nf4.py, `one_kernel`)."""
    return "gemm_4bit_forward" not in record.getMessage()


def _import_unsloth() -> None:
    # Statistics are sent when a model is loaded; generated trainers would land in the current folder.
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(cache / "codevision-lite" / "unsloth_compiled"))
    import unsloth  # noqa: F401


def is_unsloth(model: Any) -> bool:
    """Whether Unsloth loaded the model."""
    return hasattr(model, "for_training") and hasattr(model, "for_inference")


@contextmanager
def generation_mode(model: Any) -> Iterator[None]:
    """While it is open, the model generates: evaluation mode, and for an Unsloth model its `for_inference`, which also turns
    off checkpointing and lets the forward return logits. Afterwards the mode is what it was."""
    training, unsloth = model.training, is_unsloth(model)
    if unsloth:
        model.for_inference()
    model.eval()
    try:
        yield
    finally:
        if training and unsloth:
            model.for_training(use_gradient_checkpointing=getattr(model, "_unsloth_gradient_checkpointing", True))
        else:
            model.train(training)
