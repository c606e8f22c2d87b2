"""Are Cremer et al.'s four claims true of these models, and how sure is that?

A claim holds if all its contrasts (see `experiments.cremer_claims`) are above 0 by more than 2
standard errors over images, and does not if one is as far below. Each model is trained once: what
another seed would say is in no error here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from iavae.reports.cremer_levels import MODELS, gaps, rounded
from iavae.tables import Results, Table, number

ERRORS = 2  # standard errors that decide

_ONCE = (
  'Each model is trained once, and all errors are over images: how these verdicts vary from seed '
  'to seed is in none of them.'
)

Verdict = Literal['holds', 'does not hold', 'undecided (within 2 SE)', 'not measured']


class Claim(NamedTuple):
  """What is claimed, what counts as that, the numbers it is about, and whether of one data set."""

  words: str
  counts_as: str
  shown: Mapping[str, tuple[tuple[str, str], ...]]  # label -> (model, gap) to print
  dataset: str = ''  # '': of all


_SIZES = {
  family: tuple(
    (f'regular_{family.lower()}', f'{gap}_gap') for gap in ('approximation', 'amortization')
  )
  for family in ('FFG', 'Flow')
}
CLAIMS = {
  'equal': Claim(
    'On MNIST, approximation and amortization gap are about equal',
    'with the Regular encoder neither is more than twice the other',
    _SIZES,
    'mnist',
  ),
  'amortization': Claim(
    'On Fashion MNIST, most of the inference gap is amortization',
    'with the Regular encoder it is more than half',
    _SIZES,
    'fashion_mnist',
  ),
  'large': Claim(
    'A larger encoder has a smaller amortization gap',
    'Large has less of it than Regular, with both families',
    {
      family: tuple(
        (f'{size}_{family.lower()}', 'amortization_gap') for size in ('regular', 'large')
      )
      for family in ('FFG', 'Flow')
    },
  ),
  'annealing': Claim(
    'Training with a flow leaves the best FFG far behind, but not without annealing',
    'L[q*_Flow] - L[q*_FFG] is above 10 for Regular and Large, below 5 for No Anneal',
    {
      'Regular': (('regular_flow', 'flow_gain'),),
      'Large': (('large_flow', 'flow_gain'),),
      'No Anneal': (('noanneal_flow', 'flow_gain'),),
    },
  ),
}


def verdict(values: Sequence[Mapping[str, float] | None]) -> Verdict:
  """Of the contrasts of one claim, each with 'mean' and 'standard_error'; None: not measured."""
  if not values or None in values:
    return 'not measured'
  if all(value['mean'] > ERRORS * value['standard_error'] for value in values):
    return 'holds'
  return 'does not hold' if any(map(_is_missed, values)) else 'undecided (within 2 SE)'


def _is_missed(value: Mapping[str, float]) -> bool:
  return value['mean'] < -ERRORS * value['standard_error']


def _contrasts(results: Results, key: str) -> list[Mapping[str, Any]]:
  of_other = CLAIMS[key].dataset not in ('', results['dataset'])
  return [] if of_other else [c for c in results['contrasts'] if c['claim'] == key]


def _values(results: Results, key: str) -> list[Any]:
  return [contrast['value'] for contrast in _contrasts(results, key)]


def _missed_by(results: Results, key: str) -> str:
  """The models by which a claim does not hold: it may hold for the others."""
  models = [
    ' and '.join(MODELS[model] for model in contrast['models'])
    for contrast in _contrasts(results, key)
    if contrast['value'] is not None and _is_missed(contrast['value'])
  ]
  return '; '.join(dict.fromkeys(models))


def _told(results: Results, key: str) -> str:
  """'FFG: 1.34, 1.57; Flow: 1.58, 1.02', the numbers that a claim is about; '?': not measured."""
  printed = {c['name']: gaps(c['name'], rounded(c)) for c in results['columns']}

  def cell(model: str, gap: str) -> str:
    value = printed.get(model, {}).get(gap)
    return '?' if value is None else number(value)

  parts = [
    f'{label}: {", ".join(cell(*one) for one in shown)}'
    for label, shown in CLAIMS[key].shown.items()
  ]
  return '; '.join(parts) if _values(results, key) else ''


def claims(results: Results) -> Table:
  """The four claims, our numbers and the verdict; the note says what counts as each."""
  rows = tuple(
    (
      *(claim.words, _told(results, key), _missed_by(results, key)),
      verdict(_values(results, key)),
    )
    for key, claim in CLAIMS.items()
  )
  counts = '; '.join(f'{i}. {claim.counts_as}' for i, claim in enumerate(CLAIMS.values(), 1))
  note = (
    'Nats: 1 and 2, approximation and amortization gap; 3, amortization gap of Regular and Large; '
    f'4, L[q*_Flow] - L[q*_FFG]. What counts: {counts}. holds: met by more than 2 standard errors '
    f'over images; does not hold: missed by as much. {_ONCE}'
  )
  columns = ('claim', 'here', 'missed by', 'verdict on one model each')
  return Table("The poster's claims", columns, rows, note)


def findings(results: Results) -> list[str]:
  """One sentence a claim, then how little they rest on."""
  told = []
  for key, claim in CLAIMS.items():
    missed = _missed_by(results, key)
    words = f'{verdict(_values(results, key))}{f", missed by {missed}" if missed else ""}'
    told.append(f'{claim.words}: {words}. {_told(results, key)}'.rstrip())
  return [*told, _ONCE]
