"""Is one method better than another over seeds, and how sure is that?

The paper's protocol (arXiv:2604.06796, section 5.2): each IA-VAE starts from the base VAE of the
same seed, so differences are paired. Shapiro-Wilk at 0.05 on the differences decides between a
one-sided paired t-test and a one-sided Wilcoxon signed-rank test; the alternative is a > b.

A pretest on the same few differences does not guard the level: of 5 differences 1 - E, E ~ Exp(1),
whose mean is 0, the protocol rejects at 0.05 in 15 % of cases, the paired t alone in 16 %, and
Wilcoxon or sign flips, which ask for symmetry around 0, in 10 % (tests/test_statistics.py). So all
three stand beside the p-value of the protocol.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

NORMALITY_LEVEL = 0.05
CONFIDENCE = 0.95
MIN_SEEDS_NORMALITY = 3  # Shapiro-Wilk is not defined for fewer

MAX_SEEDS_EXACT = 16  # 2^16 sign flips are enumerated; beyond that, as many are drawn with key 0

# Differences that vary by less, relative to the values themselves, differ by rounding alone.
_ROUNDING = 1e-12


def mean_and_error(values: ArrayLike) -> dict[str, float]:
  """{'mean', 'standard_error'} of [N] values, in their unit, in float64; N is 2 or more."""
  values = np.asarray(values, np.float64)
  error = values.std(ddof=1) / np.sqrt(len(values))
  return {'mean': float(values.mean()), 'standard_error': float(error)}


def paired_comparison(
  a: ArrayLike, b: ArrayLike, *, name_a: str, name_b: str, metric: str
) -> dict[str, Any]:
  """Compares two methods over the same seeds in the same order; ready for JSON.

  Args:
    a: [S] values of the metric, higher is better.
    b: [S], of the same unit and seeds.
    name_a: the method that the alternative holds to be better.
    name_b: the method that it is compared with.
    metric: what the values are.

  Returns:
    a, b, metric; mean_difference of a - b, and ci95, its two-sided 95% t interval, in the unit of
    the values; p_value, one-sided for a > b, by the protocol; test, 'paired t', 'Wilcoxon' or
    'none'; effect_size, Cohen's d_z (mean by sd of the differences); num_seeds; and `p_values`.
    With one seed, or where all seeds differ by the same amount (no spread to test against), test is
    'none' and ci95, all p-values and effect_size are None. With two seeds the test is the paired t.

  Raises:
    ValueError: if the arrays are not of one shape [S], S >= 1, or not finite.
  """
  a, b = np.asarray(a, float), np.asarray(b, float)
  if a.ndim != 1 or a.shape != b.shape or not a.size:
    raise ValueError(f'paired values are [S], of the same seeds: not {a.shape} and {b.shape}')
  if not np.isfinite([a, b]).all():
    raise ValueError(f'{metric} of {name_a} or {name_b} is not finite')
  tested = _test(a - b, scale=max(np.abs(a).max(), np.abs(b).max()))
  mean = float(np.mean(a - b))
  named = {'a': name_a, 'b': name_b, 'metric': metric, 'mean_difference': mean}
  return named | tested | {'num_seeds': a.size}


def p_values(differences: ArrayLike) -> dict[str, float]:
  """One-sided p-values of paired differences [S], S >= 2 and not all equal, by three tests.

  Returns:
    p_paired_t; p_wilcoxon, signed-rank; p_sign_flip, the share of all 2^S sign flips whose mean is
    no lower than the one observed. It is exact if differences are symmetric around 0 under the
    null hypothesis; none is below 1 / 2^S.
  """
  d = np.asarray(differences, np.float64)
  return {
    'p_paired_t': float(scipy.stats.ttest_1samp(d, 0.0, alternative='greater').pvalue),
    'p_wilcoxon': float(scipy.stats.wilcoxon(d, alternative='greater').pvalue),
    'p_sign_flip': _sign_flip(d),
  }


def holm(p_values: Sequence[float | None]) -> list[float | None]:
  """p-values of one family of tests, adjusted by Holm's step-down method.

  Args:
    p_values: any length; None where there was no test, which then is not of the family.

  Returns:
    the adjusted values in the same order; None stays None.
  """
  tested = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
  adjusted: list[float | None] = [None] * len(p_values)
  highest = 0.0
  for rank, (p, i) in enumerate(tested):
    highest = max(highest, min(1.0, p * (len(tested) - rank)))
    adjusted[i] = highest
  return adjusted


def _test(differences: np.ndarray, scale: float) -> dict[str, Any]:
  """ci95, test, all p-values and effect_size of differences [S] of values of this magnitude."""
  count = differences.size
  if np.ptp(differences) <= _ROUNDING * scale:  # of one seed, too
    keys = ('ci95', 'p_value', 'effect_size', 'p_paired_t', 'p_wilcoxon', 'p_sign_flip')
    return dict.fromkeys(keys) | {'test': 'none'}
  mean, sd = differences.mean(), differences.std(ddof=1)
  low, high = scipy.stats.t.interval(CONFIDENCE, count - 1, loc=mean, scale=sd / np.sqrt(count))
  each, is_normal = p_values(differences), _is_normal(differences)
  return {
    'ci95': [float(low), float(high)],
    'p_value': each['p_paired_t' if is_normal else 'p_wilcoxon'],
    'test': 'paired t' if is_normal else 'Wilcoxon',
    'effect_size': float(mean / sd),
  } | each


def _sign_flip(differences: np.ndarray) -> float:
  count = differences.size
  if count <= MAX_SEEDS_EXACT:
    is_flipped = np.arange(2**count)[:, None] >> np.arange(count) & 1
  else:  # the observed signs are one of the draws, so that p is valid, and not 0
    is_flipped = np.random.default_rng(0).integers(0, 2, (2**MAX_SEEDS_EXACT, count))
    is_flipped[0] = 0
  sums = (1 - 2 * is_flipped) @ differences
  slack = _ROUNDING * np.abs(differences).sum()  # flips of equal sums count, however they round
  return float(np.mean(sums >= differences.sum() - slack))


def _is_normal(differences: np.ndarray) -> bool:
  if differences.size < MIN_SEEDS_NORMALITY:
    return True
  return scipy.stats.shapiro(differences).pvalue >= NORMALITY_LEVEL
