"""Families of posteriors, one file each, found by name.

A family is a module here with `DEFAULTS` (its hyperparameters) and `make(**hyperparameters)`, which
returns a `types.PosteriorFamily`.
"""

from iavae import by_name
from iavae.types import PosteriorFamily

_KIND = 'posterior family'


def names() -> list[str]:
  """All families, sorted: the modules of this package."""
  return by_name.names(__name__)


def defaults(name: str) -> dict[str, object]:
  """The hyperparameters of a family, with their values; ValueError for an unknown name."""
  return by_name.find(__name__, _KIND, name).DEFAULTS


def make(name: str, **hyperparameters: object) -> PosteriorFamily:
  """The family of that name; ValueError for an unknown name or hyperparameter."""
  return by_name.make(__name__, _KIND, name, hyperparameters)
