"""From bounds, image by image, to the gaps of Cremer et al. and to what decides on their claims.

A claim is a set of contrasts, means over images that it says to be above 0. All values in nats;
standard errors are over images: models are compared on the same ones, and each is trained once.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from iavae.poster import LEVELS
from iavae.statistics import mean_and_error

EQUAL_WITHIN = 2.0  # two gaps are of about one size if neither is more than so many times the other
FAR = 10.0  # nats, by which the best flow is above the best Gaussian: 'more than 10'
NEAR = 5.0  # nats, up to which that is 'significantly smaller'; the poster has 1.6 and 2.2

Values = np.ndarray | float  # [N] in nats, of every image; NaN: not measured


def _level(column: Mapping[str, Any], key: str) -> Values:
  return np.nan if column[key] is None else np.asarray(column[key], np.float64)


def gaps(column: Mapping[str, Any], posterior: str) -> dict[str, Values]:
  """The gaps of one model, [N] each, NaN where a level is missing.

  log p(x) - L[q] = (log p(x) - L[q*]) + (L[q*] - L[q])    (arXiv:1801.03558, eq. 3), the inference,
  the approximation and the amortization gap, with q* the best of the family of training; and
  `flow_gain`, L[q*_Flow] - L[q*_FFG].

  Args:
    column: the levels of `poster.LEVELS`, [N] each, None where not measured.
    posterior: the name of that family.
  """
  evidence, flow, mean_field, elbo = (_level(column, key) for key in LEVELS)
  optimal = {'auxiliary': flow, 'gaussian': mean_field}[posterior]
  return {
    'approximation_gap': evidence - optimal,
    'amortization_gap': optimal - elbo,
    'inference_gap': evidence - elbo,
    'flow_gain': flow - mean_field,
  }


def estimate(values: Values) -> dict[str, float] | None:
  """Mean and standard error of [N] values, in their unit; None where not measured."""
  return None if np.isnan(values).any() else mean_and_error(values)


def summarize(column: Mapping[str, Any]) -> dict[str, Any]:
  """A column of results.json: values of every image by `estimate`, all else as it is."""
  return {
    key: estimate(value) if isinstance(value, np.ndarray | float) else value
    for key, value in column.items()
  }


def contrasts(columns: Mapping[str, Mapping[str, Values]]) -> list[dict[str, Any]]:
  """What each claim says to be above 0, with its standard error; None where it is not measured.

  Args:
    columns: name of a model -> its gaps, [N] each.

  Returns:
    'claim', 'models' and 'value', as `estimate`, of each.
  """

  def of(name: str, gap: str) -> Values:
    return columns[name][gap] if name in columns else np.nan

  found = []
  for family in ('ffg', 'flow'):
    regular, large = f'regular_{family}', f'large_{family}'
    approximation, amortization = of(regular, 'approximation_gap'), of(regular, 'amortization_gap')
    found += [
      ('equal', [regular], EQUAL_WITHIN * approximation - amortization),
      ('equal', [regular], EQUAL_WITHIN * amortization - approximation),
      ('amortization', [regular], amortization - approximation),
      ('large', [regular, large], amortization - of(large, 'amortization_gap')),
    ]
  for name in ('regular_flow', 'large_flow'):
    found.append(('annealing', [name], of(name, 'flow_gain') - FAR))
  found.append(('annealing', ['noanneal_flow'], NEAR - of('noanneal_flow', 'flow_gain')))
  return [{'claim': c, 'models': models, 'value': estimate(v)} for c, models, v in found]
