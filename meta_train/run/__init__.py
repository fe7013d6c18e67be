"""One run of meta-training: its folder, machine, checkpoints, progress."""
