"""Families of posteriors, one file each, found by name.

A family is a module here with `DEFAULTS` (its hyperparameters) and `make(**hyperparameters)`, which
returns a `types.PosteriorFamily`.
"""

import importlib
import pkgutil

from iavae.types import PosteriorFamily


def names() -> list[str]:
  """All families, sorted: the modules of this package."""
  return sorted(module.name for module in pkgutil.iter_modules(__path__))


def defaults(name: str) -> dict[str, object]:
  """The hyperparameters of a family, with their values."""
  return importlib.import_module(f'{__name__}.{name}').DEFAULTS


def make(name: str, **hyperparameters: object) -> PosteriorFamily:
  """The family of that name.

  Raises:
    ValueError: for an unknown name or hyperparameter.
  """
  if name not in names():
    raise ValueError(f'unknown posterior family {name!r}; one of {", ".join(names())}')
  module = importlib.import_module(f'{__name__}.{name}')
  unknown = sorted(hyperparameters.keys() - module.DEFAULTS.keys())
  if unknown:
    raise ValueError(
      f'the posterior family {name!r} has no {", ".join(unknown)}; '
      f'it has {", ".join(module.DEFAULTS) or "none"}'
    )
  return module.make(**hyperparameters)
