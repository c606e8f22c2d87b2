"""Annealed importance sampling against exact evidence, forwards and backwards."""

import jax
import jax.numpy as jnp
import numpy as np

from iavae import annealing
from iavae.annealing import Annealing
from iavae.evidence import of_log_weights
from iavae.models import linear_gaussian, synthetic
from iavae.posteriors.gaussian import DiagonalGaussian, standard_normal

NOISE = 0.5
MODEL = linear_gaussian.make(5, 2, NOISE, orthogonal=False)
PARAMS = MODEL.init(jax.random.key(0))
X = jnp.array([0.9, -0.3, 0.8, 0.1, -1.2])
EXACT = linear_gaussian.log_evidence(PARAMS, X, NOISE)
START = DiagonalGaussian(jnp.array([0.2, -0.1]), jnp.array([0.1, 0.3]))
FEW = Annealing(num_chains=1, num_temperatures=10, num_leapfrog=3)


def target(z):
  return MODEL.log_prior(PARAMS, z) + MODEL.log_likelihood(PARAMS, X, z)


def exact_draws(rng, num):
  """Draws of p(z | x), by NumPy."""
  weight = np.asarray(PARAMS['weight'], np.float64)
  covariance = np.linalg.inv(np.eye(2) + weight.T @ weight / NOISE**2)
  mean = covariance @ weight.T @ np.asarray(X - PARAMS['bias'], np.float64) / NOISE**2
  return np.random.default_rng(rng).multivariate_normal(mean, covariance, num).astype(np.float32)


def test_temperatures_rise_from_0_to_1_slowly_at_both_ends():
  b = np.asarray(annealing.temperatures(50))
  assert b[0] == 0 and b[-1] == 1
  assert np.all(np.diff(b) > 0)
  np.testing.assert_allclose(b + b[::-1], 1, atol=1e-6)
  assert b[1] < 0.2 / 50


def test_weights_have_the_mean_that_they_should():
  """E w = p(x) even with few temperatures and adapted steps: 20,000 chains, 5 standard errors."""
  rngs = jax.random.split(jax.random.key(1), 20000)
  run = jax.jit(jax.vmap(lambda rng: annealing.anneal(FEW, START, target, rng)))(rngs)
  ratio = np.exp(np.asarray(run.log_weights[:, 0] - EXACT, np.float64))
  assert 0.1 < ratio.std() < 5  # so that the mean means something
  assert abs(ratio.mean() - 1) < 5 * ratio.std() / np.sqrt(len(ratio))


def test_weights_of_the_way_back_have_the_inverse_as_mean():
  """E w = 1 / p(x) from exact draws of p(z | x): 20,000 chains, 5 standard errors."""
  z, rngs = exact_draws(2, 20000), jax.random.split(jax.random.key(3), 20000)
  best = linear_gaussian.posterior(PARAMS, X, NOISE)
  start = DiagonalGaussian(best.mean + 0.2, best.log_scale - 0.2)  # narrow: no weight is huge
  back = jax.jit(jax.vmap(lambda z, rng: annealing.anneal_back(FEW, start, target, z, rng)))
  ratio = np.exp(np.asarray(back(z, rngs).log_weights[:, 0] + EXACT, np.float64))
  assert 0.1 < ratio.std() < 5
  assert abs(ratio.mean() - 1) < 5 * ratio.std() / np.sqrt(len(ratio))


def test_both_ways_enclose_the_evidence_of_the_synthetic_model():
  """Of 40 examples drawn from it: within 5 standard errors, and less than .1 nats apart."""
  model, options = synthetic.make(), Annealing(num_chains=8, num_temperatures=300)

  def one(rng):
    rng_z, rng_x, rng_run, rng_back = jax.random.split(rng, 4)
    z = model.sample_prior({}, rng_z)
    x = model.sample({}, z, rng_x)
    density = lambda z: synthetic.log_joint_density(x, z)
    # a start as wide as p(z | x) is narrow: z given x is known to about .1
    start = DiagonalGaussian(x[:2], jnp.full(2, jnp.log(0.2)))
    lower = of_log_weights(annealing.anneal(options, start, density, rng_run).log_weights)
    upper = of_log_weights(annealing.anneal_back(options, start, density, z, rng_back).log_weights)
    exact = synthetic.log_evidence(x)
    return lower.log_evidence - exact, -upper.log_evidence - exact

  below, above = map(np.asarray, jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(4), 40)))
  error = lambda values: 5 * values.std() / np.sqrt(40)
  assert below.mean() < error(below) and above.mean() > -error(above)
  assert (above - below).mean() < 0.1


def test_more_temperatures_tighten_the_bound():
  def mean(num):
    options = Annealing(num_chains=1, num_temperatures=num, num_leapfrog=3)
    rngs = jax.random.split(jax.random.key(5), 500)
    run = jax.jit(jax.vmap(lambda rng: annealing.anneal(options, standard_normal(2), target, rng)))
    return np.asarray(run(rngs).log_weights)[:, 0] - EXACT

  few, many = mean(4), mean(100)
  error = np.hypot(few.std(), many.std()) / np.sqrt(500)
  assert many.mean() - few.mean() > 5 * error
  assert many.mean() < 5 * many.std() / np.sqrt(500)


def test_steps_adapt_to_the_scale_of_the_target():
  """From steps a hundred times too large: the acceptance comes near its aim all the same."""
  options = Annealing(num_chains=16, num_temperatures=400, step_size=30.0)
  run = jax.jit(lambda rng: annealing.anneal(options, START, target, rng))(jax.random.key(6))
  assert 0.4 < run.acceptance < 0.95
