"""Comparisons: the same meta-training with each value of one setting."""
