"""Modulation: the definition against the paper's formula, the fast path against the definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iavae import hypernetworks, networks
from iavae.hypernetworks import linear
from iavae.inference import amortized, instance_adaptive
from iavae.models import synthetic
from iavae.modulation import make_blocks, modulate
from rounding import assert_within_ulps

ENCODER = networks.mlp((2,), {'mean': 2, 'log_var': 2})
MODEL = synthetic.make()
X = jnp.array([0.3, -1.2, 0.7])


def as_float64(tree):
  return jax.tree.map(lambda a: jnp.asarray(np.asarray(a), jnp.float64), tree)


def large(params):
  """The same structure with entries of order one, so that nothing hides behind a small scale."""
  leaves, treedef = jax.tree.flatten(params)
  rngs = jax.random.split(jax.random.key(9), len(leaves))
  return jax.tree.unflatten(
    treedef, [jax.random.normal(r, a.shape, a.dtype) for r, a in zip(rngs, leaves, strict=True)]
  )


def test_the_papers_68_parameters():
  params = instance_adaptive.make(MODEL, ENCODER).init(jax.random.key(0), X)['inference']
  count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
  psi = params['hypernetwork']
  counts = count(params['encoder']), psi['weight'].size + psi['bias'].size, psi['embeddings'].size
  assert counts == (20, 36, 12)


def test_layers_as_blocks():
  base = ENCODER.init(jax.random.key(0), X)
  assert sorted(make_blocks(base, 'layer').sizes) == [6, 6, 8]
  assert sorted(make_blocks(base, 'tensor').sizes) == [2, 2, 2, 4, 4, 6]
  with pytest.raises(ValueError, match="unknown layout 'both'"):
    make_blocks(base, 'both')


@pytest.mark.parametrize('layout', ['tensor', 'layer'])
def test_every_parameter_has_a_place_of_its_own(layout):
  blocks = make_blocks(ENCODER.init(jax.random.key(0), X), layout)
  index = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(blocks.index)])
  position = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(blocks.position)])
  for block, size in enumerate(blocks.sizes):
    np.testing.assert_array_equal(np.sort(position[index == block]), np.arange(size))


def test_definition_is_the_papers_formula():
  """phi_l = phi_AVI,l + (W [x; e_l] + b)_{1:d_l}, kernels filled row by row as [out, in]."""
  base = ENCODER.init(jax.random.key(0), X)
  blocks = make_blocks(base)
  psi = large(linear.init(jax.random.key(1), blocks, 3))
  modulation = linear.modulation(psi, blocks, X)
  weight, bias = np.asarray(psi['weight']), np.asarray(psi['bias'])
  order = [(layer, name) for layer in sorted(base) for name in ('kernel', 'bias')]
  for embedding, (layer, name) in zip(np.asarray(psi['embeddings']), order, strict=True):
    expected = weight @ np.concatenate([X, embedding]) + bias
    found = np.asarray(modulation[layer][name])
    assert_within_ulps(found.T.ravel(), expected[: found.size], 32)


@pytest.mark.parametrize('layout', ['tensor', 'layer'])
def test_factored_equals_definition_in_value_and_gradient(layout, x64):
  factored = instance_adaptive.make(MODEL, ENCODER, layout=layout)
  definition = instance_adaptive.make(MODEL, ENCODER, layout=layout, factored=False)
  params = large(as_float64(factored.init(jax.random.key(0), X)))
  x = jax.random.normal(jax.random.key(2), (16, 3), jnp.float64)
  rngs = jax.random.split(jax.random.key(3), 16)

  def mean_loss(method):
    return lambda params: jax.vmap(method.loss, in_axes=(None, 0, 0, None))(params, x, rngs, 1.0)[
      0
    ].mean()

  value, gradient = jax.jit(jax.value_and_grad(mean_loss(factored)))(params)
  expected, expected_gradient = jax.jit(jax.value_and_grad(mean_loss(definition)))(params)
  assert float(value) == pytest.approx(float(expected), rel=1e-12)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10),
    gradient,
    expected_gradient,
  )


@pytest.mark.parametrize('factored', [True, False])
def test_zero_output_layer_is_the_base(factored):
  """To float error: products of batches may add in another order than those of one matrix."""
  method = instance_adaptive.make(MODEL, ENCODER, factored=factored)
  params = method.init(jax.random.key(0), X)
  params['inference']['hypernetwork'] |= {
    'weight': jnp.zeros_like(params['inference']['hypernetwork']['weight'])
  }
  base = amortized.make(MODEL, ENCODER)
  x = jax.random.normal(jax.random.key(1), (64, 3))
  modulated = jax.jit(jax.vmap(lambda x: method.infer(params, x, None)))(x)
  plain = jax.jit(jax.vmap(lambda x: base.infer(params, x, None)))(x)
  assert_within_ulps(modulated, plain, 32)


def test_the_definition_of_zero_weights_is_the_base_bit_for_bit():
  params = ENCODER.init(jax.random.key(0), X)
  h = hypernetworks.make('linear')
  psi = h.init(jax.random.key(1), params, 3)
  psi['weight'] = jnp.zeros_like(psi['weight'])
  found = modulate(params, h.modulation(psi, params, jnp.ones(3)))
  jax.tree.map(np.testing.assert_array_equal, found, params)


def test_embeddings_are_standard_normal():
  base = {f'layer_{i}': {'kernel': jnp.zeros((1, 1)), 'bias': jnp.zeros(1)} for i in range(200)}
  psi = hypernetworks.make('linear', embedding_dim=4).init(jax.random.key(0), base, 3)
  values = np.asarray(psi['embeddings'], np.float64)
  assert values.shape == (400, 4)
  assert abs((values**2).mean() - 1) <= 5 * np.sqrt(2 / values.size)


def test_modulate_by_zero_is_identity():
  base = ENCODER.init(jax.random.key(0), X)
  jax.tree.map(
    np.testing.assert_array_equal, modulate(base, jax.tree.map(jnp.zeros_like, base)), base
  )


def test_static_control_does_not_read_x():
  """Without x the modulated encoder is ONE encoder; with x it differs between examples."""
  for condition in ('zeros', 'x'):
    method = instance_adaptive.make(MODEL, ENCODER, condition=condition)
    params = large(method.init(jax.random.key(0), X))
    psi = params['inference']['hypernetwork']

    def mean(weight):
      inference = params['inference'] | {'hypernetwork': psi | {'weight': weight}}
      return method.infer({'model': {}, 'inference': inference}, X, None).mean

    jacobian = jax.jacobian(mean)(psi['weight'])
    reads_x = bool(np.any(np.asarray(jacobian)[..., :3] != 0))
    assert reads_x == (condition == 'x')


def test_batch_equals_loop():
  method = instance_adaptive.make(MODEL, ENCODER)
  params = large(method.init(jax.random.key(0), X))
  x = jax.random.normal(jax.random.key(1), (8, 3))
  batched = jax.vmap(lambda x: method.infer(params, x, None))(x)
  single = [method.infer(params, example, None) for example in x]
  assert_within_ulps(batched, jax.tree.map(lambda *leaves: jnp.stack(leaves), *single), 32)


def test_initial_scales():
  """W ~ N(0, 1e-2), b = 0: with few weights, 5 standard errors of a standard deviation."""
  blocks = make_blocks(ENCODER.init(jax.random.key(0), X))
  psi = jax.vmap(lambda rng: linear.init(rng, blocks, 3))(jax.random.split(jax.random.key(5), 200))
  count = psi['weight'].size
  assert np.std(psi['weight']) == pytest.approx(1e-2, abs=5e-2 / np.sqrt(2 * count))
  assert not np.any(psi['bias'])
