"""The starter recipe: an optimizer for many kinds of small tasks.

    python -m meta_train --recipe=starter
    python -m meta_train.evaluate \
      --weights=runs/starter-all_small-seed0/theta.safetensors

160 outer steps of some 61,000 inner steps, by evolution strategies over whole
inner runs of 500 to 2,000 steps, on 21 families of `all_small`: those whose
steps are cheap on a CPU. What counts is the loss in the last tenth of a run. It
starts from normalised steps along a combination of the memory's readings,
without a network per parameter; a tensor's gradients are limited to five times
their running size, so that wild batches don't fill the memory. For 80 outer
steps it learns seventeen numbers: sizes and exponents of the steps, how steps
follow the depth of a model and the length of a run, caution, weight decay,
epsilon, and how the readings of the memory are combined. Then it learns the
memory's time constants too, and the head of the controller that chooses the
length of each tensor's steps, 54 numbers in all. The outer rate falls within
each of these phases. The result is the running average of theta at the end;
`--result=best` takes the one that scored best on the validation tasks, which
with a task of one's own is the better choice. On the suite's tasks single ones
move the score by luck: Griewank's function, where a run ends in one local
minimum or another, by up to 0.16.

Exponents of depth and length, and caution, are perturbed three times as far as
the others and learned twice as fast: at the common rate they were a third of
the way after 80 outer steps, and at three times the rate they went on beyond
their bounds, where nothing changes any more; so do single ones still, from one
seed or another.

Not more at once, and whole runs, because then something else was learned (seen
with steps that knew neither depth nor length, and mostly with weight decay that
could be negative). All from the start, a direction network too: a score of
-0.015 after 40 outer steps; which of the parts does that is not known.
Truncated backpropagation (`--estimator=truncated_grad --sigma_scale=
--objective=log --phases=`) learns what helps within an unroll, smaller steps
where the gradient is noisy, and its runs of 2,000 steps end higher than
untrained ones; on runs of 200 to 800 steps, by 200, it learns steps that are
too large for 2,000. Evolution strategies on all of theta (`--phases=`) find no
signal in so few runs: see `grad_snr` in metrics.jsonl. (All of this is of the
recipe at revision 3b33d88, whose docstring has the flags.)

Expected, on two CPU cores: a quarter of an hour. Scores after 40, 80, 120 and
160 outer steps (0 is untrained) were -0.35, -0.32, -0.53 and -0.41 from seed 0,
-0.42, -0.58, -0.39 and -0.38 from seed 1, and -0.32, -0.48, -0.41 and -0.37
from seed 2, of which Griewank's function makes up to 0.16. A convolution on
sprites and an ill-conditioned quadratic have the largest gains, and a task
counts at most a factor of ten; an autoencoder becomes worse. `flt-starter`,
which ships, is what came of seed 1, chosen among the three (see
`flt_lopt/pretrained/README.md`).
"""

from meta_train.config import MetaTrainConfig

FAMILIES = (
  "mlp_digits_32x4",
  "mlp_digits_32_32_batch_norm",
  "mlp_sprites8_32",
  "mlp_signals_32",
  "mlp_teacher_32",
  "conv_digits_8_16",
  "autoencoder_digits_16",
  "autoencoder_sprites8_24",
  "vae_digits_48_8",
  "transformer_recall_16x1",
  "quadratic_32_axes",
  "rosenbrock",
  "levy",
  "softmax_digits",
  "matrix_completion_32",
  "siren_photographs_32x2",
  "pinn_heat_20x3",
  "molecules_filters_24x2",
  "flow_digits_48x4",
  "graph_communities_24x2",
  "few_shot_sinusoids_32x2",
)

CONFIG = MetaTrainConfig(
  task_suite="all_small",
  families=",".join(FAMILIES),
  variant="normalized",
  direction="linear",
  gradient_limit=5.0,
  phases="step+memory/read:80,step+memory+controller/log_step",
  estimator="full_es",
  sigma=0.1,
  sigma_scale=(
    "controller:0.5,step/caution:3,step/depth_exponent:3,step/length_exponent:3"
  ),
  objective="log_tail",
  log_floor=1e-5,
  outer_steps=160,
  num_tasks=4,
  families_per_step=7,
  balance_families=True,
  task_gradient_clip=10.0,
  truncation=100,
  min_horizon=500,
  max_horizon=2000,
  withhold_num_steps=0.2,
  wrong_num_steps=0.1,
  outer_learning_rate=0.03,
  rate_scale=(
    "controller:0.3,step/caution:2,step/depth_exponent:2,step/length_exponent:2"
  ),
  outer_warmup=3,
  outer_decay=80,
  theta_average=0.9,
  validate_every=40,
  validation_steps=2000,
  result="average",
  checkpoint_every=10,
  log_every=3,
  evaluate=False,
)
