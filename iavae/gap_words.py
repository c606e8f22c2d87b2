"""What do gaps mean, in plain words, and what of them is not to be trusted?

A summary is that of `gap_summary.summarize`; all values in nats.
"""

from collections.abc import Mapping
from typing import Any

from iavae.evidence import max_pareto_k

Summary = Mapping[str, Any]
Estimate = Mapping[str, float]  # 'mean' and 'standard_error'

GAPS = ('approximation', 'amortization', 'inference')
OPTIMAL = {'mean_field': 'optimal', 'flow': 'optimal_flow', 'own': 'optimal_own'}  # by family
_FAMILIES = {'mean_field': 'the mean-field family', 'flow': 'the flow', 'own': 'its family'}
_BEST = {
  'mean_field': 'the best mean-field posterior',
  'flow': 'the best flow',
  'own': "the best of q's family",
}

CONVERGED = 0.02  # nats that twice the steps may add to the mean of L[q*]
ERRORS = 2  # standard errors that are no accident
_SMALL = 0.01  # nats that Monte Carlo may be off by in any case
_LITTLE = 0.1  # nats that are hardly worth an effort
_WIDE = 0.1  # nats that there may be between the bounds on log p(x) of simulated data
_FEW_DRAWS = 4.0  # effective ones, at least
_MANY = 0.1  # share of examples with a bad Pareto k above which an estimator is not trusted
_MUCH = 0.25  # share of an approximation gap that may be an error of it
_MOST = 2.0  # times the other gap
_EVEN = 0.4  # share of the examples that holds half of a gap


def adding_up(
  evidence: float, optimal: float, elbo: float, digits: int = 2
) -> tuple[float, float, float]:
  """(approximation, amortization, inference) gap of levels rounded to so many digits.

  Differences of what is printed add up exactly as printed.
  """
  levels = [round(level, digits) for level in (evidence, optimal, elbo)]
  found = (levels[0] - levels[1], levels[1] - levels[2], levels[0] - levels[2])
  return tuple(round(gap, digits) for gap in found)


def printed_gaps(summary: Summary, family: str, digits: int = 2) -> dict[str, float]:
  """The gaps of a family, so that they add up as printed."""
  names = ('log_evidence', f'elbo_{OPTIMAL[family]}', 'elbo')
  found = adding_up(*(summary['levels'][name]['mean'] for name in names), digits)
  return dict(zip(GAPS, found, strict=True))


def with_checks(summary: Summary, **checks: Any) -> dict[str, Any]:
  """The summary with 'floor' and 'sandwich', see `gap_checks`, and with what these warn of."""
  found = {**summary, **checks}
  return found | {'warnings': warnings(found)}


def warnings(summary: Summary) -> list[str]:
  """What is not to be trusted."""
  return [
    *_of_evidence(summary),
    *_of_annealing(summary),
    *_of_searches(summary),
    *_of_checks(summary),
  ]


def _of_evidence(summary: Summary) -> list[str]:
  told, by = [], {e['name']: e for e in summary['estimators']}
  taken = by.get(summary['log_evidence_by'])
  if taken and (taken['share_bad_k'] or 0) > _MANY:
    told.append(
      f'log p(x) by {taken["label"]}: Pareto k is above {max_pareto_k(taken["num_draws"]):.2g} for '
      f'{taken["share_bad_k"]:.0%} of the examples, so it may be too low, and with it the '
      'approximation gap; take more draws, or annealing for all examples'
    )
  if taken and taken['share_bad_k'] is None and not taken['name'].startswith('ais'):
    told.append(
      f'log p(x) by {taken["label"]}: Pareto k is unknown (too few draws, {taken["num_draws"]}), '
      'so that nothing tells whether it is too low; take more'
    )
  if taken and taken['effective_samples'] < _FEW_DRAWS:
    told.append(
      f'log p(x) by {taken["label"]}: in the median example {taken["effective_samples"]:.1f} of '
      f'{taken["num_draws"]} weights carry all, so it may be too low'
    )
  if _is_below(summary['gaps'][summary['family']]['approximation']):
    told.append('what is taken for log p(x) is below the ELBO of the best posterior: it is too low')
  return told


def _is_below(gap: Estimate) -> bool:
  """Whether a gap is below 0 by more than chance."""
  return gap['mean'] < -ERRORS * gap['standard_error'] - _SMALL


