"""Inference methods, one file each, found by name.

A method is a module here with `DEFAULTS` (its hyperparameters) and
`make(model, encoder, **hyperparameters) -> InferenceMethod`.
"""

import difflib
import importlib
import pkgutil
from types import ModuleType


def names() -> list[str]:
  """All methods, sorted: the modules of this package."""
  return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> ModuleType:
  """The module of a method.

  Raises:
    ValueError: for an unknown name, with the nearest known one.
  """
  if name not in names():
    nearest = difflib.get_close_matches(name, names(), n=1)
    hint = f' Did you mean {nearest[0]!r}?' if nearest else ''
    raise ValueError(f'unknown method {name!r}; one of {", ".join(names())}.{hint}')
  return importlib.import_module(f'{__name__}.{name}')


def frozen(name: str, of: str | None = None) -> tuple[str, ...]:
  """Paths of params that a method leaves as they are; `of` is the method that it wraps, if any."""
  return getattr(find(of or name), 'FROZEN', ())
