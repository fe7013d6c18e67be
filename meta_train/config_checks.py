"""What settings must agree on with each other.

The bounds of each setting alone are where it is declared, in
`meta_train.config`; what needs the task or theta is checked where they are
known.

Main names: `check`.
"""

import dataclasses
from typing import Any

from meta_train.errors import UserError, check_choice

RESULTS = ("average", "best")
#: Settings that do nothing unless another one is given, such as in this way.
_NEEDS = {
  "failing_share": ("failing_states", 4),
  "expert_learning_rate": ("expert", "muon"),
  "expert_direction": ("expert", "muon"),
  "expert_magnitude": ("expert", "muon"),
  "expert_fade": ("expert", "muon"),
}


def check(config: Any) -> None:
  """Refuses settings that are at odds with each other.

  Args:
    config: a `MetaTrainConfig`.

  Raises:
    UserError: it names the flags, the rule and the remedy.
  """
  for each in (
    _horizons,
    _noise_period,
    _outer_rate,
    _result,
    _needs,
    _failing,
  ):
    each(config)


def _horizons(config: Any) -> None:
  if config.max_horizon < config.min_horizon:
    raise UserError(
      f"--max_horizon={config.max_horizon} is shorter than "
      f"--min_horizon={config.min_horizon}; raise the one or lower the other"
    )
  if config.truncation > config.min_horizon:
    raise UserError(
      f"--truncation={config.truncation} is longer than the shortest inner "
      f"run, --min_horizon={config.min_horizon}; use at most "
      f"{config.min_horizon}"
    )
  longest = config.max_horizon // config.truncation * config.truncation
  if longest < config.min_horizon:
    raise UserError(
      f"--truncation={config.truncation} has no multiple from --min_horizon="
      f"{config.min_horizon} to --max_horizon={config.max_horizon}, as inner "
      f"runs are; use --max_horizon={longest + config.truncation}"
    )


def _noise_period(config: Any) -> None:
  if config.noise_period % config.truncation:
    periods = config.noise_period // config.truncation
    near = max(1, periods) * config.truncation
    raise UserError(
      f"--noise_period={config.noise_period} is not a multiple of "
      f"--truncation={config.truncation}, at whose steps perturbations are "
      f"drawn; use {near}, or 0 for a whole inner run"
    )


def _outer_rate(config: Any) -> None:
  if 0 < config.outer_decay <= config.outer_warmup:
    raise UserError(
      f"--outer_decay={config.outer_decay} must be later than "
      f"--outer_warmup={config.outer_warmup}; raise the one or lower the other"
    )


def _result(config: Any) -> None:
  check_choice("result", config.result, RESULTS)
  if config.result == "best" and not config.validate_every:
    raise UserError(
      "--result=best needs validation; give --validate_every, such as 100"
    )


def _needs(config: Any) -> None:
  default_of = {
    field.name: field.default for field in dataclasses.fields(config)
  }
  for name, (needed, example) in _NEEDS.items():
    default = default_of[name]
    if getattr(config, name) != default and not getattr(config, needed):
      raise UserError(
        f"--{name}={getattr(config, name)} does nothing without --{needed}; "
        f"give --{needed}={example}, or leave it at {default}"
      )


def _failing(config: Any) -> None:
  if config.failing_states and not config.failing_share:
    raise UserError(
      f"--failing_states={config.failing_states} does nothing with "
      "--failing_share=0; use --failing_states=0, or a share such as 0.25"
    )
