"""Tables of gaps: what was measured of each subject, and how far is it to be trusted?

A subject is (its name in words, its summary, see `gap_summary.summarize`).
"""

from collections.abc import Callable, Sequence

from iavae.gap_words import CONVERGED, GAPS, Summary, printed_gaps
from iavae.tables import Results, Table, number, signed, spread

Subjects = Sequence[tuple[str, Summary]]

_LEVELS = {
  'log_evidence': 'log p(x)',
  'elbo_optimal_flow': 'best flow',
  'elbo_optimal_own': 'best of its family',
  'elbo_optimal': 'best mean-field',
  'elbo': 'encoder',
}
FAMILIES = {'mean_field': 'mean-field', 'flow': 'flow', 'own': 'its own'}
_BELOW = {'q': 'IWAE from q', 'ais_prior': 'AIS from N(0, I)', 'ais_q': 'AIS from q'}
_ABOVE = {'ais_q': 'back to q', 'ais_prior': 'back to N(0, I)'}
_DIGITS = 3  # of gaps with standard errors


def of_results(
  make: Callable[[Subjects], Table], subjects: Callable[[Results], Subjects]
) -> Callable[[Results], Table]:
  """A table of subjects as a report takes it, of results.json."""
  return lambda results: make(subjects(results))


ADDED = 'twice the steps add'


def added(summary: Summary, family: str) -> str:
  """What twice the steps of the search add to L[q*] of a family, nats."""
  found = summary['convergence'].get(family)
  return 'not checked' if found is None else signed(found['mean'], _DIGITS)


def levels(subjects: Subjects) -> Table:
  """The bounds and the gaps between them, one row a subject."""
  shown = [name for name in _LEVELS if any(name in s['levels'] for _, s in subjects)]
  rows = []
  for label, summary in subjects:
    means = summary['levels']
    cells = [number(means[name]['mean']) if name in means else '' for name in shown]
    gaps = printed_gaps(summary, summary['family'])
    checked = (FAMILIES[summary['family']], added(summary, summary['family']))
    rows.append((label, *cells, *checked, *map(number, gaps.values())))
  counts = sorted({(s['num_examples'], s['split']) for _, s in subjects})
  of = ', '.join(
    f'{count} examples' + (f' of the split {split}' if split else '') for count, split in counts
  )
  return Table(
    'Where the nats are lost',
    ('', *(_LEVELS[name] for name in shown), 'family', ADDED, *(f'{gap} gap' for gap in GAPS)),
    tuple(rows),
    f'Nats, means over {of}. log p(x), then the ELBO of the best posterior of each family for each '
    'example, and of what the encoder infers; twice the steps: of the search for the best of the '
    'family. Approximation: log p(x) minus that best; amortization: that minus the encoder. Gaps '
    'are differences of the levels as printed.',
  )


def errors(subjects: Subjects) -> Table:
  """Gaps by every family that was searched, with standard errors."""
  rows = [
    (
      label,
      FAMILIES[family],
      added(summary, family),
      *(
        spread(gap, gaps[name]['standard_error'], _DIGITS)
        for name, gap in printed_gaps(summary, family, _DIGITS).items()
      ),
    )
    for label, summary in subjects
    for family, gaps in summary['gaps'].items()
  ]
  note = (
    'Mean ± standard error over examples, nats; errors are those of the differences. Gaps are '
    f'differences of levels rounded to {_DIGITS} digits, so that they add up.'
  )
  return Table('Gaps with standard errors', ('', 'best of', ADDED, *GAPS), tuple(rows), note)


