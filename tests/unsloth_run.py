"""One small SFT and GRPO run on the CPU with a given backend, for test_unsloth.py; a process of its own, since Unsloth rewrites
transformers, PEFT and TRL while it is imported.
    python unsloth_run.py unsloth FOLDER_OF_TINY_MODEL OUT_FOLDER
"""

from __future__ import annotations

import inspect
import json
import os
import random
import sys
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def import_unsloth_on_a_cpu() -> None:
    """Unsloth's GPU code path without a GPU: its own switch for CI, a card that is only described, and the trainers that
    the switch leaves out generated afterwards."""
    os.environ |= {
        "UNSLOTH_ALLOW_CPU": "1", "UNSLOTH_DISABLE_STATISTICS": "1", "UNSLOTH_COMPILE_DISABLE": "1", "UNSLOTH_SKIP_TORCHVISION_CHECK": "1",
    }  # fmt: skip
    import torch

    card = SimpleNamespace(name="none", total_memory=2**34, major=8, minor=0, multi_processor_count=1, warp_size=32)
    said = {
        "get_device_properties": card, "get_device_capability": (8, 0), "mem_get_info": (2**34, 2**34), "current_device": 0,
        "memory_reserved": 0, "max_memory_reserved": 0, "memory_allocated": 0, "is_bf16_supported": True, "get_device_name": "none",
        "synchronize": None,
    }  # fmt: skip
    for name, value in said.items():
        setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    import unsloth  # noqa: F401

    os.environ["UNSLOTH_ALLOW_CPU"] = "0"
    from unsloth.models.rl import PatchFastRL

    PatchFastRL()


def count_calls(mixins: tuple[type, ...], base: type) -> dict[str, int]:
    """Let the methods of `base` that the mixins replace count how often they are called, from here on."""
    counts = {}
    for mixin in mixins:
        for name, method in vars(mixin).copy().items():
            if inspect.isfunction(method) and hasattr(base, name) and not name.startswith("__"):
                counts[name] = 0
                setattr(mixin, name, _counting(method, counts))
    return counts


def _counting(method: Callable[..., Any], counts: dict[str, int]) -> Callable[..., Any]:
    @wraps(method)
    def counted(*args: Any, **kwargs: Any) -> Any:
        counts[method.__name__] += 1
        return method(*args, **kwargs)

    return counted


def main(backend: str, tiny: str, out: Path) -> None:
    if backend == "unsloth":
        import_unsloth_on_a_cpu()
    import torch

    from codevision_lite.models import backend as backends

    backends.choose_backend = lambda wanted="auto": (backend, "a test")
    from pictures import picture, sample
    from tiny_model import ToldModel, ask

    from codevision_lite.datasets.rows import TrainingRow
    from codevision_lite.models.hf import HFModel
    from codevision_lite.protocol import render_reply
    from codevision_lite.recipe import SFT_MIX, ModelConfig, Recipe, RLStage, SFTStage
    from codevision_lite.records import ToolCall
    from codevision_lite.sandbox import Sandbox
    from codevision_lite.synth.gold import make_golds
    from codevision_lite.synth.samples import make_items
    from codevision_lite.synth.signs_scripts import write_script
    from codevision_lite.train import grpo
    from codevision_lite.train.guard import Guarded
    from codevision_lite.train.load import load_for_training, trl_classes
    from codevision_lite.train.log import StepLog
    from codevision_lite.train.sft import train_sft

    turn = render_reply("It is turned.", ToolCall("result = image.rotate(90, expand=True)"))
    crop = render_reply("I look closer.", ToolCall("result = image.crop((0, 0, 40, 20))", image_index=1))
    right, wrong = (render_reply("I can read it.", answer=a) for a in ("F", "G"))
    scripts = [[wrong], [turn, right], [turn, crop, right], ["Hm.", "Well."]]
    model_config = ModelConfig(name=tiny, quantize="none", lora_r=8, lora_alpha=8)
    recipe = Recipe(
        model=model_config, sft=SFTStage(steps=3, batch=4, micro_batch=2, learning_rate=1e-2),
        rl=RLStage(steps=3, prompts=2, generations=4, micro_batch=4, learning_rate=1e-3, max_turns=5, max_reply_tokens=120,
                   beta=0.1, save_every=2),
    )  # fmt: skip
    samples = [sample(84, 84, 0), sample(130, 60, 1, required_ops=("rotate_90",)), sample(60, 130, 2), sample(90, 90, 3)]
    log = partial(StepLog, metrics=out / "metrics.jsonl")
    with Sandbox(mode="inline") as sandbox:
        rng = random.Random(0)
        written = [write_script(item, rng, error_share=0.6, second_style=0.3) for item in make_items(0, "train", 12, SFT_MIX)]
        rows = [TrainingRow(g.item.sample, g.trajectory, g.trained) for g in make_golds(written, sandbox)]
        model, processor = load_for_training(model_config)
        train_sft(model, processor, rows, recipe, out / "sft", [log("sft", 3)])
        model, processor = load_for_training(model_config, adapter=str(out / "sft" / "adapter"))
        base = {name: p.detach().clone() for name, p in model.named_parameters() if "lora_" not in name}
        calls = count_calls((grpo.AgentRollouts, Guarded), trl_classes()[1])
        grpo.HFModel = partial(ToldModel, script=lambda dialogue, row: scripts[row % 4][sum(s.role == "reply" for s in dialogue.segments)])
        grpo.train_grpo(model, processor, samples, recipe, out / "grpo", [log("grpo", 3)], sandbox)
    replies = HFModel(model, processor).reply([ask("What?", picture()), ask("Where is it?", picture(130, 60))], 16)
    found = {
        "trainers": [f"{c.__module__}.{c.__name__}" for c in trl_classes()],
        "calls": calls,
        "trained": sorted({str(p.dtype) for p in model.parameters() if p.requires_grad}),
        "base_moved": [name for name, p in model.named_parameters() if name in base and not torch.equal(p, base[name])],
        "replies": [r.token_ids for r in replies],
        "logprobs": [r.logprobs for r in replies],
    }
    (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
