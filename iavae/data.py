"""Data: which images, split and binarized how?

A protocol's name fixes all of it, so that two results under one name are comparable:

  mnist           dynamic     pixel / 255 is the mean of a Bernoulli; training images are drawn anew
                              for each batch, the others once
                  static      Larochelle's binarization, with its own 50,000 / 10,000 / 10,000
  fashion_mnist   stochastic  as mnist dynamic
                  threshold   x > 0.5: other numbers by far, as it adds no noise
  omniglot        burda       28 x 28 as the papers have it, 24,345 / 8,070; drawn as mnist dynamic
                  raw28       Lake's images, area-averaged to 28 x 28, 19,280 / 13,180: NOT
                              comparable with published log-likelihoods
  digits          stochastic  scikit-learn's 8 x 8 digits, 1,500 / 297; nothing to download
  own             stochastic, threshold: the user's .npz, see `image_files.read_own`

Where there is no validation set of its own, it is 15 % of the training images, chosen by the seed.
Test images are binarized once and for all, whatever the seed, and come in a fixed random order, as
some of the files are sorted and their first so many would be a biased choice.
"""

import hashlib
import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from iavae import image_files, paths, sources
from iavae.config import is_int, suggestion
from iavae.downloads import MissingError
from iavae.errors import ConfigError

PROTOCOLS: dict[str, dict[str, tuple[str, bool]]] = {  # name -> protocol -> (source, resample)
  'mnist': {'dynamic': ('mnist', True), 'static': ('binarized_mnist', False)},
  'fashion_mnist': {
    'stochastic': ('fashion_mnist', True),
    'threshold': ('fashion_mnist', False),
  },
  'omniglot': {'burda': ('omniglot_burda', True), 'raw28': ('omniglot_raw', True)},
  'digits': {'stochastic': ('digits', True)},
  'own': {'stochastic': ('own', True), 'threshold': ('own', False)},
}
# name -> protocols, the first one the default
DATASETS: Mapping[str, tuple[str, ...]] = {name: tuple(p) for name, p in PROTOCOLS.items()}

_DIGITS_TEST = 297
_FIXED = 0  # the seed of what no seed changes
# What a random stream is for; never 0, as numpy takes the seeds (s,) and (s, 0) for the same
_ORDER, _VALIDATION, _TEST, _TEST_ORDER = 1, 2, 3, 4


class Dataset(NamedTuple):
  """Images in memory."""

  name: str
  protocol: str
  train: np.ndarray  # uint8 [N, H, W, C], intensities 0..255
  validation: np.ndarray  # uint8 [N, H, W, C], 0 or 1, binarized once
  test: np.ndarray  # uint8 [N, H, W, C], 0 or 1, binarized once
  resample: bool  # whether a batch is to be drawn x ~ Bernoulli(train / 255); else it is 0 or 255
  digests: dict[str, str]  # SHA-256 of 'train', 'validation', 'test', and of 'source', all images


def load(
  name: str,
  protocol: str,
  *,
  seed: int,
  path: str = '',
  directory: str = '',
  num_train: int = 0,
  num_validation: int = 0,
  num_test: int = 0,
) -> Dataset:
  """Loads images by the name of their protocol; the same arguments give the same bits.

  Args:
    name: a key of DATASETS.
    protocol: one of DATASETS[name]; '' for the first.
    seed: decides on the split, the order of the training images and the binarization of the
      validation images.
    path: the .npz of the data set 'own'.
    directory: the manual folder, where files are looked for, also in a subfolder `name`, downloaded
      to and cached in; '' for $IAVAE_DATA or else ~/.cache/iavae/data.
    num_train: so many images, the first in the order of the seed; 0 for all.
    num_validation: likewise.
    num_test: likewise, the first in the fixed order.

  Raises:
    ConfigError: one line, for an unknown name, too few images, a file that is not there or not the
      published one, and any unfit image of one's own.
  """
  protocol = _checked(name, protocol, path)
  source, resample = PROTOCOLS[name][protocol]
  folder = directory or os.environ.get('IAVAE_DATA') or sources.HOME
  paths.local(folder, '--config.data.directory' if directory else 'IAVAE_DATA')
  try:
    read = _read(source, path, folder)
  except MissingError as error:
    raise MissingError(f'{error}; or take {_at_hand(name, source, folder)}') from None
  parts = _split(read, seed)
  wanted = {'train': num_train, 'validation': num_validation, 'test': num_test}
  _check_numbers(wanted, parts)
  ink = _binarize if resample else _threshold
  arrays = {
    'train': parts['train'] if resample else _threshold(parts['train']) * np.uint8(255),
    'validation': ink(parts['validation'], seed, _VALIDATION),
    'test': ink(parts['test'], _FIXED, _TEST),
  }
  # First binarize, then cut, so that a reduced set is the beginning of the whole one
  arrays = {part: images[: wanted[part] or None] for part, images in arrays.items()}
  digests = {part: _digest([images]) for part, images in arrays.items()}
  digests['source'] = _digest(read)
  return Dataset(name, protocol, **arrays, resample=resample, digests=digests)


