"""Every key of Cremer, Li & Duvenaud's experiment, with its unit, at the poster's values.

Table 1 of arXiv:1801.03558. Not a config to run: configs/cremer_mnist.py and
configs/cremer_fashion.py override what differs.
"""

import difflib

from ml_collections import ConfigDict

from configs import default, gaps
from iavae.errors import ConfigError

# The columns of their Table 1: encoder, or entropy not annealed, and the family of training
MODELS = (
  *('regular_ffg', 'regular_flow', 'large_ffg', 'large_flow'),
  *('noanneal_ffg', 'noanneal_flow'),
)

# All six models in minutes on 2 CPU cores: 12,000 steps, not 1.6 million, at a larger rate, and
# smaller networks in the flow. Entropy is annealed for half of the epochs: of so few an eighth, as
# the poster has it, has no effect
REDUCED = {
  'data.num_validation': 2000,
  'data.num_test': 1000,
  'flow.hidden': 100,
  'flow.context_dim': 50,
  'training.num_epochs': 24,
  'training.learning_rate': 3e-3,
  'training.schedule': 'cosine',
  'training.annealing_epochs': 12,
  'gaps.num_examples': 64,
  'gaps.num_steps': 2000,
  'gaps.flow_steps': 2000,
  'gaps.num_annealed': 16,
  'gaps.num_doubled': 8,
  'gaps.num_simulated': 8,
}
PRESETS = {'reduced': REDUCED}


def _model() -> ConfigDict:
  """The VAEs: 784-hidden-50 and back."""
  config = ConfigDict()
  config.latent_dim = 50
  config.regular_hidden = (200, 200)  # of the encoder; units
  config.large_hidden = (500, 500)  # of the encoder of large_ffg and large_flow
  config.decoder_hidden = (200, 200)
  config.activation = 'elu'
  config.initialization = 'torch'  # or 'lecun'
  return config


def _flow() -> ConfigDict:
  """Of the posterior family `auxiliary`, q_Flow."""
  config = ConfigDict()
  config.num_steps = 2  # in each both z and v change
  config.hidden = 200  # units of each network
  config.context_dim = 200  # entries of what the encoder tells them
  return config


def _training() -> ConfigDict:
  """Of every model."""
  config = ConfigDict()
  config.num_epochs = 3280
  config.batch_size = 100  # images
  config.learning_rate = 1e-3  # of Adam, at first
  config.schedule = 'burda'  # 10^(-i/7) for 3^i of 3,280 parts; or 'cosine'
  config.adam_eps = 1e-4  # added to the root of the second moment
  config.annealing_epochs = 400  # in which the weight of the entropy grows from 0 to 1
  config.precision = 'float32'  # or 'bfloat16', of kernels in training
  return config


def _gaps() -> ConfigDict:
  """Of the measurement, after training, on the images that the poster measures; configs/gaps.py."""
  config = gaps.get_config()
  with config.unlocked():
    config.split = 'train'
    config.num_examples = 1000
  return config


def make(variant: str, overrides: dict) -> ConfigDict:
  """The config of a data set: the poster's values, what differs, and a preset.

  Args:
    variant: '' or 'reduced'.

  Raises:
    ConfigError: for anything else.
  """
  if variant and variant not in PRESETS:
    nearest = difflib.get_close_matches(variant, PRESETS, n=1, cutoff=0.5)
    hint = f'. Did you mean {nearest[0]}?' if nearest else ''
    known = ', '.join(PRESETS)
    raise ConfigError(f'{variant!r} after the colon of --config is no preset ({known}){hint}')
  config = ConfigDict()
  config.experiment = 'cremer'
  config.preset = variant or 'full'  # a label
  config.changed = ()  # written by launch.py: keys that the command line changed
  config.seed = 0
  config.models = MODELS  # what is trained; any of them
  config.data = default.data_section()
  config.model = _model()
  config.flow = _flow()
  config.training = _training()
  config.gaps = _gaps()
  config.update_from_flattened_dict(overrides | PRESETS.get(variant, {}))
  config.lock()
  return config
