"""The residual encoder against numpy, and networks that are widened without changing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iavae import layers, networks
from iavae.resnet import resnet
from iavae.types import BATCH
from rounding import assert_within_ulps

HEADS = {'mean': 3, 'log_var': 2}
SHAPE, NUM, NUM_BLOCKS = (7, 10, 2), 6, 2  # an odd and an even size, 7 -> 3 -> 1, 10 -> 5 -> 2
NORMS = ('running_mean', 'running_variance')


def draw(encoder, seed=0, shape=SHAPE):
  """Float64 parameters of order one; moments unlike those of any batch."""
  rng = np.random.default_rng(seed)

  def values(path, leaf):
    normal = rng.standard_normal(leaf.shape) * max(1, np.prod(leaf.shape[:-1])) ** -0.5
    return jnp.asarray(0.5 + abs(normal) if path[-1].key == 'running_variance' else normal)

  shapes = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros(shape))
  return jax.tree_util.tree_map_with_path(values, shapes)


def images(shape=SHAPE):
  return jnp.asarray(np.random.default_rng(1).standard_normal((NUM, *shape)))


def numpy_convolution(u, layer):
  """Of a batch: 3x3 and 1x1 with zeros around, 2x2 in steps of two; all written out."""
  kernel = layer['kernel']
  height, width, step = *kernel.shape[:2], 2 if len(kernel) == 2 else 1
  around = height // 2 if step == 1 else 0
  u = np.pad(u, ((0, 0), (around, around), (around, around), (0, 0)))
  rows = range(0, u.shape[1] - height + 1, step)
  columns = range(0, u.shape[2] - width + 1, step)
  pixel = lambda i, j: np.einsum('nabc,abco->no', u[:, i : i + height, j : j + width], kernel)
  out = np.stack([np.stack([pixel(i, j) for j in columns], axis=1) for i in rows], axis=1)
  return out + layer['bias']


def numpy_norm(u, layer, training):
  mean, variance = layer['running_mean'], layer['running_variance']
  if training:
    mean, variance = u.mean((0, 1, 2)), u.var((0, 1, 2))
  return (u - mean) / np.sqrt(variance + 1e-5) * layer['scale'] + layer['shift']


def numpy_resnet(params, x, training):
  p, u = jax.tree.map(np.asarray, params), np.asarray(x)
  for b in range(NUM_BLOCKS):
    block = lambda name: p[f'block{b}_{name}']
    residual = numpy_convolution(u, block('projection')) if b == 0 else u
    v = numpy_norm(numpy_convolution(u, block('conv1')), block('norm1'), training)
    v = numpy_convolution(np.maximum(v, 0), block('conv2'))
    u = np.maximum(residual + numpy_norm(v, block('norm2'), training), 0)
    u = numpy_convolution(u, p[f'down{b}'])
  flat = u.reshape(len(u), -1)
  return {name: flat @ p[name]['kernel'] + p[name]['bias'] for name in HEADS}


def assert_close(found, expected, rtol=1e-10):
  for name, values in expected.items():
    np.testing.assert_allclose(found[name], values, rtol=rtol, atol=1e-12, err_msg=name)


def test_the_272448_parameters():
  shapes = jax.eval_shape(
    resnet({'mean': 32, 'log_var': 32}).init, jax.random.key(0), jnp.zeros((28, 28, 1))
  )
  tensors = [(name, leaf.size) for layer in shapes.values() for name, leaf in layer.items()]
  assert sum(size for name, size in tensors if name not in NORMS) == 272_448
  assert sum(size for name, size in tensors if name in NORMS) == 2 * 6 * 64


def test_three_halvings_of_28():
  encoder, sizes = resnet(HEADS, width=2), {}
  params = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((28, 28, 1)))

  def forward(params, x):
    def linear(name, u):
      sizes[name] = u.shape[:2]
      return layers.linear(params[name], u)

    return encoder.apply_layers(linear, params, x)

  jax.eval_shape(forward, params, jnp.zeros((28, 28, 1)))
  inputs = [sizes[name] for name in ('block0_conv1', 'down0', 'down1', 'block2_conv2', 'down2')]
  assert inputs == [(28, 28), (28, 28), (14, 14), (7, 7), (7, 7)]
  assert sizes['mean'] == (2 * 3 * 3,)


def test_evaluation_is_the_formula(x64):
  encoder = resnet(HEADS, width=3, num_blocks=NUM_BLOCKS)
  params, x = draw(encoder), images()
  found = jax.jit(jax.vmap(encoder.apply, in_axes=(None, 0)))(params, x)
  assert_close(found, numpy_resnet(params, x, training=False))

  given = lambda params, x: encoder.apply_layers(layers.shared(params), params, x)
  same = jax.jit(jax.vmap(given, in_axes=(None, 0)))(params, x)
  assert_within_ulps(same, found, 1000)


def test_training_normalizes_by_the_moments_of_the_whole_batch(x64):
  encoder = resnet(HEADS, width=3, num_blocks=NUM_BLOCKS)
  params, x = draw(encoder), images()
  train = jax.vmap(encoder.apply_train, in_axes=(None, 0), axis_name=BATCH)
  found, tracking = jax.jit(train)(params, x)
  assert_close(found, numpy_resnet(params, x, training=True))
  np.testing.assert_allclose(tracking, 0, atol=1e-12)  # one distance less the same


def test_tracking_leads_to_the_moments_of_the_batch(x64):
  """One step of rate 1 on the tracking term sets the running moments: then both modes agree."""
  encoder = resnet(HEADS, width=3, num_blocks=NUM_BLOCKS)
  params, x = draw(encoder), images()
  train = jax.vmap(encoder.apply_train, in_axes=(None, 0), axis_name=BATCH)
  slopes, found = jax.jit(
    jax.grad(lambda p: (lambda out: (out[1].mean(), out[0]))(train(p, x)), has_aux=True)
  )(params)
  moved = jax.tree.map(lambda a, slope: a - slope, params, slopes)
  for name, layer in moved.items():
    if 'running_variance' in layer:  # unbiased: of NUM images of 7 x 10 pixels, or 3 x 5
      num = NUM * (70 if 'block0' in name else 15)
      layer['running_variance'] *= (num - 1) / num
      continue
    jax.tree.map(np.testing.assert_array_equal, layer, params[name])  # nothing else moves
  assert_close(jax.jit(jax.vmap(encoder.apply, in_axes=(None, 0)))(moved, x), found)


def test_initial_distribution():
  """Within 5 standard errors: U(+-1/sqrt(fan_in)), heads N(0, 2/fan_in), norms the identity."""
  params = jax.jit(resnet({'mean': 32, 'log_var': 32}).init)(
    jax.random.key(3), jnp.zeros((28, 28, 1))
  )
  uniform, normal = [], []
  for name, layer in params.items():
    if 'kernel' not in layer:
      expected = {'scale': 1, 'shift': 0, 'running_mean': 0, 'running_variance': 1}
      jax.tree.map(np.testing.assert_array_equal, layer, expected)
      continue
    root = np.sqrt(np.prod(layer['kernel'].shape[:-1]))
    uniform.append(np.ravel(layer['bias']) * root)
    if name in ('mean', 'log_var'):
      normal.append(np.ravel(layer['kernel']) * root / np.sqrt(2))
    else:
      uniform.append(np.ravel(layer['kernel']) * root)
  for u in (*uniform, np.concatenate(uniform)):
    assert abs(u).max() <= 1
    assert abs(u.mean()) <= 5 * np.sqrt(1 / 3 / u.size)
    assert abs((u**2).mean() - 1 / 3) <= 5 * np.sqrt(4 / 45 / u.size)
  for n in normal:
    assert abs(n.mean()) <= 5 / np.sqrt(n.size)
    assert abs((n**2).mean() - 1) <= 5 * np.sqrt(2 / n.size)
    # u1, .., un of one normal each: the largest of a uniform would be sqrt(3) at most
    assert abs(n).max() > 3


WIDENED = {
  'resnet': (lambda width: resnet(HEADS, width, NUM_BLOCKS), 1 * 2),
  'mlp': (lambda width: networks.mlp((width, width + 1), HEADS, 'silu'), 1),
}


@pytest.mark.parametrize('name', WIDENED)
def test_a_widened_network_computes_the_same_and_can_learn_more(name, x64):
  make, positions = WIDENED[name]
  narrow, wide, x = make(3), make(5), images()
  params = draw(narrow)
  widened = layers.widen(params, draw(wide, seed=7), positions)
  assert jax.tree.map(jnp.shape, widened) == jax.tree.map(jnp.shape, draw(wide))

  def loss(params, network):
    heads = jax.vmap(network.apply, in_axes=(None, 0))(params, x)
    return sum(jnp.sum(jnp.sin(head)) for head in heads.values()), heads

  gradient = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
  old, expected = gradient(params, narrow)
  new, found = gradient(widened, wide)
  assert_close(found, expected, rtol=1e-12)

  for layer in (layer for layer in old if 'kernel' in old[layer]):
    shape = old[layer]['kernel'].shape
    split = lambda a: a if a.ndim == 4 else a.reshape(positions, 1, -1, a.shape[-1])
    slope = split(np.asarray(new[layer]['kernel']))
    num_in, num_out = split(np.asarray(old[layer]['kernel'])).shape[2:]
    known = slope[:, :, :num_in, :num_out]
    np.testing.assert_allclose(known.reshape(shape), old[layer]['kernel'], rtol=1e-9, atol=1e-12)
    assert num_in == slope.shape[2] or np.any(slope[:, :, num_in:, :num_out] != 0), layer
    # What nothing of the output depends on yet has no gradient
    np.testing.assert_array_equal(slope[..., num_out:], 0)
