"""Which problems make up which suite.

Every registered problem has one role: to be trained on, to choose
checkpoints by, or to be held out. Domains cut across roles. Suites are
selections by role and domain, so that none can mix roles.

Main names: `TRAIN`, `VALIDATION`, `HELD_OUT`, `HELD_OUT_LARGE`.
"""

from collections.abc import Iterable

from tasks import registry
from tasks.base import Task, TaskFamily
from tasks.families.mlp import MLPFamily
from tasks.suites import Suite, register_suite

# By domain: what to meta-train on.
TRAIN = {
  "vision": (
    "mlp_digits_32",
    "mlp_digits_16_tanh",
    "mlp_digits_32x4",
    "mlp_digits_32_32_batch_norm",
    "mlp_sprites8_32",
    "mlp_signals_32",
    "mlp_teacher_32",
    "conv_digits_8_16",
    "resnet_digits_8x2",
    "vit_digits_24x2",
    "mixer_digits_24x2",
    "autoencoder_digits_16",
    "autoencoder_sprites8_24",
    "vae_digits_48_8",
  ),
  "language": (
    "rnn_elman_dyck",
    "transformer_recall_16x1",
    "transformer_recall",
    "performer_flt_recall",
  ),
  "science": (
    "quadratic_16",
    "quadratic_32_axes",
    "rosenbrock",
    "ackley",
    "levy",
    "booth",
    "dixon_price",
    "softmax_digits",
    "softmax_iris",
    "matrix_completion_32",
    "siren_photographs_32x2",
    "pinn_heat_20x3",
    "graph_communities_24x2",
    "flow_digits_48x4",
    "molecules_filters_24x2",
    "few_shot_sinusoids_32x2",
    "learned_optimizer_digits4",
  ),
  "rl": ("cart_pole_16",),
}

# For choosing between checkpoints.
VALIDATION = {
  "vision": (
    "mlp_digits_64_64",
    "mlp_teacher_24_24_elu",
    "autoencoder_photographs8_40",
    "conv_sprites_8_16_tanh",
    "vae_sprites8_32_6_tanh",
    "masked_autoencoder_digits",
  ),
  "language": ("transformer_dyck_1", "rnn_gru_topics"),
  "science": (
    "quadratic_64_ill",
    "griewank",
    "softmax_wine",
    "fourier_field_photographs_32x2",
    "pinn_poisson_32x2",
  ),
  "rl": ("cart_pole_24",),
}

# For reporting: small enough for thousands of steps on a CPU.
HELD_OUT = {
  "vision": (
    "mlp_digits_48",
    "mlp_digits_128_128_tanh",
    "mlp_digits_64x4",
    "mlp_digits_40x6_layer_norm",
    "mlp_digits4_20_gelu",
    "mlp_signals_50_50_silu",
    "mlp_sprites8_48_48_tanh",
    "mlp_tones_56_56",
    "conv_digits_12_12_24_layer_norm",
    "autoencoder_digits_32_8_32_tanh",
    "autoencoder_digits_48_24_6_24_48_bernoulli",
    "autoencoder_photographs8_64_16_64_gelu",
    "vae_digits_64_4_beta",
    "posmlp_table_digits_24x2",
  ),
  "language": ("rnn_lstm_recall", "transformer_modular"),
  "science": (
    "quadratic_24_noisy",
    "rastrigin",
    "styblinski_tang",
    "beale",
    "linear_diabetes",
    "logistic_breast_cancer",
    "matrix_completion_48_deep",
    "siren_photographs_48x3",
    "pinn_burgers_24x2",
    "graph_communities_32x3",
    "flow_photographs4_32x6",
    "molecules_filters_16x3",
    "few_shot_sinusoids_24x3",
    "learned_optimizer_digits4_16",
  ),
  "rl": ("cart_pole_32",),
}

# For reporting, with more time.
HELD_OUT_LARGE = {
  "vision": (
    "mlp_digits_256",
    "mixed_digits",
    "conv_sprites_12_16_batch_norm",
    "resnet_digits_12x3_batch_norm",
    "resnet_sprites_10x2",
    "vit_digits_32x3",
    "vit_sprites_24x2",
    "vit_flt_digits_24x2",
    "vit_flt_sprites_32x2",
    "mixer_sprites_32x2",
    "posmlp_quadratic_digits_20x3",
    "masked_autoencoder_photographs8",
    "masked_autoencoder_patches32",
    "autoencoder_patches8_96_24_96_silu",
  ),
  "language": (
    "rnn_lstm_source",
    "transformer_topics",
    "transformer_source_3",
    "transformer_topics_bpe",
    "performer_flt_topics",
    "performer_nprf_topics",
    "performer_spe_source",
    "performer_none_source",
  ),
  "science": ("himmelblau", "zakharov", "molecules_flt_24x2"),
  "rl": ("pendulum_16",),
}

