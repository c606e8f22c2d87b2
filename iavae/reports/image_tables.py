"""What do the results of an image experiment say, as tables?

Values in nats, means over examples, then mean ± sd over seeds.
"""

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from iavae import paper
from iavae.reports import image_curves, labels
from iavae.reports import image_numbers as numbers
from iavae.reports.labels import Group
from iavae.tables import Results, Table, joined, number, probability, signed, spread

_SPLITS = ('validation', 'test')
_TESTS = {'p_paired_t': 'paired t', 'p_wilcoxon': 'Wilcoxon', 'p_sign_flip': 'sign flips'}
_ONE_SIDED = (
  "All p-values are one-sided, for a difference above 0. p: the paper's protocol, the paired "
  't-test, or Wilcoxon signed-rank where Shapiro-Wilk rejects normality at 0.05. Beside it both, '
  'and all sign flips of the differences, whatever that pretest says: with few seeds it does not '
  'guard the level. Of S seeds neither Wilcoxon nor sign flips fall below 1 / 2^S.'
)
_DIFFERENCES = (
  f'Nats, paired by seed. {_ONE_SIDED} Holm: p adjusted for all the comparisons of one metric. '
  'd_z: mean by sd of the differences. Without a spread over seeds there is no test.'
)
_NOTHING = 'No other method was trained: there is nothing to compare.'
_METRICS = {'elbo': 'ELBO', 'iwae': 'IWAE'}


def table_4(results: Results) -> Table:
  """Table 4: every method on test data, the paper's values beside it, parameters and time."""
  groups = numbers.groups(results)
  is_papers = labels.is_papers(results)
  experiment = results['provenance']['config'].get('experiment')
  ours = () if is_papers else (labels.PAPERS,)  # another modulation in the place of the paper's
  published = [paper.TABLE4.get(group.dataset, {}) for group in groups]
  compared = [not paper.table_4_obstacles(*group) for group in groups]
  header = 'the paper: ELBO' if all(compared) else 'the paper: ELBO (not comparable)'
  rows = tuple(
    (
      named(results, group, method),
      str(len(numbers.by_seed(results, group, method, 'elbo'))),
      *_values(results, group, method),
      *(
        (_published(None if method in ours else known.get(method), fits),) if any(published) else ()
      ),
      *_cost(results, method),
    )
    for group, known, fits in zip(groups, published, compared, strict=True)
    for method in present(results, group)
  )
  columns = ('method', 'seeds', 'ELBO', 'KL', 'log-likelihood', _iwae(results))
  cost = ('trained params', 'all params', 'training seconds')
  return Table(
    f'{"Table 4. " if is_papers and experiment != "methods" else ""}Test ELBO{where(results)}',
    (*columns, *((header,) if any(published) else ()), *cost),
    rows,
    'Test data, nats: mean ± sd over seeds of means over examples; IWAE with the number of samples '
    'in its column. Trained: the parameters that this method changes; seconds: its own training, a '
    f'seed. {" ".join([_comparability(groups), *image_curves.findings(results)])}',
  )


def differences(results: Results) -> Table:
  """The method under test minus every other one, paired by seed; nats."""
  name = labels.label(results, labels.adapted(results))
  rows = tuple(
    (
      f'{_prefix(results, group)}{title}, minus {labels.label(results, other)}',
      *_difference(entry),
      *map(_p, (entry['p_value'], entry['p_holm'])),
      entry['test'],
      *_each_p(results, group, entry),
      '' if entry['effect_size'] is None else number(entry['effect_size']),
      str(entry['num_seeds']),
    )
    for group in numbers.groups(results)
    for metric, title in _METRICS.items()
    for other, entry in numbers.against_others(results, group, metric).items()
  )
  return Table(
    f'{name} against every other method{where(results)}',
    (
      f'{name}: test',
      'difference',
      '95% CI',
      'p',
      'p, Holm',
      'test',
      *_TESTS.values(),
      'd_z',
      'seeds',
    ),
    rows,
    _DIFFERENCES if rows else _NOTHING,
  )


def origins(results: Results) -> Table:
  """What each method gains on the base, and which share of the whole gain that is; nats."""
  rows = []
  for group in numbers.groups(results):
    entries = numbers.gains(results, group)
    iwae = numbers.gains(results, group, 'iwae')
    share = numbers.shares(entries, labels.adapted(results))
    for method, entry in entries.items():
      other = signed(iwae[method]['mean_difference']) if method in iwae else ''
      part = f'{share[method]:.0%}' if method in share else ''
      label = named(results, group, method)
      tests = (_p(entry['p_value']), *_each_p(results, group, entry))
      rows.append((label, *_difference(entry), *tests, part, other))
  name = labels.label(results, labels.adapted(results))
  return Table(
    f'Where the gain comes from{where(results)}',
    (
      *('method', 'ELBO above the base', '95% CI', 'p', *_TESTS.values()),
      *(f'share of {name}', 'IWAE above the base'),
    ),
    tuple(rows),
    _NOTHING
    if not rows
    else f'Test data, nats. Share: of the gain of {name}, unless its confidence interval holds 0. '
    'Continued: trained on from the same checkpoint, for as long, without a hypernetwork. Without '
    "x: the hypernetwork sees no instance. Another's x: it sees another example. Wider: a plain "
    f'encoder of as many parameters. {_ONE_SIDED}',
  )


