"""Evaluation: run a model over held-out samples, count what is right, and say how sure the number is."""