def evidence(subjects: Subjects) -> Table:
  """Every estimate of log p(x), and what tells whether it can be trusted."""
  rows = []
  for label, summary in subjects:
    for one in summary['estimators']:
      taken = ' (taken)' if one['name'] == summary['log_evidence_by'] else ''
      rows.append(
        (
          f'{label}: {one["label"]}{taken}',
          str(one['num_examples']),
          str(one['num_draws']),
          number(one['mean']),
          number(one['monte_carlo_error'], 3),
          spread(one['below_taken']['mean'], one['below_taken']['standard_error'], 3),
          number(one['effective_samples'], 0),
          *_trust(one),
        )
      )
  return Table(
    'Estimates of log p(x)',
    (
      *('', 'examples', 'draws or chains', 'mean', 'Monte-Carlo error', 'below the one taken'),
      *('effective draws', 'Pareto k', 'k too high'),
    ),
    tuple(rows),
    'IWAE: importance sampling; AIS: annealed importance sampling by Hamiltonian Monte Carlo. Each '
    'is below log p(x) in expectation; the one of the highest mean over all examples is '
    'taken, never the highest of each example, which would be too high. Below: on its own '
    'examples. '
    'Effective draws and Pareto k: medians; of S draws, k is too high above min(1 - 1 / log10 S, '
    '0.7), where an estimate may be far too low.',
  )


def _trust(estimator: Summary) -> tuple[str, str]:
  """The median Pareto k, and the share of examples where it is too high, in words or numbers."""
  k, share = estimator['pareto_k'], estimator['share_bad_k']
  if share is None:
    return 'unknown (too few draws)', 'unknown'
  if k is None:
    return 'infinite' if share >= 0.5 else 'no tail', f'{share:.0%}'
  return number(k), f'{share:.0%}'


def searches(subjects: Subjects) -> Table:
  """Whether the searches for q* have ended, and what they miss where that is known."""
  rows = []
  for label, summary in subjects:
    for family, found in summary['convergence'].items():
      added = spread(found['mean'], found['standard_error'], 4)
      words = f'{label}, {FAMILIES[family]}: twice the steps add'
      verdict = 'yes' if found['converged'] else 'no'
      rows.append((words, str(found['num_examples']), added, verdict))
  floors = {s['floor']['latent_dim']: s['floor'] for _, s in subjects if s.get('floor')}
  for size, floor in floors.items():
    count = str(floor['num_examples'])
    for family in ('mean_field', 'flow'):
      if family in floor:
        missed = spread(floor[family]['mean'], floor[family]['standard_error'], 4)
        words = f'noise floor, {FAMILIES[family]}, {size} latents'
        rows.append((words, count, missed, ''))
  return Table(
    'Searches for the best posterior',
    ('', 'examples', 'nats', 'converged'),
    tuple(rows),
    f'Converged: twice the steps move the mean of the best ELBO by less than {CONVERGED}. Noise '
    'floor: what the same search misses on a linear-Gaussian model of as many latents with '
    'correlated posteriors; mean-field: below the best, which is known; flow: below log p(x).',
  )


def sandwiches(subjects: Subjects) -> Table:
  """log p(x) of simulated data, from below and from above."""
  rows = []
  for label, summary in subjects:
    found = summary.get('sandwich')
    if found:
      lower = [number(found['lower'][name]['mean']) for name in _BELOW]
      upper = [number(found['upper'][name]['mean']) for name in _ABOVE]
      width = spread(found['width']['mean'], found['width']['standard_error'], 3)
      cells = (*lower, *upper, width)
      rows.append((label, str(found['num_examples']), *cells, f'{found["acceptance"]:.0%}'))
  return Table(
    'log p(x) of data drawn from the model, from both sides',
    ('', 'examples', *_BELOW.values(), *_ABOVE.values(), 'width', 'acceptance'),
    tuple(rows),
    'Nats. Bidirectional Monte Carlo: the z that an x was drawn of is an exact draw of p(z given '
    'x), from which annealing backwards bounds log p(x) from above, where the others do from '
    'below. From q: from the mean-field Gaussian of its moments. Width: the lowest from above '
    'minus the highest from below.'
    if rows
    else 'Not measured: no data were drawn from the model (num_simulated).',
  )
