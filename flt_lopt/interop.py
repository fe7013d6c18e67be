"""Our learned optimizers in the form of learned_optimization.

That package (Metz et al., "Practical tradeoffs between memory, compute, and
performance in learned optimizers", 2022) splits a learned optimizer in two:
`init(key)` gives meta-parameters theta, and `opt_fn(theta)` an optimizer that
keeps parameters and model state in its own state. In this form ours can be
meta-trained by its gradient estimators and compared in its evaluations.

Main names: `as_learned_optimization`.
"""

import functools
from typing import Any, NamedTuple

import optax

from flt_lopt.learned_optimizer import LearnedOptimizer


class InteropState(NamedTuple):
  """Parameters and model state under the names of that package.

  Attributes:
    params: the parameters.
    state: the model state.
    transform_state: state of our gradient transformation.
    num_steps: length of the run; `None` where it is not known.
  """

  params: Any
  state: Any
  transform_state: Any
  num_steps: Any

  def replace(self, **fields: Any) -> "InteropState":
    """Returns the state with some fields replaced, as a dataclass does."""
    return self._replace(**fields)


def as_learned_optimization(optimizer: LearnedOptimizer) -> Any:
  """Returns a `LearnedOptimizer` of the package learned_optimization.

  Its `opt_fn(theta)` follows `optimizer.transform(theta, num_steps=...)` step
  by step. The number of steps is that given to the optimizer's `init`, and
  may be a traced value; the loss is passed on as `value` where it is given.

  Args:
    optimizer: ours, with any configuration.

  Raises:
    ImportError: learned_optimization is not installed.

  Example:
    >>> theirs = as_learned_optimization(flt_lopt.LearnedOptimizer())
    >>> opt = theirs.opt_fn(theirs.init(key))
    >>> state = opt.init(params, num_steps=1000)
    >>> state = opt.update(state, gradient, loss)
    >>> params = opt.get_params(state)
  """
  return _learned_class()(optimizer)


@functools.cache
def _learned_class() -> Any:
  """Makes a class whose bases are known only where they are installed."""
  try:
    from learned_optimization.learned_optimizers import base as learned_base
    from learned_optimization.optimizers import base as optimizer_base
  except ImportError as error:
    raise ImportError(
      "flt_lopt.interop needs the package learned_optimization "
      f"({error}); install it from its source repository, since its release "
      "does not work with this jax"
    ) from error

  class Optimizer(optimizer_base.Optimizer):
    """The optimizer of one theta."""

    def __init__(self, learned: LearnedOptimizer, theta: Any):
      self._learned = learned
      self._theta = theta

    @property
    def name(self) -> str:
      return "FltLearnedOptimizer"

    def init(
      self, params, model_state=None, num_steps=None, key=None, **unused
    ) -> InteropState:
      del key, unused
      transform = self._transform(num_steps)
      return InteropState(
        params, model_state, transform.init(params), num_steps
      )

    def update(
      self, opt_state, grad, loss=None, model_state=None, key=None, **unused
    ) -> InteropState:
      del key, unused
      updates, transform_state = self._transform(opt_state.num_steps).update(
        grad, opt_state.transform_state, opt_state.params, value=loss
      )
      return InteropState(
        params=optax.apply_updates(opt_state.params, updates),
        state=model_state,
        transform_state=transform_state,
        num_steps=opt_state.num_steps,
      )

    def _transform(self, num_steps):
      return self._learned.transform(self._theta, num_steps=num_steps)

  class Learned(learned_base.LearnedOptimizer):
    """Meta-parameters, and the optimizers they make."""

    def __init__(self, learned: LearnedOptimizer):
      self._learned = learned

    @property
    def name(self) -> str:
      return "FltLearnedOptimizer"

    def init(self, key) -> Any:
      return self._learned.init(key)

    def opt_fn(self, theta, is_training: bool = False) -> Optimizer:
      del is_training
      return Optimizer(self._learned, theta)

  return Learned
