"""The gradient of a batch against the plain one, batch normalization against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from iavae import decoders, epochs, freezing, gradients, layers, optimizers
from iavae.inference import amortized, instance_adaptive
from iavae.models import vae
from iavae.posteriors.gaussian import diagonal_gaussian
from iavae.resnet import resnet
from iavae.types import BATCH
from rounding import assert_within_ulps

SHAPE, LATENT_DIM, BATCH_SIZE = (8, 8, 1), 3, 12
HEADS = {'mean': LATENT_DIM, 'log_var': LATENT_DIM}
MODEL = vae.make(decoders.mlp_decoder(LATENT_DIM, SHAPE, (16,)), LATENT_DIM)
ENCODER = resnet(HEADS, width=4, num_blocks=2)
X = jax.random.bernoulli(jax.random.key(0), 0.3, (BATCH_SIZE, *SHAPE)).astype(jnp.float32)
RNGS = jax.random.split(jax.random.key(1), BATCH_SIZE)


def as_float64(tree):
  return jax.tree.map(lambda a: jnp.asarray(np.asarray(a), jnp.float64), tree)


def none_of(params):
  return jax.tree.map(lambda _: None, params)


def assert_close(found, expected, rtol):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12), found, expected
  )


def test_micro_batches_change_nothing(x64):
  method = instance_adaptive.make(MODEL, ENCODER, hypernetwork='layerwise', slice_dim=2)
  params = as_float64(method.init(jax.random.key(2), X[0]))
  trained, frozen = freezing.partition(params, instance_adaptive.FROZEN)

  def mean_loss(trained):
    full = freezing.merge(trained, frozen)
    loss = jax.vmap(method.loss, in_axes=(None, 0, 0, None))
    return loss(full, X.astype(jnp.float64), RNGS, 0.7)[0].mean()

  gradient = jax.jit(gradients.make_gradient(MODEL, method, micro_batch=4))
  found, metrics = gradient(trained, frozen, X.astype(jnp.float64), RNGS, 0.7)
  assert_close(found, jax.jit(jax.grad(mean_loss))(trained), rtol=1e-9)
  assert metrics['elbo'].shape == metrics['kl'].shape == ()


@pytest.mark.parametrize('micro_batch', [3, 12])
def test_batch_normalization_sees_the_whole_batch(micro_batch, x64):
  """Against a loss written with whole arrays: moments over batch and positions, one mean."""
  method = amortized.make(MODEL, ENCODER)
  params = as_float64(method.init(jax.random.key(2), X[0]))
  x = X.astype(jnp.float64)

  def mean_loss(params):
    infer = jax.vmap(method.infer_train, in_axes=(None, 0, 0), axis_name=BATCH)
    heads, tracking = infer(params, x, RNGS)
    q = jax.vmap(diagonal_gaussian)(heads)
    noise = jax.vmap(lambda rng: jax.random.normal(rng, (LATENT_DIM,), jnp.float64))(RNGS)
    z = q.mean + jnp.exp(q.log_scale) * noise
    logits = jax.vmap(lambda z: MODEL.decode(params['model'], z))(z)
    log_likelihood = jnp.sum(x * jnp.log(logits) + (1 - x) * jnp.log1p(-logits), (1, 2, 3))
    kl = jax.vmap(lambda q: q.standard_normal_kl())(q)
    return jnp.mean(0.7 * kl - log_likelihood) + jnp.mean(tracking)

  gradient = jax.jit(gradients.make_gradient(MODEL, method, micro_batch=micro_batch))
  found, _ = gradient(params, none_of(params), x, RNGS, 0.7)
  assert_close(found, jax.jit(jax.grad(mean_loss))(params), rtol=1e-7)


def test_batch_norm_is_the_formula_and_tracks_its_moments():
  u = jax.random.normal(jax.random.key(3), (6, 5, 4, 3)) * 2 + 1
  layer = layers.batch_norm_init(3) | {'scale': jnp.array([1.0, 2, 3]), 'shift': jnp.arange(3.0)}
  layer |= {'running_mean': jnp.array([0.5, 0, 1]), 'running_variance': jnp.array([1.0, 2, 3])}
  normalize = jax.vmap(layers.batch_norm, in_axes=(None, 0), axis_name=BATCH)
  found, tracking = normalize(layer, u)
  mean, variance = np.mean(u, (0, 1, 2)), np.var(u, (0, 1, 2))
  expected = (u - mean) / np.sqrt(variance + 1e-5) * layer['scale'] + layer['shift']
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(tracking, 0)

  # A step of the optimizer is PyTorch's running average, with the unbiased variance
  slope = jax.grad(lambda layer: normalize(layer, u)[1].mean())(layer)
  params = {'inference': {'norm': layer}}
  optimizer = optimizers.make_optimizer({'inference': 1.0, 'model': 1.0}, weight_decay=0.1)
  updates, _ = optimizer.update({'inference': {'norm': slope}}, optimizer.init(params), params)
  new = optax.apply_updates(params, updates)['inference']['norm']
  unbiased = np.var(np.reshape(u, (-1, 3)), axis=0, ddof=1)
  np.testing.assert_allclose(new['running_mean'], 0.9 * layer['running_mean'] + 0.1 * mean, 1e-5)
  np.testing.assert_allclose(
    new['running_variance'], 0.9 * layer['running_variance'] + 0.1 * unbiased, rtol=1e-5
  )


def test_frozen_batch_norm_uses_the_running_moments():
  u = jax.random.normal(jax.random.key(3), (5, 4, 2))
  layer = {
    'scale': jnp.array([1.0, 2]),
    'shift': jnp.array([0.0, -1]),
    'running_mean': jnp.array([0.3, 0.1]),
    'running_variance': jnp.array([2.0, 0.5]),
  }
  expected = (u - layer['running_mean']) / np.sqrt(layer['running_variance'] + 1e-5)
  expected = expected * layer['scale'] + layer['shift']
  assert_within_ulps(layers.frozen_batch_norm(layer, u), expected, 16)


def test_optimizer_is_pytorchs_adam_with_coupled_decay():
  """Clip all gradients together, add decay * params, Adam; each half at its own rate."""
  rates, decay = {'model': 0.1, 'inference': 0.3}, 0.05
  params = {'model': {'a': jnp.array([1.0, -2])}, 'inference': {'b': jnp.array([3.0])}}
  optimizer = optimizers.make_optimizer(rates, weight_decay=decay, max_norm=5.0)
  state = optimizer.init(params)
  numpy = {'model': np.array([1.0, -2]), 'inference': np.array([3.0])}
  moments = {half: (0.0, 0.0) for half in numpy}
  for step, scale in enumerate((1.0, 10.0, 0.1), start=1):
    slope = {
      'model': {'a': scale * jnp.array([1.0, 2])},
      'inference': {'b': scale * jnp.array([-2.0])},
    }
    updates, state = optimizer.update(slope, state, params)
    params = optax.apply_updates(params, updates)
    norm = 3 * scale
    clipped = {
      'model': scale * np.array([1.0, 2]) * min(1, 5 / norm),
      'inference': scale * np.array([-2.0]) * min(1, 5 / norm),
    }
    for half, value in numpy.items():
      g = clipped[half] + decay * value
      first, second = moments[half]
      first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
      moments[half] = (first, second)
      corrected = first / (1 - 0.9**step), second / (1 - 0.999**step)
      numpy[half] = value - rates[half] * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
  # 1 - .999^t loses three digits of float32
  np.testing.assert_allclose(params['model']['a'], numpy['model'], rtol=1e-4)
  np.testing.assert_allclose(params['inference']['b'], numpy['inference'], rtol=1e-4)


def test_warm_up_is_kims():
  """.1 at first, 1 / (10 batches) more at every step, 1 after nine epochs."""
  found = [float(epochs.warm_up(jnp.asarray(step), 10 * 4)) for step in (0, 1, 4, 35, 36, 400)]
  np.testing.assert_allclose(found, [0.1, 0.125, 0.2, 0.975, 1.0, 1.0], rtol=1e-6)
  assert float(epochs.warm_up(jnp.asarray(0), 0)) == 1


def test_binarization_has_the_intensities_as_its_mean():
  images = jnp.array([0, 1, 64, 200, 254, 255], jnp.uint8)
  rngs = jax.random.split(jax.random.key(0), 20_000)
  mean = jax.vmap(lambda rng: epochs.binarize(images, rng))(rngs).mean(axis=0)
  p = np.asarray(images) / 255
  assert np.all(np.abs(mean - p) <= 5 * np.sqrt(p * (1 - p) / 20_000))


def test_bfloat16_multiplies_only_kernels():
  method = amortized.make(MODEL, ENCODER._replace(apply_train=None))
  params = method.init(jax.random.key(2), X[0])
  low = gradients.lower_precision(params, 'bfloat16')
  encoder = low['inference']['encoder']
  assert encoder['mean']['kernel'].dtype == jnp.bfloat16
  assert encoder['mean']['bias'].dtype == encoder['block0_norm1']['scale'].dtype == jnp.float32
  found, exact = (
    jax.jit(gradients.make_gradient(MODEL, method, micro_batch=4, precision=precision))(
      params, none_of(params), X, RNGS, 1.0
    )[0]
    for precision in ('bfloat16', 'float32')
  )
  assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype('float32')}
  # bfloat16 keeps 8 bits: a few per mille, of the largest entry of each leaf
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
    assert np.abs(a - b).max() <= 0.05 * max(np.abs(b).max(), 1e-3)
