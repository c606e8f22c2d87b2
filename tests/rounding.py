"""What may differ between two compiled programs of the same mathematics.

Bits are compared only where one program ran twice on this machine or nothing was computed: weights
that stay, checkpoints, resumed runs. XLA fuses and orders what it compiles as the CPU at hand
likes, so another batch size, another `jit` or another number of devices is another program, and
agrees up to a stated number of units in the last place.
"""

from typing import Any

import jax
import numpy as np


def assert_within_ulps(actual: Any, expected: Any, ulps: float) -> None:
  """Arrays, or trees of them, that differ by at most so many units in the last place.

  The unit is that of the largest |expected| of an array, in the precision of `actual`: an entry
  near 0 may be what is left of terms that cancel, and its error goes by their size, not by its own.
  """
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
    a, b = np.asarray(a), np.asarray(b)
    unit = np.spacing(np.abs(b).max().astype(a.dtype))
    np.testing.assert_allclose(a, b, rtol=0, atol=ulps * float(unit))