def _of_annealing(summary: Summary) -> list[str]:
  told = []
  for estimator in summary['estimators']:
    above, error = (estimator['below_taken'][key] for key in ('mean', 'standard_error'))
    if estimator['name'].startswith('ais') and -above > max(0.05, ERRORS * error):
      told.append(f'{estimator["label"]} finds {-above:.2f} nats more than is taken for log p(x)')
  return told


def _of_searches(summary: Summary) -> list[str]:
  told = [
    f'the search for {_BEST[family]} has not converged: twice the steps add {found["mean"]:.3f} '
    f'nats (± {found["standard_error"]:.3f})'
    for family, found in summary['convergence'].items()
    if not found['converged']
  ]
  if _is_below(summary['gaps'][summary['family']]['amortization']):
    told.append('the search for q* ends below q itself: its rate or its steps do not fit')
  lost = {family: gaps['approximation']['mean'] for family, gaps in summary['gaps'].items()}
  if lost.get('own', 0) > lost['mean_field'] + _LITTLE:
    told.append(
      f'the best mean-field posterior is {lost["own"] - lost["mean_field"]:.2f} nats above the '
      'best of its family: if that family can be mean-field, the search, from q alone, is stuck'
    )
  return told


def _of_checks(summary: Summary) -> list[str]:
  """Of the noise floor and of simulated data, where a summary has these."""
  told = []
  floor = (summary.get('floor') or {}).get(summary['family'])
  approximation = summary['gaps'][summary['family']]['approximation']['mean']
  if floor and floor['mean'] > _MUCH * max(approximation, 0) and floor['mean'] > CONVERGED:
    told.append(
      f'where the best posterior is known, the search misses {floor["mean"]:.2f} nats of it: so '
      f'much of the approximation gap ({approximation:.2f}) may be amortization'
    )
  width = (summary.get('sandwich') or {}).get('width')
  known_to = width['mean'] + ERRORS * width['standard_error'] if width else 0.0
  if known_to > max(_WIDE, _MUCH * approximation):
    told.append(
      'of data drawn from the model annealing from both sides tells log p(x) to no better than '
      f'{known_to:.2f} nats, so that here, too, it may be off by much of the approximation gap '
      f'({approximation:.2f}); more simulated examples, chains or temperatures would tell more'
    )
  elif width and _is_below(width):
    told.append(
      f'of data drawn from the model the bound on log p(x) from below is {-width["mean"]:.2f} nats '
      'above that from above: these data are not drawn from p(x, z)'
    )
  return told


def verdict(summary: Summary) -> list[str]:
  """What the gaps mean."""
  family = summary['family']
  gaps, printed = summary['gaps'][family], printed_gaps(summary, family)
  value = {gap: f'{printed[gap]:.2f} ± {gaps[gap]["standard_error"]:.2f}' for gap in GAPS}
  told, lost = [], gaps['amortization']
  if lost['mean'] > _SMALL:
    told.append(
      f'This encoder loses {value["amortization"]} nats by amortization: the best posterior of its '
      'family for each example has a higher ELBO.'
    )
  else:
    told.append(
      f'This encoder loses nothing by amortization ({value["amortization"]} nats): no better '
      'posterior of its family was found.'
    )
  told[0] += (
    f' {_FAMILIES[family].capitalize()} loses {value["approximation"]} nats more: log p(x) is '
    f'{value["inference"]} above the ELBO.'
  )
  return [*told, *_spread_of(summary, lost), _advice(gaps, family)]


def _spread_of(summary: Summary, lost: Estimate) -> list[str]:
  half = summary['concentration']['share_that_holds_half']
  if half is None or lost['mean'] < _LITTLE:
    return []
  if half > _EVEN:
    return ['The amortization gap is spread evenly over the examples.']
  return [f'{half:.0%} of the examples hold half of the amortization gap.']


def _advice(gaps: Mapping[str, Estimate], family: str) -> str:
  encoder, approximation = gaps['amortization']['mean'], gaps['approximation']['mean']
  richer = 'a flow or a full covariance' if family == 'mean_field' else 'a richer family'
  better = (
    'steps of refinement at test time, a larger or an instance-adaptive encoder can win it back'
  )
  if max(encoder, approximation) < _LITTLE:
    return 'There is little to gain by better inference with this decoder.'
  if encoder > _MOST * approximation:
    return f'Most of it is how q is inferred: {better}; a richer family alone cannot.'
  if approximation > _MOST * encoder:
    return f'Most of it is the family: {richer} can win it back; a better encoder alone cannot.'
  return f'Both parts matter. Of how q is inferred, {better}; of the family, {richer} can.'
