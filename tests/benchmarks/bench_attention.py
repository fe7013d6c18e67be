"""Benchmarks and pictures of the attention library.

  python tests/benchmarks/bench_attention.py scaling   time, memory against n
  python tests/benchmarks/bench_attention.py cost      FLT over no encoding
  python tests/benchmarks/bench_attention.py step      one streaming step
  python tests/benchmarks/bench_attention.py error     error against features
  python tests/benchmarks/bench_attention.py kernels   learned kernels

Each prints JSON lines that state device, shapes, warm-up and repetitions.
`error` and `kernels` also write the pictures of the package's README.md
(matplotlib). Run timings on a quiet machine.
"""

import json
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flt_lopt import attention

ROOT = pathlib.Path(__file__).resolve().parents[2]
PICTURES = ROOT / "flt_lopt" / "attention" / "pictures"
REPETITIONS = 5
GOLD, INK, BLUE, GREEN, RED = (
  "#c9982f",
  "#333333",
  "#3267a8",
  "#3d8c57",
  "#b3423a",
)


def report(**row) -> None:
  """Print one JSON line with the device."""
  device = jax.devices()[0]
  row = {"device": device.device_kind, "jax": jax.__version__, **row}
  print(json.dumps(row), flush=True)


def measure(function, *arrays) -> tuple[float, int]:
  """Return the best of some runs in seconds, and XLA's peak bytes."""
  compiled = jax.jit(function).lower(*arrays).compile()
  stats = compiled.memory_analysis()
  peak = stats.temp_size_in_bytes + stats.output_size_in_bytes
  jax.block_until_ready(compiled(*arrays))
  times = []
  for _ in range(REPETITIONS):
    start = time.perf_counter()
    jax.block_until_ready(compiled(*arrays))
    times.append(time.perf_counter() - start)
  return min(times), peak


def tokens(length: int, width: int):
  """Return q, k, v of one head."""
  keys = jax.random.split(jax.random.key(0), 3)
  return [jax.random.normal(key, (length, 1, width)) for key in keys]


def runner(encoding, params, form, causal, **options):
  """Return attention as a function of q, k, v."""

  def run(q, k, v):
    return attention.attend(
      params, q, k, v, encoding=encoding, form=form, causal=causal, **options
    )

  return run


def slope(lengths, values) -> float:
  """Return the exponent of a power law through all points."""
  return float(np.polyfit(np.log(lengths), np.log(values), 1)[0])


def scaling() -> None:
  """Time and memory against length, with fitted exponents."""
  width, features = 16, 16
  plans = {
    "dense": ("none", (1024, 2048, 4096, 8192), True, "softmax"),
    "fft": ("nprf", (1024, 4096, 16384, 65536, 100_000), False, "favor_plus"),
    "chunked": ("flt_lines", (4096, 16384, 65536, 100_000), True, None),
    "recurrent": ("flt_lines", (4096, 16384, 100_000, 1_000_000), True, None),
  }
  for name, (kind, lengths, causal, feature_map) in plans.items():
    encoding = attention.make_encoding(kind, num_heads=1, head_dim=width)
    params = encoding.init(jax.random.key(1))
    form = "parallel" if name == "fft" else name
    run = runner(
      encoding,
      params,
      form,
      causal,
      num_features=features,
      feature_map=feature_map or "favor_plus",
    )
    rows = [measure(run, *tokens(n, width)) for n in lengths]
    seconds, peaks = zip(*rows)
    cost = [n * np.log(n) if name == "fft" else n for n in lengths]
    report(
      benchmark="scaling",
      form=name,
      encoding=kind,
      shapes=f"heads 1, width {width}, features {features}",
      warm_up=1,
      repetitions=REPETITIONS,
      lengths=lengths,
      wall_s=[round(s, 5) for s in seconds],
      peak_mib=[round(p / 2**20, 1) for p in peaks],
      exponent_on="n log n" if name == "fft" else "n",
      time_exponent=round(slope(cost, seconds), 3),
      memory_exponent=round(slope(lengths, peaks), 3),
    )


def cost() -> None:
  """FLT's time over the same attention without an encoding."""
  width, features, length = 64, 64, 16_384
  for form, causal in (
    ("chunked", True),
    ("recurrent", True),
    ("parallel", False),
  ):
    times = {}
    for kind, options in (
      ("none", {}),
      ("flt", {"num_lines": 16, "coordinate_scale": 1 / length}),
      ("flt_lines", {"num_lines": 16}),
    ):
      encoding = attention.make_encoding(
        kind, num_heads=1, head_dim=width, **options
      )
      params = encoding.init(jax.random.key(1))
      run = runner(encoding, params, form, causal, num_features=features)
      times[kind] = measure(run, *tokens(length, width))[0]
    report(
      benchmark="cost",
      form=form,
      shapes=f"heads 1, width {width}, features {features}, lines 16, "
      f"length {length}",
      warm_up=1,
      repetitions=REPETITIONS,
      wall_s={kind: round(s, 5) for kind, s in times.items()},
      flt_over_none=round(times["flt"] / times["none"], 3),
      flt_lines_over_none=round(times["flt_lines"] / times["none"], 3),
    )


