"""How far do our own numbers of the synthetic experiment move from one data draw to the next?

  python -m iavae.reports.draws results/synthetic-draws runs/draw0 runs/draw1 ...

reads results.json of each work directory and writes results/synthetic-draws.json and .md; what
`paper.DRAWS` holds is copied from there. The runs are in BUILD.md.
"""

import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from iavae import paper, tables
from iavae.reports.synthetic_tables import PLACES, places
from iavae.tables import Results, Table, number

Summary = Mapping[str, Any]

_ELBOS = {
  'vae': 'VAE',
  'ia_vae': 'IA-VAE',
  'elbo_optimal': 'best mean-field',
  'log_evidence': 'log p(x)',
}
_DIGITS = 4  # that are kept


def summarize(draws: Sequence[Results]) -> dict[str, Any]:
  """Every compared number over results of two seeds or more, in the order of the seeds.

  Returns:
    'numbers': name of `paper.comparisons` -> 'published', 'values' by draw, and `paper.Spread` of
    them; 'draws': 'seed', 'dead_bases', 'elbo' (true ones in nats, means over bases without a dead
    unit, and the exact references) and the provenance of each.
  """
  draws = sorted(draws, key=lambda results: results['provenance']['seed'])
  by_draw = [{c.name: c for c in paper.comparisons(results)} for results in draws]
  numbers = {
    name: _number(compared.published, [of_draw[name].value for of_draw in by_draw])
    for name, compared in by_draw[0].items()
  }
  return {'numbers': numbers, 'draws': [_draw(results) for results in draws]}


def _number(published: float, values: Sequence[float]) -> dict[str, Any]:
  found = paper.Spread(fmean(values), stdev(values), min(values), max(values))
  rounded = {key: round(value, _DIGITS) for key, value in found._asdict().items()}
  kept = [round(value, _DIGITS) for value in values]
  return {'published': round(published, _DIGITS), 'values': kept, **rounded}


def _draw(results: Results) -> dict[str, Any]:
  live, references = paper.unflagged(results), results['references']
  elbo = {
    'vae': fmean(row['vae']['elbo'] for row in live),
    'ia_vae': fmean(row['ia_vae']['elbo_mean'] for row in live),
    'elbo_optimal': references['elbo_optimal'],
    'log_evidence': references['log_evidence'],
  }
  told = {key: results['provenance'][key] for key in ('seed', 'git_commit', 'command', 'device')}
  return told | {
    'dead_bases': sum(row['vae']['dead_units'] > 0 for row in results['table2']),
    'elbo': {key: round(value, _DIGITS) for key, value in elbo.items()},
  }


def compared(summary: Summary, *, needs_convention: bool) -> Table:
  """The published numbers that are ELBOs, or those that are none, beside ours."""
  rows = tuple(
    (name, number(found['published']), *places(found['published'], spread(found)))
    for name, found in summary['numbers'].items()
    if paper.needs_convention(name) == needs_convention
  )
  if needs_convention:
    title, note = "ELBOs in the paper's convention", f'Nats. {paper.CONVENTION}'
  else:
    title, note = 'What needs no convention', 'KL in nats.'
  return Table(title, ('number', 'paper', *PLACES), rows, f'{note} {paper.COMPARISON}')


def spread(found: Mapping[str, Any]) -> paper.Spread:
  """The mean, sd and range of an entry of 'numbers'."""
  return paper.Spread(*(found[key] for key in paper.Spread._fields))


def true_elbos(summary: Summary) -> Table:
  """The true ELBOs of every draw, beside the exact references."""
  rows = tuple(
    (str(draw['seed']), str(draw['dead_bases']), *(number(draw['elbo'][key], 3) for key in _ELBOS))
    for draw in summary['draws']
  )
  return Table(
    'True ELBOs',
    ('seed', 'dead bases', *_ELBOS.values()),
    rows,
    'Nats, means over bases without a dead unit; full Gaussian density, exact expectation.',
  )


def markdown(summary: Summary) -> str:
  """All three tables, for the file beside the committed summary."""
  title = f'# The synthetic experiment over {len(summary["draws"])} data draws'
  shown = [
    *(compared(summary, needs_convention=wanted) for wanted in (False, True)),
    true_elbos(summary),
  ]
  return '\n\n'.join((title, *map(tables.markdown, shown))) + '\n'


def main(target: str, *workdirs: str) -> None:
  """Writes TARGET.json and TARGET.md."""
  read = [pathlib.Path(workdir, 'results.json').read_text('utf8') for workdir in workdirs]
  summary = summarize([json.loads(text) for text in read])
  pathlib.Path(f'{target}.json').write_text(json.dumps(summary, indent=2) + '\n', 'utf8')
  pathlib.Path(f'{target}.md').write_text(markdown(summary), 'utf8')


if __name__ == '__main__':
  if len(sys.argv) < 4:
    sys.exit('python -m iavae.reports.draws TARGET RUN RUN ...: a spread takes two runs or more')
  main(*sys.argv[1:])