def _digest(parts: list[np.ndarray]) -> str:
  digest = hashlib.sha256()
  for images in parts:
    digest.update(np.ascontiguousarray(images))
  return digest.hexdigest()


def _checked(name: str, protocol: str, path: str) -> str:
  """The protocol, the default one filled in, if the three go together."""
  if name not in DATASETS:
    raise ConfigError(
      f'--config.data.name={name} is not one of {", ".join(DATASETS)}.'
      + suggestion(name, list(DATASETS))
    )
  protocols = DATASETS[name]
  protocol = protocol or protocols[0]
  if protocol not in protocols:
    raise ConfigError(
      f'--config.data.protocol={protocol} is not one of {", ".join(protocols)}, those of {name}.'
      + suggestion(protocol, list(protocols))
    )
  if name == 'own' and not path:
    raise ConfigError('--config.data.name=own needs a file of images, --config.data.path=<x>.npz')
  if name != 'own' and path:
    raise ConfigError(f'--config.data.path={path} is for --config.data.name=own, not for {name}')
  return protocol


def _check_numbers(wanted: dict[str, int], parts: dict[str, np.ndarray]) -> None:
  for part, images in parts.items():
    if not is_int(wanted[part]) or not 0 <= wanted[part] <= len(images):
      raise ConfigError(
        f'--config.data.num_{part}={wanted[part]!r} is not a whole number from 0 (all) to '
        f'{len(images)}, all that there are'
      )


def _at_hand(name: str, missing: str, directory: str) -> str:
  """The flags of protocols that need no download, those of the same data first."""
  ready = [
    f'--config.data.name={name} --config.data.protocol={protocol}'
    for protocol, (source, _) in PROTOCOLS[name].items()
    if source != missing and sources.at_hand(source, directory)
  ]
  return ' or '.join([*ready, '--config.data.name=digits']) + ', for which all is here'


def _read(source: str, path: str, directory: str) -> list[np.ndarray]:
  """[training, test] or [training, validation, test], uint8 [N, H, W, C] each, 0..255."""
  if source == 'digits':
    from sklearn import datasets  # here, as it takes a second

    images = image_files.quantize(datasets.load_digits().images / 16)[..., None]
    return _hold_out(images, _DIGITS_TEST, _FIXED)
  if source == 'own':
    parts = image_files.read_own(path)
    return parts if len(parts) == 2 else _hold_out(parts[0], _share(len(parts[0])), _FIXED)
  return sources.load(source, directory)


def _split(parts: list[np.ndarray], seed: int) -> dict[str, np.ndarray]:
  """Puts training and test images in their orders and makes a validation set if there is none."""
  train, *validation, test = parts
  if validation:
    train = train[_rng(seed, _ORDER).permutation(len(train))]
    validation = [_fixed_order(validation[0])]
  else:
    train, *validation = _hold_out(train, _share(len(train)), seed)
  return {'train': train, 'validation': validation[0], 'test': _fixed_order(test)}


def _hold_out(images: np.ndarray, num: int, seed: int) -> list[np.ndarray]:
  """[the others, `num` images], both in random order."""
  order = _rng(seed, _ORDER).permutation(len(images))
  return [images[order[num:]], images[order[:num]]]


def _fixed_order(images: np.ndarray) -> np.ndarray:
  return images[_rng(_FIXED, _TEST_ORDER).permutation(len(images))]


def _share(num: int) -> int:
  """15 %, to the nearest whole number and at least 1."""
  return max(1, (15 * num + 50) // 100)


def _rng(seed: int, purpose: int) -> np.random.Generator:
  return np.random.default_rng((seed, purpose))


def _binarize(images: np.ndarray, seed: int, purpose: int) -> np.ndarray:
  """x ~ Bernoulli(images / 255), exactly: a uniform u in 0..254 has P(u < v) = v / 255."""
  uniform = _rng(seed, purpose).integers(255, size=images.shape, dtype=np.uint8)
  return (uniform < images).view(np.uint8)


def _threshold(images: np.ndarray, *_: int) -> np.ndarray:
  """Whether an intensity is above one half, 0 or 1."""
  return (images > 127).view(np.uint8)
