"""The recipe starter with orthogonalised steps: further in a step, but dearer.

    python -m meta_train --recipe=starter_orthogonal
    python -m meta_train.evaluate \
      --weights=runs/starter_orthogonal-all_small-seed0/theta.safetensors

40 outer steps of `starter`'s first phase, on its families: sizes and exponents
of the steps, weight decay, epsilon, and how the readings of the memory are
combined, twelve numbers. Steps of matrices are orthogonalised, as Muon's are
(see `flt_lopt.geometry`). It has not been run to its end yet.
"""

import dataclasses

from meta_train.configs import starter

CONFIG = dataclasses.replace(
  starter.CONFIG,
  variant="orthogonal",
  phases="step+memory/read",
  outer_steps=40,
  outer_decay=40,
)
