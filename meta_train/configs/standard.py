"""The standard recipe: as long as the field meta-trains, on MLPs.

    python -m meta_train --recipe=standard
    python -m meta_train.evaluate --task_suite=mlp8 \
      --weights=runs/standard-mlp8-seed0/theta.safetensors

100,000 outer steps of 800 inner steps, 80 million in all, on one hidden layer
and four small image sets in turn (with a `--data_dir` MNIST, Fashion-MNIST,
CIFAR-10 and SVHN at 8 x 8 pixels). Scored every 10,000 outer steps on tasks
that are neither trained on nor held out; the result is the best.

It has not been run to its end, so neither its wall time nor its result is
known. At the rate of the reference work of `bench_meta_training.py` on two CPU
cores, 32,600 inner steps per second, its inner steps would take 41 minutes.
"""

from meta_train.config import MetaTrainConfig

CONFIG = MetaTrainConfig(
  task_suite="mlp8",
  augment="reparametrize_tensor",
  outer_steps=100_000,
  num_tasks=8,
  families_per_step=1,
  outer_learning_rate=1e-3,
  outer_warmup=500,
  outer_decay=100_000,
  theta_average=0.999,
  validate_every=10_000,
  result="best",
  checkpoint_every=1000,
  log_every=200,
  evaluate=False,
)
