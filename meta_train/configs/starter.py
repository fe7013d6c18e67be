"""The starter recipe: an optimizer for many kinds of small tasks.

    python -m meta_train --recipe=starter
    python -m meta_train.evaluate \
      --weights=runs/all_small-seed0/theta.safetensors

3,000 outer steps of 1,467 inner steps, by truncated backpropagation, on 22
families of `all_small`: those whose steps are cheap on a CPU, and one recurrent
network. Four families an outer step, which count alike; weights and losses
scaled at random; horizons up to 2,000 steps, some withheld and some wrong. The
result is the running average of theta that was best on the suite's validation
tasks.

Evolution strategies were the first choice. On the same families the
signal-to-noise ratio of an outer step (`grad_snr` in metrics.jsonl) was 0.00 by
PES with twice as many inner steps (`--estimator=pes`), and is about 1 so.

Expected: a score of -1.6 to -1.7 in validation.jsonl, at each of the three
times; most of it is learned in the first 1,000 outer steps. On two CPU cores
compiling 22 programs takes about 7 minutes, once, and training 25 (estimates
from the quiet stretches of a run on a busy machine).
"""

from meta_train.config import MetaTrainConfig

FAMILIES = (
  "mlp_digits_32",
  "mlp_digits_16_tanh",
  "mlp_digits_32x4",
  "mlp_digits_32_32_batch_norm",
  "mlp_sprites8_32",
  "mlp_signals_32",
  "mlp_teacher_32",
  "conv_digits_8_16",
  "autoencoder_digits_16",
  "autoencoder_sprites8_24",
  "vae_digits_48_8",
  "rnn_elman_dyck",
  "quadratic_16",
  "quadratic_32_axes",
  "rosenbrock",
  "levy",
  "softmax_digits",
  "softmax_iris",
  "matrix_completion_32",
  "siren_photographs_32x2",
  "graph_communities_24x2",
  "few_shot_sinusoids_32x2",
)

CONFIG = MetaTrainConfig(
  task_suite="all_small",
  families=",".join(FAMILIES),
  estimator="truncated_grad",
  log_floor=0.01,
  augment="reparametrize_tensor,scale_loss",
  outer_steps=3000,
  num_tasks=8,
  families_per_step=4,
  balance_families=True,
  max_horizon=2000,
  withhold_num_steps=0.2,
  wrong_num_steps=0.1,
  outer_learning_rate=2e-3,
  outer_warmup=100,
  outer_decay=3000,
  theta_average=0.99,
  validate_every=1000,
  result="best",
  checkpoint_every=250,
  log_every=50,
  evaluate=False,
)
