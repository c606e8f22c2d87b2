"""Hypernetworks, one file each, found by name.

A form is a module here with `DEFAULTS` (its hyperparameters) and `make(**hyperparameters)`, which
returns a `types.Hypernetwork`.
"""

import importlib
import pkgutil

from iavae.types import Hypernetwork


def names() -> list[str]:
  """All forms, sorted: the modules of this package."""
  return sorted(module.name for module in pkgutil.iter_modules(__path__))


def defaults(name: str) -> dict[str, object]:
  """The hyperparameters of a form, with their values."""
  return importlib.import_module(f'{__name__}.{name}').DEFAULTS


def make(name: str, **hyperparameters: object) -> Hypernetwork:
  """The hypernetwork of that name.

  Raises:
    ValueError: for an unknown name or hyperparameter.
  """
  if name not in names():
    raise ValueError(f'unknown hypernetwork {name!r}; one of {", ".join(names())}')
  module = importlib.import_module(f'{__name__}.{name}')
  unknown = sorted(hyperparameters.keys() - module.DEFAULTS.keys())
  if unknown:
    raise ValueError(
      f'the hypernetwork {name!r} has no {", ".join(unknown)}; it has {", ".join(module.DEFAULTS)}'
    )
  return module.make(**hyperparameters)
