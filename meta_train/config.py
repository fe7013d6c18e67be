"""The settings of a meta-training run: one frozen dataclass, one flag a field.

Each field carries its help text, its unit and whether it may change between
the runs in one folder; the command line (`flags`), the run folder and the
documentation are all made from here. Named recipes are instances of this
class, in `meta_train.configs`.

Main names: `MetaTrainConfig`, `options`.
"""

import dataclasses
import os
from typing import Any

from meta_train import config_checks
from meta_train.command import shared_options
from meta_train.command.options import check_bounds, option


@dataclasses.dataclass(frozen=True)
class MetaTrainConfig:
  """All settings of `python -m meta_train`, with the defaults of `quick`.

  The fields' own texts are their documentation: `--help` shows them.

  Raises:
    UserError: at construction, for a value out of its range or at odds with
      another one; the text names the flag, the rule and the remedy.
  """

  # Each comment-free line below is a flag; see `option` for what it declares.
  recipe: str = option(
    "",
    "take all settings from this file of meta_train/configs; flags given "
    "beside it win; empty: the recipe with the suite's name, if there is one",
    group="What to run",
    may_change=True,
  )
  task_suite: str = option(
    "quick", "named set of tasks to meta-train and evaluate on (--list_suites)"
  )
  task: str = option(
    "",
    "meta-train on a Task or TaskFamily of your own instead of the suite's "
    "families, written module:Name; empty: the suite's",
  )
  augment: str = option(
    "",
    "augmentations of the training families by name, separated by commas, the "
    "first innermost (tasks.augment.AUGMENTATIONS); empty: none",
  )
  families: str = option(
    "",
    "which of the suite's training families to meta-train on, by name, "
    "separated by commas; empty: all of them",
  )
  data_dir: str = shared_options.data_dir()
  run_dir: str = option(
    "",
    "folder of this run; empty: runs/SUITE-seedSEED, and with --recipe "
    "runs/RECIPE-SUITE-seedSEED",
    may_change=True,
  )
  seed: int = option(
    0, "seed of everything random in the run", low=0, high=2**32 - 1
  )
  init_from: str = option(
    "",
    "start from these weights (a file, which only process 0 reads, and a run "
    "that continues not any more; or the name of shipped ones); empty: from "
    "the untrained optimizer",
  )

  outer_steps: int = option(
    700,
    "length of meta-training; a finished run is continued by a larger value",
    unit="outer steps",
    group="Meta-training",
    low=0,
    may_change=True,
  )
  num_tasks: int = option(
    16,
    "tasks trained at once, each by --num_pairs antithetic pairs",
    unit="tasks per family",
    low=1,
  )
  families_per_step: int = option(
    0,
    "families that an outer step trains on, at most; all are visited equally "
    "often, in random order; 0: all in every step",
    unit="families",
    low=0,
  )
  truncation: int = option(
    50, "length of an unroll between two outer steps", unit="inner steps", low=1
  )
  balance_families: bool = option(
    False,
    "divide the estimates of each family by their size, so that families with "
    "large losses don't drown the others",
  )
  min_horizon: int = option(
    100, "shortest inner training run", unit="inner steps", low=1
  )
  max_horizon: int = option(
    1000,
    "longest inner training run; lengths are drawn log-uniformly",
    unit="inner steps",
    low=1,
  )
  withhold_num_steps: float = option(
    0.1,
    "share of inner runs in which the optimizer is not told the horizon",
    unit="of 1",
    low=0.0,
    high=1.0,
  )
  wrong_num_steps: float = option(
    0.0,
    "share of inner runs that are told a horizon in which it is wrong, by a "
    "log-uniform factor between 1/5 and 5",
    unit="of 1",
    low=0.0,
    high=1.0,
  )
  horizon_curriculum: int = option(
    0,
    "over how many outer steps the longest inner run grows from --min_horizon "
    "to --max_horizon, by a constant factor; 0: it is that from the start",
    unit="outer steps",
    low=0,
  )
  objective: str = option(
    "log",
    "meta-loss of an inner run: mean (of the normalised training losses), last "
    "(the final one), tail (the last tenth of them), log_time (a mean in which "
    "each octave of time weighs the same), validation (the mean loss on a "
    "held-out batch after each unroll); log, log_last, log_tail, log_log_time, "
    "log_validation: the same of the logarithm of the loss plus --log_floor, "
    "which weighs small losses more",
  )
  log_floor: float = option(
    0.1,
    "normalised loss below which further progress counts little",
    unit="normalised losses",
    above=0,
  )
  estimator: str = option(
    "pes",
    "estimator of the meta-gradient: pes, nres, es_single, truncated_es, "
    "full_es, truncated_grad or full_grad",
  )
  num_pairs: int = option(
    1,
    "antithetic pairs by which a task estimates; each costs as much as a task",
    unit="pairs per task",
    low=1,
  )
  noise_period: int = option(
    0,
    "how long --estimator=nres keeps a perturbation, a multiple of the "
    "truncation; 0: for a whole inner run",
    unit="inner steps",
    low=0,
  )
  sigma: float = option(
    0.01,
    "standard deviation of the perturbations of theta",
    unit="units of theta",
    above=0,
  )
  sigma_scale: str = option(
    "",
    "what multiplies --sigma in groups of theta, such as "
    "memory:0.3,controller:2; 0: a group is not perturbed; empty: 1 for all",
  )
  shaping: str = option(
    "none",
    "what is credited to a pair: none (the difference of its losses) or rank "
    "(its rank among the task's pairs; with one pair, its sign; biased)",
  )
  failing_states: int = option(
    0,
    "states that each task keeps, from which its training went wrong, to begin "
    "inner runs in; each has the memory of half a pair; 0: off",
    unit="states per task",
    low=0,
  )
  failing_share: float = option(
    0.25,
    "share of inner runs that begin in one of --failing_states, once there are "
    "some",
    unit="of 1",
    low=0.0,
    high=1.0,
  )
  expert: str = option(
    "",
    "optimizer to learn from at first, adamw or muon: what its updates differ "
    "by from ours is added to the meta-loss; empty: none",
  )
  expert_learning_rate: float = option(
    0.0,
    "the expert's learning rate; 0: 0.001 for adamw, 0.02 for muon",
    unit="units of the inner parameters",
    low=0.0,
  )
  expert_direction: str = option(
    "0.7:0.3",
    "first and last weight of 1 - cos of the angle between the two updates, "
    "averaged over tensors and steps",
  )
  expert_magnitude: str = option(
    "0.3:0",
    "first and last weight of |log of the ratio of their sizes|, likewise",
  )
  expert_fade: int = option(
    1000,
    "over how many outer steps both weights go from the first to the last",
    unit="outer steps",
    low=0,
  )
  outer_learning_rate: float = option(
    3e-3, "learning rate of the outer Adam", unit="units of theta", above=0
  )
  rate_scale: str = option(
    "",
    "what multiplies --outer_learning_rate in groups of theta, such as "
    "controller:0.3; empty: 1 for all",
  )
  outer_warmup: int = option(
    0,
    "over how many outer steps that rate rises from zero, at the start of each "
    "phase",
    unit="outer steps",
    low=0,
  )
  outer_decay: int = option(
    0,
    "outer step of each phase by which that rate has fallen to 5 %, along a "
    "half cosine; -1: that phase's last, by --outer_steps; 0: it does not fall",
    unit="outer steps",
    low=-1,
  )
  outer_gradient_clip: float = option(
    1.0, "largest global norm of the meta-gradient", above=0
  )
  task_gradient_clip: float = option(
    0.0,
    "largest norm of the estimate of a single task, before they are averaged, "
    "for chaotic inner runs; 0: there is none",
    low=0.0,
  )
  phases: str = option(
    "",
    "which parts of theta learn when, the others being frozen: "
    "memory+direction+step:3000,controller is 3000 outer steps for three "
    "parts, then the controller to the end; empty: all parts, always",
  )

  theta_average: float = option(
    0.99,
    "decay per outer step of the running average of theta that is the result, "
    "over the present phase alone and without a bias to its start; 0: the last "
    "theta",
    low=0.0,
    below=1.0,
  )
  validate_every: int = option(
    0,
    "distance between scores on the suite's validation tasks, or on your own "
    "--task from other seeds, see --validation_steps; 0: never",
    unit="outer steps",
    low=0,
    may_change=True,
  )
  validation_steps: int = option(
    500,
    "length of an inner training run in the validation; the score is the mean "
    "over tasks of the log of the loss at its end, less that of the untrained "
    "optimizer",
    unit="inner steps",
    low=1,
  )
  result: str = option(
    "average",
    "which theta is the result: average (the running average at the end), or "
    "best (the running average when its validation score was lowest, or what "
    "the run began with where nothing was better)",
    may_change=True,
  )

  variant: str = option(
    "flt_damped",
    "the learned optimizer, a name of flt_lopt.list_variants(); the next flags "
    "change it",
    group="The learned optimizer",
  )
  memory: str = option("", "per-parameter memory; empty: the variant's")
  memory_floats: int = option(
    0,
    "size of that memory; 0: the variant's, or the nearest that it comes in",
    unit="floats per parameter",
    low=0,
  )
  direction: str = option(
    "",
    "what is computed per parameter: direction (a network's), "
    "direction_magnitude, linear (a learned combination of the memory's "
    "readings) or off; empty: the variant's",
  )
  hidden_units: int = option(
    0,
    "width of the direction network; 0: the variant's",
    unit="units",
    low=0,
  )
  geometry: str = option(
    "",
    "size and direction of a matrix's step: elementwise (Adam's), normalized "
    "(a size that follows its shape) or orthogonal (Muon's); empty: the "
    "variant's",
  )
  controller: str = option(
    "",
    "positional encoding of the per-tensor controller, lstm, or off; empty: "
    "the variant's",
  )
  gradient_limit: float = option(
    0.0,
    "largest mean absolute gradient of a tensor, larger ones being scaled down "
    "to it, in units of the root of its running second moment: 1 or more; 0: "
    "none",
    unit="roots",
    low=0.0,
  )

  evaluate: bool = option(
    True,
    "evaluate on the suite's held-out tasks and write the report",
    group="Evaluation",
    may_change=True,
  )
  eval_steps: int = option(
    200,
    "length of an inner training run in the evaluation",
    unit="inner steps",
    low=1,
    may_change=True,
  )
  eval_seeds: int = option(
    16, "paired seeds of each evaluation", unit="seeds", low=1, may_change=True
  )

  checkpoint_every: int = option(
    50,
    "distance between checkpoints; what a kill can lose",
    unit="outer steps",
    group="The run and the machine",
    low=1,
    may_change=True,
  )
  keep_checkpoints: int = option(
    2,
    "newest checkpoints that are kept, beside the one of the best validation",
    unit="files",
    low=1,
    may_change=True,
  )
  log_every: int = option(
    10,
    "distance between rows of metrics.jsonl",
    unit="outer steps",
    low=1,
    may_change=True,
  )
  tensorboard: bool = option(
    False,
    "write the rows of metrics.jsonl for TensorBoard too, to the run's folder",
    may_change=True,
  )
  report_every: float = option(
    120.0,
    "least time between two versions of report.html during the run; 0: only "
    "at its end",
    unit="seconds",
    low=0.0,
    may_change=True,
  )
  num_devices: int = shared_options.num_devices(
    "; a run continued with another number is the same to rounding"
  )
  num_processes: int = option(
    0,
    "processes that share the tasks, each started with this same command; 0: "
    "as many as jax detects on a cluster, else one; 1: only this one",
    unit="processes",
    low=0,
    may_change=True,
  )
  process_id: int = option(
    -1,
    "number of this process, from 0, which alone writes files; -1: as jax "
    "detects",
    low=-1,
    may_change=True,
  )
  coordinator_address: str = option(
    "",
    "host:port of process 0, the same for all, who wait there for each other, "
    "300 seconds at most; empty: as jax detects",
    may_change=True,
  )
  compilation_cache_dir: str = shared_options.compilation_cache_dir()

  def __post_init__(self) -> None:
    check_bounds(self)
    config_checks.check(self)

  @property
  def folder(self) -> str:
    """The run's folder: `run_dir`, or one named by recipe, suite and seed.

    A task of one's own stands in the suite's place.
    """
    if self.run_dir:
      return os.path.expanduser(self.run_dir)
    name = self.task.replace(":", "-") or self.task_suite
    names = [self.recipe] if self.recipe not in ("", name) else []
    return f"runs/{'-'.join([*names, name])}-seed{self.seed}"


def options() -> tuple[dataclasses.Field[Any], ...]:
  """Returns the fields of `MetaTrainConfig`, in the order of `--help`."""
  return dataclasses.fields(MetaTrainConfig)
