"""What of the amortization gap does each method of an image experiment close, as a table?"""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from iavae.amortization_gap import NUM_DOUBLED
from iavae.reports import image_numbers as numbers
from iavae.reports import labels
from iavae.reports.image_tables import named, present, where
from iavae.reports.labels import Group
from iavae.tables import Results, Table, joined, signed, spread

Entries = Mapping[int, Mapping[str, Any]]  # of one method, by seed


def table(results: Results) -> Table:
  """The amortization gap of every method, and which share of the base's it closes; nats."""
  rows, counts = [], set()
  for group in numbers.groups(results):
    base = numbers.gaps(results, group, labels.BASE)
    for method in present(results, group):
      found = numbers.gaps(results, group, method)
      if found:
        counts |= {entry['num_examples'] for entry in found.values()}
        rows.append(_row(results, group, method, found, base))
  return Table(
    f'Amortization gap{where(results)}',
    (
      *('method', 'ELBO', 'best ELBO of the family', 'twice the steps add'),
      *('amortization gap', "of the base's gap, closed"),
    ),
    tuple(rows),
    'Nats, mean ± sd over seeds; no gap was measured (--config.evaluation.gap_examples).'
    if not rows
    else f'The first {joined([str(count) for count in sorted(counts)])} test images, nats, mean ± '
    'sd over seeds. Best: what 500 steps of Adam on the variational parameters of each image find '
    'with the decoder of the method, from its own posterior. Twice the steps: on at most '
    f'{NUM_DOUBLED} of them; empty where the decoder is that of the base, and so the best. A gap '
    'is too small by what the search misses. It is to the best of its own family: a richer family '
    'may have a larger gap and a better ELBO.',
  )


def _row(
  results: Results, group: Group, method: str, found: Entries, base: Entries
) -> tuple[str, ...]:
  gap, elbo, best = (
    spread(*numbers.mean_and_sd([entry[key] for entry in found.values()]))
    for key in ('amortization_gap', 'elbo', 'elbo_optimal')
  )
  closed = [
    1 - entry['amortization_gap'] / base[seed]['amortization_gap']
    for seed, entry in found.items()
    if seed in base and base[seed]['amortization_gap'] > 0 and not labels.is_joint(results)
  ]
  share = f'{fmean(closed):.0%}' if closed and method != labels.BASE else ''
  return (named(results, group, method), elbo, best, _added(found, base), gap, share)


def _added(found: Entries, base: Entries) -> str:
  """What twice the steps add; results of older versions did not check."""
  of_own, of_base = (
    [entry['added_by_doubling'] for entry in entries.values() if 'added_by_doubling' in entry]
    for entries in (found, base)
  )
  return signed(fmean(of_own)) if of_own else '' if of_base else 'not checked'
