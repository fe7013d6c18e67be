"""Cost of one update: time, scratch, state and compilation, next to optax.

Prints one JSON line per optimizer and size. Update and application are one
jitted program with donated buffers, on a transformer-like tree of about 150
float32 tensors; optimizers take turns, and times are medians over rounds.

  python tests/benchmarks/bench_update.py --millions=1,10 --rounds=15

Figures are per parameter: `ns` (median), `ratio` to `optax.adamw` in the same
rounds, `scratch_bytes` (XLA's temporary buffers), `state_bytes`.
"""

import argparse
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import flt_lopt


def transformer_tree(num_parameters: int) -> dict:
  """Returns shapes of 12 blocks, an embedding and norms, near the size."""
  layers = 12
  width = 8 * max(1, round((num_parameters / (12.5 * layers + 40)) ** 0.5 / 8))
  shapes = {"embedding": (40 * width, width), "final_norm": (width,)}
  for i in range(layers):
    shapes |= {
      f"{i}/norm1": (width,),
      f"{i}/norm2": (width,),
      f"{i}/query": (width, width),
      f"{i}/key": (width, width),
      f"{i}/value": (width, width),
      f"{i}/out": (width, width),
      f"{i}/up": (width, 4 * width),
      f"{i}/down": (4 * width, width),
      f"{i}/bias_q": (width,),
      f"{i}/bias_k": (width,),
      f"{i}/bias_up": (4 * width,),
      f"{i}/bias_down": (width,),
    }
  return shapes


def compile_step(tx, params, grads):
  """Returns (compiled step, its state, seconds to trace and compile)."""

  def step(params, state, grads):
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  state = jax.jit(tx.init)(params)
  begin = time.perf_counter()
  compiled = (
    jax.jit(step, donate_argnums=(0, 1)).lower(params, state, grads).compile()
  )
  return compiled, state, time.perf_counter() - begin


def optimizers() -> dict:
  """Returns the optimizers to compare, by name."""
  theta = {}
  for controller in ("flt", "off"):
    config = flt_lopt.OptimizerConfig(controller=controller)
    lopt = flt_lopt.LearnedOptimizer(config)
    theta[f"flt, controller {controller}"] = lopt.transform(
      lopt.init(jax.random.key(0)), num_steps=1000
    )
  return {
    "optax.adamw": optax.adamw(1e-3),
    "optax.contrib.muon": optax.contrib.muon(1e-3),
    **theta,
  }


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--millions", default="1,10")
  parser.add_argument("--rounds", type=int, default=15)
  parser.add_argument("--only", default="", help="names to keep, by part")
  arguments = parser.parse_args()
  for millions in arguments.millions.split(","):
    measure(float(millions), arguments.rounds, arguments.only)


def measure(millions: float, rounds: int, only: str) -> None:
  shapes = transformer_tree(int(millions * 1e6))
  rng = np.random.default_rng(0)

  def draw(shape):
    return jnp.asarray(rng.normal(size=shape) * 0.02, jnp.float32)

  grads = {name: draw(shape) for name, shape in shapes.items()}
  count = sum(x.size for x in grads.values())
  running = {}
  for name, tx in optimizers().items():
    if only and not any(part in name for part in ["adamw", only]):
      continue
    params = {k: draw(shape) for k, shape in shapes.items()}
    step, state, compile_s = compile_step(tx, params, grads)
    state_bytes = sum(x.nbytes for x in jax.tree.leaves(state))
    params, state = step(params, state, grads)
    running[name] = [step, params, state, [], compile_s, state_bytes]
  for _ in range(rounds):
    for entry in running.values():
      step, params, state, times, *_ = entry
      begin = time.perf_counter()
      params, state = jax.block_until_ready(step(params, state, grads))
      times.append(time.perf_counter() - begin)
      entry[1:3] = params, state
  base = np.array(running["optax.adamw"][3])
  for name, (step, _, _, times, compile_s, state_bytes) in running.items():
    memory = step.memory_analysis()
    row = {
      "optimizer": name,
      "device": jax.devices()[0].device_kind,
      "parameters": count,
      "tensors": len(shapes),
      "rounds": rounds,
      "ns": round(float(np.median(times)) / count * 1e9, 3),
      "ratio": round(float(np.median(np.array(times) / base)), 2),
      "scratch_bytes": round(memory.temp_size_in_bytes / count, 2),
      "state_bytes": round(state_bytes / count, 2),
      "compile_s": round(compile_s, 2),
    }
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
  main()
