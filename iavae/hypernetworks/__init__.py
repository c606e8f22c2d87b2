"""Hypernetworks, one file each, found by name.

A form is a module here with `DEFAULTS` (its hyperparameters) and `make(**hyperparameters)`, which
returns a `types.Hypernetwork`.
"""

from iavae import by_name
from iavae.types import Hypernetwork

_KIND = 'hypernetwork'


def names() -> list[str]:
  """All forms, sorted: the modules of this package."""
  return by_name.names(__name__)


def defaults(name: str) -> dict[str, object]:
  """The hyperparameters of a form, with their values; ValueError for an unknown name."""
  return by_name.find(__name__, _KIND, name).DEFAULTS


def make(name: str, **hyperparameters: object) -> Hypernetwork:
  """The hypernetwork of that name; ValueError for an unknown name or hyperparameter."""
  return by_name.make(__name__, _KIND, name, hyperparameters)
