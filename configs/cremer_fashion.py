"""Inference suboptimality on Fashion MNIST: the right half of Table 1 of arXiv:1801.03558.

  python launch.py --config=configs/cremer_fashion.py            # needs an accelerator
  python launch.py --config=configs/cremer_fashion.py:reduced    # in small, on 2 CPU cores

A pixel is 1 where its intensity is above one half. Differs from the paper: 51,000 and 9,000 images
to train and to validate on, not 55,000 and 5,000. All keys: configs/cremer.py.
"""

from ml_collections import ConfigDict

from configs import cremer

DATA = {'data.name': 'fashion_mnist', 'data.protocol': 'threshold'}


def get_config(variant: str = '') -> ConfigDict:
  """variant: '' or 'reduced'."""
  return cremer.make(variant, DATA)
