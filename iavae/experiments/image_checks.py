"""Which values may the keys of an image config take?"""

from iavae import config as config_lib
from iavae import data, networks
from iavae.experiments.image_models import CONTROLS

_COUNT = (lambda v: config_lib.is_int(v) and 0 <= v < 10**9, 'a whole number, 0 for all')
_RATE = (lambda v: not isinstance(v, bool) and 0 <= v <= 1e37, 'a finite number, 0 or more')
_TEXT = (lambda v: isinstance(v, str), 'a text')
_FLAG = (lambda v: isinstance(v, bool), 'True or False')
_SIZES = (
  lambda v: isinstance(v, tuple) and v and all(config_lib.NATURAL[0](size) for size in v),
  'a tuple of whole numbers, 1 or more',
)

CHECKS: dict[str, config_lib.Check] = {
  'experiment': config_lib.one_of('images', 'controls'),
  'method': _TEXT,
  'preset': _TEXT,
  'seed': config_lib.SEED,
  'num_seeds': config_lib.NATURAL,
  'controls': config_lib.some_of(*CONTROLS),
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
  'model.fix_vertical_shift': _FLAG,
  'model.hidden': _SIZES,
  'model.activation': config_lib.one_of(*networks.ACTIVATIONS),
  'hypernetwork.embedding_dim': config_lib.NATURAL,
  'hypernetwork.slice_dim': config_lib.NATURAL,
  'hypernetwork.column_embedding_dim': config_lib.NATURAL,
  'hypernetwork.init_scale': config_lib.POSITIVE,
  'hypernetwork.normalized': _FLAG,
  'pretrain.num_epochs': config_lib.NATURAL,
  'pretrain.learning_rate': config_lib.POSITIVE,
  'pretrain.warmup_epochs': _COUNT,
  'adapt.num_epochs': config_lib.NATURAL,
  'adapt.learning_rate': config_lib.POSITIVE,
  'adapt.decoder_learning_rate': config_lib.POSITIVE,
  'adapt.weight_decay': _RATE,
  'training.batch_size': config_lib.NATURAL,
  'training.micro_batch': _COUNT,
  'training.precision': config_lib.one_of('float32', 'bfloat16'),
  'evaluation.num_samples': config_lib.NATURAL,
  'evaluation.iwae_samples': config_lib.NATURAL,
}
