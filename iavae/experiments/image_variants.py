"""Rows of an image table: what trains what in the second stage, and how does it start?

A row is a control, an inference method, plain amortized inference with another posterior family,
or IA-VAE with another modulation; each is called by one name.
"""

import bisect
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from iavae import hypernetworks, inference, layers, posteriors
from iavae.experiments.image_models import Images, make_encoder, make_family, num_parameters
from iavae.inference import amortized
from iavae.types import BATCH, Array, InferenceMethod, Network, Params

CONTROLS = (
  'continued',
  'decoder_only',
  'encoder_only',
  'static',
  'shuffled',
  'frozen_decoder',
  'wider',
)
# The paper's for images; `linear` and `energy` are for few inputs
MODULATIONS = {'paper': 'layerwise'} | {
  name: name for name in hypernetworks.names() if name not in ('layerwise', 'linear', 'energy')
}


class Variant(NamedTuple):
  """One row of the table: a method, what of it is frozen, and how it starts from a base VAE."""

  method: InferenceMethod
  frozen: tuple[str, ...]
  start: Callable[[Params, Array], Params]  # (base params, rng) -> params


def make_variant(config: ConfigDict, images: Images, name: str) -> Variant:
  """A row of the second stage by its name.

  Batch normalization is frozen in all of them, as IA-VAE has it: running moments, scale and shift.

  Raises:
    ValueError: for an unknown name, or hyperparameters that do not fit.
  """
  images = images._replace(encoder=images.encoder._replace(apply_train=None))
  if name == 'wider':
    return _make_wider(config, images)
  if name in posteriors.names():
    family = make_family(config, name)
    encoder = make_encoder(config, family)._replace(apply_train=None)
    images = images._replace(family=family, encoder=encoder)
  method, frozen = _method_and_frozen(config, images, name)
  if method.trains and 'model' in frozen:
    raise ValueError('it trains encoder and decoder by turns, and the decoder is to stay')
  return Variant(method, frozen, _make_start(method, images.shape))


def _plain(config: ConfigDict, images: Images) -> InferenceMethod:
  return amortized.make(
    images.model, images.encoder, estimator=config.adapt.estimator, family=images.family
  )


def _frozen(
  config: ConfigDict, images: Images, method: InferenceMethod, paths: tuple[str, ...] = ()
) -> tuple[str, ...]:
  """Those paths, all batch normalization that a method has, and the decoder if it is to stay."""
  decoder = () if config.adapt.train_decoder else ('model',)
  return tuple(dict.fromkeys((*paths, *_norms(method, images.shape), *decoder)))


def _method_and_frozen(
  config: ConfigDict, images: Images, name: str
) -> tuple[InferenceMethod, tuple[str, ...]]:
  if name in ('continued', 'decoder_only', 'encoder_only') or name in posteriors.names():
    some = {'decoder_only': ('inference',), 'encoder_only': ('model',)}
    plain = _plain(config, images)
    return plain, _frozen(config, images, plain, some.get(name, ()))
  options: dict[str, object] = {}
  method, modulation = name, config.modulation
  if name in MODULATIONS:
    method, modulation = 'instance_adaptive', name
  elif name in ('static', 'shuffled', 'frozen_decoder'):
    method = 'instance_adaptive'
    options = {'static': {'condition': 'zeros'}, 'shuffled': {'condition': 'other'}}.get(name, {})
  if method == config.method:
    options = config.inference.to_dict() | options
  of = options.get('of', inference.find(method).DEFAULTS.get('of'))
  if 'instance_adaptive' in (method, of):
    known = _modulation_options(config, modulation)
    if of and known.get('num_steps', 1) != 1:
      raise ValueError('the modulation takes one step here: --config.hypernetwork.num_steps=1')
    options = known | options
  if 'estimator' in inference.find(of or method).DEFAULTS:
    options = {'estimator': config.adapt.estimator} | options
  frozen = () if config.adapt.train_base else inference.frozen(method, of)
  if name == 'frozen_decoder':
    frozen = (*frozen, 'model')
  made = inference.find(method).make(images.model, images.encoder, family=images.family, **options)
  return made, _frozen(config, images, made, frozen)


