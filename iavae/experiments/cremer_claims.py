"""From bounds, image by image, to the gaps of Cremer et al. and to what decides on their claims.

A claim is a set of contrasts, means over images that it says to be above 0. All values in nats;
standard errors are over images: models are compared on the same ones, and each is trained once.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

OF_FAMILY = {'auxiliary': 'elbo_optimal_flow', 'gaussian': 'elbo_optimal'}  # L[q*] of a family

EQUAL_WITHIN = 2.0  # two gaps are of about one size if neither is more than so many times the other
FAR = 10.0  # nats, by which the best flow is above the best Gaussian: 'more than 10'
NEAR = 5.0  # nats, up to which that is 'significantly smaller'; the poster has 1.6 and 2.2

Arrays = dict[str, np.ndarray | None]


def _minus(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
  if a is None or b is None:
    return None
  return np.asarray(a, np.float64) - np.asarray(b, np.float64)


def gaps(column: Mapping[str, Any], posterior: str) -> Arrays:
  """The gaps of one model, [N] each, None where a level is missing.

  log p(x) - L[q] = (log p(x) - L[q*]) + (L[q*] - L[q])    (arXiv:1801.03558, eq. 3), the inference,
  the approximation and the amortization gap, with q* the best of the family of training; and
  `flow_gain`, L[q*_Flow] - L[q*_FFG].

  Args:
    column: the levels of `poster.LEVELS`, [N] each, None where not measured.
    posterior: the name of that family.
  """
  optimal = column[OF_FAMILY[posterior]]
  return {
    'approximation_gap': _minus(column['log_evidence'], optimal),
    'amortization_gap': _minus(optimal, column['elbo']),
    'inference_gap': _minus(column['log_evidence'], column['elbo']),
    'flow_gain': _minus(column['elbo_optimal_flow'], column['elbo_optimal']),
  }


def estimate(values: np.ndarray | None) -> dict[str, float] | None:
  """Mean and standard error of [N] values, in their unit; None stays None."""
  if values is None:
    return None
  values = np.asarray(values, np.float64)
  error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
  return {'mean': float(values.mean()), 'standard_error': float(error)}


def summarize(column: Mapping[str, Any]) -> dict[str, Any]:
  """A column of the table: arrays by `estimate`, all else as it is."""
  return {
    key: estimate(value) if isinstance(value, np.ndarray) else value
    for key, value in column.items()
  }


def contrasts(columns: Mapping[str, Arrays]) -> list[dict[str, Any]]:
  """What each claim says to be above 0, with its standard error; None where it is not measured.

  Args:
    columns: name of a model -> its levels and gaps, [N] each.

  Returns:
    'claim', 'models' and 'value', as `estimate`, of each.
  """

  def of(name: str, key: str) -> np.ndarray | None:
    return columns[name][key] if name in columns else None

  def times(factor: float, a: np.ndarray | None) -> np.ndarray | None:
    return None if a is None else factor * a

  found = []

  def say(claim: str, models: tuple[str, ...], a: np.ndarray | None, b: Any) -> None:
    found.append({'claim': claim, 'models': models, 'value': estimate(_minus(a, b))})

  for family in ('ffg', 'flow'):
    regular, large = f'regular_{family}', f'large_{family}'
    approximation, amortization = of(regular, 'approximation_gap'), of(regular, 'amortization_gap')
    say('equal', (regular,), times(EQUAL_WITHIN, approximation), amortization)
    say('equal', (regular,), times(EQUAL_WITHIN, amortization), approximation)
    say('amortization', (regular,), amortization, approximation)
    say('large', (regular, large), amortization, of(large, 'amortization_gap'))
  for name in ('regular_flow', 'large_flow'):
    say('annealing', (name,), of(name, 'flow_gain'), FAR)
  say('annealing', ('noanneal_flow',), NEAR * np.ones(()), of('noanneal_flow', 'flow_gain'))
  return found
