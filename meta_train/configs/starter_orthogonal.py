"""The recipe starter with orthogonalised steps: further in a step, but dearer.

    python -m meta_train --recipe=starter_orthogonal
    python -m meta_train.evaluate \
      --weights=runs/starter_orthogonal-all_small-seed0/theta.safetensors

40 outer steps of `starter`'s first phase, on its families: sizes and exponents
of the steps, how they follow depth and length, caution, weight decay, epsilon,
and how the readings of the memory are combined, seventeen numbers. Steps of
matrices are orthogonalised, as Muon's are (see `flt_lopt.geometry`).

`flt-starter-orthogonal` was made by its former version, of twelve numbers,
which knew neither depth nor length nor caution, on runs of 1,000 to 2,000
steps, and by 30 outer steps more for these (see
`flt_lopt/pretrained/README.md`): a quarter of an hour on two CPU cores, and a
score on the validation tasks of 0.03 after 20 outer steps and -0.10 after 40, 0
being the untrained optimizer of this variant. The loss of a convolution fell by
a factor of 34, and those of a neural field, a physics-informed network and an
autoencoder rose by factors of 4, 2.3 and 1.6. So of what the result achieves
most is in the orthogonal step, and little in these numbers. The present version
has not been run from the start.
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
