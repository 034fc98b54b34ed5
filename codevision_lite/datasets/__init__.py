"""Samples and trajectories on disk: JSONL rows with their pictures as PNG files beside them."""