def step() -> None:
  """Microseconds per streaming step at the size of a small controller."""
  tasks, tensors, heads, width, steps = 16, 4, 2, 8, 500
  for kind in ("none", "alibi", "flt", "flt_lines"):
    encoding = attention.make_encoding(
      kind, num_heads=heads, head_dim=width, coord_dim=2
    )
    stream = attention.StreamingAttention(encoding=encoding, value_dim=width)
    keys = jax.random.split(jax.random.key(0), tasks)
    params = jax.vmap(stream.init)(keys)
    shape = (steps, tensors, heads, width)
    q, k, v = (jax.random.normal(jax.random.key(i), shape) for i in range(3))
    r = jnp.log1p(jnp.arange(steps) / 10)
    positions = jnp.stack([r, r / 2], axis=-1)

    def run(
      params, q, k, v, positions, *, stream=stream, tensors=tensors, n=tasks
    ):
      def one(params):
        def body(state, token):
          return stream.step(params, state, *token)

        start = stream.init_state((tensors,))
        return jax.lax.scan(body, start, (q, k, v, positions))[1]

      return jax.vmap(one, axis_size=n)(params)

    seconds, _ = measure(run, params, q, k, v, positions)
    report(
      benchmark="step",
      encoding=kind,
      shapes=f"tasks {tasks}, tensors {tensors}, heads {heads}, width "
      f"{width}, features 16, lines 16",
      warm_up=1,
      repetitions=REPETITIONS,
      microseconds_per_step=round(1e6 * seconds / steps, 1),
    )


def rms(found, exact) -> float:
  """Return the root mean square error over the largest exact value."""
  found, exact = np.asarray(found), np.asarray(exact)
  return float(np.sqrt(np.mean((found - exact) ** 2)) / np.abs(exact).max())


def encoding_error(kind: str, count: int, draws: int = 64, **options) -> float:
  """Return the error of f (or P_d) with `count` features, heads as draws."""
  name = "num_realisations" if kind.endswith("spe") else "num_lines"
  encoding = attention.make_encoding(
    kind, num_heads=draws, head_dim=4, **{name: count}, **options
  )
  one = encoding.init(jax.random.key(0))
  params = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), one)
  if not kind.endswith("spe"):
    lags = jnp.linspace(0, 1, 33)[:, None]
    return rms(
      encoding.spectrum_bias(params, lags), encoding.closed_form(params, lags)
    )
  lags = jnp.arange(24, dtype=jnp.int32)[:, None]
  exact = jnp.moveaxis(encoding.covariance(params, lags), 0, 1)
  found = []
  for d in range(4):
    unit = jnp.eye(4)[d] * jnp.ones((draws, 24, 4))
    q = encoding.queries(params, unit, lags)
    k = encoding.keys(params, unit[:, :1], lags[:1])
    found.append(2 * jnp.einsum("hnr,hmr->hn", q, k))
  return rms(jnp.stack(found, axis=-1), exact)


def map_error(name: str, count: int, draws: int = 2000) -> float:
  """Return the relative error of exp(x . y) at |x + y| = 1."""
  tuned = {"mean_square": 1.0} if name == "favor_plus_plus" else {}
  features = attention.make_feature_map(
    name, num_heads=draws, dim=16, num_features=count, **tuned
  )
  x = jnp.full((draws, 1, 16), 0.125)
  logs = features.log_features({}, x)
  return rms(jnp.sum(jnp.exp(2 * logs), axis=-1), jnp.exp(jnp.sum(x * x, -1)))


