"""Configs at the rim: is this config sensible, and is it the one that a work directory holds?"""

import difflib
import json
import math
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from iavae import inference
from iavae.errors import ConfigError

Check = tuple[Callable[[Any], bool], str]


def _is_int(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


POSITIVE: Check = (lambda v: math.isfinite(v) and v > 0, 'a finite number above 0')
NATURAL: Check = (lambda v: _is_int(v) and v >= 1, 'a whole number, 1 or more')
SEED: Check = (lambda v: _is_int(v) and 0 <= v < 2**32, 'a whole number from 0 to 2^32 - 1')


def one_of(*names: str) -> Check:
  """The check that a value is one of some names."""
  return (lambda v: v in names, 'one of ' + ', '.join(names))


def some_of(*names: str) -> Check:
  """The check that a value is a tuple of distinct names out of some."""
  return (
    lambda v: isinstance(v, tuple) and set(v) <= set(names) and len(set(v)) == len(v),
    'a tuple out of ' + ', '.join(names),
  )


def increasing(least: int) -> Check:
  """The check that a value is a tuple of increasing whole numbers."""
  return (
    lambda v: (
      isinstance(v, tuple)
      and all(_is_int(i) and i >= least for i in v)
      and list(v) == sorted(set(v))
    ),
    f'a tuple of increasing whole numbers, {least} or more',
  )


def validate(config: ConfigDict, checks: dict[str, Check]) -> None:
  """Checks every leaf of a config.

  Args:
    checks: dotted key -> (predicate, what it asks for in words); every key of the config has one.

  Raises:
    ConfigError: one line for each bad value, or for an unknown method.
  """
  problems = []
  for key, value in flatten(config).items():
    predicate, words = checks[key]
    try:
      ok = predicate(value)
    except TypeError:
      ok = False
    if not ok:
      problems.append(f'--config.{key}={value!r} is not {words}')
  if problems:
    raise ConfigError('\n'.join(problems))
  try:
    inference.find(config.method)
  except ValueError as error:
    raise ConfigError(f'--config.method: {error}') from None


def flatten(config: ConfigDict) -> dict[str, Any]:
  """{'training.batch_size': 32, ...}, tuples kept."""
  flat: dict[str, Any] = {}
  for key, value in config.items():
    if isinstance(value, ConfigDict):
      flat |= {f'{key}.{inner}': leaf for inner, leaf in flatten(value).items()}
    else:
      flat[key] = value
  return flat


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
  """Lines 'key: old -> new' for two nested dicts read back from or written to JSON."""
  old, new = (json.loads(json.dumps(flatten(ConfigDict(c)))) for c in (old, new))
  return [
    f'{key}: {old.get(key, "(absent)")} -> {new.get(key, "(absent)")}'
    for key in sorted(old.keys() | new.keys())
    if old.get(key) != new.get(key)
  ]


def suggestion(name: str, known: list[str]) -> str:
  """' Did you mean ...?' or nothing."""
  nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
  return f' Did you mean {nearest[0]}?' if nearest else ''
