"""Things by name: a package whose modules each make one kind of thing, found by their file names.

Such a module has `DEFAULTS` (its hyperparameters) and `make`.
"""

import difflib
import importlib
import pkgutil
from types import ModuleType
from typing import Any


def names(package: str) -> list[str]:
  """All modules of a package, sorted."""
  path = importlib.import_module(package).__path__
  return sorted(module.name for module in pkgutil.iter_modules(path))


def find(package: str, kind: str, name: str) -> ModuleType:
  """The module of that name.

  Args:
    kind: what it makes, in words, for the message.

  Raises:
    ValueError: for an unknown name, with the nearest known one.
  """
  known = names(package)
  if name not in known:
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f' Did you mean {nearest[0]!r}?' if nearest else ''
    raise ValueError(f'unknown {kind} {name!r}; one of {", ".join(known)}.{hint}')
  return importlib.import_module(f'{package}.{name}')


def make(package: str, kind: str, name: str, hyperparameters: dict[str, object]) -> Any:
  """What the module of that name makes of hyperparameters.

  Raises:
    ValueError: for an unknown name or hyperparameter.
  """
  module = find(package, kind, name)
  unknown = sorted(hyperparameters.keys() - module.DEFAULTS.keys())
  if unknown:
    has = ', '.join(module.DEFAULTS) or 'none'
    raise ValueError(f'the {kind} {name!r} has no {", ".join(unknown)}; it has {has}')
  return module.make(**hyperparameters)


def check_sizes(**hyperparameters: object) -> None:
  """Raises a ValueError for the first hyperparameter that is not a whole number above 0."""
  for name, value in hyperparameters.items():
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
      raise ValueError(f'{name}={value!r} is not a whole number above 0')
