"""Importance sampling against exact evidence, and what tells when it is not to be trusted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.scipy.stats import norm

from iavae import evidence
from iavae.models import linear_gaussian
from iavae.posteriors.gaussian import DiagonalGaussian

NOISE = 0.5
MODEL = linear_gaussian.make(6, 3, NOISE)
PARAMS = MODEL.init(jax.random.key(0))
Q = DiagonalGaussian(jnp.array([0.3, -0.2]), jnp.array([0.1, -0.3]))


def shifted(z):
  """An unnormalized density that Q does not match: its mass is e^-90."""
  return jnp.sum(norm.logpdf(z, 0.5, 0.8)) - 90


@jax.jit
def estimate(rng, num_samples=500):
  """One example drawn from the model, from a posterior that is a little off: (found, exact)."""
  rng_z, rng_x, rng_draw = jax.random.split(rng, 3)
  x = MODEL.sample(PARAMS, MODEL.sample_prior(PARAMS, rng_z), rng_x)
  exact = linear_gaussian.posterior(PARAMS, x, NOISE)
  q = DiagonalGaussian(exact.mean + 0.1, exact.log_scale + 0.2)
  target = lambda z: MODEL.log_prior(PARAMS, z) + MODEL.log_likelihood(PARAMS, x, z)
  found = evidence.importance_sampling(target, q, rng_draw, 500)
  return found, linear_gaussian.log_evidence(PARAMS, x, NOISE), (q.kl(exact))


def test_the_evidence_is_within_its_own_standard_errors():
  """500 examples: the standardized errors have mean 0 and sd 1, each to 5 standard errors."""
  found, exact, _ = jax.vmap(estimate)(jax.random.split(jax.random.key(1), 500))
  z = np.asarray((found.log_evidence - exact) / found.standard_error)
  assert abs(z.mean()) < 5 / np.sqrt(500)
  assert abs(z.std() - 1) < 5 / np.sqrt(2 * 500)


def test_the_elbo_is_the_evidence_less_the_divergence():
  """Within 5 standard errors on the mean, and each of them honest."""
  found, exact, kl = jax.vmap(estimate)(jax.random.split(jax.random.key(2), 500))
  z = np.asarray((found.elbo - exact + kl) / found.elbo_standard_error)
  assert abs(z.mean()) < 5 / np.sqrt(500)
  assert abs(z.std() - 1) < 5 / np.sqrt(2 * 500)


@pytest.mark.parametrize('at_once', [7, 100, 3000])
def test_sums_by_chunks_are_those_of_all_draws_at_once(at_once):
  rng, count = jax.random.key(3), 2000
  found = evidence.importance_sampling(shifted, Q, rng, count, at_once)
  rngs = jax.vmap(lambda i: jax.random.fold_in(rng, i))(jnp.arange(count))
  z, log_prob = jax.vmap(Q.sample_and_log_prob)(rngs)
  log_weights = np.asarray(jax.vmap(shifted)(z) - log_prob, np.float64)
  weights = np.exp(log_weights + 90)
  expected = {
    'log_evidence': np.log(weights.mean()) - 90,
    'standard_error': weights.std(ddof=1) / weights.mean() / np.sqrt(count),
    'elbo': log_weights.mean(),
    'elbo_standard_error': log_weights.std(ddof=1) / np.sqrt(count),
    'effective_samples': weights.sum() ** 2 / (weights**2).sum(),
  }
  for name, value in expected.items():
    np.testing.assert_allclose(getattr(found, name), value, rtol=2e-4, err_msg=name)
  whole = evidence.of_log_weights(jnp.asarray(log_weights, jnp.float32))
  np.testing.assert_allclose(found.pareto_k, whole.pareto_k, rtol=1e-3)


def test_the_memory_of_ten_million_draws_is_that_of_a_chunk():
  """Besides, the largest 3 sqrt(S) weights are kept: 10,000 numbers, a few times."""

  def megabytes(num_samples):
    run = jax.jit(lambda rng: evidence.importance_sampling(shifted, Q, rng, num_samples))
    analysis = run.lower(jax.random.key(0)).compile().memory_analysis()
    return analysis.temp_size_in_bytes / 1e6

  assert megabytes(10**7) < megabytes(5000) + 1


def test_equal_weights_are_all_effective_and_one_weight_is_one():
  equal = evidence.of_log_weights(jnp.full(1000, -7.0))
  np.testing.assert_allclose(equal.effective_samples, 1000, rtol=1e-4)
  np.testing.assert_allclose(equal.log_evidence, -7, rtol=1e-5)
  assert equal.standard_error < 0.01
  one = evidence.of_log_weights(jnp.full(1000, -50.0).at[17].set(0.0))
  np.testing.assert_allclose(one.effective_samples, 1, rtol=1e-4)
  np.testing.assert_allclose(one.log_evidence, -np.log(1000), rtol=1e-4)


@pytest.mark.parametrize('k', [0.2, 0.5, 0.9])
def test_pareto_k_is_the_shape_of_the_tail(k):
  """Mean of 40 sets of weights with a generalized Pareto tail: within 5 standard errors, and the
  pull of the fit's prior, ten weights of shape 1/2."""
  rng, count = np.random.default_rng(4), 4000
  weights = scipy.stats.genpareto.rvs(k, size=(40, count), random_state=rng)
  found = jax.vmap(evidence.of_log_weights)(jnp.log(jnp.asarray(weights, jnp.float32))).pareto_k
  tail = evidence.tail_size(count)
  pulled = (tail * k + 10 * 0.5) / (tail + 10)
  assert abs(found.mean() - pulled) < 5 * found.std() / np.sqrt(40) + 0.02


