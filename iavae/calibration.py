"""Simulation-based calibration: are the posteriors of a method as wide as they should be?

z ~ p(z), x ~ p(x | z): z is then a draw from p(z | x), so that among L draws of an exact posterior
q(z | x) the rank of each z_i is uniform on 0..L (Talts et al., arXiv:1804.06788, theorem 1). Only
the model's own data can tell, so this is about inference, not about how well the model fits.
"""

from typing import Any

import jax
import numpy as np
import scipy.stats

from iavae.statistics import holm
from iavae.types import Array, GenerativeModel, Params

NUM_DRAWS = 99  # L: 100 ranks, in bins of equally many
COVERAGE = 0.9  # of the central interval
SIGNIFICANT = 0.05
_BINS = (20, 10, 5, 4, 2)
_EXPECTED = 5  # simulations a bin, for the chi-square approximation


def simulate(model: GenerativeModel, params: Params, rng: Array) -> tuple[Array, Array]:
  """z ~ p(z) and x ~ p(x | z): ([Z], [H, W, C] or [D]); params: of the model."""
  rng_z, rng_x = jax.random.split(rng)
  z = model.sample_prior(params, rng_z)
  return z, model.sample(params, z, rng_x)


def rank(z: np.ndarray, draws: np.ndarray) -> np.ndarray:
  """How many draws of q(z | x) lie below the z that made x, [M, Z].

  Args:
    z: [M, Z], of M simulations.
    draws: [M, L, Z].
  """
  return np.sum(draws < z[:, None], axis=1)


def uniformity(ranks: np.ndarray) -> list[float]:
  """p-values of a chi-square test that the ranks of each latent are uniform, Holm-adjusted, [Z].

  Args:
    ranks: [M, Z], in 0..L.
  """
  num_bins = next((b for b in _BINS if len(ranks) >= _EXPECTED * b), _BINS[-1])
  bins = np.asarray(ranks) * num_bins // (NUM_DRAWS + 1)
  counts = np.stack([np.sum(bins == b, axis=0) for b in range(num_bins)])
  return holm(scipy.stats.chisquare(counts, axis=0).pvalue.tolist())


def coverage(ranks: np.ndarray) -> np.ndarray:
  """Share of z_i inside the central 90 % interval of q, [Z]; .9 for exact posteriors."""
  outside = round((NUM_DRAWS + 1) * (1 - COVERAGE) / 2)  # ranks on either side
  inside = (ranks >= outside) & (ranks <= NUM_DRAWS - outside)
  return np.mean(inside, axis=0)


def summarize(ranks: np.ndarray, active: np.ndarray) -> dict[str, Any]:
  """What the ranks [M, Z] say, ready for JSON.

  Args:
    active: [Z] of bool, see `diagnostics.active_units`.

  Returns:
    num_simulations; coverage, the mean over the latents, and coverage_active, over the active ones
    (None without any): where x tells nothing of a latent its posterior is the prior, right without
    effort; p_value, the smallest of `uniformity`; num_rejected, latents with p < .05.
  """
  covered, p_values = coverage(ranks), uniformity(ranks)
  return {
    'num_simulations': len(ranks),
    'coverage': float(covered.mean()),
    'coverage_active': float(covered[active].mean()) if active.any() else None,
    'p_value': min(p_values),
    'num_rejected': sum(p < SIGNIFICANT for p in p_values),
  }
