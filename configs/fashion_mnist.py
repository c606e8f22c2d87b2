"""Fashion-MNIST, binarized at random: Table 4 of arXiv:2604.06796.

  python launch.py --config=configs/fashion_mnist.py            # needs an accelerator
  python launch.py --config=configs/fashion_mnist.py:reduced    # minutes a seed on 2 CPU cores

The noise of the binarization alone costs 189.9 nats an image, so no model passes about -190; with
--config.data.protocol=threshold there is none, and values lie near -100. All keys:
configs/default.py.
"""

from ml_collections import ConfigDict

from configs import default

PAPER = {'data.name': 'fashion_mnist', 'adapt.weight_decay': 0.0}  # the paper names none
PRESETS = {'reduced': default.REDUCED, 'mlp': default.MLP, 'mlp_reduced': default.MLP_REDUCED}


def get_config(variant: str = '') -> ConfigDict:
  """variant: '', a method, a preset ('reduced', 'mlp', 'mlp_reduced'), or METHOD,PRESET."""
  return default.make(variant, PAPER, PRESETS)
