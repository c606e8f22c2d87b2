"""Evaluation on the linear-Gaussian oracle, whose answers are exact."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iavae import evaluate
from iavae.inference import instance_adaptive
from iavae.models import linear_gaussian
from iavae.posteriors.gaussian import DiagonalGaussian
from iavae.types import InferenceMethod
from rounding import assert_within_ulps

NOISE, NUM = 0.5, 201
MODEL = linear_gaussian.make(data_dim=4, latent_dim=2, noise_scale=NOISE)
PARAMS = {'model': MODEL.init(jax.random.key(3))}
MONTE_CARLO = MODEL._replace(standard_normal_prior=False)  # log q - log p in place of the KL
# A posterior that is wrong and too wide, so that no weight is far larger than the others
SHIFT, STRETCH = np.array([0.2, -0.1]), np.array([0.5, 0.4])
RNG = jax.random.key(7)


def exact(params, x, rng):
  return linear_gaussian.posterior(params['model'], x, NOISE)


def wrong(params, x, rng):
  mean, log_scale = exact(params, x, rng)
  return DiagonalGaussian(mean + SHIFT, log_scale + STRETCH)


def run(model, infer, x, num_samples=3, **options):
  method = InferenceMethod(init=None, infer=infer, loss=None)
  return evaluate.make_evaluate(model, method, num_samples=num_samples, **options)(PARAMS, x, RNG)


@pytest.fixture(scope='module')
def x():
  def one(rng):
    rng_z, rng_x = jax.random.split(rng)
    return MODEL.sample(PARAMS['model'], MODEL.sample_prior(None, rng_z), rng_x)

  return np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(5), NUM)))


@pytest.fixture(scope='module')
def log_evidence(x):
  """log N(x; b, W W^T + s^2 I), written out in float64."""
  weight, bias = (np.asarray(PARAMS['model'][n], np.float64) for n in ('weight', 'bias'))
  covariance = weight @ weight.T + NOISE**2 * np.eye(4)
  squares = np.einsum('ni,ij,nj->n', x - bias, np.linalg.inv(covariance), x - bias)
  return -0.5 * (squares + np.linalg.slogdet(2 * np.pi * covariance)[1])


def kl_to_exact(x):
  """KL(wrong || exact), the same for all examples, written out."""
  variance = np.exp(2 * np.asarray(exact(PARAMS, x[0], None).log_scale))
  stretch = np.exp(2 * STRETCH)
  return 0.5 * np.sum(stretch + SHIFT**2 / variance - 1 - np.log(stretch))


def kl_to_prior(x):
  q = jax.vmap(lambda x: exact(PARAMS, x, None))(x)
  mean, variance = np.asarray(q.mean), np.exp(2 * np.asarray(q.log_scale))
  return 0.5 * np.sum(mean**2 + variance - 1 - np.log(variance), axis=1)


def mean_and_error(values):
  values = np.asarray(values, np.float64)
  return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


@pytest.mark.parametrize(('num_samples', 'iwae_samples'), [(1, 1), (3, 60)])
def test_the_exact_posterior_has_no_gap_in_any_draw(x, log_evidence, num_samples, iwae_samples):
  found = run(MONTE_CARLO, exact, x, num_samples, iwae_samples=iwae_samples)
  np.testing.assert_allclose(found['elbo'], log_evidence, atol=1e-4)
  np.testing.assert_allclose(found['iwae'], log_evidence, atol=1e-4)
  assert_within_ulps(found['log_likelihood'] - found['kl'], found['elbo'], 32)


def test_the_closed_form_kl_is_exact_and_leaves_only_the_likelihoods_noise(x, log_evidence):
  found = run(MODEL, exact, x, num_samples=50)
  np.testing.assert_allclose(found['kl'], kl_to_prior(x), rtol=1e-4)
  mean, error = mean_and_error(found['elbo'] - log_evidence)
  assert abs(mean) <= 5 * error < 0.1
  assert 'iwae' not in found


@pytest.mark.parametrize('model', [MODEL, MONTE_CARLO], ids=['closed form', 'Monte Carlo'])
def test_a_wrong_posterior_loses_its_kl(x, log_evidence, model):
  found = run(model, wrong, x, num_samples=50)
  mean, error = mean_and_error(log_evidence - found['elbo'])
  assert abs(mean - kl_to_exact(x)) <= 5 * error < 0.15


def test_iwae_rises_with_its_samples_to_the_evidence(x, log_evidence):
  x, log_evidence = np.tile(x, (20, 1)), np.tile(log_evidence, 20)
  gaps = []
  for num_samples in (1, 5, 60):
    gaps.append(log_evidence - run(MODEL, wrong, x, iwae_samples=num_samples)['iwae'])
  mean, error = mean_and_error(gaps[0])
  assert abs(mean - kl_to_exact(x)) <= 5 * error  # of one sample it is the ELBO
  for fewer, more in itertools.pairwise(gaps):
    mean, error = mean_and_error(fewer - more)
    assert mean > 5 * error
  mean, error = mean_and_error(gaps[-1])
  assert -5 * error <= mean <= 0.1 * kl_to_exact(x)


@pytest.mark.parametrize('options', [
  {'at_once': 1}, {'at_once': 7}, {'at_once': 100, 'samples_at_once': 1},
  {'at_once': NUM, 'samples_at_once': 7}, {'samples_at_once': 1000},
])  # fmt: skip
def test_chunks_change_nothing(x, options):
  """201 examples in chunks of 1, 7 and 100, which two devices share; 20 draws by 1, 7, 50."""
  expected = run(MODEL, wrong, x, 20, iwae_samples=20, at_once=50)
  found = run(MODEL, wrong, x, 20, iwae_samples=20, **options)
  for name, values in expected.items():
    assert values.shape == (NUM,)
    np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize('at_once', [1, 2, 3, 8])
def test_another_example_is_the_same_one_in_chunks_of_any_size(at_once):
  """Of 7 examples: 0 and 1 read each other, ..., and 6 reads 0, which fills the last chunk."""
  other = lambda params, x, rng: instance_adaptive.CONDITIONS['other'](x)
  found = evaluate.over_examples(other, at_once)({}, np.arange(7), RNG)
  assert found.tolist() == [1, 0, 3, 2, 5, 4, 0]


@pytest.mark.skipif(len(jax.devices()) == 1, reason='there is one device')
def test_devices_change_nothing(x, monkeypatch):
  sharded, shard_batch = [], evaluate.shard_batch

  def record(batch):
    sharded.append(len(batch) % len(jax.devices()) == 0)
    return shard_batch(batch)

  monkeypatch.setattr(evaluate, 'shard_batch', record)
  expected = run(MODEL, wrong, x, at_once=60)
  monkeypatch.setattr(evaluate, 'shard_batch', lambda batch: batch)
  found = run(MODEL, wrong, x, at_once=60)
  assert sharded == [True]
  for name, values in expected.items():
    np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5, err_msg=name)


def test_draws_depend_on_the_examples_place_only(x):
  """The first 30 of 201 alone; and one example in two places has two different draws."""
  everything = run(MODEL, wrong, x, iwae_samples=5)
  first = run(MODEL, wrong, x[:30], iwae_samples=5)
  twice = run(MODEL, wrong, np.stack([x[0], x[0]]), iwae_samples=5)
  for name, values in first.items():
    np.testing.assert_allclose(values, everything[name][:30], rtol=1e-5, atol=1e-5)
    assert twice[name][0] == pytest.approx(values[0], abs=1e-4)
  assert abs(twice['iwae'][0] - twice['iwae'][1]) > 1e-3


def test_examples_are_read_as_floats():
  """Binary images are stored as integers."""
  binary = np.array([[0, 1, 1, 0], [1, 1, 1, 1]], np.uint8)
  found = run(MODEL, exact, binary)
  expected = run(MODEL, exact, binary.astype(np.float32))
  assert_within_ulps(found, expected, 32)  # what reads other types is another program
  evidence = [linear_gaussian.log_evidence(PARAMS['model'], x * 1.0, NOISE) for x in binary]
  np.testing.assert_allclose(
    run(MONTE_CARLO, exact, binary)['elbo'], jnp.stack(evidence), atol=1e-4
  )