DOMAINS = tuple(TRAIN)
_MLP8 = ("digits", "sprites@8", "digits@4", "signals")
_MLP8_FILES = ("mnist@8", "fashion_mnist@8", "cifar10@8", "svhn@8")


def _families(names: Iterable[str]) -> tuple[TaskFamily, ...]:
  return tuple(registry.family(name, "meta_train") for name in names)


def _tasks(names: Iterable[str], part: str) -> tuple[Task, ...]:
  return tuple(registry.task(name, part) for name in names)


def _all(role: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
  return tuple(name for names in role.values() for name in names)


@register_suite("quick")
def _quick(data_dir: str | None) -> Suite:
  """Digits and small MLPs: learns something visible within a minute."""
  del data_dir
  return Suite(
    name="quick",
    train=tuple(
      registry.family(name, "meta_train", init_scale=(0.5, 2.0))
      for name in ("mlp_digits_32", "mlp_digits_16_tanh")
    ),
    validation=_tasks(["mlp_digits_64_64"], "validation"),
    held_out=_tasks(["mlp_digits_48"], "held_out"),
  )


@register_suite("mlp8")
def _mlp8(data_dir: str | None) -> Suite:
  """One hidden layer on four small image sets, as the field meta-trains.

  With a `data_dir` these are MNIST, Fashion-MNIST, CIFAR-10 and SVHN,
  resized to 8 x 8 pixels; otherwise digits of two sizes, sprites and
  signals.
  """
  sources = _MLP8_FILES if data_dir else _MLP8
  return Suite(
    name="mlp8",
    train=tuple(
      MLPFamily(
        name=f"mlp_{source}_32", data=source, hidden=(32,), data_dir=data_dir
      )
      for source in sources
    ),
    validation=_tasks(VALIDATION["vision"], "validation"),
    held_out=_tasks(HELD_OUT["vision"], "held_out"),
  )


def _register_domain(domain: str) -> None:
  held_out = HELD_OUT[domain]
  if len(held_out) < 4:  # Too few small ones to report on.
    held_out += HELD_OUT_LARGE[domain]

  @register_suite(domain)
  def build(data_dir: str | None) -> Suite:
    del data_dir
    return Suite(
      name=domain,
      train=_families(TRAIN[domain]),
      validation=_tasks(VALIDATION[domain], "validation"),
      held_out=_tasks(held_out, "held_out"),
    )


for _domain in DOMAINS:
  _register_domain(_domain)


@register_suite("all_small")
def _all_small(data_dir: str | None) -> Suite:
  """All training families, all validation tasks, small held-out tasks."""
  del data_dir
  return Suite(
    name="all_small",
    train=_families(_all(TRAIN)),
    validation=_tasks(_all(VALIDATION), "validation"),
    held_out=_tasks(_all(HELD_OUT), "held_out"),
  )


@register_suite("train_small")
def _train_small(data_dir: str | None) -> Suite:
  """A member of each training family, to look at what was trained on."""
  del data_dir
  return Suite(
    name="train_small",
    train=(),
    validation=_tasks(_all(TRAIN), "meta_train"),
    held_out=(),
  )


@register_suite("validation_small")
def _validation_small(data_dir: str | None) -> Suite:
  """Tasks for choosing checkpoints, and nothing to train on."""
  del data_dir
  return Suite(
    name="validation_small",
    train=(),
    validation=_tasks(_all(VALIDATION), "validation"),
    held_out=(),
  )


@register_suite("held_out_small")
def _held_out_small(data_dir: str | None) -> Suite:
  """Small tasks for reporting, and nothing to train on."""
  del data_dir
  return Suite("held_out_small", (), (), _tasks(_all(HELD_OUT), "held_out"))


@register_suite("held_out_large")
def _held_out_large(data_dir: str | None) -> Suite:
  """Larger tasks for reporting, and nothing to train on."""
  del data_dir
  names = _all(HELD_OUT_LARGE)
  return Suite("held_out_large", (), (), _tasks(names, "held_out"))
