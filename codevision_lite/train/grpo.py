"""GRPO over whole tool-using trajectories: a mixin for TRL's GRPOTrainer, which is neither forked nor copied.

The mixin replaces one method, `_generate`: rollouts come from the same agent loop, model backend and sandbox as
evaluation (agent.py, models/hf.py), in place of TRL's loop, which prefills every turn anew, loses pictures silently when
one is sampled as a token, and dies on a picture that is too thin (docs/ROLLOUTS.md). Loss, advantages and optimisation are
TRL's; how trajectories are put into micro-batches is lengths.py's. It relies on: `_generate`'s return values, `environments`,
`_metrics`. Works over TRL's class and over Unsloth's, which calls the same `_generate`.
    codevision-lite rl recipes/demo.yaml
"""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import TrainerCallback

from codevision_lite.agent import AgentLimits, Episode, run_episodes
from codevision_lite.files import append_jsonl
from codevision_lite.models.hf import VISION_TOKENS, HFModel
from codevision_lite.recipe import Recipe, RLStage
from codevision_lite.records import Sample, Trajectory
from codevision_lite.reward import RewardConfig, score_group
from codevision_lite.reward.user_file import load_scorer
from codevision_lite.train.environment import PictureEnvironment
from codevision_lite.train.guard import Guarded, accumulation, gather_rows, run_trainer
from codevision_lite.train.lengths import ByLength
from codevision_lite.train.load import precise_adapter, trl_classes, trl_configs
from codevision_lite.train.log import drop_rows
from codevision_lite.train.rollout_metrics import rollout_metrics

logger = logging.getLogger(__name__)


class AgentRollouts:
    """Mixin over `trl.GRPOTrainer` (or a subclass): rollouts by the agent loop."""

    rollout_model: HFModel
    rollout_limits: AgentLimits
    rollout_sandbox: Any

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        """TRL's contract: (prompt_ids, completion_ids, tool_mask, completions, logprobs, extra_fields, images, tool_images).

        The tool mask is 1 on the model's tokens. Every picture, the user's included, is given as a tool picture, so that
        TRL takes one path for all batches: it processes the list once and checks nothing away.
        """
        environments: list[PictureEnvironment] = self.environments
        assert len(environments) == len(prompts), f"{len(environments)} environments, {len(prompts)} prompts"
        self.rollout_model.forget()  # the weights changed since the last call
        seed = self.args.seed * 1_000_003 + self.state.global_step
        self.rollout_model.reseed(seed + 500_000_003 * self.args.process_index)  # the same rollouts after a resume
        started = time.perf_counter()
        episodes = run_episodes(self.rollout_model, self.rollout_sandbox, [e.sample for e in environments], self.rollout_limits)
        self.rollout_model.forget()
        for environment, episode in zip(environments, episodes, strict=True):
            environment.trajectory = episode.trajectory()
        parts = [split_episode(episode) for episode in episodes]
        self._check_pictures(parts, episodes)
        mode = "train" if self.model.training else "eval"
        lengths = [sum(mask) for _, _, mask, _ in parts]
        self._metrics[mode]["completions/mean_length"].append(float(np.mean(lengths)))
        self._metrics[mode]["completions/max_length"].append(float(max(lengths)))
        self._metrics[mode]["time/rollouts_s"].append(time.perf_counter() - started)
        completions = [[{"role": "assistant", "content": e.turns[-1].text}] for e in episodes]
        images = [list(e.dialogue.images) for e in episodes]
        prompt_ids, completion_ids, masks, logprobs = (list(column) for column in zip(*parts, strict=True))
        return prompt_ids, completion_ids, masks, completions, logprobs, {}, images, images

    def _check_pictures(self, parts: list[tuple[list[int], list[int], list[int], list[float]]], episodes: list[Episode]) -> None:
        """Every picture has its tokens, and the model sampled none: TRL would drop the whole batch's pictures silently."""
        tokenizer = self.processing_class.tokenizer
        vision = {tokenizer.convert_tokens_to_ids(t) for t in VISION_TOKENS}
        start = tokenizer.convert_tokens_to_ids("<|vision_start|>")
        for (prompt, completion, mask, _), episode in zip(parts, episodes, strict=True):
            shown, n_images = (prompt + completion).count(start), len(episode.dialogue.images)
            assert shown == n_images, f"{episode.sample.id}: {shown} pictures in the tokens, {n_images} in the dialogue"
            sampled = [t for t, own in zip(completion, mask, strict=True) if own and t in vision]
            assert not sampled, f"{episode.sample.id}: the model sampled vision tokens {sampled}"


