"""MNIST, dynamically binarized: Table 4 of arXiv:2604.06796.

  python launch.py --config=configs/mnist.py            # the paper's protocol: needs an accelerator
  python launch.py --config=configs/mnist.py:reduced    # minutes a seed on 2 CPU cores

All keys: configs/default.py.
"""

from ml_collections import ConfigDict

from configs import default

PAPER = {'data.name': 'mnist', 'adapt.weight_decay': 5e-4}
PRESETS = {
  'reduced': default.REDUCED,
  'mlp': default.MLP,
  'mlp_reduced': default.MLP_REDUCED,
  'gated': default.GATED,
}


def get_config(variant: str = '') -> ConfigDict:
  """variant: a method, a preset (reduced, mlp, mlp_reduced, gated), or METHOD,PRESET."""
  return default.make(variant, PAPER, PRESETS)
