"""Amortization gaps against a model whose best posterior is known."""

import jax
import jax.numpy as jnp
import numpy as np

from iavae import networks
from iavae.amortization_gap import make_amortization_gap
from iavae.inference import amortized, hybrid
from iavae.models import linear_gaussian
from rounding import assert_within_ulps

NOISE = 0.5
MODEL = linear_gaussian.make(data_dim=3, latent_dim=2, noise_scale=NOISE)
ENCODER = networks.mlp((4,), {'mean': 2, 'log_var': 2}, 'tanh')
X = np.random.default_rng(0).integers(0, 2, (6, 3)).astype(np.uint8)


def params_of(method):
  return jax.jit(method.init)(jax.random.key(1), jnp.zeros(3))


def test_the_gap_is_the_divergence_from_the_exact_posterior():
  """q* is exact here, so L[q*] - L[q] = KL(q || p(z | x)): within 5 standard errors and .05."""
  method = amortized.make(MODEL, ENCODER)
  params, draws = params_of(method), 2000
  measure = make_amortization_gap(MODEL, method, evaluation_samples=draws, at_once=4)
  found = measure(params, X, jax.random.key(2))
  for i, x in enumerate(X.astype(np.float32)):
    q = method.infer(params, x, None)
    exact = linear_gaussian.posterior(params['model'], x, NOISE)
    gap = float(q.kl(exact))
    evidence = float(linear_gaussian.log_evidence(params['model'], x, NOISE))
    z = q.mean + jnp.exp(q.log_scale) * jax.random.normal(jax.random.key(3), (4000, 2))
    likelihood = jax.vmap(lambda z, x=x: MODEL.log_likelihood(params['model'], x, z))(z)
    error = float(jnp.std(likelihood)) / np.sqrt(draws)
    assert gap > 1
    assert abs(found['amortization_gap'][i] - gap) < 5 * error + 0.05
    assert abs(found['elbo_optimal'][i] - evidence) < 0.05
  np.testing.assert_allclose(
    found['elbo_optimal'] - found['elbo'], found['amortization_gap'], rtol=1e-5
  )
  assert found['added_by_doubling'].shape == (6,)
  assert np.abs(found['added_by_doubling']).max() < 0.02  # converged


def test_doubling_adds_what_a_search_of_twice_the_steps_does():
  method = amortized.make(MODEL, ENCODER)
  params, rng = params_of(method), jax.random.key(0)
  found, longer = (
    make_amortization_gap(MODEL, method, num_steps=steps, num_doubled=doubled, at_once=6)(
      params, X, rng
    )
    for steps, doubled in ((10, 2), (20, 0))
  )
  assert 'added_by_doubling' not in longer
  added = longer['elbo_optimal'] - found['elbo_optimal']
  assert np.all(added > 0.1)
  np.testing.assert_allclose(found['added_by_doubling'], added[:2], rtol=1e-4)


def test_a_method_that_refines_has_less_of_it():
  plain, refined = amortized.make(MODEL, ENCODER), hybrid.make(MODEL, ENCODER, num_steps=50)
  params = params_of(plain)
  gaps = [
    make_amortization_gap(MODEL, m, num_doubled=0, at_once=6)(params, X, jax.random.key(0))
    for m in (plain, refined)
  ]
  assert np.all(gaps[1]['amortization_gap'] < 0.5 * gaps[0]['amortization_gap'])
  assert np.all(gaps[1]['amortization_gap'] >= 0)


def test_a_known_optimum_spares_the_search():
  plain, refined = amortized.make(MODEL, ENCODER), hybrid.make(MODEL, ENCODER, num_steps=5)
  params, rng = params_of(plain), jax.random.key(0)
  known = make_amortization_gap(MODEL, plain, num_steps=200, num_doubled=0, at_once=6)(
    params, X, rng
  )
  measure = make_amortization_gap(MODEL, refined, num_steps=200, num_doubled=0, at_once=6)
  searched, spared = measure(params, X, rng), measure(params, X, rng, known['elbo_optimal'])
  assert_within_ulps(spared['elbo'], searched['elbo'], 32)  # a program without the search
  np.testing.assert_array_equal(spared['elbo_optimal'], known['elbo_optimal'])
  np.testing.assert_array_equal(spared['amortization_gap'], known['elbo_optimal'] - spared['elbo'])


def test_a_search_that_ends_below_its_start_counts_as_none():
  method = amortized.make(MODEL, ENCODER)
  measure = make_amortization_gap(MODEL, method, num_steps=1, at_once=6)
  found = measure(params_of(method), X, jax.random.key(0), np.full(6, -1e9))
  np.testing.assert_array_equal(found['elbo_optimal'], found['elbo'])
  np.testing.assert_array_equal(found['amortization_gap'], 0)
