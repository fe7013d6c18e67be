"""The controller: attention of each tensor over its own history.

Each tensor contributes one token per step. Linear attention (FAVOR+) with a
relative positional encoding over optimization timesteps reads from all
earlier tokens of the same tensor, with a state that does not grow. From the
token and what it read come, bounded and zero at initialisation, the log step
size, gates into the memory, and a weight decay:

    e = tanh(W_e x + b_e)
    (q, k, v) = W_a e,    y = attention over (k_j, v_j), j <= t
    outputs = W_o [e, y] + b_o.

Each output is a head with meta-parameters of its own name, `log_step`,
`weight_decay`, `rate_gate` and `write_gate`.

With `controller="lstm"` y is the output of an LSTM instead. With
`tensor_attention` e first attends to the tokens of all tensors of the model,
each at its depth, log fan-in, log fan-out and rank, and adds what it reads.

The encoding is any of `flt_lopt.attention` that streams; by default `flt`,
the Fourier transform of a learned Gaussian mixture, in the logit of the
attention and on the coordinates (log(1 + t), t / T) scaled to order one, with
a learned decay, so that history can fade.

Reference: Choromanski et al., "Learning a Fourier Transform for Linear
Relative Positional Encodings in Transformers" (2023).
"""

from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flt_lopt import _promotion, attention
from flt_lopt import clock as clock_lib
from flt_lopt import tokens as tokens_lib
from flt_lopt.config import OptimizerConfig

LOG_STEP_RANGE = 2.5
MAX_WEIGHT_DECAY = 0.1
#: Options of encodings that have them. Those that are a table over lags take
#: the step itself as their one coordinate.
ENCODING_OPTIONS: dict[str, dict[str, Any]] = {
  "flt": {"num_lines": 8, "decay": True},
  "flt_lines": {"num_lines": 8, "decay": True},
  "flt_local": {"sampling": "monte_carlo"},
  "conv_spe": {"coord_dim": 1},
  "posgu_lrpe": {"coord_dim": 1},
}


class Control(NamedTuple):
  """The controller's outputs; 0 is neutral for each."""

  log_step: Float[Array, "tensors"]
  weight_decay: Float[Array, "tensors"]
  rate_gate: Float[Array, "tensors modes"]
  write_gate: Float[Array, "tensors modes"]


def _bound(raw: Control) -> Control:
  """Squashes raw outputs into their ranges; the memory bounds its gates."""
  return raw._replace(
    log_step=LOG_STEP_RANGE * jnp.tanh(raw.log_step / LOG_STEP_RANGE),
    weight_decay=weight_decay(raw.weight_decay),
  )


def weight_decay(raw: Float[Array, "..."]) -> Float[Array, "..."]:
  """Returns a learned weight decay in [0, 0.1], 0 at 0."""
  return MAX_WEIGHT_DECAY * jnp.clip(_hinge(raw), 0.0, 1.0)


def _hinge(x: Float[Array, "..."]) -> Float[Array, "..."]:
  """Returns about x above 0, 0 at 0 with half the slope, and less below."""
  return 0.5 * (x + jnp.sqrt(x * x + 0.01) - 0.1)


def make_attention(config: OptimizerConfig) -> attention.StreamingAttention:
  """Returns the attention over timesteps.

  Raises:
    ValueError: the encoding is unknown or has no streaming form.
  """
  options = ENCODING_OPTIONS.get(config.controller, {})
  encoding = attention.make_encoding(
    config.controller,
    num_heads=config.controller_heads,
    head_dim=config.controller_width,
    **{"coord_dim": clock_lib.COORDINATES, **options},
  )
  return attention.StreamingAttention(
    encoding=encoding,
    num_features=config.controller_features,
    value_dim=config.controller_width,
  )


def kernels(
  config: OptimizerConfig, theta, lags: Float[Array, "lags"]
) -> dict[str, Float[Array, "lags"]]:
  """Returns what position alone does to attention over timesteps, per head.

  It is exp(f(r_t - r_j)) times the decay, the factor by which a head favours
  or neglects the token of `lag` steps ago whatever its content, at step
  t = T = 1000, at which lags end.
  """
  if config.controller in ("off", "lstm"):
    return {}
  encoding = make_attention(config).encoding
  params = theta["encoding"]["steps"]
  now, end = jnp.float32(1000.0), jnp.float32(1000.0)
  then = jnp.maximum(now - lags, 0.0)

  def place(t):
    return clock_lib.coordinates(clock_lib.Clock(t, end))

  coordinates = place(now)[None, :] - jax.vmap(place)(then)
  if encoding.coord_dim == 1:
    coordinates = lags[:, None]
  log_weight = jnp.zeros((len(lags), config.controller_heads))
  bias = encoding.bias(params, coordinates)
  if bias is not None:
    log_weight = log_weight + bias
  mask = encoding.mask(params, coordinates)
  if mask is not None:
    log_weight = log_weight + mask.log_mass
  return {
    f"controller, head {head + 1}": jnp.exp(log_weight[:, head])
    for head in range(config.controller_heads)
  }