def split_episode(episode: Episode) -> tuple[list[int], list[int], list[int], list[float]]:
    """(prompt ids, completion ids, mask with 1 on the model's tokens, log-probabilities with 0 on the others)."""
    prompt, *rest = episode.dialogue.segments
    if rest[-1].role == "observation":  # ended before the model could answer it
        rest.pop()
    ids = [t for s in rest for t in s.token_ids]
    mask = [int(s.role == "reply") for s in rest for _ in s.token_ids]
    logprobs = [lp for s in rest for lp in (s.logprobs or [0.0] * len(s.token_ids))]
    return list(prompt.token_ids), ids, mask, logprobs


def agent_trainer(base: type) -> type:
    """A GRPOTrainer with agent rollouts. `base`: TRL's class or Unsloth's (train/load.py says which)."""
    return type("AgentGRPOTrainer", (AgentRollouts, ByLength, Guarded, base), {})


def make_reward(stage: RLStage, rollouts: Path) -> Any:
    """The reward function for TRL: totals per rollout, None where unknown; logs terms and rollout metrics on the way.

    Rollouts are scored in groups of one prompt; every one is written to `rollouts` with its terms. With a `reward_file` its
    totals are trained on, and the preset's are logged beside them: what one reward pays for, the other may not see.
    """
    own = load_scorer(stage.reward_file) if stage.reward_file else None

    def dense_reward(environments: list[PictureEnvironment], trainer_state: Any, log_metric: Any, **_: Any) -> list[float | None]:
        progress = trainer_state.global_step / max(1, trainer_state.max_steps)
        config = RewardConfig.preset(stage.reward, progress)
        groups: dict[str, list[int]] = defaultdict(list)
        for i, environment in enumerate(environments):
            groups[environment.sample.id].append(i)
        breakdowns: list[Any] = [None] * len(environments)
        for members in groups.values():
            sample, trajectories = environments[members[0]].sample, [environments[i].trajectory for i in members]
            for i, breakdown in zip(members, score_group(sample, trajectories, config), strict=True):
                breakdowns[i] = breakdown
            if own is not None:
                known = [breakdowns[i].total for i in members if breakdowns[i].total is not None]
                log_metric("reward/preset_total", sum(known) / max(1, len(known)))
                for i, total in zip(members, own(sample, trajectories), strict=True):
                    breakdowns[i] = replace(breakdowns[i], total=total)
        records = [(e.sample, e.trajectory, b) for e, b in zip(environments, breakdowns, strict=True)]
        for name, value in rollout_metrics(records, list(groups.values())).items():
            log_metric(name, value)
        rows = []
        for sample, trajectory, breakdown in records:
            row = {"step": trainer_state.global_step, "sample_id": sample.id, "total": breakdown.total, "end_reason": trajectory.end_reason}
            terms = {name: term.value for name, term in breakdown.terms.items()}
            texts = [t.text for t in trajectory.turns]
            rows.append({**row, "terms": terms, "turns": texts, **saved_records(sample, trajectory, rollouts.parent)})
        for row in gather_rows(rows):
            append_jsonl(rollouts, row)
        return [b.total for b in breakdowns]

    return dense_reward


def saved_records(sample: Sample, trajectory: Trajectory, folder: Path) -> dict[str, Any]:
    """The two records as `codevision-lite score` reads them; of the pictures, only the path of the one that is shown."""
    image = os.path.relpath(sample.image, folder) if isinstance(sample.image, str) else ""
    return {"sample": sample.to_json(image), "trajectory": trajectory.to_json([image])}


