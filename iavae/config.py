"""Configs at the rim: is this config sensible, and is it the one that a work directory holds?"""

import difflib
import json
import math
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from iavae import inference
from iavae.errors import ConfigError

# (predicate, what it asks for in words, or what is wrong with a value)
Check = tuple[Callable[[Any], bool], str | Callable[[Any], str]]


def is_int(value: Any) -> bool:
  """Whether a value is a whole number; a bool is not."""
  return isinstance(value, int) and not isinstance(value, bool)


# Within the range of float32, in which the training runs
POSITIVE: Check = (
  lambda v: not isinstance(v, bool) and 1e-37 <= v <= 1e37,
  'a finite number above 0 (1e-37 to 1e37)',
)
# Twice as many, the epochs of two stages, must fit in 32 bits
NATURAL: Check = (lambda v: is_int(v) and 1 <= v <= 10**9, 'a whole number from 1 to 10^9')
RATE: Check = (lambda v: not isinstance(v, bool) and 0 <= v <= 1e37, 'a finite number, 0 or more')
FLAG: Check = (lambda v: isinstance(v, bool), 'True or False')
SEED: Check = (lambda v: is_int(v) and 0 <= v < 2**32, 'a whole number from 0 to 2^32 - 1')


def one_of(*names: str) -> Check:
  """The check that a value is one of some names."""
  return (lambda v: v in names, 'one of ' + ', '.join(names))


def some_of(*names: str) -> Check:
  """The check that a value is a tuple of distinct names out of some."""

  def told(value: Any) -> str:
    unknown = [v for v in value if v not in names] if isinstance(value, tuple) else []
    hint = suggestion(str(unknown[0]), list(names)) if unknown else ''
    which = f'{unknown[0]!r} is none of them.{hint} ' if unknown else ''
    return f'a tuple of different names. {which}Known: {", ".join(names)}'

  return (lambda v: isinstance(v, tuple) and set(v) <= set(names) and len(set(v)) == len(v), told)


def increasing(least: int) -> Check:
  """The check that a value is a tuple of increasing whole numbers."""
  return (
    lambda v: (
      isinstance(v, tuple)
      and all(is_int(i) and i >= least for i in v)
      and list(v) == sorted(set(v))
    ),
    f'a tuple of increasing whole numbers, {least} or more',
  )


def _inference_checks(config: ConfigDict) -> dict[str, Check]:
  """A check of every key of config.inference: the method itself knows more about its values."""
  if 'inference' not in config:
    return {}
  if config.method not in inference.names():  # that is said elsewhere
    return {f'inference.{key}': (lambda v: True, '') for key in config.inference}
  stranger = (
    lambda v: False,
    f'a hyperparameter of {config.method}; choose a method by --config=FILE:{config.method}',
  )

  def check(default: Any) -> Check:
    kind = type(default)
    if kind is float:
      return (lambda v: isinstance(v, float) and math.isfinite(v), 'a finite number')
    return (lambda v: isinstance(v, kind) and (kind is not int or is_int(v)), f'of {kind.__name__}')

  known = {key: check(v) for key, v in inference.find(config.method).DEFAULTS.items()}
  strangers = [key for key in config.inference if key not in known]
  checks = {key: known.get(key, (lambda v: True, '')) for key in config.inference}
  checks |= {key: stranger for key in strangers[:1]}  # one tells enough
  return {f'inference.{key}': check for key, check in checks.items()}


def validate(config: ConfigDict, checks: dict[str, Check]) -> None:
  """Checks every leaf of a config.

  Args:
    checks: dotted key -> (predicate, what it asks for in words), for every key of the config but
      those of config.inference, the hyperparameters of config.method, if it has one.

  Raises:
    ConfigError: one line for each bad value, each missing and each unknown key, or for an unknown
      method.
  """
  flat, checks = flatten(config), checks | _inference_checks(config)
  if 2 * len(checks.keys() & flat.keys()) < len(checks):
    raise ConfigError(
      f'--config.experiment={config.get("experiment")!r} is not for this file of --config: '
      f'{len(checks.keys() - flat.keys())} of its {len(checks)} keys are missing there'
    )
  check_values(config, checks, '--config')
  if 'method' not in config:
    return
  try:
    inference.find(config.method)
  except ValueError as error:
    raise ConfigError(f'--config.method: {error}') from None


def check_values(config: ConfigDict, checks: dict[str, Check], flag: str) -> None:
  """Raises ConfigError with a line for each bad value, each missing and each unknown key.

  Args:
    flag: of which the keys are, e.g. '--config'.
  """
  flat = flatten(config)
  problems = [f'{flag}.{key} is missing in the config' for key in checks if key not in flat]
  for key, value in flat.items():
    if key not in checks:
      problems.append(f'{flag}.{key} is not a key.{suggestion(key, list(checks))}')
      continue
    predicate, words = checks[key]
    try:
      ok = predicate(value)
    except (TypeError, OverflowError):
      ok = False
    if not ok:
      asked = words if isinstance(words, str) else words(value)
      problems.append(f'{flag}.{key}={value!r} is not {asked}')
  if problems:
    raise ConfigError('\n'.join(problems))


def flatten(config: ConfigDict) -> dict[str, Any]:
  """{'training.batch_size': 32, ...}, tuples kept."""
  flat: dict[str, Any] = {}
  for key, value in config.items():
    if isinstance(value, ConfigDict):
      flat |= {f'{key}.{inner}': leaf for inner, leaf in flatten(value).items()}
    else:
      flat[key] = value
  return flat


ABSENT = '(absent)'


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
  """{dotted key: (old value or ABSENT, new one)} of two nested dicts, from or for JSON."""
  old, new = (json.loads(json.dumps(flatten(ConfigDict(c)))) for c in (old, new))
  both = {key: (old.get(key, ABSENT), new.get(key, ABSENT)) for key in sorted(old | new)}
  return {key: values for key, values in both.items() if values[0] != values[1]}


def suggestion(name: str, known: list[str]) -> str:
  """' Did you mean ...?' or nothing."""
  nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
  return f' Did you mean {nearest[0]}?' if nearest else ''
