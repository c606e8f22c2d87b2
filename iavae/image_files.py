"""Image files: which pixels do the published files and the user's own .npz hold?

The readers of published files check nothing: `sources.py` has verified the bytes before.
"""

import gzip
import pathlib
import zipfile
import zlib

import numpy as np

from iavae import image_values
from iavae.errors import ConfigError

_QUARTERS = 15  # a pixel of 28 spans 105 / 28 = 3.75 = 15 / 4 pixels of 105


def read_idx(path: pathlib.Path) -> list[np.ndarray]:
  """One part uint8 [N, 28, 28, 1] from a gzipped idx3 file of MNIST's format."""
  with gzip.open(path) as file:
    data = np.frombuffer(file.read(), np.uint8)
  _, *shape = data[:16].view('>i4')
  return [data[16:].reshape(*shape, 1)]


def read_binary_mat(path: pathlib.Path) -> list[np.ndarray]:
  """One part uint8 [N, 28, 28, 1] of 0 and 255, from a MATLAB file with rows X of 0 and 1."""
  import scipy.io  # here, as reading the cache does not need it

  return [scipy.io.loadmat(path)['X'].reshape(-1, 28, 28, 1).astype(np.uint8) * 255]


def read_amat(path: pathlib.Path) -> list[np.ndarray]:
  """One part uint8 [N, 28, 28, 1] of 0 and 255, from text of digits 0 and 1 and white space."""
  text = np.frombuffer(path.read_bytes(), np.uint8)
  return [(text[text >= ord('0')] - ord('0')).reshape(-1, 28, 28, 1) * np.uint8(255)]


def read_chardata(path: pathlib.Path) -> list[np.ndarray]:
  """Two parts uint8 [N, 28, 28, 1], training and test, of Burda's OMNIGLOT.

  The file's columns are images in [0, 1] with MATLAB's order of pixels, columns first. They are
  rounded to the nearest 1/255.
  """
  import scipy.io

  data = scipy.io.loadmat(path)
  columns_first = (data[key].T.reshape(-1, 28, 28) for key in ('data', 'testdata'))
  return [quantize(images.transpose(0, 2, 1))[..., None] for images in columns_first]


def read_omniglot_npz(path: pathlib.Path) -> list[np.ndarray]:
  """One part uint8 [N, 28, 28, 1] from `images` [characters, 20, 105, 105], True for paper."""
  with np.load(path) as archive:
    return [area_average(~archive['images'].reshape(-1, 105, 105))]


def read_omniglot_zip(path: pathlib.Path) -> list[np.ndarray]:
  """One part uint8 [N, 28, 28, 1] from Lake's zip of PNGs, by character and drawer.

  Their names, <character>_<drawer>.png, count through all alphabets.
  """
  from PIL import Image

  with zipfile.ZipFile(path) as archive:
    names = [name for name in archive.namelist() if name.endswith('.png')]
    # a Mac's zip shadows each file by one of the name '._' + its own
    names = [name for name in names if not pathlib.PurePath(name).name.startswith('.')]
    ink = np.empty((len(names), 105, 105), bool)
    for n, name in enumerate(sorted(names, key=lambda name: pathlib.PurePath(name).name)):
      with archive.open(name) as file, Image.open(file) as image:
        ink[n] = np.asarray(image.convert('L')) < 128
  return [area_average(ink)]


