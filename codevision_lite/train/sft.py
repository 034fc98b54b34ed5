"""Supervised fine-tuning: TRL's SFTTrainer on verified trajectories, loss on the assistant's tokens only.

The rows go through the same rendering, tokenising and resizing as RL and evaluation (models/encoding.py); TRL's own
collator can't place a picture inside a tool result.
    codevision-lite sft recipes/demo.yaml
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from codevision_lite.agent import dialogue_of
from codevision_lite.datasets.rows import TrainingRow
from codevision_lite.models.encoding import encode_dialogue
from codevision_lite.recipe import Recipe
from codevision_lite.train.load import precise_adapter

IGNORED = -100


class TrajectoryCollator:
    """Row numbers to tensors; labels cover the tokens of trained replies, end-of-turn included, and nothing else."""

    def __init__(self, rows: Sequence[TrainingRow], processor: Any):
        self.rows, self.processor = rows, processor

    def __call__(self, examples: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        """-> input_ids, attention_mask, labels, mm_token_type_ids (B, T) int64, pixel_values, image_grid_thw."""
        ids: list[list[int]] = []
        labels: list[list[int]] = []
        pictures = []
        for example in examples:
            row = self.rows[example["index"]]
            dialogue = dialogue_of(row.sample, row.trajectory)
            pictures.append(encode_dialogue(self.processor, dialogue))
            trained = iter(row.trained)
            ids.append([t for s in dialogue.segments for t in s.token_ids])
            labels.append(
                [t if learn else IGNORED for s in dialogue.segments for learn in [s.role == "reply" and next(trained)] for t in s.token_ids]
            )
        width = max(map(len, ids))
        pad = self.processor.tokenizer.pad_token_id
        input_ids = torch.tensor([row + [pad] * (width - len(row)) for row in ids])
        return {
            "input_ids": input_ids,
            "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids]),
            "labels": torch.tensor([row + [IGNORED] * (width - len(row)) for row in labels]),
            "mm_token_type_ids": (input_ids == self.processor.image_token_id).long(),
            "pixel_values": torch.cat([p.pixel_values for p in pictures]),
            "image_grid_thw": torch.cat([p.grid_thw for p in pictures]),
        }


def train_sft(
    model: Any, processor: Any, rows: Sequence[TrainingRow], recipe: Recipe, folder: Path, callbacks: Sequence[TrainerCallback],
) -> None:  # fmt: skip
    """Train the adapter of `model` in place; checkpoints in `folder`/checkpoints, the adapter in `folder`/adapter.

    Goes on from the last checkpoint that is there.
    """
    stage = recipe.sft
    args = SFTConfig(
        output_dir=str(folder / "checkpoints"), max_steps=stage.steps, per_device_train_batch_size=stage.micro_batch,
        gradient_accumulation_steps=stage.batch // stage.micro_batch, learning_rate=stage.learning_rate,
        lr_scheduler_type="cosine", warmup_steps=max(1, round(stage.steps * stage.warmup_share)), weight_decay=0.0, max_grad_norm=1.0,
        save_steps=stage.save_every, save_total_limit=2, logging_steps=1, logging_nan_inf_filter=False, report_to="none",
        disable_tqdm=True, seed=recipe.seed, data_seed=recipe.seed, bf16=torch.cuda.is_available() or recipe.model.quantize == "nf4",
        use_cpu=not torch.cuda.is_available(), gradient_checkpointing=torch.cuda.is_available(), max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True}, remove_unused_columns=False, dataloader_pin_memory=False,
        average_tokens_across_devices=False,
    )  # fmt: skip
    with precise_adapter(model):
        trainer = SFTTrainer(
            model=model, args=args, data_collator=TrajectoryCollator(rows, processor), processing_class=processor,
            train_dataset=Dataset.from_dict({"index": list(range(len(rows)))}), callbacks=list(callbacks),
        )  # fmt: skip
    run_trainer(trainer, folder)


def run_trainer(trainer: Any, folder: Path) -> None:
    """Train, from the last checkpoint if there is one, and save the adapter to `folder`/adapter."""
    from peft import load_peft_weights, set_peft_model_state_dict
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    last = last_checkpoint(Path(trainer.args.output_dir))
    if last and int(last.rsplit("-", 1)[1]) >= trainer.args.max_steps:
        # Stopped between its last step and the saving of the adapter: train() would do one step more.
        set_peft_model_state_dict(trainer.model, load_peft_weights(last))
    else:
        trainer.train(resume_from_checkpoint=last)
    partial = folder / "adapter.part"
    trainer.model.save_pretrained(partial)
    partial.rename(folder / "adapter")


def last_checkpoint(folder: Path) -> str | None:
    """The last whole checkpoint, or None. One that a kill left unfinished is removed: transformers would stumble over it."""
    from transformers.trainer_utils import get_last_checkpoint

    for checkpoint in folder.glob("checkpoint-*"):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())  # transformers writes it last
        except (FileNotFoundError, ValueError):
            shutil.rmtree(checkpoint)
    return get_last_checkpoint(str(folder)) if folder.is_dir() else None
