"""Hypernetworks with a trunk: definitions against loops, fast paths against these, all at the base.

An encoder with 2 image channels has convolutions with few and with many input channels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_hypernetworks import draw

from iavae import decoders, hypernetworks, layers, networks
from iavae.bounds import posterior_loss
from iavae.inference import instance_adaptive
from iavae.models import linear_gaussian, vae
from iavae.modulation import modulate
from iavae.posteriors import gaussian
from iavae.refine import bound_gradient, describe, heads_bound
from iavae.resnet import resnet
from iavae.types import BATCH
from rounding import assert_within_ulps

HEADS = {'mean': 2, 'log_var': 2}
SHAPE, NUM = (3, 4, 2), 4
PARTNERS = (1, 0, 3, 2)  # which example the condition 'other' reads
ENCODERS = {
  'mlp': networks.mlp((5, 3), HEADS, 'elu'),
  'resnet': resnet(HEADS, width=5, num_blocks=1),
}
MODEL = vae.make(decoders.mlp_decoder(2, SHAPE, (3,)), 2)
RNGS = jax.random.split(jax.random.key(5), NUM)
SMALL = {
  'film': {},
  'lora': {'rank': 2},
  'expert_kernels': {'num_experts': 3},
  'trunk': {'slice_dim': 2, 'column_embedding_dim': 2},
  'gradient': {},
  'gates': {},
}
# In the residual encoder the early layers are convolutions of all kinds, so modulate these too
CASES = [('mlp', form, {}) for form in SMALL] + [
  ('mlp', 'gradient', {'num_steps': 2}),
  ('resnet', 'film', {'early_layers': True}),
  ('resnet', 'lora', {'early_layers': True}),
  ('resnet', 'expert_kernels', {'early_layers': True}),
  ('resnet', 'gates', {'early_layers': True}),
  ('resnet', 'trunk', {}),
  ('resnet', 'gradient', {}),
]


def label(case):
  return '-'.join([*case[:2], *case[2]])


@pytest.fixture(params=CASES, ids=label)
def case(request):
  return Case(*request.param)


class Case:
  """A form on an encoder, with parameters of order one: nothing is at 0, where it started."""

  def __init__(self, encoder, form, options):
    self.form, self.encoder = form, ENCODERS[encoder]
    self.options = {'trunk_dim': 4} | SMALL[form] | options
    self.h = hypernetworks.make(form, **self.options)

  @property
  def x(self):
    return jnp.asarray(np.random.default_rng(1).random((NUM, *SHAPE)) < 0.5, dtype=float)

  def method(self, **options):
    return instance_adaptive.make(
      MODEL, self.encoder, hypernetwork=self.form, **self.options, **options
    )

  def params(self):
    return draw(jax.eval_shape(self.method().init, RNGS[0], self.x[0]), 2)

  def psis(self, params):
    psi = params['inference']['hypernetwork']
    return [psi] if self.h.num_steps == 1 else [psi[f'step{i}'] for i in range(self.h.num_steps)]

  def start(self, params):
    """(base, psi): the base network and the initial weights of a step."""
    base, like = params['inference']['encoder'], self.psis(params)[0]
    init = jax.jit(lambda rng, base: self.h.init(rng, base, len(like['trunk']['kernel'])))
    return base, init(jax.random.key(3), base)

  def told(self, params, heads, x, rng):
    """What the form reads at the heads of the step before."""
    if self.h.reads == 'x':
      return x.ravel()
    features = self.encoder.features(params['inference']['encoder'], x)
    if self.h.reads == 'features':
      return features
    bound = heads_bound(gaussian.MEAN_FIELD, {})
    gradient = bound_gradient(bound, MODEL, params['model'], heads, x, rng)
    return jnp.append(features, describe(heads, gradient))

  def modulated(self, base):
    """The names of the layers, by the documented rule."""
    all_layers = self.options.get('early_layers') or self.form == 'trunk'
    early = () if all_layers else ('hidden_0', 'block0_conv1', 'block0_conv2', 'block0_projection')
    heads = ('mean', 'log_var') if self.form == 'gates' else ()
    return {name for name, layer in base.items() if 'kernel' in layer} - {*early, *heads}


def posteriors(method, params, x):
  return jax.vmap(method.infer, (None, 0, 0), axis_name=BATCH)(params, x, RNGS)


def test_fast_path_equals_definition_in_value_and_gradient(case, x64):
  def outcome(factored):
    def loss(params, x):
      q = posteriors(case.method(factored=factored), params, x)
      return jnp.sum(jnp.sin(q.mean)) + jnp.sum(jnp.cos(q.log_scale)), q

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(case.params(), case.x)

  found, expected = outcome(True), outcome(False)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10 * max(1, np.abs(b).max()))
  (slopes, to_x), _ = expected
  reached = jax.tree.map(lambda slope: bool(np.any(slope != 0)), case.psis(slopes)[-1])
  assert all(jax.tree.leaves(reached)), reached
  assert np.all(np.any(to_x != 0, axis=(1, 2, 3)))
  # The gradient is an input, not a path to the decoder
  assert not any(np.any(slope != 0) for slope in jax.tree.leaves(slopes['model']))


def affine(p, g):
  return np.array([sum(p['kernel'][:, o] * g) + p['bias'][o] for o in range(len(p['bias']))])


def loop_film(psi, name, kernel, bias, g):
  numbers, num_out = affine(psi['layers'][name], g), len(bias)
  scale, shift = numbers[:num_out], numbers[num_out:]
  scaled = [kernel[..., o] * scale[o] for o in range(num_out)]
  return np.stack(scaled, axis=-1), scale * bias + shift


def loop_lora(psi, name, kernel, bias, g):
  p = psi['layers'][name]
  terms = [
    s * np.multiply.outer(p['inward'][..., r], p['outward'][r])
    for r, s in enumerate(affine(p['scale'], g))
  ]
  return sum(terms), np.zeros_like(bias)


def loop_expert_kernels(psi, name, kernel, bias, g):
  p = psi['layers'][name]
  weights = np.exp(affine(p['mixture'], g))
  experts = list(enumerate(weights / weights.sum()))
  return sum(a * p['kernel'][..., k, :] for k, a in experts), sum(
    a * p['bias'][k] for k, a in experts
  )


def loop_trunk(psi, name, kernel, bias, g):
  code, delta, num_out = affine(psi['codes'][name], g), np.zeros(kernel.shape), len(bias)
  if kernel.ndim == 4:
    p, (height, width, num_in, _) = psi['convolution'], kernel.shape
    for i in range(num_in):
      delta[:, :, i] = p['bias'][:height, :width, 0, :num_out]
      for r, a in enumerate(code.reshape(num_in, -1)[i]):
        delta[:, :, i] += a * p['weight'][:height, :width, r, :num_out]
  else:
    p, num_in = psi['dense'], len(kernel)
    for j in range(num_in):
      delta[j] = code / num_in + p['weight'][:num_out] @ p['columns'][j] / np.sqrt(num_in)
  return delta, np.zeros_like(bias)


def loop_gates(psi, name, kernel, bias, g):
  numbers, num_in = affine(psi['layers'][name], g), kernel.shape[-2]
  inward, outward = 1 + numbers[:num_in], 1 + numbers[num_in:]
  scaled = kernel.copy()
  for i in range(num_in):
    for o in range(len(bias)):
      scaled[..., i, o] *= inward[i] * outward[o]
  return scaled - kernel, (outward - 1) * bias


LOOPS = {
  'gates': loop_gates,
  'film': loop_film,
  'lora': loop_lora,
  'expert_kernels': loop_expert_kernels,
  'trunk': loop_trunk,
  'gradient': loop_film,
}


def test_definition_is_the_formulas(case, x64):
  params = jax.tree.map(np.asarray, case.params())
  psi, base = case.psis(params)[0], params['inference']['encoder']
  c = np.random.default_rng(4).standard_normal(len(psi['trunk']['kernel']))
  before = affine(psi['trunk'], c)
  g = np.tanh(before) if case.form == 'gates' else before / (1 + np.exp(-before))
  found = jax.jit(case.h.modulation)(psi, base, c)
  expected = jax.tree.map(np.zeros_like, base)
  for name in case.modulated(base):
    kernel, bias = LOOPS[case.form](psi, name, base[name]['kernel'], base[name]['bias'], g)
    expected[name] = {'kernel': kernel, 'bias': bias}
  close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)
  jax.tree.map(close, found, expected)


def test_starts_at_the_base(case):
  """In its weights bit for bit, and so as a function up to rounding."""
  params, x = case.params(), case.x
  base, psi = case.start(params)
  c = jnp.ones(len(psi['trunk']['kernel']))
  modulated = jax.jit(lambda c: modulate(base, case.h.modulation(psi, base, c)))(c)
  jax.tree.map(np.testing.assert_array_equal, modulated, base)
  steps = {f'step{i}': psi for i in range(case.h.num_steps)}
  params['inference']['hypernetwork'] = psi if len(steps) == 1 else steps
  found = jax.jit(lambda x: posteriors(case.method(), params, x))(x)
  expected = jax.jit(jax.vmap(lambda x: case.encoder.apply(base, x)))(x)
  # With weights of its own, if those of the base, an example is another order of the same sums
  assert_within_ulps(found.mean, expected['mean'], 32)
  assert_within_ulps(found.log_scale, expected['log_var'] / 2, 32)


def test_every_layer_of_the_static_control_leaves_the_start(case):
  """An h that reads zeros must be able to learn, else it controls for nothing."""
  base, psi = case.start(case.params())
  c = jnp.zeros(len(psi['trunk']['kernel']))

  @jax.jit
  def moved(psi, x):
    def size(psi):
      heads = case.encoder.apply_layers(case.h.layers(psi, base, c), base, x)
      return sum(jnp.sum(jnp.sin(head)) for head in heads.values())

    return case.h.modulation(jax.tree.map(jnp.subtract, psi, jax.grad(size)(psi)), base, c)

  change = moved(psi, case.x[0])
  left = {name for name, layer in change.items() if np.any(layer.get('kernel', 0) != 0)}
  assert left == case.modulated(change)


MLP_CASES = [case for case in CASES if case[0] == 'mlp']


@pytest.mark.parametrize('case', MLP_CASES, ids=label, indirect=True)
def test_conditions_read_their_own_nothing_or_another_example(case, x64):
  """And a second step reads the gradient at what the first led to."""
  params, base = case.params(), case.params()['inference']['encoder']
  conditions = {
    'x': lambda c: c,
    'zeros': jnp.zeros_like,
    'other': lambda c: c[jnp.asarray(PARTNERS)],
  }

  def stepwise(condition):
    heads = jax.vmap(case.encoder.apply, (None, 0))(base, case.x)
    for i, psi in enumerate(case.psis(params)):
      rngs = jax.vmap(jax.random.fold_in, (0, None))(RNGS, i)
      told = conditions[condition](
        jax.vmap(case.told, (None, 0, 0, 0))(params, heads, case.x, rngs)
      )
      change = jax.vmap(case.h.modulation, (None, None, 0))(psi, base, told)
      heads = jax.vmap(case.encoder.apply)(jax.tree.map(jnp.add, change, base), case.x)
    return heads, change

  means = {}
  for condition in conditions:
    method = case.method(condition=condition)
    found, (heads, change) = jax.jit(
      lambda: (posteriors(method, params, case.x), stepwise(condition))
    )()
    np.testing.assert_allclose(found.mean, heads['mean'], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.log_scale, heads['log_var'] / 2, rtol=1e-10, atol=1e-12)
    spread = {name for name in change if np.ptp(change[name]['kernel'], axis=0).max() > 1e-3}
    assert spread == (set() if condition == 'zeros' else case.modulated(base))
    means[condition] = found.mean
  for first, second in (('x', 'zeros'), ('x', 'other'), ('zeros', 'other')):
    assert np.abs(means[first] - means[second]).max(axis=1).min() > 1e-4


def test_a_trunk_moves_layers_in_ways_of_their_own(x64):
  """Unlike `layerwise`, where what x adds to one convolution is a part of what it adds to all."""
  case = Case('resnet', 'trunk', {})
  params = case.params()['inference']
  change = jax.jit(jax.vmap(case.h.modulation, (None, None, 0)))(
    params['hypernetwork'], params['encoder'], case.x.reshape(NUM, -1)
  )
  moved = {name: np.ptp(change[name]['kernel'][:2], axis=0)[..., :2, :] for name in change
           if name.startswith('block0_conv')}  # fmt: skip
  first, second = (np.asarray(m) for m in moved.values())
  assert np.abs(first - second).max() > 0.1 * np.abs(first).max() > 0.01


@pytest.mark.parametrize(
  ('name', 'options', 'message'),
  [
    ('film', {'trunk_dim': 0}, 'trunk_dim=0 is not a whole number above 0'),
    ('film', {'early_layers': 1}, 'early_layers is True or False, not 1'),
    ('lora', {'rank': 2.0}, 'rank=2.0 is not a whole number above 0'),
    ('expert_kernels', {'num_experts': True}, 'num_experts=True is not a whole number above 0'),
    ('trunk', {'slice_dim': -1}, 'slice_dim=-1 is not a whole number above 0'),
    ('trunk', {'early_layers': False}, "'trunk' has no early_layers; it has trunk_dim, slice_dim,"),
    ('gradient', {'num_steps': 0}, 'num_steps=0 is not a whole number above 0'),
    ('layerwise', {'slice_dim': 0}, 'slice_dim=0 is not a whole number above 0'),
    ('layerwise', {'init_scale': -1.0}, 'init_scale is 0 or more'),
    ('linear', {'embedding_dim': 0}, 'embedding_dim=0 is not a whole number above 0'),
    ('linear', {'layout': 'block'}, 'layout one of tensor, layer'),
  ],
)
def test_bad_hyperparameters_are_refused(name, options, message):
  with pytest.raises(ValueError, match=message) as refused:
    hypernetworks.make(name, **options)
  assert '\n' not in str(refused.value)


@pytest.mark.parametrize('name', ['linear', 'energy'])
def test_forms_of_dense_layers_refuse_others(name):
  x = jnp.zeros(SHAPE)
  base = jax.eval_shape(ENCODERS['resnet'].init, jax.random.key(0), x)
  with pytest.raises(ValueError, match='for dense layers with a bias, and block0_conv1 is none'):
    hypernetworks.make(name).init(jax.random.key(0), base, x.size)


def test_nothing_to_modulate_is_refused():
  base = networks.mlp((5,), HEADS).init(jax.random.key(0), jnp.zeros(3))
  with pytest.raises(ValueError, match='no layer is left to modulate; take early_layers=True'):
    hypernetworks.make('gates').init(jax.random.key(0), base, 5)
  psi = hypernetworks.make('gates', early_layers=True).init(jax.random.key(0), base, 5)
  assert list(psi['layers']) == ['hidden_0']


def test_initial_scales():
  """Within 5 standard errors of the mean and the mean square; what is not named here is 0 or 1."""
  base = {'conv': layers.torch_uniform(jax.random.key(0), (3, 3, 8, 8))}
  base['mean'] = layers.torch_uniform(jax.random.key(0), (72, 2))
  names = ('lora', 'expert_kernels', 'trunk')
  init = lambda rng: [hypernetworks.make(name).init(rng, base, 100) for name in names]
  lora, experts, trunk = jax.jit(init)(jax.random.key(4))
  np.testing.assert_array_equal(lora['layers']['conv']['scale']['bias'], 1)
  for values, scale in [
    (lora['trunk']['kernel'], 100**-0.5),
    (lora['layers']['conv']['inward'], 72**-0.5),
    (lora['layers']['conv']['scale']['kernel'], 32**-0.5),
    (experts['layers']['conv']['mixture']['kernel'], 32**-0.5),
    (trunk['codes']['conv']['kernel'], 32**-0.5),
    (trunk['codes']['conv']['bias'], 16**-0.5),
    (trunk['dense']['columns'], 1),
  ]:
    unit = np.asarray(values, np.float64) / scale
    assert abs(unit.mean()) <= 5 / np.sqrt(unit.size)
    assert abs((unit**2).mean() - 1) <= 5 * np.sqrt(2 / unit.size)


def test_every_step_that_reads_the_gradient_is_trained(x64):
  """Two steps: psi of each follows the mean of the ELBOs after it, by the definition."""
  encoder = networks.mlp((4,), {'mean': 2, 'log_var': 2}, 'tanh')
  model = linear_gaussian.make(data_dim=3, latent_dim=2, noise_scale=0.5)
  options = {'hypernetwork': 'gradient', 'num_steps': 2, 'trunk_dim': 3}
  method = instance_adaptive.make(model, encoder, **options)
  x = np.random.default_rng(0).standard_normal(3)
  params = jax.tree.map(lambda a: a + 0.1, method.init(jax.random.key(0), x))
  rng, base = jax.random.key(1), params['inference']['encoder']
  rng_steps, rng_loss = jax.random.split(rng)
  h = hypernetworks.make('gradient', num_steps=2, trunk_dim=3)

  def elbo(heads, rng):
    q = gaussian.diagonal_gaussian(heads)
    return -posterior_loss(model, params['model'], q, x, rng, 0.7)[0]

  def mean_loss(psis):
    heads, values = encoder.apply(base, x), []
    rngs = [jax.random.fold_in(rng_steps, i) for i in range(2)]
    for i, after in enumerate([rngs[1], rng_loss]):
      told = describe(heads, jax.grad(elbo)(jax.lax.stop_gradient(heads), rngs[i]))
      c = jnp.append(encoder.features(base, x), told)
      heads = encoder.apply(modulate(base, h.modulation(psis[f'step{i}'], base, c)), x)
      values.append(elbo(heads, after))
    return -sum(values) / 2

  found = jax.jit(jax.grad(lambda p: method.loss(p, x, rng, 0.7)[0]))(params)
  expected = jax.jit(jax.grad(mean_loss))(params['inference']['hypernetwork'])
  for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
    got = functools.reduce(lambda t, k: t[k.key], path, found['inference']['hypernetwork'])
    assert np.any(leaf != 0), path
    np.testing.assert_allclose(got, leaf, rtol=1e-9, atol=1e-12, err_msg=str(path))
