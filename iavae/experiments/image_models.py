"""What an image experiment is made of: which networks does a config name?"""

import math
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from iavae import decoders, networks, pixelcnn, posteriors
from iavae.freezing import is_below
from iavae.models import vae
from iavae.resnet import resnet
from iavae.types import GenerativeModel, Network, Params, PosteriorFamily


class Images(NamedTuple):
  """Model, encoder to the heads of a posterior family, and the shape of an example."""

  model: GenerativeModel
  encoder: Network
  family: PosteriorFamily
  shape: tuple[int, ...]


def preset_label(config: ConfigDict) -> str:
  """Of every number: 'full' is the paper's protocol, 'changed' says that the command line did."""
  words = [config.preset] if config.preset != 'full' or not config.changed else []
  words += ['changed'] if config.changed else []
  precision = config.training.precision
  return ', '.join([*words, precision] if precision != 'float32' else words)


def is_convolutional(config: ConfigDict) -> bool:
  """Whether the decoder is, through which every draw of z goes."""
  return config.model.decoder == 'pixelcnn'


def make_family(config: ConfigDict, name: str) -> PosteriorFamily:
  """A posterior family with what config.flow says of it."""
  known = posteriors.defaults(name)
  options = {key: value for key, value in config.flow.items() if value and key in known}
  return posteriors.make(name, **options)


def make_encoder(config: ConfigDict, family: PosteriorFamily, extra: int = 0) -> Network:
  """The encoder of config.model, with so many more channels, or hidden units in every layer."""
  options = config.model
  heads = family.heads(options.latent_dim)
  if options.encoder == 'resnet':
    return resnet(heads, options.encoder_width + extra, options.encoder_blocks)
  hidden = tuple(n + extra for n in options.hidden)
  return networks.mlp(hidden, heads, options.activation, options.initialization)


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
    decoder = decoders.mlp_decoder(
      options.latent_dim, shape, hidden, options.activation, options.initialization
    )
  family = make_family(config, config.posterior)
  model = vae.make(decoder, options.latent_dim)
  return Images(model, make_encoder(config, family), family, shape)


def num_parameters(params: Params, frozen: tuple[str, ...] = ()) -> int:
  """Entries of all arrays, but for running moments and what is at or below a frozen path."""
  total = 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    if not path[-1].key.startswith('running_') and not is_below(name, frozen):
      total += math.prod(leaf.shape)
  return total
