"""Which data is there, in which files, and where do these lie?

A source is looked for in this order: a cache of its arrays; its files in the manual folder; its
files on the web. Nothing is used whose digest is not the recorded one.
"""

import importlib.resources
import json
import logging
import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from iavae import image_files
from iavae.downloads import File, digest_of, download, mismatch, whole
from iavae.errors import ConfigError

HOME = '~/.cache/iavae/data'


class Recipe(NamedTuple):
  """Files that together give the parts of a source: (training, test) or (.., validation, ..)."""

  files: tuple[File, ...]
  read: Callable[[pathlib.Path], list[np.ndarray]]  # the parts in one file: uint8 [N, 28, 28, 1]


class Source(NamedTuple):
  """Ways of the same arrays; the last one is the one to download."""

  folders: tuple[str, ...]  # subfolders of the manual folder; downloads go to the first
  recipes: tuple[Recipe, ...]


def _listed(table: str, *names: str) -> tuple[File, ...]:
  """Files as a table of tensorflow-datasets lists them; needs no TensorFlow."""
  from tensorflow_datasets.core.download import checksums

  path = importlib.resources.files('tensorflow_datasets') / table
  infos = {url.rpartition('/')[2]: (url, i) for url, i in checksums.load_url_infos(path).items()}
  return tuple(File(name, infos[name][1].checksum, infos[name][0]) for name in names)


def _mnist_like(name: str) -> Source:
  names = ('train-images-idx3-ubyte.gz', 't10k-images-idx3-ubyte.gz')
  files = _listed(f'url_checksums/{name}.txt', *names)
  return Source((name,), (Recipe(files, image_files.read_idx),))


def _binarized_mnist() -> Source:
  """Larochelle's text files, or as MATLAB files from github.com/mingzhang-yin/ARM-gradient."""
  names = [f'binarized_mnist_{split}' for split in ('train', 'valid', 'test')]
  digests = (
    '79a0312c7389d855cfc97e3812de3998417c5829d8a51543b56a90a91252ae7e',
    '7436afc856959075c7787025bb8a4ba2b520b9230ee39667c66aa7dd2819dd68',
    '5bc30222e1e7896cbccd1e1db6b28540cc1230f4d2d5473841a5f6cc54be8d38',
  )
  mat = tuple(File(f'{name}.mat', digest) for name, digest in zip(names, digests, strict=True))
  text = _listed('datasets/binarized_mnist/checksums.tsv', *(f'{name}.amat' for name in names))
  recipes = Recipe(mat, image_files.read_binary_mat), Recipe(text, image_files.read_amat)
  return Source(('mnist', 'binarized_mnist'), recipes)


def _omniglot_raw() -> Source:
  """Lake's zips of PNGs, or the same images from github.com/bitsandscraps/omniglot."""
  npz = (
    File(
      'images_background.npz', '8bf84167413cd00beacdce3fe582f780ab538d8dbef043a6d688f2527bbce199'
    ),
    File(
      'images_evaluation.npz', '0b84c7ffd94c4841c0040e529c86a82eaaccb986d8eadad5673f7991b7475276'
    ),
  )
  zips = _listed('url_checksums/omniglot.txt', 'images_background.zip', 'images_evaluation.zip')
  recipes = (
    Recipe(npz, image_files.read_omniglot_npz),
    Recipe(zips, image_files.read_omniglot_zip),
  )
  return Source(('omniglot',), recipes)


def _omniglot_burda() -> Source:
  url = 'https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/chardata.mat'
  file = File('chardata.mat', '21ecaf34373511aa7691cf2e0802aa3d', url, 'md5')
  return Source(('omniglot',), (Recipe((file,), image_files.read_chardata),))


SOURCES: dict[str, Callable[[], Source]] = {  # made on demand, as tensorflow-datasets takes 0.5 s
  'mnist': lambda: _mnist_like('mnist'),
  'fashion_mnist': lambda: _mnist_like('fashion_mnist'),
  'binarized_mnist': _binarized_mnist,
  'omniglot_burda': _omniglot_burda,
  'omniglot_raw': _omniglot_raw,
}