def area_average(ink: np.ndarray) -> np.ndarray:
  """Averages bool [N, 105, 105] over boxes of 3.75 x 3.75 pixels: uint8 [N, 28, 28, 1].

  In whole numbers: an image has 105 x 4 = 28 x 15 quarters of a pixel a side, so a box is k of
  its 15 x 15 quarters covered with ink, and becomes 255 k / 225 = 17 k / 15, rounded; no k is a
  tie. The sums are below 2^24 and therefore exact in float32.
  """
  quarters = np.arange(4 * 105)
  weights = np.zeros((28, 105), np.float32)  # how many quarters of pixel j lie in row i of boxes
  np.add.at(weights, (quarters // _QUARTERS, quarters // 4), 1)
  averages = np.empty((len(ink), 28, 28, 1), np.uint8)
  for start in range(0, len(ink), 1000):  # in pieces: as float32 all of them would take 1 GB
    covered = weights @ ink[start : start + 1000].astype(np.float32) @ weights.T
    averages[start : start + 1000, ..., 0] = (34 * covered.astype(np.int32) + 15) // 30
  return averages


def quantize(x: np.ndarray) -> np.ndarray:
  """Floats in [0, 1] as uint8 0..255 to the nearest; ties down, so that > 127.5 means x > 0.5."""
  wide = x.astype(np.promote_types(x.dtype, np.float32), copy=False)
  return np.ceil(wide * 255 - 0.5).astype(np.uint8)


def read_own(path: str) -> list[np.ndarray]:
  """The user's images: uint8 [N, H, W, C] in one part, `x`, or two, `x` and `x_test`.

  Args:
    path: a .npz with `x` and perhaps `x_test`: [N, H, W] or [N, H, W, C <= 4]; whole numbers
      0..255, bool, or floats in [0, 1]. Of other values see `image_values`.

  Raises:
    ConfigError: one line, if anything about the file or the arrays is otherwise.
  """
  where = f'--config.data.path={path}'
  try:
    archive = np.load(pathlib.Path(path).expanduser(), allow_pickle=False)
    if isinstance(archive, np.ndarray):
      raise ConfigError(f'{where} is a single array; save it by numpy.savez(path, x=images)')
    with archive:
      keys = [key for key in ('x', 'x_test') if key in archive]
      if 'x' not in keys:
        held = ', '.join(archive.files) or 'nothing'
        raise ConfigError(f'{where} holds no array x but {held}; save it as x')
      arrays = {key: _member(archive, key, where) for key in keys}
  except OSError as error:
    raise ConfigError(f'{where} cannot be read: {error.strerror or error}') from None
  except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
    raise ConfigError(
      f'{where} is no readable .npz; write it by numpy.savez(path, x=...)'
    ) from None
  for key, array in arrays.items():
    _check_shape(array, f'{where}: {key}')
  image_values.check(arrays, where)
  parts = [_to_uint8(array) for array in arrays.values()]
  if parts[-1].shape[1:] != parts[0].shape[1:]:
    raise ConfigError(
      f'{where}: the images of x_test are {parts[-1].shape[1:]}, those of x {parts[0].shape[1:]}; '
      'make them alike'
    )
  least = 4 - len(parts)  # one image for each set that is split off x
  if len(parts[0]) < least:
    raise ConfigError(
      f'{where}: x is too short, {len(parts[0])} of at least {least} images; give more'
    )
  return parts


def _member(archive: np.lib.npyio.NpzFile, key: str, where: str) -> np.ndarray:
  """One array of an archive; refuses objects, which would run code on loading."""
  try:
    return np.asarray(archive[key])
  except ValueError as error:
    if 'Object arrays' not in str(error):
      raise
    raise ConfigError(f'{where}: {key} is an array of objects; save numbers of one shape') from None


def _check_shape(x: np.ndarray, where: str) -> None:
  """Refuses what holds no numbers, or no images that differ."""
  if x.ndim < 3:
    labels = ' (labels?)' if x.ndim == 1 else ''
    raise ConfigError(f'{where} has shape {x.shape}{labels}; give [N, H, W] or [N, H, W, C]')
  if x.ndim > 4 or (x.ndim == 4 and x.shape[3] > 4):
    raise ConfigError(f'{where} has shape {x.shape}; give [N, H, W] or [N, H, W, C] with C up to 4')
  if x.size == 0:
    raise ConfigError(f'{where} is empty, {x.shape}; give images')
  if x.dtype.kind not in 'buif':
    raise ConfigError(f'{where} has dtype {x.dtype}; give uint8, bool or floats in [0, 1]')
  if x.dtype.kind == 'f' and not np.isfinite(x).all():
    raise ConfigError(f'{where} has NaN or infinite values; remove those images or mend them')
  if (low := x.min()) == x.max():
    raise ConfigError(f'{where} is constant, all {low}; give images that differ')


def _to_uint8(x: np.ndarray) -> np.ndarray:
  """Images of any accepted shape and values as uint8 [N, H, W, C], 0..255."""
  if x.dtype.kind == 'f':
    x = quantize(x)
  elif x.dtype.kind == 'b':
    x = x * np.uint8(255)
  return x.astype(np.uint8, copy=False).reshape(*x.shape[:3], -1)
