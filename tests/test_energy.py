"""Energy-normalized FiLM: its definition against numpy, its fast path against that."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_hypernetworks import draw

from iavae import hypernetworks, networks
from iavae.inference import instance_adaptive
from iavae.models import synthetic
from iavae.modulation import modulate
from rounding import assert_within_ulps

ENCODER = networks.mlp((2,), {'mean': 2, 'log_var': 2})
MODEL = synthetic.make()
X = np.random.default_rng(0).standard_normal((4, 3))


def make(**options):
  return instance_adaptive.make(MODEL, ENCODER, hypernetwork='energy', **options)


def drawn_params():
  return draw(jax.eval_shape(make().init, jax.random.key(0), X[0]), 2)


def test_initial_scales():
  """a ~ N(0, 1/4), so that energies do not start even in x; within 5 standard errors."""
  base = {'mean': {'kernel': jnp.zeros((3, 2)), 'bias': jnp.zeros(2)}}
  h = hypernetworks.make('energy', trunk_dim=400)
  trunk = jax.jit(lambda rng: h.init(rng, base, 25))(jax.random.key(0))['trunk']
  for values, scale in ((trunk['bias'], 0.5), (trunk['kernel'], 25**-0.5)):
    unit = np.asarray(values, np.float64) / scale
    assert abs((unit**2).mean() - 1) <= 5 * np.sqrt(2 / unit.size)


def expected_modulation(psi, base, x):
  t = x @ psi['trunk']['kernel'] + psi['trunk']['bias']
  normalized, energy = t / (1 + np.sum(t * t)), np.log(1 + t * t)
  reads = {'hidden_0': (x, x), 'mean': (normalized, x), 'log_var': (None, energy)}
  result = {}
  for name, (by, to) in reads.items():
    p, layer = psi[name], base[name]
    scale = 0 * layer['bias'] if by is None else by @ p['scale'] + p['scale_bias']
    result[name] = {
      'kernel': layer['kernel'] * scale,
      'bias': layer['bias'] * scale + to @ p['shift'],
    }
  return result


def test_definition_is_the_formulas(x64):
  inference = jax.tree.map(np.asarray, drawn_params()['inference'])
  psi, base = inference['hypernetwork'], inference['encoder']
  h = hypernetworks.make('energy')
  for x in X:
    found = jax.jit(h.modulation)(psi, base, x)
    expected = expected_modulation(psi, base, x)
    assert_within_ulps(found, expected, 1000)


def test_fast_path_equals_definition_in_value_and_gradient(x64):
  def outcome(factored):
    def value(params):
      q = jax.vmap(lambda x: make(factored=factored).infer(params, x, None))(X)
      return jnp.sum(jnp.sin(q.mean)) + jnp.sum(jnp.cos(q.log_scale)), q

    return jax.jit(jax.grad(value, has_aux=True))(drawn_params())

  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
  jax.tree.map(close, outcome(True), outcome(False))
  assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(outcome(True)[0]['inference']))


def test_starts_at_the_base():
  """In its weights bit for bit, and so as a function up to rounding."""
  params = jax.jit(make().init)(jax.random.key(1), X[0])
  base, psi = params['inference']['encoder'], params['inference']['hypernetwork']
  x = jnp.asarray(X)
  modulated = jax.jit(
    lambda x: modulate(base, hypernetworks.make('energy').modulation(psi, base, x))
  )
  jax.tree.map(np.testing.assert_array_equal, modulated(x[0]), base)
  found = jax.jit(jax.vmap(lambda x: make().infer(params, x, None)))(x)
  expected = jax.jit(jax.vmap(lambda x: ENCODER.apply(base, x)))(x)
  assert_within_ulps(found.mean, expected['mean'], 32)
  assert_within_ulps(found.log_scale, expected['log_var'] / 2, 32)


def test_the_papers_base_and_two_units_of_trunk_make_58_parameters():
  inference = jax.eval_shape(make().init, jax.random.key(0), X[0])['inference']
  assert sum(leaf.size for leaf in jax.tree.leaves(inference)) == 58


def test_bad_sizes_are_refused():
  with pytest.raises(ValueError, match='trunk_dim=0 is not a whole number above 0'):
    hypernetworks.make('energy', trunk_dim=0)