class _RollbackRollouts(TrainerCallback):
    """When a run resumes, drop the rollouts of the steps that it does again."""

    def __init__(self, rollouts: Path):
        self.rollouts = rollouts

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        drop_rows(self.rollouts, lambda row: row["step"] < state.global_step)


def grpo_settings(recipe: Recipe, batch: int) -> dict[str, Any]:
    """GRPOConfig's values; `batch`: trajectories of an optimizer step. What Unsloth or TRL choose by themselves, and not
    alike, is spelled out."""
    stage, on_gpu = recipe.rl, torch.cuda.is_available()
    return {
        "max_steps": stage.steps, "per_device_train_batch_size": stage.micro_batch,
        "gradient_accumulation_steps": accumulation("rl", batch, stage.micro_batch), "num_generations": stage.generations,
        "num_iterations": 1, "learning_rate": stage.learning_rate, "warmup_steps": stage.warmup_steps,
        "lr_scheduler_type": "cosine" if stage.schedule == "cosine" else "constant_with_warmup",
        "weight_decay": 0.0, "max_grad_norm": 1.0, "optim": "adamw_torch_fused",
        "adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8,
        "beta": stage.beta, "loss_type": stage.loss_type, "temperature": stage.temperature, "max_completion_length": stage.max_tokens,
        "mask_truncated_completions": False, "epsilon": 0.2, "epsilon_high": 0.28, "scale_rewards": stage.scale_rewards,
        "importance_sampling_level": "token", "vllm_importance_sampling_correction": False,
        "save_steps": stage.save_every, "save_total_limit": 2, "logging_steps": 1, "logging_nan_inf_filter": False, "report_to": "none",
        "disable_tqdm": True, "log_completions": False, "log_multimodal": False, "remove_unused_columns": False, "use_vllm": False,
        "seed": recipe.seed, "data_seed": recipe.seed, "bf16": on_gpu or recipe.model.quantize == "nf4", "fp16": False,
        "use_cpu": not on_gpu, "gradient_checkpointing": on_gpu, "dataloader_pin_memory": False,
    }  # fmt: skip


def train_grpo(
    model: Any, processor: Any, samples: Sequence[Sample], recipe: Recipe, folder: Path, callbacks: Sequence[TrainerCallback], sandbox: Any,
) -> None:  # fmt: skip
    """Train the adapter of `model` in place; checkpoints in `folder`/checkpoints, the adapter in `folder`/adapter,
    every rollout in `folder`/rollouts.jsonl. Goes on from the last checkpoint that is there.
    """
    stage = recipe.rl
    batch = stage.prompts * stage.generations
    _, config = trl_configs()
    args = config(**grpo_settings(recipe, batch), output_dir=str(folder / "checkpoints"))
    # Unsloth raises a micro-batch to the number of generations, and with it the batch; TRL only needs whole groups in the batch.
    args.per_device_train_batch_size, args.generation_batch_size = stage.micro_batch, batch
    rows = [{"prompt": [{"role": "user", "content": s.question}], "index": i} for i, s in enumerate(samples)]
    args.scale_rewards = stage.scale_rewards  # which Unsloth's config turns off for dr_grpo
    with precise_adapter(model, stage.beta):
        trainer = agent_trainer(trl_classes()[1])(
            model=model, args=args, processing_class=processor, train_dataset=Dataset.from_list(rows),
            reward_funcs=make_reward(stage, folder / "rollouts.jsonl"), callbacks=list(callbacks),
            environment_factory=lambda: PictureEnvironment(samples, sandbox),
        )  # fmt: skip
    at_once = stage.rollout_batch or batch
    trainer.rollout_model = HFModel(trainer.model, processor, temperature=stage.temperature, seed=recipe.seed, batch_size=at_once)
    trainer.rollout_limits, trainer.rollout_sandbox = AgentLimits.of(stage), sandbox
    trainer.add_callback(_RollbackRollouts(folder / "rollouts.jsonl"))
    trainer.guard("grpo", recipe, folder)
    run_trainer(trainer, folder)
