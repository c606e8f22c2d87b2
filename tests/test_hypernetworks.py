"""The layerwise hypernetwork: its definition against numpy, its fast path against that."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iavae import hypernetworks, networks
from iavae.inference import amortized, instance_adaptive
from iavae.models import synthetic
from iavae.modulation import modulate
from iavae.resnet import resnet
from iavae.types import BATCH, PosteriorFamily
from rounding import assert_within_ulps

HEADS = {'mean': 3, 'log_var': 2}
SHAPE, NUM = (6, 7, 2), 5
PARTNERS = (1, 0, 4, 2, 3)  # which example the condition 'other' reads: the last three in a circle
ENCODERS = {
  'resnet3': resnet(HEADS, width=3, num_blocks=2),  # no layer has more than _FEW_CHANNELS
  'resnet6': resnet(HEADS, width=6, num_blocks=2),  # the first has fewer, the others more
  'mlp': networks.mlp((5, 4), HEADS, 'silu'),
}
MODEL = synthetic.make()  # for its place in params only; no posterior here reads it
# The heads as the encoder gives them
RAW = PosteriorFamily(heads=None, init=lambda rng, heads: {}, posterior=lambda params, heads: heads)
SMALL = {'embedding_dim': 3, 'slice_dim': 2, 'column_embedding_dim': 2}


def draw(tree, seed=0):
  """Float64 values for shapes: the variances stay of order one, moments are those of data."""
  rng = np.random.default_rng(seed)

  def values(path, leaf):
    normal = rng.standard_normal(leaf.shape) * max(1, np.prod(leaf.shape[:-1])) ** -0.5
    return jnp.asarray(0.5 + abs(normal) if path[-1].key == 'running_variance' else normal)

  return jax.tree_util.tree_map_with_path(values, tree)


def example(encoder_name, **options):
  """(hypernetwork, encoder, psi, base, x: [NUM, ...]), all of order one, in float64."""
  encoder = ENCODERS[encoder_name]
  h = hypernetworks.make('layerwise', **SMALL | options)
  x = jnp.asarray(np.random.default_rng(1).random((NUM, *SHAPE)))
  base = jax.eval_shape(encoder.init, jax.random.key(0), x[0])
  psi = jax.eval_shape(lambda rng: h.init(rng, base, x[0].size), jax.random.key(0))
  return h, encoder, draw(psi, 2), draw(base, 3), x


def zero_output(psi):
  """Without output layers nothing is left of the modulation."""
  outputs = {'convolution': ('weight', 'bias'), 'dense': ('weight', 'bias')}
  zeros = lambda part, names: {name: jnp.zeros_like(psi[part][name]) for name in names}
  return psi | {part: psi[part] | zeros(part, n) for part, n in outputs.items() if part in psi}


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(('slice_dim', 'convolutional'), [(16, 830_016), (8, 415_296)])
def test_the_papers_parameters(slice_dim, convolutional):
  heads = {'mean': 32, 'log_var': 32}
  base = jax.eval_shape(resnet(heads).init, jax.random.key(0), jnp.zeros((28, 28, 1)))
  h = hypernetworks.make('layerwise', slice_dim=slice_dim)
  psi = jax.eval_shape(lambda rng: h.init(rng, base, 784), jax.random.key(0))
  dense = psi['dense']
  assert count(psi['convolution']) == convolutional
  assert (count(dense) - count(dense['columns']), count(dense['columns'])) == (25_888, 4_608)
  assert psi['embeddings'].shape == (12, 16)  # 192


def numpy_modulation(psi, base, x, normalized):
  """The formulas, one slice and one column after the other; kernels only."""
  psi = jax.tree.map(np.asarray, psi)
  kernels = {name: base[name]['kernel'] for name in sorted(base) if 'kernel' in base[name]}
  found = {}
  for embedding, (name, kernel) in zip(psi['embeddings'], kernels.items(), strict=True):
    c, delta = np.concatenate([np.ravel(x), embedding]), np.zeros(kernel.shape)
    if kernel.ndim == 4:
      p, (height, width, num_in, num_out) = psi['convolution'], kernel.shape
      for i in range(num_in):
        a = p['slice_weight'][i] @ c + p['slice_bias'][i]
        for r in range(len(a)):
          delta[:, :, i] += p['weight'][:height, :width, r, :num_out] * a[r]
        delta[:, :, i] += p['bias'][:height, :width, 0, :num_out]
    else:
      p, (num_in, num_out) = psi['dense'], kernel.shape
      weight_c, weight_in = np.split(p['weight'][:num_out], [len(c)], axis=1)
      for j in range(num_in):
        common, own = weight_c @ c + p['bias'][:num_out], weight_in @ p['columns'][j]
        delta[j] = common / num_in + own / np.sqrt(num_in) if normalized else common + own
    found[name] = delta
  return found


@pytest.mark.parametrize('normalized', [False, True])
@pytest.mark.parametrize('name', ENCODERS)
def test_definition_is_the_formulas_and_modulates_kernels_only(name, normalized, x64):
  h, _, psi, base, x = example(name, normalized=normalized)
  found = h.modulation(psi, base, x[0].ravel())
  expected = numpy_modulation(psi, base, x[0], normalized)
  for layer, tensors in found.items():
    for tensor, values in tensors.items():
      if tensor == 'kernel':
        np.testing.assert_allclose(values, expected.pop(layer), rtol=1e-10, atol=1e-12)
      else:
        np.testing.assert_array_equal(values, jnp.zeros_like(base[layer][tensor]))
  assert not expected and jax.tree.structure(found) == jax.tree.structure(base)


def by_definition(h, encoder):
  return lambda psi, base, read, x: encoder.apply(modulate(base, h.modulation(psi, base, read)), x)


@pytest.mark.parametrize(
  ('name', 'normalized'), [('mlp', False), ('mlp', True), ('resnet3', True), ('resnet6', False)]
)
def test_fast_path_equals_definition_in_value_and_gradient(name, normalized, x64):
  h, encoder, psi, base, x = example(name, normalized=normalized)
  fast = lambda psi, base, read, x: encoder.apply_layers(h.layers(psi, base, read), base, x)

  def both(function):
    def loss(psi, base):
      heads = jax.vmap(lambda x: function(psi, base, x.ravel(), x))(x)
      return sum(jnp.sum(jnp.sin(head)) for head in heads.values()), heads

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(psi, base)

  found, expected = both(fast), both(by_definition(h, encoder))
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10 * np.abs(b).max())
  reached = jax.tree.map(lambda slope: bool(np.any(slope != 0)), expected[0][0])
  assert all(jax.tree.leaves(reached)), reached


@pytest.mark.parametrize('factored', [True, False])
@pytest.mark.parametrize('name', ENCODERS)
def test_zero_output_layers_are_the_base(name, factored, x64):
  h, encoder, psi, base, x = example(name)
  encoder = encoder._replace(apply_train=None)
  options = {'hypernetwork': 'layerwise', 'family': RAW, 'factored': factored} | SMALL
  adaptive = instance_adaptive.make(MODEL, encoder, **options)
  plain = amortized.make(MODEL, encoder, family=RAW)
  params = {'inference': {'encoder': base, 'hypernetwork': zero_output(psi)}}
  modulated = modulate(base, h.modulation(zero_output(psi), base, x[0].ravel()))
  jax.tree.map(np.testing.assert_array_equal, modulated, base)  # the weights bit for bit
  infer = lambda method: jax.jit(jax.vmap(lambda x: method.infer(params, x, None)))(x)
  found, expected = infer(adaptive), infer(plain)
  for head in HEADS:  # with weights of its own an example is another order of the same sums
    assert_within_ulps(found[head], expected[head], 1000)


def test_x_moves_all_blocks_alike(x64):
  """No product of x and e_l: what x adds is one kernel and one matrix of rank one, cropped."""
  h, _, psi, base, x = example('resnet6')
  at = lambda x: h.modulation(psi, base, x.ravel())
  here, there = at(x[0]), at(x[1])
  moved = {name: np.asarray(here[name]['kernel'] - there[name]['kernel']) for name in here
           if 'kernel' in here[name]}  # fmt: skip
  largest = moved['block0_conv2']
  assert np.abs(largest).max() > 0.1
  for name, shift in moved.items():
    if shift.ndim == 4:
      expected = largest[tuple(slice(size) for size in shift.shape)]
    else:
      expected = np.broadcast_to(moved['mean'][0, : shift.shape[1]], shift.shape)
    np.testing.assert_allclose(shift, expected, rtol=1e-10, atol=1e-12, err_msg=name)
  own = np.asarray(here['block0_conv2']['kernel'] - here['block1_conv2']['kernel'])
  assert np.abs(own).max() > 0.1  # that of the embeddings does differ


@pytest.mark.parametrize('factored', [True, False])
def test_conditions_read_their_own_nothing_or_another_example(factored, x64):
  h, encoder, psi, base, x = example('mlp')
  params = {'inference': {'encoder': base, 'hypernetwork': psi}}
  flat = x.reshape(NUM, -1)
  reads = {'x': flat, 'zeros': jnp.zeros_like(flat), 'other': flat[jnp.asarray(PARTNERS)]}
  expected, means = jax.jit(by_definition(h, encoder)), {}
  for condition, read in reads.items():
    method = instance_adaptive.make(
      MODEL, encoder, hypernetwork='layerwise', condition=condition, factored=factored,
      family=RAW, **SMALL,
    )  # fmt: skip
    found = jax.vmap(lambda x: method.infer(params, x, None), axis_name=BATCH)(x)
    for i in range(NUM):
      for head, values in expected(psi, base, read[i], x[i]).items():
        np.testing.assert_allclose(found[head][i], values, rtol=1e-10, atol=1e-12)
    means[condition] = found['mean']
  for first, second in (('x', 'zeros'), ('x', 'other'), ('zeros', 'other')):
    differ = np.abs(means[first] - means[second]).max(axis=1) > 1e-3
    assert differ.sum() >= NUM - 1  # the units of one example are all but closed, whatever h reads


def test_unknown_names_are_refused():
  with pytest.raises(ValueError, match=r"unknown hypernetwork 'rank1'; one of .*layerwise"):
    hypernetworks.make('rank1')
  with pytest.raises(ValueError, match=r"'layerwise' has no layout, rank; it has embedding_dim,"):
    hypernetworks.make('layerwise', rank=1, layout='tensor', slice_dim=2)
  with pytest.raises(ValueError, match="'linear' has no slice_dim"):
    instance_adaptive.make(MODEL, ENCODERS['mlp'], slice_dim=2)


def test_initial_scales():
  """Within 5 standard errors of mean and of mean square; biases are 0."""
  base = jax.eval_shape(resnet(HEADS, width=8).init, jax.random.key(0), jnp.zeros((28, 28, 1)))
  h = hypernetworks.make('layerwise', init_scale=0.02)
  psi = jax.jit(lambda rng: h.init(rng, base, 784))(jax.random.key(4))
  convolution, dense = psi['convolution'], psi['dense']
  for bias in (convolution['slice_bias'], convolution['bias'], dense['bias']):
    np.testing.assert_array_equal(bias, 0)
  for values, scale in [
    (psi['embeddings'], 1),
    (convolution['slice_weight'], 800**-0.5),
    (convolution['weight'], 0.02),
    (dense['weight'], 0.02),
    (dense['columns'], 1),
  ]:
    unit = np.asarray(values, np.float64) / scale
    assert abs(unit.mean()) <= 5 / np.sqrt(unit.size)
    assert abs((unit**2).mean() - 1) <= 5 * np.sqrt(2 / unit.size)
