"""Values: which intensities do the numbers of the user's own images mean?

Whole numbers are of 255, floats of 1. What lies outside is refused, with what to save instead, by
the least and the largest value:

  floats up to 1.25                       [0, 1] with the overshoot of a bicubic filter: clip
  floats up to 0.8 to 1.25 of 255         0..255, perhaps with overshoot: divide by 255; so of 65535
  floats from and to 0.8 to 1.25 of 1     [-1, 1], perhaps with overshoot: x / 2 + 0.5
  whole numbers up to 0.8 to 1 of 65535   0..65535: divide by 65535
  others from 0 on                        divide by their maximum
  others                                  from the least to the largest: move to [0, 1]

Overshoot below 0 is at most a quarter of the largest value. Images of which none reaches half of
the full intensity, and `x` and `x_test` of which one reaches more than four times as far as the
other, may be meant so: they are taken, with a warning.
"""

import functools
import logging
from collections.abc import Mapping

import numpy as np

from iavae.errors import ConfigError

_SCALES = (255, 65535)  # of one byte and of two
_NEARLY = 0.8  # of a scale, which values of it reach
_OVERSHOOT = 0.25  # of a scale, by which values of it may lie outside
_HALF = 0.5
_APART = 4


def check(arrays: Mapping[str, np.ndarray], where: str) -> None:
  """Refuses values that are no intensities, and warns of those that are hardly meant so.

  Args:
    arrays: finite numbers or bool by their names in the file, `x` and perhaps `x_test`.
    where: the flag that named the file.

  Raises:
    ConfigError: one line, with what to save instead.
  """
  for key, x in arrays.items():
    if x.dtype.kind != 'b':
      _check_range(x, f'{where}: {key}', key)
  reach = {key: float(x.max()) / _full(x) for key, x in arrays.items()}
  if max(reach.values()) > _APART * min(reach.values()):
    told = ' and '.join(f'{share:.2g} in {key}' for key, share in reach.items())
    _warn_once(f'{where}: the largest intensity is {told}, of 1; are both of the same scale?')
  elif max(reach.values()) < _HALF:
    _warn_once(f'{where}: {_of_dark(arrays["x"])}')


def _full(x: np.ndarray) -> int:
  return 255 if x.dtype.kind in 'ui' else 1


def _check_range(x: np.ndarray, name: str, key: str) -> None:
  low, high = x.min(), x.max()
  values = f'{name} has values from {low!s} to {high!s}'
  if low >= 0 and high == 1 and x.dtype.kind in 'ui':
    raise ConfigError(
      f'{values}, of 255: next to black; if it is binary, save it as bool, {key}.astype(bool)'
    )
  if low < 0 or high > _full(x):
    advice = _of_a_known_scale(x.dtype.kind, low, high, key)
    if not advice and key != 'x':
      advice = 'which is not the scale of x; scale both alike'
    raise ConfigError(f'{values}, {advice or _of_its_own_scale(low, high)}')


def _of_a_known_scale(kind: str, low: float, high: float, key: str) -> str:
  """What to do about values that look as if they were of another scale; '' if of none."""
  beyond = _OVERSHOOT if kind == 'f' else 0
  of_zero = low >= -beyond * high
  if kind == 'f' and of_zero and high <= 1 + beyond:
    return f'a little outside [0, 1]; clip to [0, 1], {key}.clip(0, 1)'
  for scale in _SCALES:
    if of_zero and _NEARLY * scale <= high <= (1 + beyond) * scale:
      clip = '' if low >= 0 and high <= scale else '.clip(0, 1)'
      return f'which look like 0..{scale}; divide by {scale}, ({key} / {scale}){clip}'
  if kind == 'f' and -1 - beyond <= low <= -_NEARLY and _NEARLY <= high <= 1 + beyond:
    clip = '' if low >= -1 and high <= 1 else '.clip(0, 1)'
    return f'which look like [-1, 1]; move them to [0, 1], ({key} / 2 + 0.5){clip}'
  return ''


def _of_its_own_scale(low: float, high: float) -> str:
  if low >= 0:
    return f'a scale of its own; divide by its maximum, x / {high!s}'
  return f'a scale of its own; move it to [0, 1], numpy.interp(x, ({low!s}, {high!s}), (0, 1))'


def _of_dark(x: np.ndarray) -> str:
  high, full = str(x.max()), _full(x)
  labels = '; if these are labels, save e.g. x > 0' if full == 255 else ''
  return (
    f'the largest value of x is {high}, of {full}, so all images are dark; if {high} is to be full '
    f'intensity, save x / {high}{labels}'
  )


@functools.cache
def _warn_once(line: str) -> None:
  """A warning, however many seeds read the file."""
  logging.warning(line)
