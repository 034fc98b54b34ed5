"""Training: the tiny base model, SFT and GRPO. The only package, with models/, that imports torch."""
