"""What all families of the zoo share: `ZooFamily` and the task it makes.

A family is a frozen dataclass of static choices (sizes, activation, data
source) with two pure functions, `init_params` and `batch_loss`. Everything
else, drawing batches, names, the checks of suites, is here.

Main names: `ZooFamily`, `FamilyTask`.
"""

import abc
import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import data as data_lib
from tasks.base import (
  Aux,
  Batch,
  Config,
  Params,
  Scalar,
  Task,
  TaskFamily,
  check_split,
  is_empty,
)

# Fields that do not change what model is trained.
_NOT_ARCHITECTURE = {"name", "data", "part", "data_dir", "batch_size"}
# Fields that say how wide a model is, whatever its class.
_WIDTHS = ("hidden", "channels", "width", "dimension")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZooFamily(TaskFamily):
  """A parametric family; abstract.

  Attributes:
    name: Name for tables; empty for one made from class, data and sizes.
    data: Name of the data source, see `tasks.data.list_sources`; for
      problems without data the name of the problem.
    part: Part of the data: `"meta_train"`, `"validation"`, `"held_out"`.
    batch_size: Examples per batch.
    data_dir: Folder of files for sources that need one.
  """

  name: str = ""  # type: ignore[misc]  # A field where the base has a property.
  data: str = "none"
  part: str = "meta_train"
  batch_size: int = 32
  data_dir: str | None = None

  # Further fields that do not change what model is trained.
  not_architecture: ClassVar[frozenset[str]] = frozenset()
  # Counts changes of what is computed that no field shows, such as of the loss:
  # what was measured before is void then.
  revision: ClassVar[int] = 0

  def __post_init__(self):
    if not self.name:
      object.__setattr__(self, "name", f"{self.kind}_{self.data}")

  @property
  def kind(self) -> str:
    """The class of models, for instance `"mlp"`."""
    return type(self).__name__.removesuffix("Family").lower()

  @property
  def widths(self) -> tuple[str, ...]:
    """Names of the fields that grow with the width; none if it is given."""
    fields = {field.name for field in dataclasses.fields(self)}
    return tuple(name for name in _WIDTHS if name in fields)

  def widened(self, factor: int) -> "ZooFamily":
    """Returns the family with all its widths multiplied.

    Raises:
      ValueError: If the family has no width: its data give its size.
    """
    if not self.widths:
      raise ValueError(
        f"The family {self.name!r} cannot be widened: its data or its function"
        " give its size."
      )
    sizes: dict[str, Any] = {
      name: _times(getattr(self, name), factor) for name in self.widths
    }
    return dataclasses.replace(self, name=f"{self.name}_wide{factor}", **sizes)

  @functools.cached_property
  def data_set(self) -> data_lib.DataSet:
    """The data set, loaded at first use."""
    return data_lib.load(self.data, self.part, self.data_dir)

  @property
  def architecture(self) -> str:  # type: ignore[override]
    """All static choices but those about data, as one string."""
    ignored = _NOT_ARCHITECTURE | self.not_architecture
    choices = (
      f"{field.name}={getattr(self, field.name)!r}"
      for field in dataclasses.fields(self)
      if field.name not in ignored
    )
    return f"{self.kind}({', '.join(choices)})"

  @property
  def data_ids(self) -> frozenset[tuple[str, str]]:  # type: ignore[override]
    """The pair of data source, however resized or encoded, and part."""
    return frozenset({(data_lib.origin(self.data), self.part)})

  def sample(self, key: PRNGKeyArray) -> Config:
    """Samples a config; by default there is nothing to sample."""
    del key
    return jnp.zeros((), jnp.int32)

  def part_key(self, key: PRNGKeyArray) -> PRNGKeyArray:
    """Returns a key that differs between the parts of the data.

    Families whose data is their config sample it from this key.
    """
    return jax.random.fold_in(key, data_lib.PARTS.index(self.part))

  def task_fn(self, cfg: Config) -> Task:
    return FamilyTask(self, cfg)

  @abc.abstractmethod
  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    """Samples initial parameters of the member `cfg`."""

  @abc.abstractmethod
  def batch_loss(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> Scalar:
    """Computes the loss of the member `cfg` on a batch."""

  def batch_loss_and_aux(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> tuple[Scalar, Aux]:
    """Computes the loss, and named quantities that are measured with it."""
    return self.batch_loss(cfg, params, key, batch), {}

  def sample_batch(self, cfg: Config, key: PRNGKeyArray, split: str) -> Batch:
    """Draws a batch for the member `cfg`."""
    del cfg
    return self.data_set.sample(key, split, self.batch_size)

  def measured_split(self, split: str) -> str:
    """Returns the split that measures a split's loss; see `Task`."""
    return split

  def loss_ceiling(self) -> float | None:
    """Largest loss that `normalizer` lets through; `None` for no limit."""
    return None


def _times(size: int | tuple[int, ...], factor: int) -> int | tuple[int, ...]:
  return (
    size * factor
    if isinstance(size, int)
    else tuple(one * factor for one in size)
  )


class FamilyTask(Task):
  """A member of a `ZooFamily`; final.

  Args:
    family: The family.
    cfg: Its config.
  """

  def __init__(self, family: ZooFamily, cfg: Config):
    self.family = family
    self.cfg = cfg
    self.architecture = family.architecture
    self.data_ids = family.data_ids

  @property
  def name(self) -> str:
    return self.family.name

  def init(self, key: PRNGKeyArray) -> Params:
    return self.family.init_params(self.cfg, key)

  def loss(self, params: Params, key: PRNGKeyArray, data: Batch) -> Scalar:
    data, key = self._training_batch(key, data)
    return self.family.batch_loss(self.cfg, params, key, data)

  def loss_and_aux(
    self, params: Params, key: PRNGKeyArray, data: Batch
  ) -> tuple[Scalar, Aux]:
    data, key = self._training_batch(key, data)
    return self.family.batch_loss_and_aux(self.cfg, params, key, data)

  def _training_batch(
    self, key: PRNGKeyArray, data: Batch
  ) -> tuple[Batch, PRNGKeyArray]:
    if is_empty(data):
      data = self.sample_batch(key)
      # Only losses that are noisy themselves pay for a second key.
      key = jax.random.fold_in(key, 1)
    return data, key

  def sample_batch(self, key: PRNGKeyArray, split: str = "train") -> Batch:
    check_split(split)
    return self.family.sample_batch(self.cfg, key, split)

  def measured_split(self, split: str) -> str:
    return self.family.measured_split(split)

  def normalizer(self, loss: Float[Array, "..."]) -> Float[Array, "..."]:
    ceiling = self.family.loss_ceiling()
    if ceiling is None:
      return loss
    return jnp.where(jnp.isfinite(loss), jnp.minimum(loss, ceiling), ceiling)
