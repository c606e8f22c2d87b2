"""Statistics: the paper's paired protocol against scipy, exact cases and simulation."""

import itertools
import json
import warnings

import numpy as np
import pytest
import scipy.stats

from iavae.statistics import holm, p_values, paired_comparison

A = np.array([-89.73, -89.70, -89.81, -89.75, -89.69, -89.77, -89.74, -89.72])
B = np.array([-90.30, -90.31, -90.28, -90.35, -90.27, -90.33, -90.24, -90.30])
SKEWED = np.array([0.1, 0.11, 0.12, 0.13, 10.0])  # Shapiro-Wilk rejects normality
P_VALUES = {'p_paired_t', 'p_wilcoxon', 'p_sign_flip'}
KEYS = {'a', 'b', 'metric', 'mean_difference', 'ci95', 'p_value', 'test', 'effect_size'} | P_VALUES


def compare(a, b):
  return paired_comparison(a, b, name_a='ia', name_b='base', metric='elbo')


def test_normal_differences_are_compared_as_scipy_does():
  found = compare(A, B)
  assert scipy.stats.shapiro(A - B).pvalue > 0.05
  expected = scipy.stats.ttest_rel(A, B, alternative='greater').pvalue
  two_sided = scipy.stats.ttest_rel(A, B).confidence_interval(0.95)
  assert found.keys() == KEYS | {'num_seeds'}
  assert (found['a'], found['b'], found['metric'], found['test']) == (
    'ia',
    'base',
    'elbo',
    'paired t',
  )
  assert found['num_seeds'] == 8
  assert found['p_value'] == pytest.approx(expected, rel=1e-10)
  assert found['ci95'] == pytest.approx([two_sided.low, two_sided.high], rel=1e-10)
  assert found['mean_difference'] == pytest.approx(0.55875, rel=1e-10)
  assert found['effect_size'] == pytest.approx(0.55875 / np.std(A - B, ddof=1), rel=1e-10)
  assert json.loads(json.dumps(found)) == found


def test_wilcoxon_of_five_gains_is_one_in_32():
  found = compare(SKEWED, np.zeros(5))
  assert found['test'] == 'Wilcoxon'
  assert found['p_value'] == 1 / 32


def test_wilcoxon_is_exact_by_enumeration():
  values = np.array([-0.3, 0.1, 0.2, 0.4, 0.5, 30.0])
  ranks = scipy.stats.rankdata(np.abs(values))
  observed = ranks[values > 0].sum()
  sums = [np.dot(signs, ranks) for signs in itertools.product([0, 1], repeat=6)]
  found = compare(values, np.zeros(6))
  assert found['test'] == 'Wilcoxon'
  assert found['p_value'] == np.mean(np.array(sums) >= observed)


@pytest.mark.parametrize(
  'differences, num_as_high',
  [
    ([0.1, 0.2, 0.3, 0.4, 0.5], 1),
    ([-0.1, 0.2, 0.3, 0.4, 0.5], 2),
    ([0.1, -0.2, 0.3, 0.4, 0.5], 3),  # as it is, all +, and -0.1 alone
    ([-0.1, -0.2, 0.3, 0.4, 0.5], 5),  # as high: a sum of flipped ones of 0.3 or less
    ([-0.1, -0.2, -0.3, -0.4, -0.5], 32),
    ([-1.0, 1.0], 3),  # a mean of 0, which 1 and another 0 reach
    ([-0.1] * 3 + [0.1] * 3, 42),  # 20 of the 64 sums are 0, however they round
  ],
)
def test_sign_flips_by_hand(differences, num_as_high):
  found = p_values(differences)
  assert found['p_sign_flip'] == num_as_high / 2 ** len(differences)
  assert found['p_paired_t'] == scipy.stats.ttest_1samp(differences, 0, alternative='greater')[1]


def test_the_protocol_takes_one_of_the_p_values_that_stand_beside_it():
  for a, b, name in ((A, B, 'p_paired_t'), (SKEWED, np.zeros(5), 'p_wilcoxon')):
    found = compare(a, b)
    assert found['p_value'] == found[name]
    assert {key: found[key] for key in P_VALUES} == p_values(a - b)


