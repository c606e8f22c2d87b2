"""Networks against numpy, and their initialization against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iavae import networks
from rounding import assert_within_ulps

X = jnp.array([0.3, -1.2, 0.7])
HEADS = {'mean': 2, 'log_var': 2}
ACTIVATIONS = {
  'relu': lambda u: np.maximum(u, 0),
  'silu': lambda u: u / (1 + np.exp(-u)),
  'elu': lambda u: np.where(u > 0, u, np.expm1(u)),
  'tanh': np.tanh,
  'glu': lambda u: u[: len(u) // 2] * u[len(u) // 2 :],
}


@pytest.mark.parametrize('activation', networks.ACTIVATIONS)
def test_mlp_equals_numpy(activation):
  network = networks.mlp((4, 3), HEADS, activation)
  params = jax.tree.map(np.asarray, network.init(jax.random.key(0), X))
  u = np.asarray(X)
  for name in ('hidden_0', 'hidden_1'):
    u = ACTIVATIONS[activation](u @ params[name]['kernel'] + params[name]['bias'])
  for name, value in network.apply(params, X).items():
    assert_within_ulps(value, u @ params[name]['kernel'] + params[name]['bias'], 32)


@pytest.mark.parametrize(
  ('hidden', 'activation', 'expected'),
  [
    (2, 'relu', 20),
    (8, 'relu', 68),
    (8, 'silu', 68),
    (14, 'relu', 116),
    (20, 'relu', 164),
    (5, 'glu', 64),
  ],
)
def test_parameter_counts(hidden, activation, expected):
  params = networks.mlp((hidden,), HEADS, activation).init(jax.random.key(0), X)
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


def test_initialization_is_uniform_in_one_over_root_fan_in():
  init = networks.mlp((2,), HEADS).init
  params = jax.vmap(init, in_axes=(0, None))(jax.random.split(jax.random.key(0), 2000), X)
  for layer, fan_in in (('hidden_0', 3), ('mean', 2)):
    for name in ('kernel', 'bias'):
      values, limit = np.asarray(params[layer][name]).ravel(), fan_in**-0.5
      assert np.abs(values).max() <= limit
      # standard deviation limit / sqrt(3); 5 standard errors of it (kurtosis 1.8)
      error = 5 * limit / np.sqrt(3) * np.sqrt(0.8 / 4 / len(values))
      assert values.std() == pytest.approx(limit / np.sqrt(3), abs=error)


def test_unknown_activation():
  with pytest.raises(ValueError, match="unknown activation 'swish'"):
    networks.mlp((2,), HEADS, 'swish')


def test_dead_units_are_counted():
  """Always on, never, by examples, and always at exactly 0, where a ReLU lets nothing through."""
  params = networks.mlp((5,), HEADS).init(jax.random.key(0), X)
  x = jax.random.uniform(jax.random.key(1), (50, 3), minval=-0.9, maxval=1.0)
  params['hidden_0'] = {
    'kernel': jnp.array([[1.0, -1.0, 1.0, 0.0, 0.0]] * 3),
    'bias': jnp.array([3.0, -3.0, 0.0, 0.1, 0.0]),
  }
  assert networks.num_dead_units(params, x) == 2


def test_features_are_the_first_hidden_layer():
  network = networks.mlp((4, 3), HEADS, 'tanh')
  params = network.init(jax.random.key(0), X)
  layer = jax.tree.map(np.asarray, params['hidden_0'])
  expected = np.tanh(np.asarray(X) @ layer['kernel'] + layer['bias'])
  assert_within_ulps(network.features(params, X), expected, 32)


@pytest.mark.parametrize(('name', 'variance', 'bias'), [('torch', 1 / 3, 1 / 3), ('lecun', 1, 0)])
def test_initial_variances(name, variance, bias):
  """Times D_in, within 5 standard errors of a variance (normal: the wider of the two)."""
  network = networks.mlp((300,), {'mean': 200}, initialization=name)
  params = jax.jit(network.init)(jax.random.key(3), jnp.zeros(400))
  for layer, size in (('hidden_0', 400), ('mean', 300)):
    kernel, b = (np.asarray(params[layer][part], np.float64) for part in ('kernel', 'bias'))
    assert abs(size * kernel.var() - variance) < 5 * variance * np.sqrt(2 / kernel.size)
    assert abs(size * b.var() - bias) <= 5 * bias * np.sqrt(2 / b.size)


def test_an_unknown_initialization_is_refused():
  with pytest.raises(ValueError, match="unknown initialization 'he'; one of torch, lecun"):
    networks.mlp((2,), {'mean': 2}, initialization='he')
