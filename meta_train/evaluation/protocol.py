"""How long and how often an evaluation trains, unless told otherwise.

Baselines ship for these numbers. They are in a file of their own because
command lines show them, which should not wait for jax.

Names: `NUM_STEPS`, `NUM_SEEDS`.
"""

#: Inner steps of a run.
NUM_STEPS = 2000
#: Runs of each optimizer on each task.
NUM_SEEDS = 5
