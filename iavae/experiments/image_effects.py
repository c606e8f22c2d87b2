"""Which keys of an image config does any row of its table read?

A key that the command line changed and that nothing reads is a misunderstanding, better told before
hours of training than after.
"""

from ml_collections import ConfigDict

from iavae import hypernetworks, inference, posteriors
from iavae.experiments.image_variants import CONTROLS, MODULATIONS

_RESNET = ('encoder_width', 'encoder_blocks')
_PIXELCNN = ('decoder_width', 'kernel_sizes', 'latent_maps', 'fix_vertical_shift')
_MLP = ('hidden', 'activation', 'initialization')


def _methods(config: ConfigDict, names: list[str]) -> set[str]:
  """The methods at work, also inside of others."""
  found = {name for name in names if name in inference.names()}
  found |= {'amortized'} if set(names) & {*posteriors.names(), *CONTROLS} else set()
  adaptive = {'static', 'shuffled', 'frozen_decoder', 'wider', *MODULATIONS}
  found |= {'instance_adaptive'} if set(names) & adaptive else set()
  if 'hybrid' in found:
    own = config.inference.get('of') if config.method == 'hybrid' else None
    found.add(own or inference.find('hybrid').DEFAULTS['of'])
  return found


def _reads(config: ConfigDict, names: list[str]) -> dict[str, bool]:
  """Whether a key, or all keys of a group, are read, where that is not always so."""
  methods = _methods(config, names)
  options = set().union(*(inference.find(name).DEFAULTS for name in methods))
  adaptive = 'instance_adaptive' in methods
  # Rows that name their own modulation do not ask the config for one
  asks = set(names) & {'instance_adaptive', 'hybrid', *CONTROLS}
  modulations = set(names) & set(MODULATIONS) | ({config.modulation} if asks else set())
  families = {config.posterior} | set(names) & set(posteriors.names())
  sizes = set().union(*(hypernetworks.defaults(MODULATIONS[name]) for name in modulations))
  flow = set().union(*map(posteriors.defaults, families))
  found = {
    'modulation': adaptive and bool(asks),
    'adapt.train_base': adaptive,
    'adapt.estimator': 'estimator' in options,
    'adapt.plain_learning_rate': methods != {'instance_adaptive'},
  }
  found |= {f'hypernetwork.{key}': adaptive and key in sizes for key in config.hypernetwork}
  found |= {f'flow.{key}': key in flow for key in config.flow}
  resnet, pixelcnn = config.model.encoder == 'resnet', config.model.decoder == 'pixelcnn'
  found |= {f'model.{key}': resnet for key in _RESNET}
  found |= {f'model.{key}': pixelcnn for key in _PIXELCNN}
  found |= {f'model.{key}': not (resnet and pixelcnn) for key in _MLP}
  return found


def unread(config: ConfigDict, names: list[str]) -> list[str]:
  """Keys that the command line changed and none of the rows of those names reads."""
  reads = _reads(config, names)
  return [key for key in config.changed if not reads.get(key, True)]
