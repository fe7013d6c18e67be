"""Cost of one update: time, scratch, state and compilation, next to optax.

Prints one JSON line per optimizer and size. Update and application are one
jitted program with donated buffers, on a transformer-like tree of about 150
float32 tensors; optimizers take turns, and times are medians over rounds.

  python tests/benchmarks/bench_update.py --millions=1,10 --rounds=15
  python tests/benchmarks/bench_update.py --compile=10,100,400

Figures are per parameter: `ns` (median), `ratio` to `optax.adamw` in the same
rounds, `cpu_ratio` the same of processor time, which other programs on the
machine disturb less, `scratch_bytes` (XLA's temporary buffers),
`state_bytes`. Where learned_optimization can be imported, its AdafacMLP and
MLP optimizers take part.

Seen on two cores of a shared machine (jax 0.10.2, `--millions=10,1 --rounds=7`;
ratios to adamw at 10 and at 1 million parameters; scratch and state in bytes
per parameter and seconds to compile at 10 million):

  optax.adamw             1.2 and 4.2 ns        scratch  0.0  state  8   1 s
  optax.contrib.muon      42x   7.5x            scratch 28.0  state  4   3 s
  flt-starter, shipped     3.0x 2.7x            scratch  0.9  state 16  11 s
  flt                      4.3x 2.9x            scratch  0.9  state 16  15 s
  flt, normalized          3.6x 3.1x            scratch  0.9  state 16  16 s
  flt, orthogonal         39x  10x              scratch  6.1  state 16  24 s
  flt, no controller       3.3x 3.0x            scratch  0.9  state 16  17 s
  flt, two floats          2.7x 2.6x            scratch  0.9  state  8  16 s
  flt, bfloat16            6.1x 3.4x            scratch 12.1  state  8  23 s
  flt, factored            4.3x 3.1x            scratch  4.0  state 12  23 s
  adamw_scalars            2.0x 2.0x            scratch  0.9  state  8  12 s

flt-starter has a linear direction, and so no network. Next to adamw alone, on a
machine that was quiet (`--only=shipped`), it was at 2.9x and 2.4x, and compiled
in 8.4 and 7.9 s; with caution, at 10 million parameters, at 2.8x and in 9.0 s.

With 10, 100 and 400 tensors (`--compile=10,100,400`) adamw compiles in 0.4,
0.6 and 3.0 s, flt in 3.4, 14 and 51 s, and without a controller in 2.3, 12 and
58 s.

Where the time goes, on a CPU: XLA makes one program per result, so each of
the four arrays of state is read and written by its own (12 bytes per
parameter each, as Adam's two), and the direction network by another (24 bytes
read, 4 written, and some 130 arithmetic operations, about a third of all the
time); sums over the tensor read 24 bytes, and the step itself 24. Without
`flt_lopt.leafwise` holding on to one tensor at a time, the arrays in between
cost a third to a half on top, in page faults (seen on a prototype).

Where compiling goes: mostly into XLA's passes over the program, which has some
400 operations per tensor and is passed over two hundred times; three quarters
of it on one core (`perf record`), and without LLVM's optimizations it still
takes five sixths of the time. So it grows with the number of tensors. Tried,
without gain or at a loss: stacking equal small tensors (each slice of a stack
is a program), reading scalars at an index known only at run time (fused into
everything that follows), the hidden units as one array with a leading axis
(fewer operations, but the step took 40 % longer), weights broadcast once per
shape, calls that aren't inlined (XLA makes each call's body its own).
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


def ours(name, **changes):
  """Returns a variant of ours, untrained."""
  lopt = flt_lopt.LearnedOptimizer(flt_lopt.make_variant(name, **changes))
  return lopt.transform(lopt.init(jax.random.key(0)), num_steps=1000)


def peers() -> dict:
  """Returns learned_optimization's per-parameter optimizers, if it is here."""
  try:
    from learned_optimization.learned_optimizers import (
      adafac_mlp_lopt,
      mlp_lopt,
    )
  except ImportError:
    return {}

  def as_optax(learned):
    opt = learned.opt_fn(learned.init(jax.random.key(0)))

    def update(grads, state, params):
      moved = opt.update(opt.set_params(state, params), grads, jnp.float32(1))
      difference = jax.tree.map(jnp.subtract, opt.get_params(moved), params)
      return difference, moved

    def init(params):
      return opt.init(params, num_steps=1000)

    return optax.GradientTransformation(init, update)

  return {
    "learned_optimization AdafacMLP": as_optax(adafac_mlp_lopt.AdafacMLPLOpt()),
    "learned_optimization AdafacMLP, fast form": as_optax(
      adafac_mlp_lopt.AdafacMLPLOpt(concat_weights=False)
    ),
    "learned_optimization MLP": as_optax(mlp_lopt.MLPLOpt()),
  }


