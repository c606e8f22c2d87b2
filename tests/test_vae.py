"""Models of binary images: the likelihood and the MLP decoder against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from iavae import decoders, pixelcnn
from iavae.models import vae

SHAPE, LATENT_DIM = (3, 4, 2), 5
DECODER = decoders.mlp_decoder(LATENT_DIM, SHAPE, (7, 6), 'tanh')
MODEL = vae.make(DECODER, LATENT_DIM)
PARAMS = MODEL.init(jax.random.key(0))
Z = jnp.array([0.5, -1.2, 0.8, 2.0, -0.3])


def sigmoid(logits):
  return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


def numpy_decode(z):
  """Probabilities: tanh of two layers, then one to the pixels in raster order."""
  u = np.asarray(z, np.float64)
  for name in ('hidden_0', 'hidden_1'):
    u = np.tanh(u @ np.asarray(PARAMS[name]['kernel']) + np.asarray(PARAMS[name]['bias']))
  last = PARAMS['logits']
  return sigmoid(u @ np.asarray(last['kernel']) + np.asarray(last['bias'])).reshape(SHAPE)


def binary(rng=1):
  return jax.random.bernoulli(jax.random.key(rng), shape=SHAPE).astype(jnp.float32)


@pytest.mark.parametrize('dtype', ['float32', 'uint8', 'bool'])
def test_likelihood_is_the_formula_with_clipped_probabilities(dtype):
  logits = jnp.array([-1e30, -100, -11, -2, 0, 0.3, 5, 11, 100, jnp.inf])
  p = np.clip(sigmoid(np.clip(logits, -700, 700)), 1e-5, 1 - 1e-5)
  for x in (np.zeros(10), np.ones(10), np.arange(10) % 2):
    expected = np.sum(x * np.log(p) + (1 - x) * np.log1p(-p))
    found = vae.bernoulli_log_likelihood(logits, jnp.asarray(x, dtype))
    assert found == pytest.approx(expected, rel=1e-5)


def test_likelihood_in_float64_and_from_bfloat16(x64):
  logits, x = jnp.linspace(-11, 11, 24).reshape(SHAPE), binary().astype(jnp.float64)
  p, pixels = sigmoid(logits), np.asarray(x)
  expected = np.sum(pixels * np.log(p) + (1 - pixels) * np.log1p(-p))
  assert vae.bernoulli_log_likelihood(logits, x) == pytest.approx(expected, rel=1e-12)
  low = jnp.asarray(logits, jnp.bfloat16)
  p = sigmoid(np.asarray(low, np.float64))
  expected = np.sum(pixels * np.log(p) + (1 - pixels) * np.log1p(-p))
  found = vae.bernoulli_log_likelihood(low, jnp.asarray(x, jnp.float32))
  assert found.dtype == jnp.float32 and found == pytest.approx(expected, rel=1e-5)


def test_gradient_is_the_residual_and_zero_where_clipped():
  """The largest logit is log((1 - 1e-5) / 1e-5) = 11.51."""
  logits = jnp.array([-1e30, -11.6, -11.5, -1, 0, 3, 11.5, 11.6, 1e30])
  for x in (jnp.zeros(9), jnp.ones(9)):
    expected = np.where(
      np.abs(logits) < 11.51, np.asarray(x) - sigmoid(np.clip(logits, -20, 20)), 0
    )
    found = jax.grad(vae.bernoulli_log_likelihood)(logits, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


def test_prior_is_standard_normal():
  assert MODEL.standard_normal_prior
  assert MODEL.log_prior(PARAMS, Z) == pytest.approx(stats.norm.logpdf(Z).sum(), rel=1e-5)
  z = np.asarray(jax.vmap(lambda rng: MODEL.sample_prior(PARAMS, rng))(
    jax.random.split(jax.random.key(2), 4000)))  # fmt: skip
  assert z.shape[1:] == (LATENT_DIM,)
  assert np.abs(z.mean(axis=0)).max() <= 5 / np.sqrt(4000)
  covariance_error = np.sqrt((1 + np.eye(LATENT_DIM)) / 4000)
  assert np.all(np.abs(z.T @ z / 4000 - np.eye(LATENT_DIM)) <= 5 * covariance_error)


def test_mlp_decoder_is_the_formula_whatever_x():
  expected = numpy_decode(Z)
  np.testing.assert_allclose(MODEL.decode(PARAMS, Z), expected, rtol=1e-5)
  for x in (binary(), 1 - binary()):
    np.testing.assert_allclose(sigmoid(DECODER.logits(PARAMS, x, Z)), expected, rtol=1e-5)
    pixels = np.where(x == 1, expected, 1 - expected)
    assert MODEL.log_likelihood(PARAMS, x, Z) == pytest.approx(np.log(pixels).sum(), rel=1e-5)


def test_mlp_decoder_samples_pixels_independently():
  """Means and covariances of 4,000 samples within 5 standard errors."""
  num, p = 4000, numpy_decode(Z).ravel()
  rngs = jax.random.split(jax.random.key(3), num)
  samples = np.asarray(jax.jit(jax.vmap(lambda rng: MODEL.sample(PARAMS, Z, rng)))(rngs))
  assert samples.shape[1:] == SHAPE and set(np.unique(samples)) == {0.0, 1.0}
  residual = samples.reshape(num, -1) - p
  assert np.all(np.abs(residual.mean(axis=0)) <= 5 * np.sqrt(p * (1 - p) / num))
  covariance, variance = residual.T @ residual / num, p * (1 - p)
  off_diagonal = ~np.eye(len(p), dtype=bool)
  error = np.sqrt(np.outer(variance, variance) / num)
  assert np.all(np.abs(covariance[off_diagonal]) <= 5 * error[off_diagonal])


def test_mean_and_samples_are_of_the_probabilities_that_the_likelihood_has():
  """At logits of -+20 it is log(1 - 1e-5) a pixel: .0078 nats of a black image of 28 x 28."""
  logits = jnp.where(jnp.arange(784).reshape(28, 28, 1) % 2, 20.0, -20.0)
  model = vae.make(decoders.mlp_decoder(2, logits.shape, ()), 2)
  params = jax.tree.map(jnp.zeros_like, jax.eval_shape(model.init, jax.random.key(0)))
  params['logits']['bias'] = logits.ravel()
  mean = model.decode(params, jnp.zeros(2))
  np.testing.assert_allclose(mean, np.where(logits > 0, 1 - 1e-5, 1e-5), rtol=1e-3)
  likely = (mean > 0.5).astype(jnp.float32)
  found = model.log_likelihood(params, likely, jnp.zeros(2))
  assert found == pytest.approx(
    784 * np.log1p(-1e-5), rel=0.05
  )  # of float32: 11.5 - softplus(11.5)
  # 784,000 pixels that differ from the likeliest with probability 1e-5
  rngs = jax.random.split(jax.random.key(4), 1000)
  drawn = jax.jit(jax.vmap(lambda rng: model.sample(params, jnp.zeros(2), rng) != likely))(rngs)
  assert abs(int(drawn.sum()) - 7.84) <= 5 * np.sqrt(7.84)
  assert int(drawn.sum()) > 0


def test_an_autoregressive_decoder_has_no_mean_and_reads_x():
  decoder = pixelcnn.make(LATENT_DIM, SHAPE, 2, (3,), 1)
  model = vae.make(decoder, LATENT_DIM)
  assert model.decode is None and MODEL.decode is not None
  params = jax.jit(model.init)(jax.random.key(0))
  x = binary()
  p = sigmoid(decoder.logits(params, x, Z))
  pixels = np.where(x == 1, p, 1 - p)
  assert model.log_likelihood(params, x, Z) == pytest.approx(np.log(pixels).sum(), rel=1e-5)
  assert np.abs(p - sigmoid(decoder.logits(params, 1 - x, Z))).max() > 1e-3