def init_state(config: OptimizerConfig, num_tensors: int, dtype) -> Any:
  """Returns the history's state of every tensor before the first step."""
  if config.controller == "off":
    return ()
  if config.controller == "lstm":
    width = config.controller_heads * config.controller_width
    # Two arrays, since one can't be donated twice.
    return hk.LSTMState(
      jnp.zeros((num_tensors, width), dtype),
      jnp.zeros((num_tensors, width), dtype),
    )
  with _promotion.usual():
    return make_attention(config).init_state((num_tensors,), dtype=dtype)


def _tensor_encoding(config: OptimizerConfig):
  return attention.make_encoding(
    config.tensor_attention,
    num_heads=config.controller_heads,
    head_dim=config.controller_width,
    coord_dim=tokens_lib.NUM_PLACES,
    **({"num_lines": 8} if config.tensor_attention in ENCODING_OPTIONS else {}),
  )


def _projections(config: OptimizerConfig, embedded, name: str):
  heads, width = config.controller_heads, config.controller_width
  project = hk.Linear(3 * heads * width, with_bias=False, name=name)
  projected = project(embedded).reshape(-1, 3, heads, width)
  return [projected[:, i] for i in range(3)]


def _across(config: OptimizerConfig, encoding, embedded, where):
  """Returns what each tensor's token reads from those of all tensors."""
  q, k, v = _projections(config, embedded, "across")
  read = attention.attend(
    encoding,
    q,
    k,
    v,
    encoding=_tensor_encoding(config),
    causal=False,
    num_features=config.controller_features,
    positions=where,
  )
  return read.reshape(embedded.shape)


class _Head(hk.Module):
  """Weights and biases of one output, zero at initialisation."""

  def __call__(self, inputs: int, outputs: int):
    w = hk.get_parameter("w", [inputs, outputs], jnp.float32, jnp.zeros)
    return w, hk.get_parameter("b", [outputs], jnp.float32, jnp.zeros)


def _heads(features: Float[Array, "tensors features"], modes: int) -> Control:
  """Returns all outputs, by one product."""
  sizes = dict(zip(Control._fields, (1, 1, modes, modes), strict=True))
  layers = [
    _Head(name=name)(features.shape[-1], size) for name, size in sizes.items()
  ]
  weights, biases = (
    jnp.concatenate(parts, axis=-1) for parts in zip(*layers, strict=True)
  )
  outputs = features @ weights + biases
  step, decay, rates, writes = jnp.split(outputs, [1, 2, 2 + modes], axis=-1)
  return Control(step[:, 0], decay[:, 0], rates, writes)


def _network(config: OptimizerConfig, modes: int):
  heads, width = config.controller_heads, config.controller_width

  def network(encodings, state, token, where, clock):
    embedded = jnp.tanh(hk.Linear(heads * width, name="embed")(token))
    if config.tensor_attention != "off":
      others = _across(config, encodings["tensors"], embedded, where)
      embedded = embedded + others
    if config.controller == "lstm":
      read, state = hk.LSTM(heads * width, name="lstm")(embedded, state)
    else:
      q, k, v = _projections(config, embedded, "project")
      attend = make_attention(config)
      place = clock_lib.coordinates(clock)
      if attend.encoding.coord_dim == 1:
        place = clock.count
      state, read = attend.step(encodings["steps"], state, q, k, v, place)
      read = read.reshape(-1, heads * width)
    features = jnp.concatenate([embedded, read], axis=-1)
    return _heads(features, modes), state

  return hk.without_apply_rng(hk.transform(network))


def init(config: OptimizerConfig, modes: int, key) -> dict[str, Any]:
  """Returns the meta-parameters: the networks', and the encodings'."""
  net_key, encoding_key, tensor_key = jax.random.split(key, 3)
  encodings = {}
  if config.controller != "lstm":
    encodings["steps"] = make_attention(config).init(encoding_key)
  if config.tensor_attention != "off":
    encodings["tensors"] = attention.init_attention(
      tensor_key,
      _tensor_encoding(config),
      num_features=config.controller_features,
    )
  theta = _network(config, modes).init(
    net_key,
    encodings,
    init_state(config, 1, jnp.float32),
    jnp.zeros((1, tokens_lib.NUM_TOKENS), jnp.float32),
    jnp.zeros((1, tokens_lib.NUM_PLACES), jnp.float32),
    clock_lib.make(jnp.zeros([], jnp.int32), None),
  )
  return {**theta, "encoding": encodings}


def step(
  config: OptimizerConfig,
  theta,
  state,
  token: Float[Array, "tensors tokens"],
  where: Float[Array, "tensors places"],
  clock: clock_lib.Clock,
  modes: int,
) -> tuple[Control, Any]:
  """Takes in one token per tensor and returns (control, state)."""
  if config.controller == "off":
    nothing = jnp.zeros(token.shape[0], token.dtype)
    gates = jnp.zeros((token.shape[0], modes), token.dtype)
    return _bound(Control(nothing, nothing, gates, gates)), state
  network = {name: theta[name] for name in theta if name != "encoding"}
  with _promotion.usual():
    raw, state = _network(config, modes).apply(
      network, theta["encoding"], state, token, where, clock
    )
  return _bound(raw), state