def load(name: str, directory: str) -> list[np.ndarray]:
  """The parts of a source: uint8 [N, 28, 28, 1], 0..255, in the order of the files.

  Args:
    name: of SOURCES.
    directory: the manual folder; where it cannot be written, downloads and cache go below HOME.

  Returns:
    [training, test] or [training, validation, test].

  Raises:
    MissingError: if files are neither there nor to be downloaded.
    ConfigError: if a file is not the published one, or a damaged cache cannot be made again.
  """
  damage = ''
  for folder in _caches(directory):
    try:
      return _read_cache(folder / f'{name}.npy')
    except FileNotFoundError:
      continue
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
      damage = f'the cache {folder / name}.npy is damaged ({error})'
      logging.warning('%s and not used', damage)
  try:
    parts = _read_files(SOURCES[name](), directory)
  except ConfigError as error:
    raise type(error)(f'{damage}; remove it. And {error}' if damage else str(error)) from None
  _write_cache(name, parts, directory)
  return parts


def at_hand(name: str, directory: str) -> bool:
  """Whether a source needs no download, going by the names of files."""
  if any(os.path.isfile(folder / f'{name}.json') for folder in _caches(directory)):
    return True
  source = SOURCES[name]()
  folders = _folders(source, directory)
  return any(
    all(any(os.path.isfile(folder / file.name) for folder in folders) for file in recipe.files)
    for recipe in source.recipes
  )


def _read_files(source: Source, directory: str) -> list[np.ndarray]:
  folders = _folders(source, directory)
  for recipe in source.recipes:
    paths = [_find(file, folders, source.folders) for file in recipe.files]
    if all(paths):
      return [part for path in paths for part in recipe.read(path)]
  missing = [file for file, path in zip(recipe.files, paths, strict=True) if not path]
  download(missing, folders)
  return _read_files(source, directory)


def _folders(source: Source, directory: str) -> list[pathlib.Path]:
  """Where files may lie, a data set's own subfolders first."""
  roots = _expand(directory), _expand(HOME)
  return [folder for root in roots for folder in (*(root / sub for sub in source.folders), root)]


def _expand(folder: str) -> pathlib.Path:
  return pathlib.Path(os.path.expanduser(folder))


def _find(file: File, folders: list[pathlib.Path], own: tuple[str, ...]) -> pathlib.Path | None:
  """The verified path of a file, or None if it is nowhere.

  Another data set's file of the same name is passed over, but not in a folder of one's own name.
  """
  for path in (folder / file.name for folder in folders):
    if not os.path.isfile(path):
      continue
    digest = digest_of(path, file.algorithm)
    if digest == file.digest:
      return path
    if path.parent.name in own or digest not in _namesakes():
      raise ConfigError(mismatch(path, file, digest) + '; replace or remove it')
  return None


def _namesakes() -> set[str]:
  """Digests of MNIST's and Fashion-MNIST's files, which have the same names."""
  sources = (SOURCES[name]() for name in ('mnist', 'fashion_mnist'))
  return {file.digest for source in sources for file in source.recipes[0].files}


def _caches(directory: str) -> list[pathlib.Path]:
  return [_expand(root) / 'cache' for root in (directory, HOME)]


def _read_cache(path: pathlib.Path) -> list[np.ndarray]:
  """The parts in a cache file; ValueError if its digest is not the one stored beside it."""
  if not os.path.isfile(path):
    raise FileNotFoundError(path)
  stored = json.loads(path.with_suffix('.json').read_text(encoding='utf8'))
  if (digest := digest_of(path, 'sha256')) != stored['sha256']:
    raise ValueError(f'sha256 {stored["sha256"]} expected, {digest} found')
  return np.split(np.load(path, allow_pickle=False), np.cumsum(stored['sizes'])[:-1])


def _write_cache(name: str, parts: list[np.ndarray], directory: str) -> None:
  """Writes the first cache that can be written, if any: without it, loading is only slower."""
  for folder in _caches(directory):
    path = folder / f'{name}.npy'
    try:
      folder.mkdir(parents=True, exist_ok=True)
      with whole(path) as file:
        np.save(file, np.concatenate(parts))
      stored = {'sha256': digest_of(path, 'sha256'), 'sizes': [len(part) for part in parts]}
      with whole(path.with_suffix('.json')) as file:
        file.write(json.dumps(stored).encode())
      return
    except OSError as error:
      logging.info('no cache in %s: %s', folder, error.strerror)
