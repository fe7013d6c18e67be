"""Meta-training: from inner tasks to a gradient, and to new theta."""
