"""What an image experiment is made of: which networks does a config name, and what trains what?"""

import bisect
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from iavae import decoders, inference, layers, networks, pixelcnn
from iavae.freezing import is_below
from iavae.inference import amortized, instance_adaptive
from iavae.models import vae
from iavae.resnet import resnet
from iavae.types import Array, GenerativeModel, InferenceMethod, Network, Params

CONTROLS = (
  'continued',
  'decoder_only',
  'encoder_only',
  'static',
  'shuffled',
  'frozen_decoder',
  'wider',
)


class Variant(NamedTuple):
  """One row of the table: a method, what of it is frozen, and how it starts from a base VAE."""

  method: InferenceMethod
  frozen: tuple[str, ...]
  start: Callable[[Params, Array], Params]  # (base params, rng) -> params


class Images(NamedTuple):
  """Model, encoder and the shape of an example."""

  model: GenerativeModel
  encoder: Network
  shape: tuple[int, ...]


def make_encoder(config: ConfigDict, extra: int = 0) -> Network:
  """The encoder of config.model, with so many more channels, or hidden units in every layer."""
  options = config.model
  heads = {'mean': options.latent_dim, 'log_var': options.latent_dim}
  if options.encoder == 'resnet':
    return resnet(heads, options.encoder_width + extra, options.encoder_blocks)
  return networks.mlp(tuple(n + extra for n in options.hidden), heads, options.activation)


def make_images(config: ConfigDict, shape: tuple[int, ...]) -> Images:
  """The base VAE of config.model for images of a shape [H, W, C]."""
  options = config.model
  if options.decoder == 'pixelcnn':
    decoder = pixelcnn.make(
      options.latent_dim,
      shape,
      options.decoder_width,
      options.kernel_sizes,
      options.latent_maps,
      options.fix_vertical_shift,
    )
  else:
    hidden = options.hidden[::-1]
    decoder = decoders.mlp_decoder(options.latent_dim, shape, hidden, options.activation)
  return Images(vae.make(decoder, options.latent_dim), make_encoder(config), shape)


def _norms(encoder: Network, shape: tuple[int, ...]) -> tuple[str, ...]:
  """Paths of the batch normalizations, which stay as they are in every second stage."""
  base = _shapes(encoder.init, shape)
  return tuple(f'inference/encoder/{name}' for name in base if 'running_mean' in base[name])


def make_variant(config: ConfigDict, images: Images, name: str) -> Variant:
  """A method of the second stage: config.method by its name, or one of CONTROLS.

  Batch normalization is frozen in all of them, as IA-VAE has it: running moments, scale and shift.
  """
  model, shape = images.model, images.shape
  encoder = images.encoder._replace(apply_train=None)
  norms = _norms(encoder, shape)
  plain = amortized.make(model, encoder)
  adaptive = functools.partial(_make_adaptive, config, model, encoder)
  frozen_encoder = instance_adaptive.FROZEN
  simple = {
    'continued': (plain, norms),
    'decoder_only': (plain, ('inference',)),
    'encoder_only': (plain, ('model', *norms)),
    'static': (adaptive(condition='zeros'), frozen_encoder),
    'shuffled': (adaptive(condition='other'), frozen_encoder),
    'frozen_decoder': (adaptive(), (*frozen_encoder, 'model')),
  }
  if name == 'wider':
    return _make_wider(config, images)
  if name in simple:
    method, frozen = simple[name]
  elif name == 'instance_adaptive':
    method, frozen = adaptive(), frozen_encoder
  else:
    module = inference.find(name)
    method, frozen = module.make(model, encoder), (*getattr(module, 'FROZEN', ()), *norms)
  return Variant(method, frozen, _make_start(method, shape))


def _make_adaptive(
  config: ConfigDict, model: GenerativeModel, encoder: Network, **options: object
) -> InferenceMethod:
  return instance_adaptive.make(
    model, encoder, hypernetwork='layerwise', **config.hypernetwork, **options
  )


def _make_start(
  method: InferenceMethod, shape: tuple[int, ...]
) -> Callable[[Params, Array], Params]:
  """Model and encoder of a trained base VAE, and fresh params of all else that a method has."""

  @jax.jit
  def fresh(rng: Array) -> Params:
    inference = method.init(rng, jnp.zeros(shape))['inference']
    return {name: part for name, part in inference.items() if name != 'encoder'}

  def start(base: Params, rng: Array) -> Params:
    inference = {'encoder': base['inference']['encoder']} | fresh(rng)
    return {'model': base['model'], 'inference': inference}

  return start


def num_parameters(params: Params, frozen: tuple[str, ...] = ()) -> int:
  """Entries of all arrays, but for running moments and what is at or below a frozen path."""
  total = 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    if not path[-1].key.startswith('running_') and not is_below(name, frozen):
      total += math.prod(leaf.shape)
  return total


def _make_wider(config: ConfigDict, images: Images) -> Variant:
  """C7: a plain encoder that starts as the base's function, with as many parameters as IA-VAE's."""
  adaptive = _make_adaptive(config, images.model, images.encoder)
  inference_params = _shapes(lambda rng, x: adaptive.init(rng, x)['inference'], images.shape)
  target = num_parameters(inference_params)

  def is_enough(extra: int) -> bool:
    return num_parameters(_shapes(make_encoder(config, extra).init, images.shape)) >= target

  enough = 1
  while not is_enough(enough):
    enough *= 2
  extra = bisect.bisect_left(range(enough + 1), True, key=is_enough)
  encoder = make_encoder(config, extra)._replace(apply_train=None)
  method = amortized.make(images.model, encoder)
  positions = 1
  if config.model.encoder == 'resnet':
    positions = math.prod(size >> config.model.encoder_blocks for size in images.shape[:2])

  def start(base: Params, rng: Array) -> Params:
    fresh = jax.jit(encoder.init)(rng, jnp.zeros(images.shape))
    widened = layers.widen(base['inference']['encoder'], fresh, positions)
    return {'model': base['model'], 'inference': {'encoder': widened}}

  return Variant(method, _norms(encoder, images.shape), start)


def _shapes(init: Callable[[Array, Array], Params], shape: tuple[int, ...]) -> Params:
  return jax.eval_shape(init, jax.random.key(0), jnp.zeros(shape))


def count_parameters(variant: Variant, shape: tuple[int, ...]) -> dict[str, int]:
  """{'trained': ..., 'total': ...} parameters of a variant, both halves."""
  shapes = _shapes(variant.method.init, shape)
  return {'trained': num_parameters(shapes, variant.frozen), 'total': num_parameters(shapes)}
