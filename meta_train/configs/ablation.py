"""The ablation recipe: the short form of `standard`, to compare parts with.

    python -m meta_train --recipe=ablation
    python -m meta_train.compare --recipe=ablation --meta_seeds=2 \
      --setting=variant --values=flt_damped,ema,flt,no_controller,adamw_scalars

6,000 outer steps of 800 inner steps, 4.8 million in all, with the tasks and all
other settings of `standard`. Scored every 2,000 outer steps; the result is the
best. It has not been run to its end yet.
"""

import dataclasses

from meta_train.configs import standard

CONFIG = dataclasses.replace(
  standard.CONFIG,
  outer_steps=6000,
  outer_decay=6000,
  validate_every=2000,
)
