"""scikit-learn's 1,797 real digits of 8 x 8: both stages in minutes, nothing to download.

  python launch.py --config=configs/digits.py
  python launch.py --config=configs/digits.py --config.experiment=controls --workdir=runs/controls

A small model of the paper's form; there are no published numbers. All keys: configs/default.py.
"""

from ml_collections import ConfigDict

from configs import default

SMALL = {
  'num_seeds': 3,
  'data.name': 'digits',
  'model.latent_dim': 8,
  'model.encoder_width': 16,
  'model.decoder_width': 16,
  'model.kernel_sizes': (3, 3),
  'hypernetwork.slice_dim': 8,
  'pretrain.num_epochs': 60,
  'adapt.num_epochs': 30,
  'evaluation.iwae_samples': 100,
}
PRESETS = {
  'reduced': {'num_seeds': 1, 'pretrain.num_epochs': 6, 'adapt.num_epochs': 3},
}


def get_config(variant: str = '') -> ConfigDict:
  """variant: '', a method, 'reduced' (one seed, a tenth of the epochs), or METHOD,reduced."""
  return default.make(variant, SMALL, PRESETS)
