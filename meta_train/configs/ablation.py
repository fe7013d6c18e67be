"""The ablation recipe: the short form of `standard`, to compare parts with.

    python -m meta_train --recipe=ablation
    python -m meta_train.compare --recipe=ablation --meta_seeds=2 \
      --setting=variant --values=flt_damped,ema,flt,no_controller,adamw_scalars

2,000 outer steps of 800 inner steps, 1.6 million in all, with the tasks of
`standard`: in one run of 6,000 (`--outer_steps=6000 --outer_decay=6000`) the
meta-loss fell no further after about 1,000 that one could see.
The result is the running average at the end, so that no validation tasks choose
it, and results can be compared on those.

One to four minutes a run on one core. What six variants achieve by it is told
in `flt_lopt/pretrained/README.md`.
"""

import dataclasses

from meta_train.configs import standard

CONFIG = dataclasses.replace(
  standard.CONFIG,
  outer_steps=2000,
  outer_warmup=100,
  outer_decay=2000,
  theta_average=0.99,
  validate_every=0,
  result="average",
)
