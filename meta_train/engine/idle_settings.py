"""Settings that do nothing beside others, told at the start of a run.

They are told and not refused: a recipe may have set them, which the user's own
flags then make idle.

Main names: `cautions`.
"""

import dataclasses

from meta_train.config import MetaTrainConfig
from meta_train.engine import groups
from meta_train.engine.objectives import OBJECTIVES

#: Characters of a value that are shown.
_SHOWN = 60


def cautions(config: MetaTrainConfig) -> list[str]:
  """Returns a sentence on each setting that does nothing, with the remedy.

  Args:
    config: the settings.
  """
  found = []
  for name, needed in _needed(config).items():
    value = getattr(config, name)
    if needed and value != _default(name):
      text = str(value)
      shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
      found.append(f"--{name}={shown} does nothing {needed}")
  return found + _perturbed_in_vain(config)


def _needed(config: MetaTrainConfig) -> dict[str, str]:
  """Returns of each setting why it would do nothing; empty: it counts."""
  objective = OBJECTIVES.get(config.objective)
  own = f"beside --task={config.task}, which takes the suite's place"
  return {
    "families": own if config.task else "",
    "data_dir": own if config.task else "",
    "log_floor": (
      f"with --objective={config.objective}, which takes no logarithm; use "
      f"one such as log_{config.objective}"
      if objective and not objective.logged
      else ""
    ),
    "validation_steps": (
      "" if config.validate_every else "without --validate_every, such as 100"
    ),
  }


def _default(name: str) -> object:
  fields = {f.name: f.default for f in dataclasses.fields(MetaTrainConfig)}
  return fields[name]


def _perturbed_in_vain(config: MetaTrainConfig) -> list[str]:
  """Returns a sentence on groups that are perturbed and never updated."""
  if config.estimator.endswith("_grad"):
    return []  # Nothing is perturbed.
  frozen, still = _zeros(config.rate_scale), _zeros(config.sigma_scale)
  vain = [
    name
    for name in frozen
    if not any(groups.contains(group, name) for group in still)
  ]
  if not vain:
    return []
  more = ",".join(f"{name}:0" for name in vain)
  scale = f"{config.sigma_scale},{more}".lstrip(",")
  return [
    f"--rate_scale={config.rate_scale} keeps {', '.join(vain)} from learning, "
    "and perturbing what does not learn only adds noise; give --sigma_scale="
    f"{scale} too"
  ]


def _zeros(text: str) -> list[str]:
  """Returns the groups of a scale that are multiplied by 0."""
  found = []
  for part in text.split(","):
    name, _, scale = (word.strip() for word in part.partition(":"))
    try:
      if float(scale) == 0:
        found.append(name)
    except ValueError:
      continue  # Refused where theta is known.
  return found
