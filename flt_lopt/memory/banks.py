"""The memories by name, at equal floats of state per parameter.

`memory_floats` counts the second moment too, which takes one float: at 2
there is room for one more, as in Adam.

Main names: `MEMORIES`, `make_memory`, `nearest_size`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from flt_lopt.attention import registry
from flt_lopt.memory.base import Memory
from flt_lopt.memory.keyed import KeyedMemory
from flt_lopt.memory.poles import Pole, ema, parse_pole
from flt_lopt.memory.spectral import SpectralMemory


class Bank(NamedTuple):
  """Memories of one kind.

  Attributes:
    summary: one line on what it is.
    make: the memory, from its poles where it has some.
    sizes: for each `memory_floats`, the poles, or the features of keys.
  """

  summary: str
  make: Callable[..., Memory]
  sizes: Mapping[int, tuple]


def _damped(poles):
  return SpectralMemory(poles)


def _of_the_gradient(poles):
  """Makes the gradient the nominal direction: no pole forgets, or is."""
  return SpectralMemory(poles, nominal_read=-1)


def _fixed(poles):
  return SpectralMemory(poles, learned=False, gated=False)


def _discount(poles):
  return SpectralMemory(poles, gated=False)


def _keys(size):
  return KeyedMemory(size[0])


def _line(frequency: float) -> Pole:
  return Pole(0.0, frequency)


_AVERAGES = {
  2: (ema(0.9),),
  4: (ema(0.9), ema(0.99), ema(0.5)),
  6: (ema(0.9), ema(0.99), ema(0.5), ema(0.999), ema(0.9999)),
}

MEMORIES: Mapping[str, Bank] = {
  "flt_damped": Bank(
    "damped Fourier lines with learned rates and frequencies",
    _damped,
    {
      2: (ema(0.9),),
      4: (ema(0.9), ema(0.99), ema(0.9, 0.5)),
      6: (ema(0.9), ema(0.99), ema(0.999), ema(0.9, 0.45)),
    },
  ),
  "flt": Bank(
    "undamped Fourier lines: nothing is ever forgotten",
    _of_the_gradient,
    {
      2: (_line(0.0),),
      4: (_line(0.0), _line(0.01)),
      6: (_line(0.0), _line(0.01), _line(0.45)),
    },
  ),
  "ema": Bank(
    "a fixed bank of exponential averages, neither learned nor gated",
    _fixed,
    _AVERAGES,
  ),
  "discount": Bank(
    "exponential discounts, learned but never gated, as in Mnemosyne",
    _discount,
    _AVERAGES,
  ),
  "keys": Bank(
    "momentum, and attention with each parameter's own keys (FAVOR+)",
    _keys,
    {4: (1,), 6: (2,)},
  ),
  "none": Bank("the current gradient only", _of_the_gradient, {1: ()}),
}


def nearest_size(name: str, floats: int) -> int:
  """Returns the size that a memory comes in nearest to another.

  Args:
    name: one of `MEMORIES`.
    floats: floats of state per parameter.

  Raises:
    ValueError: an unknown name.
  """
  registry.check_choice("memory", name, MEMORIES)
  sizes = MEMORIES[name].sizes
  return min(sizes, key=lambda size: (abs(size - floats), size))


def make_memory(
  name: str,
  floats: int,
  extra_poles: Sequence[Sequence] = (),
  *,
  first_beta: float | None = None,
) -> Memory:
  """Returns the memory of the gradient.

  Args:
    name: one of `MEMORIES`.
    floats: floats of state per parameter, the second moment's included and
      those of `extra_poles` not.
    extra_poles: further poles, see `parse_pole`.
    first_beta: replaces the decay of the first pole.

  Raises:
    ValueError: an unknown name, a size that it doesn't come in, or poles
      for a memory without a spectrum.
  """
  registry.check_choice("memory", name, MEMORIES)
  bank = MEMORIES[name]
  if floats not in bank.sizes:
    raise ValueError(
      f"memory_floats={floats} is no size of memory={name!r}; choose from: "
      f"{', '.join(map(str, sorted(bank.sizes)))}."
    )
  more = tuple(parse_pole(spec) for spec in extra_poles)
  if more and name == "keys":
    raise ValueError(
      f"extra_poles={extra_poles!r}: the memory 'keys' has no spectrum; use "
      "'flt_damped', or leave them out."
    )
  size = bank.sizes[floats]
  if first_beta is not None:
    if not size or not isinstance(size[0], Pole) or not size[0].rate:
      raise ValueError(
        f"first_beta={first_beta}: the memory {name!r} has no first pole that "
        "decays; use None."
      )
    size = (ema(first_beta), *size[1:])
  return bank.make(size + more)
