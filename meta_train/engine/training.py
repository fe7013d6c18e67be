"""From settings to the parts of a meta-training run.

Main names: `Parts`, `build`, `cautions`.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
from jax.flatten_util import ravel_pytree

import flt_lopt
from meta_train.config import MetaTrainConfig
from meta_train.engine import group_scales, outer_optimizer, phases
from meta_train.engine.feed import Feed
from meta_train.engine.objectives import OBJECTIVES
from meta_train.engine.outer import OuterLoop
from meta_train.engine.processes import Group
from meta_train.engine.supervision import Supervision, parse_fade
from meta_train.engine.unroll import Unroller
from meta_train.engine.visits import Visits
from meta_train.errors import UserError, check_choice
from meta_train.estimators import make_estimator
from meta_train.run import machine
from meta_train.terminal import say
from tasks.hosted import hosted_family


class Parts(NamedTuple):
  """The parts of a run.

  Attributes:
    lopt: the learned optimizer.
    theta: its meta-parameters before the first outer step.
    unravel: turns flat meta-parameters into a pytree like `theta`.
    loop: the outer loop.
    names: of the task families.
    inner_steps: inner steps of all copies in one outer step; expected ones
      where an estimator's calls are whole episodes, and their mean where
      outer steps visit different families.
  """

  lopt: flt_lopt.LearnedOptimizer
  theta: Any
  unravel: Any
  loop: OuterLoop
  names: tuple[str, ...]
  inner_steps: float


#: Settings that change a variant, under their names in `OptimizerConfig`.
OPTIMIZER_FLAGS = (
  *("memory", "memory_floats", "direction", "hidden_units"),
  *("geometry", "controller", "gradient_limit"),
)


def optimizer_config(config: MetaTrainConfig) -> flt_lopt.OptimizerConfig:
  """Returns the learned optimizer that the settings describe.

  Raises:
    UserError: a setting of the optimizer is out of its range.
  """
  try:
    given = {name: getattr(config, name) for name in OPTIMIZER_FLAGS}
    changes = {name: value for name, value in given.items() if value}
    return flt_lopt.make_variant(config.variant, **changes)
  except ValueError as error:
    raise UserError(f"--{error}") from error


def build(
  config: MetaTrainConfig,
  families: tuple[Any, ...],
  group: Group | None = None,
  *,
  fresh: bool = True,
) -> Parts:
  """Puts a run together; nothing is compiled yet.

  Args:
    config: the settings.
    families: task families to meta-train on.
    group: the processes of the run; None: only this one.
    fresh: whether theta is to be what the run begins with; else only its
      shapes count, and no file of weights is read.

  Raises:
    UserError: a name is unknown, or settings don't fit each other or the
      machine.
  """
  check_choice("objective", config.objective, OBJECTIVES)
  group = group or Group()
  families = tuple(map(hosted_family, families))
  lopt = flt_lopt.LearnedOptimizer(optimizer_config(config))
  key = jax.random.key(config.seed)
  init_key, run_key = jax.random.split(key)
  theta = _start(config, lopt) if fresh and config.init_from else None
  theta = lopt.init(init_key) if theta is None else theta
  flat, unravel = ravel_pytree(theta)
  unrollers = [
    Unroller(
      family=family,
      lopt=lopt,
      unravel=unravel,
      truncation=config.truncation,
      min_horizon=config.min_horizon,
      max_horizon=config.max_horizon,
      withhold=config.withhold_num_steps,
      objective=config.objective,
      log_floor=config.log_floor,
      wrong=config.wrong_num_steps,
      curriculum=config.horizon_curriculum,
      supervision=_supervision(config),
    )
    for family in families
  ]
  scale = group_scales.parse("sigma_scale", config.sigma_scale, theta)
  rates = group_scales.parse("rate_scale", config.rate_scale, theta)
  sigma = config.sigma * scale
  estimators = tuple(
    make_estimator(
      config.estimator,
      unroller,
      flat.size,
      sigma,
      num_pairs=config.num_pairs,
      noise_period=config.noise_period,
      shaping=config.shaping,
      failing_states=config.failing_states,
      failing_share=config.failing_share,
    )
    for unroller in unrollers
  )
  if config.sigma_scale and estimators[0].copies == 1:
    raise UserError(
      f"--sigma_scale={config.sigma_scale} does nothing for --estimator="
      f"{config.estimator}, which perturbs nothing; give --sigma_scale= to "
      "leave it empty, or use --rate_scale"
    )
  visits = Visits(
    len(families), per_step=config.families_per_step, seed=config.seed
  )
  loop = OuterLoop(
    estimators,
    outer_optimizer.make(config, rates),
    num_tasks=config.num_tasks,
    theta_average=config.theta_average,
    key=run_key,
    devices=_devices(config, group),
    group=group,
    visits=visits,
    balanced=config.balance_families,
    limit=config.task_gradient_clip,
    phases=phases.parse(
      config.phases,
      theta,
      outer_steps=config.outer_steps,
      learns=scale * rates,
    ),
    feed=Feed(
      families,
      [estimator.fed_steps for estimator in estimators],
      num_tasks=config.num_tasks,
      numbers=group.share(config.num_tasks),
    ),
  )
  steps = sum(estimator.copies * estimator.steps for estimator in estimators)
  return Parts(
    lopt=lopt,
    theta=theta,
    unravel=unravel,
    loop=loop,
    names=tuple(family.name for family in families),
    inner_steps=config.num_tasks * steps / visits.round,
  )


def _supervision(config: MetaTrainConfig) -> Supervision | None:
  if not config.expert:
    return None
  return Supervision(
    expert=config.expert,
    learning_rate=config.expert_learning_rate,
    direction=parse_fade("expert_direction", config.expert_direction),
    magnitude=parse_fade("expert_magnitude", config.expert_magnitude),
    fade=config.expert_fade,
  )


def cautions(
  config: MetaTrainConfig, stretches: tuple[phases.Phase, ...]
) -> list[str]:
  """Returns sentences on settings that the run is too short for.

  Args:
    config: the settings.
    stretches: the phases of the run.
  """
  found, steps = [], config.outer_steps
  late = [phase.start for phase in stretches if phase.start >= steps]
  if late:
    found.append(
      f"--phases={config.phases} has a phase that begins at outer step "
      f"{late[0]}, and --outer_steps={steps} is not beyond it"
    )
  ends = [*(phase.start for phase in stretches[1:]), steps]
  longest = max(
    min(end, steps) - phase.start for phase, end in zip(stretches, ends)
  )

  def check(name: str, never: str, *, by_phase: bool = False) -> None:
    value = getattr(config, name)
    if value > (longest if by_phase else steps):
      several = by_phase and len(stretches) > 1
      than = f"{'every phase of ' * several}--outer_steps={steps}"
      found.append(f"--{name}={value} is longer than {than}, so {never}")

  if config.expert:
    check("expert_fade", "the weights never get to their last values")
  check(
    "horizon_curriculum",
    f"inner runs never get to --max_horizon={config.max_horizon}",
  )
  check(
    "outer_warmup",
    "the outer rate never gets to "
    f"--outer_learning_rate={config.outer_learning_rate:g}",
    by_phase=True,
  )
  check("outer_decay", "the outer rate never falls to 5 %", by_phase=True)
  return found if steps else []


def _start(config: MetaTrainConfig, lopt: flt_lopt.LearnedOptimizer):
  """Returns the weights that the run is to start from."""
  try:
    stored, theta = flt_lopt.load(config.init_from)
  except flt_lopt.WeightsError as error:
    raise UserError(f"--init_from={config.init_from}: {error}") from error
  here = dataclasses.asdict(lopt.config)
  there = dataclasses.asdict(stored)
  differing = [
    f"{name} {here[name]!r} instead of {there[name]!r}"
    for name in here
    if here[name] != there[name]
  ]
  if differing:
    raise UserError(
      f"--init_from={config.init_from} holds an optimizer of other settings; "
      f"this run has {', '.join(differing)}; give the run those of the file, "
      f"as by {_flags_of(stored, config)}"
    )
  return theta


def _flags_of(stored: flt_lopt.OptimizerConfig, config: MetaTrainConfig) -> str:
  """Returns the fewest flags that give a run this optimizer, if any do.

  Args:
    stored: the optimizer.
    config: what the run has without them.
  """
  found: list[list[str]] = []
  for name in flt_lopt.list_variants():
    plain = flt_lopt.make_variant(name)
    changes = {
      flag: getattr(stored, flag)
      for flag in OPTIMIZER_FLAGS
      if getattr(stored, flag) != getattr(plain, flag)
    }
    try:
      same = flt_lopt.make_variant(name, **changes) == stored
    except ValueError:  # The changes don't go with the variant.
      continue
    if same:
      wanted = dataclasses.replace(
        config,
        variant=name,
        **{
          flag: type(getattr(MetaTrainConfig, flag))()
          for flag in OPTIMIZER_FLAGS
        },
      )
      wanted = dataclasses.replace(wanted, **changes)
      found.append(
        [
          f"--{flag}={getattr(wanted, flag)}"
          for flag in ("variant", *OPTIMIZER_FLAGS)
          if getattr(wanted, flag) != getattr(config, flag)
        ]
      )
  found.sort(key=len)
  return " ".join(found[0]) if found else "--variant and its changes"


def _devices(config: MetaTrainConfig, group: Group) -> list[jax.Device]:
  """Returns devices among which this process's tasks divide evenly."""
  found = machine.devices(config.num_devices)
  if config.num_tasks % group.size:
    raise UserError(
      f"--num_tasks={config.num_tasks} is not a multiple of the {group.size} "
      f"processes, which share the tasks; use --num_tasks="
      f"{-(-config.num_tasks // group.size) * group.size}"
    )
  ours = config.num_tasks // group.size
  if config.num_devices:
    if ours % config.num_devices:
      total = config.num_devices * group.size
      raise UserError(
        f"--num_tasks={config.num_tasks} is not a multiple of the {total} "
        f"devices (--num_devices={config.num_devices}), which share the tasks; "
        f"use --num_tasks={-(-config.num_tasks // total) * total}"
      )
    return found
  # As many in every process, even where machines differ.
  fewest = min(map(int, group.all_gather(str(len(found)).encode())))
  count = max(n for n in range(1, fewest + 1) if ours % n == 0)
  if count < fewest and group.rank == 0:
    total = fewest * group.size
    say(
      f"warning: {count * group.size} of {total} devices are used, into which "
      f"--num_tasks={config.num_tasks} divides; --num_tasks="
      f"{-(-config.num_tasks // total) * total} would use all"
    )
  return found[:count]
