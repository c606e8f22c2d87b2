"""Is an image config sensible: its values, its data, and what the rows of its table need?"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from iavae import config as config_lib
from iavae import data, inference, networks, posteriors
from iavae.errors import ConfigError
from iavae.experiments import image_effects, image_models, image_rows, image_variants
from iavae.experiments.image_variants import CONTROLS, MODULATIONS
from iavae.types import BATCH, Array, InferenceMethod

_COUNT = (lambda v: config_lib.is_int(v) and 0 <= v < 10**9, 'a whole number, 0 for all')
_TEXT = (lambda v: isinstance(v, str), 'a text')
_ROWS = config_lib.some_of(*inference.names(), *posteriors.names(), *MODULATIONS)
_SCHEDULE = config_lib.one_of('constant', 'cosine')
_SIZES = (
  lambda v: isinstance(v, tuple) and v and all(config_lib.NATURAL[0](size) for size in v),
  'a tuple of whole numbers, 1 or more',
)

CHECKS: dict[str, config_lib.Check] = {
  'experiment': config_lib.one_of('images', 'controls', 'methods', 'cost'),
  'method': _TEXT,
  'posterior': config_lib.one_of(*posteriors.names()),
  'modulation': config_lib.one_of(*MODULATIONS),
  'preset': _TEXT,
  'changed': (lambda v: isinstance(v, tuple), 'written by launch.py'),
  'seed': config_lib.SEED,
  'num_seeds': config_lib.NATURAL,
  'controls': config_lib.some_of(*CONTROLS),
  'methods': _ROWS,
  'data.name': config_lib.one_of(*data.DATASETS),
  'data.protocol': _TEXT,
  'data.path': _TEXT,
  'data.directory': _TEXT,
  'data.num_train': _COUNT,
  'data.num_validation': _COUNT,
  'data.num_test': _COUNT,
  'model.latent_dim': config_lib.NATURAL,
  'model.encoder': config_lib.one_of('resnet', 'mlp'),
  'model.encoder_width': config_lib.NATURAL,
  'model.encoder_blocks': config_lib.NATURAL,
  'model.decoder': config_lib.one_of('pixelcnn', 'mlp'),
  'model.decoder_width': config_lib.NATURAL,
  'model.kernel_sizes': (
    lambda v: _SIZES[0](v) and all(size % 2 for size in v),
    'a tuple of odd whole numbers',
  ),
  'model.latent_maps': config_lib.NATURAL,
  'model.fix_vertical_shift': config_lib.FLAG,
  'model.hidden': _SIZES,
  'model.activation': config_lib.one_of(*networks.ACTIVATIONS),
  'model.initialization': config_lib.one_of(*networks.INITIALIZATIONS),
  'flow.num_steps': _COUNT,
  'flow.hidden': _COUNT,
  'flow.context_dim': _COUNT,
  'hypernetwork.trunk_dim': config_lib.NATURAL,
  'hypernetwork.rank': config_lib.NATURAL,
  'hypernetwork.num_experts': config_lib.NATURAL,
  'hypernetwork.num_steps': config_lib.NATURAL,
  'hypernetwork.embedding_dim': config_lib.NATURAL,
  'hypernetwork.slice_dim': config_lib.NATURAL,
  'hypernetwork.column_embedding_dim': config_lib.NATURAL,
  'hypernetwork.init_scale': config_lib.POSITIVE,
  'hypernetwork.normalized': config_lib.FLAG,
  'pretrain.num_epochs': _COUNT,
  'pretrain.schedule': _SCHEDULE,
  'pretrain.learning_rate': config_lib.POSITIVE,
  'pretrain.warmup_epochs': _COUNT,
  'adapt.num_epochs': config_lib.NATURAL,
  'adapt.learning_rate': config_lib.POSITIVE,
  'adapt.plain_learning_rate': config_lib.RATE,
  'adapt.decoder_learning_rate': config_lib.POSITIVE,
  'adapt.weight_decay': config_lib.RATE,
  'adapt.schedule': _SCHEDULE,
  'adapt.estimator': config_lib.one_of('standard', 'antithetic'),
  'adapt.train_base': config_lib.FLAG,
  'adapt.train_decoder': config_lib.FLAG,
  'training.batch_size': config_lib.NATURAL,
  'training.micro_batch': _COUNT,
  'training.precision': config_lib.one_of('float32', 'bfloat16'),
  'evaluation.num_samples': config_lib.NATURAL,
  'evaluation.iwae_samples': config_lib.NATURAL,
  'evaluation.gap_examples': _COUNT,
  'evaluation.diagnostic_examples': _COUNT,
  'cost.methods': _ROWS,
  'cost.num_steps': (
    lambda v: v != () and config_lib.increasing(0)[0](v),
    'a tuple of increasing whole numbers, 0 or more, and not empty',
  ),
  'cost.num_examples': (lambda v: config_lib.is_int(v) and v > 1, 'a whole number above 1'),
}


def load_images(config: ConfigDict, seed: int) -> data.Dataset:
  """The images of one seed, for any networks.

  Raises:
    ConfigError: see `data.load`; and if they do not fill a batch.
  """
  options = config.data.to_dict()
  if options['path']:  # of one's own images, whatever the config was made for
    known = options['protocol'] in data.DATASETS['own']
    options |= {'name': 'own', 'protocol': options['protocol'] if known else ''}
  images = data.load(seed=seed, **options)
  if len(images.train) < config.training.batch_size:
    raise ConfigError(
      f'{len(images.train)} training images do not fill a batch of '
      f'--config.training.batch_size={config.training.batch_size}; take a smaller one'
    )
  return images


def load_data(config: ConfigDict, seed: int) -> data.Dataset:
  """The images of one seed.

  Raises:
    ConfigError: see `load_images`; and if micro-batches do not divide a batch, or images vanish in
      the encoder.
  """
  images = load_images(config, seed)
  if config.training.micro_batch and config.training.batch_size % config.training.micro_batch:
    raise ConfigError(
      f'--config.training.micro_batch={config.training.micro_batch} does not divide '
      f'--config.training.batch_size={config.training.batch_size}'
    )
  height, width, _ = images.train.shape[1:]
  blocks = config.model.encoder_blocks
  if config.model.encoder == 'resnet' and not min(height, width) >> blocks:
    raise ConfigError(
      f'images of {height} x {width} are gone after {blocks} halvings; take a smaller '
      '--config.model.encoder_blocks, or --config.model.encoder=mlp'
    )
  return images


def check_rows(config: ConfigDict, images: data.Dataset) -> None:
  """Raises ConfigError for rows, or flags of them, that the config does not allow."""
  controls = image_rows.others(config)
  if 'decoder_only' in controls and not config.adapt.train_decoder:
    raise ConfigError(
      'the control decoder_only trains nothing with --config.adapt.train_decoder=False; leave it '
      'out of --config.controls'
    )
  if config.pretrain.num_epochs == 0 and config.model.encoder == 'resnet':
    raise ConfigError(
      'joint training, --config.pretrain.num_epochs=0, needs an encoder without batch '
      'normalization, which the second stage freezes; take --config.model.encoder=mlp'
    )
  made = image_models.make_images(config, images.train.shape[1:])
  x, rng = jnp.zeros(made.shape), jax.random.key(0)
  for name in (config.method, *controls):
    try:
      method = image_variants.make_variant(config, made, name).method
      if config.posterior != 'gaussian' or name not in CONTROLS:
        jax.eval_shape(lambda rng, x, m=method: _traced_loss(m, rng, x), rng, x)
    except ValueError as error:
      raise ConfigError(f'{name}: {error}') from None
  if 'shuffled' in controls and image_rows.micro_batch(config) == 1:
    raise ConfigError(
      'the control shuffled needs other examples to read, and one is worked on at a time; take '
      'another --config.training.batch_size or micro_batch'
    )
  for key in image_effects.unread(config, [config.method, *controls]):
    raise ConfigError(f'--config.{key} has no effect: nothing that is trained here reads it')
  if 'wider' in controls and (config.model.encoder, config.model.activation) == ('mlp', 'glu'):
    raise ConfigError(
      'the control wider cannot widen --config.model.activation=glu; leave it out of '
      '--config.controls, or take another activation'
    )


def _traced_loss(method: InferenceMethod, rng: Array, x: Array) -> Array:
  """The loss under a `vmap` like the train step's: what does not fit raises its ValueError here."""
  params = method.init(rng, x)
  loss = jax.vmap(method.loss, (None, 0, None, None), axis_name=BATCH)
  return loss(params, x[None], rng, 1.0)[0]


def check(config: ConfigDict) -> dict[str, str]:
  """The digests of the images of the first seed.

  Raises:
    ConfigError: as `load_data` does, and for rows that the config does not allow.
  """
  images = load_data(config, config.seed)
  check_rows(config, images)
  return images.digests
