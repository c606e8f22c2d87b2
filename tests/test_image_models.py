"""The methods of an image experiment: how each starts from a base VAE, and what it trains."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import default, digits
from iavae import freezing, gradients, hypernetworks, optimizers
from iavae.experiments import image_models, image_rows, image_variants
from iavae.inference import amortized
from iavae.modulation import modulate
from iavae.posteriors.gaussian import MEAN_FIELD
from iavae.types import BATCH
from rounding import assert_within_ulps

SHAPE, NUM = (8, 8, 1), 4
PARTNERS = np.array([1, 0, 3, 2])  # which example the control 'shuffled' reads
NAMES = ('instance_adaptive', *image_variants.CONTROLS)
ADAPTIVE = ('instance_adaptive', 'static', 'shuffled', 'frozen_decoder')
PLAIN = {'model.decoder': 'mlp', 'model.hidden': (6,)}  # a decoder that compiles in no time
MLP = PLAIN | {'model.encoder': 'mlp', 'model.hidden': (6, 5), 'hypernetwork.normalized': True}
X = jax.random.bernoulli(jax.random.key(0), 0.4, (NUM, *SHAPE)).astype(jnp.float32)
MOMENTS = ('running_mean', 'running_variance')
NORM = (*MOMENTS, 'scale', 'shift')


def make_config(**overrides):
  config = digits.get_config('reduced')
  config.update_from_flattened_dict({'model.encoder_width': 4, 'model.decoder_width': 4})
  config.update_from_flattened_dict(overrides)
  return config


@functools.cache
def setting(kind=''):
  """(config, images, base method, base params), every norm as after some training."""
  config = make_config(**{'plain': PLAIN, 'mlp': MLP, '': {}}[kind])
  images = image_models.make_images(config, SHAPE)
  method = amortized.make(images.model, images.encoder)
  base = jax.jit(method.init)(jax.random.key(1), X[0])
  rng = np.random.default_rng(0)

  def perturb(path, leaf):
    noise = rng.uniform(0.5, 1.5, leaf.shape).astype('float32')
    return jnp.asarray(noise) if path[-1].key in NORM else leaf

  return config, images, method, jax.tree_util.tree_map_with_path(perturb, base)


@functools.cache
def variant(name, kind=''):
  config, images, _, _ = setting(kind)
  return image_variants.make_variant(config, images, name)


@functools.cache
def start(name, kind=''):
  return variant(name, kind).start(setting(kind)[3], jax.random.key(2))


def infer(method, params):
  """mean and log_scale of all examples, [NUM, Z] each."""
  one = lambda params, x: method.infer(params, x, None)
  return jax.jit(jax.vmap(one, in_axes=(None, 0), axis_name=BATCH))(params, X)


def names_of(tree):
  paths = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in paths}


def zero_output(params):
  """Params of an IA-VAE whose hypernetwork adds nothing."""

  def zero(path, leaf):
    is_output = 'hypernetwork' in str(path) and path[-1].key in ('weight', 'bias')
    return jnp.zeros_like(leaf) if is_output else leaf

  return jax.tree_util.tree_map_with_path(zero, params)


def test_the_configs_name_all_controls():
  assert default.CONTROLS == image_variants.CONTROLS == default.get_config().controls


@pytest.mark.parametrize(
  ('name', 'kind'), [(n, '') for n in NAMES] + [('instance_adaptive', 'mlp'), ('wider', 'mlp')]
)
def test_every_method_starts_at_the_base(name, kind):
  """The weights of the model and those of the encoder that both have bit for bit, and so the
  posterior up to rounding."""
  _, _, method, base = setting(kind)
  params = start(name, kind)
  jax.tree.map(np.testing.assert_array_equal, params['model'], base['model'])
  if name != 'wider':
    encoders = params['inference']['encoder'], base['inference']['encoder']
    jax.tree.map(np.testing.assert_array_equal, *encoders)
  expected = infer(method, base)
  found = infer(variant(name, kind).method, zero_output(params))
  assert_within_ulps(found, expected, 64)
  assert np.ptp(np.asarray(expected.mean), axis=0).min() > 1e-3  # it does depend on x


@pytest.mark.parametrize('name', ADAPTIVE)
def test_what_a_hypernetwork_reads(name):
  """Its own x, nothing, or another one of the batch: against one example at a time."""
  config, images, _, base = setting()
  encoder = base['inference']['encoder']
  psi = dict(start(name)['inference']['hypernetwork'])
  psi |= {'dense': psi['dense'] | {'weight': 10 * psi['dense']['weight']}}
  known = hypernetworks.defaults('layerwise')
  h = hypernetworks.make('layerwise', **{k: config.hypernetwork[k] for k in known})
  flat = X.reshape(NUM, -1)
  read = {'static': jnp.zeros_like(flat), 'shuffled': flat[PARTNERS]}.get(name, flat)

  @jax.jit
  @jax.vmap
  def by_definition(read, x):
    return images.encoder.apply(modulate(encoder, h.modulation(psi, encoder, read)), x)['mean']

  params = {'model': base['model'], 'inference': {'encoder': encoder, 'hypernetwork': psi}}
  found = infer(variant(name).method, params).mean
  np.testing.assert_allclose(found, by_definition(read, X), rtol=1e-4, atol=1e-4)
  others = [by_definition(other, X) for other in (0 * flat, flat[PARTNERS], flat)]
  assert sum(bool(np.abs(found - other).max() > 1e-2) for other in others) == 2


def expected_names(name, params):
  """Trained leaves, by the description of every control in configs/default.py."""
  every = names_of(params)
  decoder = {leaf for leaf in every if leaf.startswith('model/')}
  encoder = {leaf for leaf in every if leaf.startswith('inference/encoder/')}
  encoder -= {leaf for leaf in encoder if leaf.rsplit('/')[-1] in NORM}
  hypernetwork = {leaf for leaf in every if leaf.startswith('inference/hypernetwork/')}
  return {
    'continued': encoder | decoder,
    'decoder_only': decoder,
    'encoder_only': encoder,
    'static': hypernetwork | decoder,
    'shuffled': hypernetwork | decoder,
    'frozen_decoder': hypernetwork,
    'wider': encoder | decoder,
    'instance_adaptive': hypernetwork | decoder,
  }[name]


@pytest.mark.parametrize('kind', ['', 'mlp'])
@pytest.mark.parametrize('name', NAMES)
def test_what_is_trained(name, kind):
  """C1: all but norms; C2: the decoder; C3: the encoder; C4, C5: as IA; C6: not the decoder."""
  params = start(name, kind)
  trained, frozen = freezing.partition(params, variant(name, kind).frozen)
  expected = expected_names(name, params)
  assert names_of(trained) == expected
  assert names_of(frozen) == names_of(params) - expected
  groups = {leaf.split('/')[1] for leaf in names_of(params) if leaf.startswith('inference/')}
  assert groups == ({'encoder', 'hypernetwork'} if name in ADAPTIVE else {'encoder'})

  sizes = {'total': 0, 'trained': 0}
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    path = jax.tree_util.keystr(path, simple=True, separator='/')
    is_counted = path.rsplit('/')[-1] not in MOMENTS
    sizes['total'] += leaf.size * is_counted
    sizes['trained'] += leaf.size * (path in expected)
  assert image_variants.count_parameters(variant(name, kind), SHAPE) == sizes


@pytest.mark.parametrize('kind', ['', 'mlp'])
def test_wider_has_as_many_parameters_as_ia_and_not_a_channel_more(kind):
  config, _, _, _ = setting(kind)
  target = image_models.num_parameters(start('instance_adaptive', kind)['inference'])
  encoder = start('wider', kind)['inference']['encoder']
  narrow = config.model.hidden[0] if kind == 'mlp' else config.model.encoder_width
  extra = encoder['hidden_0' if kind == 'mlp' else 'down0']['bias'].size - narrow

  def size(extra):
    init = image_models.make_encoder(config, MEAN_FIELD, extra).init
    return image_models.num_parameters(jax.eval_shape(init, jax.random.key(0), X[0]))

  assert image_models.num_parameters(encoder) == size(extra)
  assert size(extra - 1) < target <= size(extra)


@pytest.mark.parametrize('name', [name for name in NAMES if name != 'static'])  # trains as IA-VAE
def test_one_step_moves_what_is_trained_and_nothing_else(name):
  _, images, _, _ = setting('plain')
  method, frozen_paths, _ = variant(name, 'plain')
  params = start(name, 'plain')
  assert method.infer_train is None  # normalization by the running moments in training, too
  trained, frozen = freezing.partition(params, frozen_paths)
  optimizer = optimizers.make_optimizer({'inference': 1e-2, 'model': 1e-2}, weight_decay=0.1)
  of_batch = gradients.make_gradient(images.model, method, micro_batch=NUM)

  @jax.jit
  def step(trained, frozen):
    slope, metrics = of_batch(trained, frozen, X, jax.random.split(jax.random.key(3), NUM), 1.0)
    updates, _ = optimizer.update(slope, optimizer.init(trained), trained)
    return slope, freezing.merge(optax.apply_updates(trained, updates), frozen), metrics

  slope, new, metrics = step(trained, frozen)
  assert names_of(slope) == expected_names(name, params)
  assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(slope)) and np.isfinite(metrics['elbo'])
  same = jax.tree.map(lambda a, b: np.array_equal(a, b), new, params)
  moved = {path for path in names_of(params) if not leaf_at(same, path)}
  assert moved == expected_names(name, params)


def leaf_at(tree, path):
  return functools.reduce(lambda node, key: node[key], path.split('/'), tree)


def test_an_unknown_method_is_refused():
  with pytest.raises(ValueError, match=r"unknown method 'amortised'.*Did you mean 'amortized'"):
    variant('amortised')


@pytest.mark.parametrize('train_decoder', [True, False])
@pytest.mark.parametrize('train_base', [True, False])
def test_flags_say_what_a_modulation_trains(train_base, train_decoder):
  """The hypernetwork always; the base encoder without its norms, and the decoder, by flag."""
  config = make_config(**PLAIN, **{'adapt.train_base': train_base,
                                   'adapt.train_decoder': train_decoder})  # fmt: skip
  images = image_models.make_images(config, SHAPE)
  made = image_variants.make_variant(config, images, 'film')
  params = jax.eval_shape(made.method.init, jax.random.key(0), X[0])
  trained, _ = freezing.partition(params, made.frozen)
  expected = expected_names('frozen_decoder', params)
  if train_base:
    expected |= expected_names('encoder_only', params)
  if train_decoder:
    expected |= expected_names('decoder_only', params)
  assert names_of(trained) == expected


@pytest.mark.parametrize('of', ['svi', 'iterative', 'instance_adaptive'])
def test_a_hybrid_freezes_what_its_method_does(of):
  """On a residual encoder: what has no encoder has no norms to freeze."""
  config = digits.get_config('hybrid,reduced')
  config.update_from_flattened_dict({'inference.of': of, 'model.encoder_width': 4} | PLAIN)
  made = image_variants.make_variant(config, image_models.make_images(config, SHAPE), 'hybrid')
  params = jax.eval_shape(made.method.init, jax.random.key(0), X[0])
  _, frozen = freezing.partition(params, made.frozen)
  expected = {n for n in names_of(params) if n.startswith('inference/encoder/')}
  assert names_of(frozen) == (expected if of == 'instance_adaptive' else set())
  assert bool(expected) == (of == 'instance_adaptive')


def test_rows_without_hypernetwork_have_a_rate_of_their_own():
  overrides = {
    'adapt.learning_rate': 1e-3,
    'adapt.plain_learning_rate': 4e-3,
    'adapt.schedule': 'cosine',
    'training.batch_size': 20,
    'experiment': 'controls',
    'controls': ('encoder_only', 'static'),
  }
  config = make_config(**PLAIN, **overrides)
  images = image_models.make_images(config, SHAPE)
  rows = image_rows.make_rows(config, images, num_train=70, resample=True)
  found = {name: row.program.hyperparameters for name, row in rows.items()}
  rates = {name: h.learning_rates['inference'] for name, h in found.items()}
  own = config.pretrain.learning_rate
  assert rates == {'base': own, 'instance_adaptive': 1e-3, 'encoder_only': 4e-3, 'static': 1e-3}
  # 70 images are 3 batches of 20; the base keeps its rate
  steps = 3 * config.adapt.num_epochs
  assert [h.decay_steps for h in found.values()] == [0, steps, steps, steps]


def test_rates_fall_along_a_cosine():
  """Adam with a gradient of one sign steps by its rate, which is half way down in the middle."""
  params = {'model': {'w': jnp.zeros(1)}, 'inference': {'w': jnp.zeros(1)}}
  optimizer = optimizers.make_optimizer({'model': 1.0, 'inference': 2.0}, decay_steps=8)
  state, sizes = optimizer.init(params), []
  for _ in range(9):
    updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
    sizes.append([-float(updates[half]['w'][0]) for half in ('model', 'inference')])
  cosine = 0.5 * (1 + np.cos(np.pi * np.arange(9) / 8))
  np.testing.assert_allclose(sizes, np.outer(cosine, [1.0, 2.0]), rtol=1e-4, atol=1e-6)
