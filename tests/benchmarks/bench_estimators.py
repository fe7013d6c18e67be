"""What a gradient estimate is worth: its variance, its bias, its cost.

  python tests/benchmarks/bench_estimators.py --horizons=50,200 \
      --estimators=pes,es_single,full_es,truncated_grad,full_grad

Every estimator estimates from whole episodes of one horizon, on members of
one task family: `--episodes` of them in each of two batches, one core. Its
estimate from an episode is the mean over the episode's calls. One JSON line
for each estimator and horizon:
- `power`: square norm of the expected gradient, by |mean|**2 less the
  variance of the mean; a negative one says that it is lost in noise.
- `variance`: of one episode's estimate, summed over meta-parameters.
- `cosine`: of the mean with that of the last estimator in the list.
- `largest`: the largest estimate's norm over the median one's: outliers.
- `zero`: share of estimates that are zero, as where backpropagation is not
  finite.
- `cpu_s`: per episode, the second batch (compilation is not in it).
- `variance_cpu_s`: their product: what the variance of one would be at a
  second of work.

Options: `--family` (tasks.registry), `--weights` (a file or a name; empty:
untrained), `--objective`, `--sigma`, `--truncation`.
"""

import argparse
import json
import os
import time

os.environ["JAX_NUM_CPU_DEVICES"] = "1"
os.environ["XLA_FLAGS"] = (
  "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

import flt_lopt
import tasks
from meta_train.engine.unroll import Unroller
from meta_train.estimators import make_estimator

WHOLE = ("full_es", "full_grad")


def sampler(name, horizon, arguments):
  """Returns a function from keys to estimates [episodes, theta]."""
  config = flt_lopt.OptimizerConfig()
  theta = None
  if arguments.weights:
    config, theta = flt_lopt.load(arguments.weights)
  lopt = flt_lopt.LearnedOptimizer(config)
  theta, unravel = ravel_pytree(theta or lopt.init(jax.random.key(0)))
  unroller = Unroller(
    family=tasks.registry.family(arguments.family),
    lopt=lopt,
    unravel=unravel,
    truncation=min(horizon, arguments.truncation),
    min_horizon=horizon,
    max_horizon=horizon,
    withhold=0.1,
    objective=arguments.objective,
  )
  estimator = make_estimator(name, unroller, theta.size, arguments.sigma)
  calls = 1 if name in WHOLE else horizon // unroller.truncation

  def episode(key):
    init_key, key = jax.random.split(key)
    state = estimator.init(init_key)
    if name not in WHOLE:  # The first ones are cut short.
      state = state._replace(
        episode=state.episode._replace(length=np.int32(horizon))
      )

    def call(state, key):
      state, found = estimator.estimate(theta, state, key)
      return state, found.gradient

    return jax.lax.scan(call, state, jax.random.split(key, calls))[1].mean(0)

  return jax.jit(jax.vmap(episode))


def measure(name, horizon, arguments):
  """Returns the row of an estimator, and its mean estimate."""
  sample = sampler(name, horizon, arguments)
  keys = jax.random.split(jax.random.key(1), 2 * arguments.episodes)
  first = np.asarray(sample(keys[: arguments.episodes]))
  begin = time.process_time()
  second = np.asarray(sample(keys[arguments.episodes :]))
  cpu_s = (time.process_time() - begin) / arguments.episodes
  found = np.concatenate([first, second]).astype(np.float64)
  mean, variance = found.mean(axis=0), found.var(axis=0, ddof=1).sum()
  norms = np.linalg.norm(found, axis=1)
  row = {
    "family": arguments.family,
    "weights": arguments.weights or "untrained",
    "horizon": horizon,
    "estimator": name,
    "power": mean @ mean - variance / len(found),
    "variance": variance,
    "largest": norms.max() / np.median(norms),
    "zero": np.mean(norms == 0),
    "cpu_s": cpu_s,
    "variance_cpu_s": variance * cpu_s,
  }
  return row, mean


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--estimators", default="full_es,full_grad")
  parser.add_argument("--horizons", default="50,200")
  parser.add_argument("--family", default="mlp_digits_32")
  parser.add_argument("--weights", default="")
  parser.add_argument("--objective", default="log")
  parser.add_argument("--sigma", type=float, default=0.01)
  parser.add_argument("--truncation", type=int, default=50)
  parser.add_argument("--episodes", type=int, default=32)
  arguments = parser.parse_args()
  for horizon in map(int, arguments.horizons.split(",")):
    names = arguments.estimators.split(",")
    rows = [measure(name, horizon, arguments) for name in names]
    _, reference = rows[-1]
    for row, mean in rows:
      scale = np.linalg.norm(mean) * np.linalg.norm(reference)
      row["cosine"] = mean @ reference / scale
      print(json.dumps(row, default=float), flush=True)


if __name__ == "__main__":
  main()