def test_a_posterior_that_is_too_narrow_shows_in_pareto_k():
  wide, narrow = (
    evidence.importance_sampling(
      lambda z: jnp.sum(norm.logpdf(z)), DiagonalGaussian(jnp.zeros(2), jnp.full(2, s)),
      jax.random.key(5), 5000,
    ) for s in (np.log(1.2), np.log(0.4))
  )  # fmt: skip
  assert wide.pareto_k < 0.5
  assert narrow.pareto_k > evidence.max_pareto_k(5000)
  assert narrow.effective_samples < 0.1 * wide.effective_samples


def test_the_highest_k_to_trust_grows_with_the_draws():
  """1 - 1 / log10 S up to 0.7 (Vehtari et al., arXiv:1507.02646, section 3.2.4)."""
  found = [evidence.max_pareto_k(count) for count in (10, 100, 1000, 2154, 2155, 5000, 10**6)]
  np.testing.assert_allclose(found, [0, 0.5, 2 / 3, 0.7, 0.7, 0.7, 0.7], atol=1e-5)
  assert found[3] < found[4] == 0.7


def test_too_few_weights_have_no_tail():
  assert jnp.isnan(evidence.of_log_weights(jnp.zeros(20)).pareto_k)
  assert not jnp.isnan(evidence.of_log_weights(jnp.linspace(0, 1, 25)).pareto_k)


def test_weights_that_differ_by_rounding_have_no_heavy_tail():
  rounding = jax.random.uniform(jax.random.key(0), (2000,), maxval=1e-5)
  assert evidence.of_log_weights(rounding - 100).pareto_k == -jnp.inf
  assert jnp.isfinite(evidence.of_log_weights(3000 * rounding).pareto_k)


def test_a_draw_that_the_model_rules_out_leaves_the_evidence_a_number_but_no_elbo():
  """p(x, z) = 2 q(z) on z_1 > 0, else 0: E w = 1, E log w = -inf."""
  q = DiagonalGaussian(jnp.zeros(1), jnp.zeros(1))
  target = lambda z: jnp.where(z[0] > 0, q.log_prob(z) + jnp.log(2.0), -jnp.inf)
  found = evidence.importance_sampling(target, q, jax.random.key(6), 4000)
  assert not jnp.isfinite(found.elbo)
  assert abs(found.log_evidence) < 5 * found.standard_error
