"""Inference methods, one file each, found by name.

A method is a module here with `DEFAULTS` (its hyperparameters) and
`make(model, encoder, **hyperparameters) -> InferenceMethod`. It may have `FROZEN`, paths of params
that it leaves as they are, and, where inference takes a step, or num_steps of them, by the ELBO's
gradient, `STEPS`: 'ascent' for those of an optimizer on the posterior, 'learned' for its own.
"""

from types import ModuleType

from iavae import by_name


def names() -> list[str]:
  """All methods, sorted: the modules of this package."""
  return by_name.names(__name__)


def find(name: str) -> ModuleType:
  """The module of a method.

  Raises:
    ValueError: for an unknown name, with the nearest known one.
  """
  return by_name.find(__name__, 'method', name)


def frozen(name: str, of: str | None = None) -> tuple[str, ...]:
  """Paths of params that a method leaves as they are; `of` is the method that it wraps, if any."""
  return getattr(find(of or name), 'FROZEN', ())


def steps(name: str) -> str:
  """'ascent' or 'learned' for a method that takes steps by the ELBO's gradient, '' for others."""
  return getattr(find(name), 'STEPS', '')
