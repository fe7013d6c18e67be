"""The standard recipe: as long as the field meta-trains, on MLPs.

    python -m meta_train --recipe=standard
    python -m meta_train.evaluate --task_suite=mlp8 \
      --weights=runs/standard-mlp8-seed0/theta.safetensors

100,000 outer steps of 800 inner steps, 80 million in all, on one hidden layer
and four small image sets in turn (with a `--data_dir` MNIST, Fashion-MNIST,
CIFAR-10 and SVHN at 8 x 8 pixels). Scored every 10,000 outer steps on tasks
that are neither trained on nor held out; the result is the best.

Expected: 74 minutes on one CPU core (`--num_devices=1`; two are 1.5 times as
fast), nearly all of it inner steps, 20,000 per second. Validation scores of
-1.83, -2.15, -2.26, -2.35, -2.24, -2.16, -2.02, -2.23, -2.23 and -2.21 after
10,000 to 100,000 outer steps (0 is untrained AdamW); the meta-loss falls from
-0.3 to -1.6 in 16,000 outer steps and to -1.8 by the end. So the best is after
40,000, and it is about as good as an Adam that was tuned for the task on
shallow networks on digits (2.6e-5 against 2.3e-5 on `mlp_digits_48`), and
worse on data of other kinds and on deeper networks: by the second command it
ends lower than tuned Adam on 3 of 14 tasks, with 1 of 70 runs failed.
`starter`, whose steps are normalised and whose families are of many kinds,
does so on 11 of these: what this recipe is for is comparison with the field,
and for a start on one's own kind of network.
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
