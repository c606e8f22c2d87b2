"""Inference suboptimality on MNIST: the left half of Table 1 of arXiv:1801.03558 (the poster).

  python launch.py --config=configs/cremer_mnist.py            # needs an accelerator
  python launch.py --config=configs/cremer_mnist.py:reduced    # in small, on 2 CPU cores

Larochelle's static binarization. All keys: configs/cremer.py.
"""

from ml_collections import ConfigDict

from configs import cremer

DATA = {'data.name': 'mnist', 'data.protocol': 'static'}


def get_config(variant: str = '') -> ConfigDict:
  """variant: '' or 'reduced'."""
  return cremer.make(variant, DATA)