def _modulation_options(config: ConfigDict, modulation: str) -> dict[str, object]:
  known = hypernetworks.defaults(MODULATIONS[modulation])
  options = {key: value for key, value in config.hypernetwork.items() if key in known}
  return {'hypernetwork': MODULATIONS[modulation]} | options


def _norms(method: InferenceMethod, shape: tuple[int, ...]) -> tuple[str, ...]:
  """Paths of the batch normalizations, which stay as they are in every second stage."""
  encoder = _shapes(method.init, shape)['inference'].get('encoder', {})
  return tuple(f'inference/encoder/{name}' for name in encoder if 'running_mean' in encoder[name])


def _make_start(
  method: InferenceMethod, shape: tuple[int, ...]
) -> Callable[[Params, Array], Params]:
  """Model, encoder and shared weights of a trained base VAE, and fresh params of all else.

  Heads of the encoder that the base does not have start at zero, where a family is what the base
  has: a Gaussian.
  """

  @jax.jit
  def fresh(rng: Array) -> Params:
    inference = method.init(rng, jnp.zeros(shape))['inference']
    return {name: part for name, part in inference.items() if name != 'encoder'}

  def start(base: Params, rng: Array) -> Params:
    inference, old = fresh(rng), base['inference']
    shapes = _shapes(method.init, shape)['inference']
    if 'encoder' in shapes:
      inference['encoder'] = layers.grown(old['encoder'], shapes['encoder'])
    if 'flow' in inference and 'flow' in old:
      inference['flow'] = old['flow']
    return {'model': base['model'], 'inference': inference}

  return start


def _make_wider(config: ConfigDict, images: Images) -> Variant:
  """C7: a plain encoder that starts as the base's function, with as many parameters as IA-VAE's."""
  adaptive, _ = _method_and_frozen(config, images, config.modulation)
  inference_params = _shapes(lambda rng, x: adaptive.init(rng, x)['inference'], images.shape)
  target = num_parameters(inference_params)

  def make(extra: int) -> Network:
    return make_encoder(config, images.family, extra)._replace(apply_train=None)

  def is_enough(extra: int) -> bool:
    return num_parameters(_shapes(make(extra).init, images.shape)) >= target

  enough = 1
  while not is_enough(enough):
    enough *= 2
  encoder = make(bisect.bisect_left(range(enough + 1), True, key=is_enough))
  method = _plain(config, images._replace(encoder=encoder))
  positions = 1
  if config.model.encoder == 'resnet':
    positions = math.prod(size >> config.model.encoder_blocks for size in images.shape[:2])

  def start(base: Params, rng: Array) -> Params:
    fresh = jax.jit(encoder.init)(rng, jnp.zeros(images.shape))
    widened = layers.widen(base['inference']['encoder'], fresh, positions)
    return {'model': base['model'], 'inference': base['inference'] | {'encoder': widened}}

  return Variant(method, _frozen(config, images, method), start)


def _shapes(init: Callable[[Array, Array], Params], shape: tuple[int, ...]) -> Params:
  return jax.eval_shape(init, jax.random.key(0), jnp.zeros(shape))


def has_hypernetwork(variant: Variant, shape: tuple[int, ...]) -> bool:
  """Whether a variant modulates an encoder."""
  return 'hypernetwork' in _shapes(variant.method.init, shape)['inference']


def shares_networks(variant: Variant, shape: tuple[int, ...]) -> bool:
  """Whether a posterior holds networks that all examples share."""
  method, rng = variant.method, jax.random.key(0)
  params = _shapes(method.init, shape)
  one = jax.vmap(method.infer, (None, 0, None), axis_name=BATCH)
  return hasattr(jax.eval_shape(one, params, jnp.zeros((1, *shape)), rng), 'flow')


def count_parameters(variant: Variant, shape: tuple[int, ...]) -> dict[str, int]:
  """{'trained': ..., 'total': ...} parameters of a variant, both halves."""
  shapes = _shapes(variant.method.init, shape)
  return {'trained': num_parameters(shapes, variant.frozen), 'total': num_parameters(shapes)}