def error() -> None:
  """Error against the number of features, a picture of two panels."""
  counts = (4, 8, 16, 32, 64)
  mixed = {"num_components": 2}
  encodings = {
    "flt, Monte Carlo": ("flt", {"sampling": "monte_carlo", **mixed}, INK),
    "flt, reparametrised": ("flt", mixed, GOLD),
    "flt, Gauss-Hermite": ("flt", {"sampling": "gauss_hermite", **mixed}, RED),
    "flt_local, sampled": ("flt_local", {"sampling": "monte_carlo"}, GREEN),
    "flt_local, grid": ("flt_local", {}, BLUE),
    "sine_spe": ("sine_spe", {}, "#8a5ca8"),
    "conv_spe": ("conv_spe", {}, "#999999"),
  }
  maps = {
    "favor_plus": INK,
    "favor_hyperbolic": GOLD,
    "favor_plus_plus": BLUE,
  }
  left = {
    label: [encoding_error(kind, n, **options) for n in counts]
    for label, (kind, options, _) in encodings.items()
  }
  right = {label: [map_error(label, n) for n in counts] for label in maps}
  report(benchmark="error", counts=counts, encodings=left, feature_maps=right)
  figure, axes = new_figure(2)
  for label, values in left.items():
    colour = encodings[label][2]
    axes[0].loglog(counts, values, "o-", color=colour, label=label, ms=3)
  for label, values in right.items():
    axes[1].loglog(counts, values, "o-", color=maps[label], label=label, ms=3)
  axes[0].set_ylim(1e-8, 3)
  axes[1].set_yticks([0.1, 0.2, 0.5], ["0.1", "0.2", "0.5"])
  for axis, title in zip(axes, ("f(lag) or P(lag)", "exp(x . y), |x + y| = 1")):
    axis.set_title(f"error of {title}", fontsize=9, loc="left")
    axis.set_xlabel("number of features")
    axis.set_xticks(counts, [str(n) for n in counts])
    axis.minorticks_off()
    axis.legend(frameon=False, fontsize=7)
  save(figure, "error")


def fitted_kernel(kind: str, target, lags, **options):
  """Train one head's kernel on a target; return it and its error."""
  encoding = attention.make_encoding(kind, num_heads=1, head_dim=2, **options)

  def kernel(params):
    if kind in ("flt", "flt_lines"):
      return encoding.spectrum_bias(params, lags)[:, 0]
    mask = encoding.mask(params, lags)
    return (jnp.exp(mask.log_mass) * mask.ratio)[:, 0]

  def loss(params):
    return jnp.mean((kernel(params) - target) ** 2)

  optimizer = optax.adam(optax.cosine_decay_schedule(0.02, 3000))
  params = encoding.init(jax.random.key(0))

  @jax.jit
  def train(params):
    def body(carry, _):
      params, state = carry
      updates, state = optimizer.update(jax.grad(loss)(params), state)
      return (optax.apply_updates(params, updates), state), None

    start = (params, optimizer.init(params))
    return jax.lax.scan(body, start, length=3000)[0][0]

  found = kernel(train(params))
  return np.asarray(found), rms(found, target)


def kernels() -> None:
  """Learned kernels on three targets, a picture of three panels."""
  steps = np.arange(96)
  lags = jnp.asarray(steps, jnp.int32)[:, None]
  targets = {
    "two time scales": 0.6 * 0.8**steps + 0.4 * 0.98**steps,
    "damped oscillation": 0.96**steps * np.cos(2 * np.pi * steps / 12),
    "soft window of 32": 1 / (1 + np.exp((steps - 32) / 2.0)),
  }
  plans = {
    "alibi": (RED, {}),
    "flt": (BLUE, {"coordinate_scale": 1 / 96, "num_lines": 16}),
    "flt_lines": (GREEN, {"num_lines": 16}),
    "flt_damped": (GOLD, {"num_poles": 4}),
  }
  figure, axes = new_figure(3)
  for axis, (title, target) in zip(axes, targets.items()):
    axis.plot(steps, target, color=INK, lw=4, alpha=0.25, label="target")
    errors = {}
    for kind, (colour, options) in plans.items():
      found, errors[kind] = fitted_kernel(kind, target, lags, **options)
      axis.plot(steps, found, color=colour, lw=1.2, label=kind)
    report(benchmark="kernels", target=title, rms_error=errors)
    axis.set_title(title, fontsize=9, loc="left")
    axis.set_xlabel("lag")
  axes[0].legend(frameon=False, fontsize=7)
  save(figure, "kernels")


def new_figure(panels: int):
  """Return a figure with a row of plain axes."""
  import matplotlib

  matplotlib.use("Agg")
  from matplotlib import pyplot

  pyplot.rcParams["svg.hashsalt"] = "flt_lopt"
  figure, axes = pyplot.subplots(1, panels, figsize=(3.2 * panels, 2.6))
  for axis in axes:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=7)
  return figure, axes


def save(figure, name: str) -> None:
  """Write a picture of the README."""
  PICTURES.mkdir(exist_ok=True)
  figure.tight_layout()
  path = PICTURES / f"{name}.svg"
  figure.savefig(path, metadata={"Date": None})
  print(path.relative_to(ROOT))


def main() -> None:
  """Run the benchmark that is named on the command line."""
  all_of_them = {
    function.__name__: function
    for function in (scaling, cost, step, error, kernels)
  }
  names = sys.argv[1:]
  if not names or any(name not in all_of_them for name in names):
    sys.exit(f"usage: bench_attention.py [{' | '.join(all_of_them)}] ...")
  for name in names:
    all_of_them[name]()


if __name__ == "__main__":
  main()
