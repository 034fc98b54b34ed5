"""The reward: what a trajectory is worth and why, from its answer and from what its tools really did."""

from codevision_lite.reward.dense import Breakdown, RewardConfig, Term, score, score_group

__all__ = ["Breakdown", "RewardConfig", "Term", "score", "score_group"]
