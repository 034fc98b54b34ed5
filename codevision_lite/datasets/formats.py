"""The names of the formats and of the ways to read them: all that the command line needs before it starts."""

from __future__ import annotations

from typing import Literal

FORMATS = ("jsonl", "hf", "verl", "sharegpt", "codevision-sft", "codevision-rl", "mvtoolbench", "own")  # what can be read
TARGETS = {"jsonl": ".jsonl", "hf": ".parquet", "verl": ".parquet", "sharegpt": ".json"}  # what can be written, and its suffix

TransformIs = Literal["damage", "ops"]  # what `transform` names: what was done to the picture, or what has to be done
TRANSFORM_IS = ("damage", "ops")
BoxDefault = Literal["shown", "canonical", "reject"]  # what becomes of a box whose frame can't be told
AMBIGUOUS_BOX = ("shown", "canonical", "reject")
