"""Supervised fine-tuning: TRL's SFTTrainer on verified trajectories, loss on the assistant's tokens only.

The rows go through the same rendering, tokenising and resizing as RL and evaluation (models/encoding.py); TRL's own
collator can't place a picture inside a tool result.
    codevision-lite sft recipes/demo.yaml
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import SeedableRandomSampler
from datasets import Dataset
from torch.utils.data import Sampler
from transformers import TrainerCallback

from codevision_lite.agent import dialogue_of
from codevision_lite.datasets.rows import TrainingRow
from codevision_lite.models.encoding import encode_dialogue
from codevision_lite.recipe import Recipe
from codevision_lite.train.guard import ROW, Guarded, accumulation, run_trainer, world_size
from codevision_lite.train.load import precise_adapter, trl_classes, trl_configs

IGNORED = -100
_CHARACTERS_A_TOKEN = 3.5


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


class StepsByLength(Sampler[int]):
    """Row numbers in drawn order, those of each optimizer step from the longest row to the shortest: micro-batches of like lengths
    hold little padding. A step's rows, and so its gradient, are what they were; memory that will not do shows at once."""

    def __init__(self, lengths: Sequence[float], batch: int, seed: int):
        """`lengths`: of each row, in any unit. `batch`: rows of an optimizer step, over all processes."""
        self.lengths, self.batch = lengths, batch
        self._drawn = SeedableRandomSampler(lengths, data_seed=seed)  # what accelerate takes where no sampler is given

    def set_epoch(self, epoch: int) -> None:
        self._drawn.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        drawn = list(self._drawn)
        for at in range(0, len(drawn), self.batch):
            yield from sorted(drawn[at : at + self.batch], key=lambda row: -self.lengths[row])


def estimated_length(row: TrainingRow, picture_tokens: int) -> float:
    """Of a row, in tokens but for a part that all rows have alike: exact lengths would need every picture to be opened."""
    texts = sum(len(turn.text) + len(turn.observation.message if turn.observation else "") for turn in row.trajectory.turns)
    return texts / _CHARACTERS_A_TOKEN + picture_tokens * len(row.trajectory.images)


def train_sft(
    model: Any, processor: Any, rows: Sequence[TrainingRow], recipe: Recipe, folder: Path, callbacks: Sequence[TrainerCallback],
) -> None:  # fmt: skip
    """Train the adapter of `model` in place; checkpoints in `folder`/checkpoints, the adapter in `folder`/adapter.

    Goes on from the last whole checkpoint that is there. Several processes share the recipe's batch.
    """
    stage = recipe.sft
    config, _ = trl_configs()
    args = config(
        output_dir=str(folder / "checkpoints"), max_steps=stage.steps, per_device_train_batch_size=stage.micro_batch,
        gradient_accumulation_steps=accumulation("sft", stage.batch, stage.micro_batch), learning_rate=stage.learning_rate,
        lr_scheduler_type="cosine", warmup_steps=max(1, round(stage.steps * stage.warmup_share)), weight_decay=0.0, max_grad_norm=1.0,
        optim="adamw_torch_fused", adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-8,  # Unsloth chooses an 8-bit one
        save_steps=stage.save_every, save_total_limit=2, logging_steps=1, logging_nan_inf_filter=False, report_to="none",
        disable_tqdm=True, seed=recipe.seed, data_seed=recipe.seed, bf16=torch.cuda.is_available() or recipe.model.quantize == "nf4",
        use_cpu=not torch.cuda.is_available(), gradient_checkpointing=torch.cuda.is_available(), max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True}, remove_unused_columns=False, dataloader_pin_memory=False,
        average_tokens_across_devices=world_size() > 1,
    )  # fmt: skip
    collate = TrajectoryCollator(rows, processor)
    look = processor.image_processor
    lengths = [estimated_length(row, look.size["longest_edge"] // (look.patch_size * look.merge_size) ** 2) for row in rows]
    own = {"_get_train_sampler": lambda self, dataset=None: StepsByLength(lengths, stage.batch, recipe.seed)}
    guarded = type("GuardedSFTTrainer", (Guarded, trl_classes()[0]), own)  # here: TRL's class or Unsloth's, as the model was loaded
    with precise_adapter(model):
        trainer = guarded(
            model=model, args=args, processing_class=processor, callbacks=list(callbacks),
            data_collator=lambda examples: {**collate(examples), ROW: torch.tensor([e["index"] for e in examples])},
            train_dataset=Dataset.from_dict({"index": list(range(len(rows)))}),
        )  # fmt: skip
    # transformers says that Qwen-VL's loss doesn't take the number of tokens of the whole step; it does. Without it every micro-batch
    # would count the same, however few tokens it has, and micro_batch would decide what is learned.
    trainer.model_accepts_loss_kwargs = True
    trainer.guard("sft", recipe, folder, [row.sample.id for row in rows])
    run_trainer(trainer, folder)