def test_sign_flips_of_many_seeds_are_drawn():
  """Within 4 standard errors of the share of all 2^20 flips, the sums of two halves added."""
  d = np.random.default_rng(3).normal(0.35, 1.0, 20)
  flips = np.array(list(itertools.product([-1, 1], repeat=10)))
  sums = np.add.outer(flips @ d[:10], flips @ d[10:])
  expected = np.mean(sums >= d.sum() - 1e-12)
  assert p_values(d)['p_sign_flip'] == pytest.approx(expected, abs=4 * 0.5 / 2**8)
  assert p_values(np.abs(d) + 10)['p_sign_flip'] == 2.0**-16  # none of the draws, but the first


def test_the_pretest_does_not_guard_the_level_of_skewed_differences():
  """1 - Exp(1), 5 seeds, nominal 0.05; 4,000 cases, so standard errors of 0.006 at most.

  Sign flips and Wilcoxon reject where all five are positive: (1 - 1/e)^5, with no error.
  """
  rng = np.random.default_rng(0)
  d = 1 - rng.exponential(size=(4000, 5))
  t = scipy.stats.ttest_1samp(d, 0, axis=1, alternative='greater').pvalue
  is_normal = [scipy.stats.shapiro(row).pvalue >= 0.05 for row in d]
  signed = np.where((d > 0).all(axis=1), 1 / 32, 1.0)
  protocol = np.mean(np.where(is_normal, t, signed) <= 0.05)
  assert protocol == pytest.approx(0.15, abs=0.012)
  assert np.mean(t <= 0.05) == pytest.approx(0.16, abs=0.012)
  assert np.mean(signed <= 0.05) == pytest.approx((1 - np.exp(-1)) ** 5, abs=0.012)
  some = [p_values(row) for row in d[:100]]
  for p, expected, row_t in zip(some, signed, t, strict=False):
    assert (p['p_sign_flip'] <= 0.05) == (p['p_wilcoxon'] <= 0.05) == (expected <= 0.05)
    assert p['p_paired_t'] == pytest.approx(row_t)


def test_swapping_the_methods_mirrors_the_difference():
  there, back = compare(A, B), compare(B, A)
  assert back['mean_difference'] == -there['mean_difference']
  assert back['effect_size'] == -there['effect_size']
  assert back['ci95'] == pytest.approx([-end for end in there['ci95'][::-1]], rel=1e-12)
  assert back['p_value'] == pytest.approx(1 - there['p_value'], rel=1e-10)


def test_p_is_uniform_where_there_is_no_difference():
  rng = np.random.default_rng(0)
  p = [compare(*rng.normal(size=(2, 10)))['p_value'] for _ in range(600)]
  # the 1 % critical value of the Kolmogorov-Smirnov statistic, 1.63 / sqrt(600)
  assert scipy.stats.kstest(p, 'uniform').statistic < 0.0665


def test_two_seeds_are_compared_by_the_paired_t():
  found = compare(A[:2], B[:2])
  expected = scipy.stats.ttest_rel(A[:2], B[:2], alternative='greater').pvalue
  assert found['test'] == 'paired t'
  assert found['p_value'] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize('a', [A[:1], np.full(5, -89.7), B + 0.1, B])
def test_without_a_spread_there_is_no_test(a):
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    found = compare(a, a - 0.3)
  assert found['mean_difference'] == pytest.approx(0.3)
  assert found['test'] == 'none'
  assert [found[key] for key in ('p_value', 'ci95', 'effect_size', *P_VALUES)] == [None] * 6
  assert found['num_seeds'] == len(a)


def test_the_same_method_has_no_difference():
  assert compare(A, A)['mean_difference'] == 0
  assert compare(A, A)['test'] == 'none'


@pytest.mark.parametrize('a, b', [(A, B[:3]), ([], []), ([[1.0]], [[2.0]]), ([np.nan, 1], [1, 2])])
def test_what_cannot_be_paired_is_refused(a, b):
  with pytest.raises(ValueError):
    compare(a, b)


def test_holm_by_hand():
  assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
  assert holm([0.6, None, 0.7]) == [1.0, None, 1.0]
  assert holm([None, 0.02]) == [None, 0.02]
  assert holm([]) == []
