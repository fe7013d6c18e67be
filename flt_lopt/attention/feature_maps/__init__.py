"""Feature maps: positive maps phi with kappa(x, y) = phi(x) . phi(y).

A new map is one file here with one registered frozen dataclass.
"""

from flt_lopt.attention.feature_maps.base import (
  FEATURE_MAPS,
  FeatureMap,
  make_feature_map,
)
from flt_lopt.attention.feature_maps.favor import (
  FavorHyperbolic,
  FavorPlus,
  FavorPlusPlus,
)
from flt_lopt.attention.feature_maps.learned import Learned
from flt_lopt.attention.feature_maps.orthogonal import draw_projection
from flt_lopt.attention.feature_maps.simple import (
  Constant,
  Elu,
  Relu,
  Softmax,
)

__all__ = [
  "FEATURE_MAPS",
  "Constant",
  "Elu",
  "FavorHyperbolic",
  "FavorPlus",
  "FavorPlusPlus",
  "FeatureMap",
  "Learned",
  "Relu",
  "Softmax",
  "draw_projection",
  "make_feature_map",
]