def validation(results: Results) -> Table:
  """Validation next to test, nats: was the choice of the checkpoint overdone?"""
  rows = []
  for group in numbers.groups(results):
    for method in present(results, group):
      held, test = (numbers.by_seed(results, group, method, 'elbo', s) for s in _SPLITS)
      change = signed(fmean(held.values()) - fmean(test.values())) if held else ''
      label = named(results, group, method)
      means = (_cell(numbers.summary(results, group, method, 'elbo', s)) for s in _SPLITS)
      above = (_gain(numbers.gains(results, group, 'elbo', s).get(method)) for s in _SPLITS)
      rows.append((label, *means, change, *above))
  above = ('validation: above the base', 'test: above the base')
  return Table(
    f'Validation next to test{where(results)}',
    ('method', 'validation ELBO', 'test ELBO', 'validation minus test', *above),
    tuple(rows),
    'Nats, mean ± sd over seeds. Checkpoints are chosen by validation ELBO, which flatters it; the '
    'test values they cannot flatter.',
  )


def present(results: Results, group: Group) -> list[str]:
  """The methods that have a test ELBO."""
  return [m for m in numbers.methods(results) if numbers.by_seed(results, group, m, 'elbo')]


def where(results: Results) -> str:
  """': ' and every data set, protocol and preset of the rows, for a title."""
  return f': {"; ".join(group.name for group in numbers.groups(results))}'


def _prefix(results: Results, group: Group) -> str:
  return f'{group.name}: ' if len(numbers.groups(results)) > 1 else ''


def named(results: Results, group: Group, method: str) -> str:
  """A method in words, after its data set where there are several."""
  return _prefix(results, group) + labels.label(results, method)


def _cell(summary: tuple[float, float | None] | None) -> str:
  return '' if summary is None else spread(*summary)


def _values(results: Results, group: Group, method: str) -> tuple[str, ...]:
  elbo, kl, likelihood, iwae = (
    numbers.summary(results, group, method, key) for key in ('elbo', 'kl', 'log_likelihood', 'iwae')
  )
  return (
    _cell(elbo),
    *(number(value[0]) if value else '' for value in (kl, likelihood)),
    _cell(iwae),
  )


def _published(value: tuple[float, float] | None, fits: bool) -> str:
  text = _cell(value)
  return text if fits or not text else f'({text})'


def _cost(results: Results, method: str) -> tuple[str, str, str]:
  size, seconds = results['num_parameters'].get(method), results['seconds'].get(method)
  sizes = ('', '') if size is None else (f'{size["trained"]:,}', f'{size["total"]:,}')
  return (*sizes, '' if seconds is None else f'{seconds:,.0f}')


def _iwae(results: Results) -> str:
  samples = sorted({row['iwae_samples'] for row in results['rows'] if row['iwae'] is not None})
  return 'IWAE' + (f'-{", ".join(map(str, samples))}' if samples else '')


def _comparability(groups: Iterable[Group]) -> str:
  obstacles = {group: paper.table_4_obstacles(*group) for group in groups}
  said = {group: ', '.join(reasons) for group, reasons in obstacles.items() if reasons}
  if not said:
    return "The paper's values are means ± sd of 10 seeds; it prints no other column."
  by_group = [f'{group.name} ({reasons})' for group, reasons in said.items()]
  told = by_group if len(obstacles) > 1 else [*said.values()]
  return f'Not comparable with the paper: {joined(told)}.'


def _difference(entry: Mapping[str, Any]) -> tuple[str, str]:
  interval = entry['ci95']
  ends = '' if interval is None else f'{signed(interval[0])} to {signed(interval[1])}'
  return signed(entry['mean_difference']), ends


def _gain(entry: Mapping[str, Any] | None) -> str:
  return '' if entry is None else signed(entry['mean_difference'])


def _each_p(results: Results, group: Group, entry: Mapping[str, Any]) -> tuple[str, ...]:
  found = numbers.each_p_value(results, group, entry)
  return tuple(_p(found.get(key)) for key in _TESTS)


def _p(value: float | None) -> str:
  return '' if value is None else probability(value)
