"""Evaluation: optimizers on tasks, baselines, measures and scores."""
