"""The gpu recipe: all of `all_small` with many tasks at once.

    python -m meta_train --recipe=gpu
    python -m meta_train.evaluate \
      --weights=runs/gpu-all_small-seed0/theta.safetensors

50,000 outer steps of 76,800 inner steps: 256 tasks a family, three families an
outer step, among them the transformers and the recurrent network that are
costly on a CPU. It runs on several GPUs and on several machines unchanged.

It has not been run to its end, so neither its wall time nor its result is
known; on CPU cores it would take days.
"""

from meta_train.config import MetaTrainConfig

CONFIG = MetaTrainConfig(
  task_suite="all_small",
  augment="reparametrize_tensor,scale_loss",
  outer_steps=50_000,
  num_tasks=256,
  families_per_step=3,
  max_horizon=4000,
  withhold_num_steps=0.2,
  wrong_num_steps=0.1,
  outer_learning_rate=1e-3,
  outer_warmup=200,
  outer_decay=50_000,
  theta_average=0.999,
  validate_every=2500,
  validation_steps=1000,
  result="best",
  checkpoint_every=500,
  log_every=50,
  evaluate=False,
)