def optimizers() -> dict:
  """Returns the optimizers to compare, by name."""
  return {
    "optax.adamw": optax.adamw(1e-3),
    "optax.contrib.muon": optax.contrib.muon(1e-3),
    "flt": ours("flt_damped"),
    "flt, normalized": ours("normalized"),
    "flt, orthogonal": ours("orthogonal"),
    "flt-starter, shipped": flt_lopt.flt(1000),
    "flt, no controller": ours("no_controller"),
    "flt, two floats": ours("flt_damped_2"),
    "flt, bfloat16": ours("flt_damped", storage="bfloat16"),
    "flt, factored": ours("factored"),
    "adamw_scalars": ours("adamw_scalars"),
    **peers(),
  }


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--millions", default="1,10", help="parameters")
  parser.add_argument("--rounds", type=int, default=15)
  parser.add_argument("--only", default="", help="names to keep, by part")
  parser.add_argument(
    "--compile", default="", help="instead: compile with so many tensors"
  )
  arguments = parser.parse_args()
  if arguments.compile:
    for count in arguments.compile.split(","):
      measure_compilation(int(count), arguments.only)
    return
  for millions in arguments.millions.split(","):
    measure(float(millions), arguments.rounds, arguments.only)


def chosen(only: str):
  """Yields the optimizers to measure, adamw always among them."""
  for name, tx in optimizers().items():
    if not only or only in name or name == "optax.adamw":
      yield name, tx


def draw(shapes, rng):
  return {
    name: jnp.asarray(rng.normal(size=shape) * 0.02, jnp.float32)
    for name, shape in shapes.items()
  }


def measure_compilation(count: int, only: str) -> None:
  """Traces and compiles a step on the first `count` tensors of a tree."""
  shapes = {}
  for block in range(-(-count // 146)):
    tree = transformer_tree(10**6)
    shapes |= {f"{block}/{name}": shape for name, shape in tree.items()}
  shapes = dict(list(shapes.items())[:count])
  grads = draw(shapes, np.random.default_rng(0))
  for name, tx in chosen(only):
    if name not in ("optax.adamw", "flt", "flt, no controller") and not only:
      continue
    cpu = time.process_time()
    *_, wall = compile_step(tx, grads, grads)
    row = {
      "optimizer": name,
      "tensors": count,
      "compile_s": round(wall, 2),
      "compile_cpu_s": round(time.process_time() - cpu, 2),
    }
    print(json.dumps(row), flush=True)


def measure(millions: float, rounds: int, only: str) -> None:
  """Times updates of a tree; the optimizers take turns."""
  shapes = transformer_tree(int(millions * 1e6))
  rng = np.random.default_rng(0)
  grads = draw(shapes, rng)
  count = sum(x.size for x in grads.values())
  running = {}
  for name, tx in chosen(only):
    params = draw(shapes, rng)
    step, state, compile_s = compile_step(tx, params, grads)
    state_bytes = sum(x.nbytes for x in jax.tree.leaves(state))
    params, state = step(params, state, grads)
    running[name] = [step, params, state, [], [], compile_s, state_bytes]
  for _ in range(rounds):
    for entry in running.values():
      step, params, state, times, cpu_times, *_ = entry
      begin, cpu = time.perf_counter(), time.process_time()
      params, state = jax.block_until_ready(step(params, state, grads))
      times.append(time.perf_counter() - begin)
      cpu_times.append(time.process_time() - cpu)
      entry[1:3] = params, state
  base, cpu_base = (np.array(x) for x in running["optax.adamw"][3:5])
  for name, entry in running.items():
    step, _, _, times, cpu_times, compile_s, state_bytes = entry
    memory = step.memory_analysis()
    row = {
      "optimizer": name,
      "device": jax.devices()[0].device_kind,
      "parameters": count,
      "tensors": len(shapes),
      "rounds": rounds,
      "ns": round(float(np.median(times)) / count * 1e9, 3),
      "ratio": round(float(np.median(np.array(times) / base)), 2),
      "cpu_ratio": round(float(np.median(np.array(cpu_times) / cpu_base)), 2),
      "scratch_bytes": round(memory.temp_size_in_bytes / count, 2),
      "state_bytes": round(state_bytes / count, 2),
      "compile_s": round(compile_s, 2),
    }
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
  main()
