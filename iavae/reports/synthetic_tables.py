"""What do the results of the synthetic experiment say, as tables?

Everything is computed from `results.json`, nothing is known beforehand. Two ELBOs stand side by
side: the true one (full Gaussian density, exact expectation) and the paper's convention (see
`paper`). All values in nats.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from iavae import paper
from iavae.paper import METHODS
from iavae.tables import FLAG, Results, Table, number, signed, spread

LABELS = {
  'vae': 'VAE (base)',
  'ia_vae': 'IA-VAE',
  'static': 'IA-VAE without x',
  'continued': 'continued VAE',
  'unfrozen': 'IA-VAE unfrozen',
  'relu': 'plain ReLU VAE',
  'silu': 'plain SiLU VAE',
  'glu': 'plain GLU VAE',
}

_REFERENCES = {
  'log_evidence': 'log evidence log p(x)',
  'elbo_optimal': 'optimal mean-field ELBO',
  'kl_optimal': 'KL of the optimal mean-field posterior',
  'approximation_gap': 'approximation gap',
  'amortization_gap_vae': 'amortization gap, VAE',
  'amortization_gap_ia_vae': 'amortization gap, IA-VAE',
}

_ELBO = 'ELBO'
_ELBO_PAPER = "ELBO, paper's conv."
_ELBO_COLUMNS = (_ELBO, 'median', _ELBO_PAPER, 'median')


def _elbo_cells(entry: Mapping[str, float]) -> tuple[str, ...]:
  cells = [
    (spread(entry[f'{key}_mean'], entry[f'{key}_sd']), number(entry[f'{key}_median']))
    for key in ('elbo', 'elbo_paper')
  ]
  return (*cells[0], *cells[1])


def amortization_gaps(results: Results) -> dict[str, float]:
  """Amortization gap of the median model of every control, nats; empty if all were skipped.

  Medians, because one dead ReLU unit costs some 80 nats and would drown everything else in a mean.
  """
  entries, optimum = results.get('controls') or {}, results['references']['elbo_optimal']
  ordered = sorted(entries, key=[*LABELS, *entries].index)
  return {name: optimum - entries[name]['elbo_median'] for name in ordered}


def _table_2_cells(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
  def mean(method: str, key: str) -> float:
    return fmean(row[method][key] for row in rows)

  ia_vae = [
    spread(mean('ia_vae', f'{key}_mean'), mean('ia_vae', f'{key}_sd'))
    for key in ('elbo', 'elbo_paper', 'kl')
  ]
  vae = [number(mean('vae', key)) for key in ('elbo', 'elbo_paper', 'kl', 'amortization_gap')]
  return (*vae, *ia_vae, number(mean('ia_vae', 'amortization_gap_mean')))


def table_2(results: Results) -> Table:
  """Table 2: every base VAE and the IA-VAEs trained on it, nats; the paper's means below."""
  rows = results['table2']
  free = [row for row in rows if not row['vae']['dead_units']]
  body = [
    (f'{i}{FLAG if row["vae"]["dead_units"] else ""}', *_table_2_cells([row]))
    for i, row in enumerate(rows)
  ]
  body.append(('mean, all', *_table_2_cells(rows)))
  if free:
    body.append((f'mean, no {FLAG}', *_table_2_cells(free)))
  vae = [number(mean) for mean in paper.column_means(paper.TABLE2_VAE)]
  elbo, elbo_sd, kl, kl_sd = paper.column_means(paper.TABLE2_IA_VAE)
  published = (*vae, '', '', spread(elbo, elbo_sd), spread(kl, kl_sd), '')
  body.append(('paper, mean', '', *published))
  each = (_ELBO, _ELBO_PAPER, 'KL', 'gap')
  return Table(
    'Table 2. Robustness to the initialization',
    ('base', *(f'{label} {name}' for label in METHODS.values() for name in each)),
    tuple(body),
    f'Bases count from 0, as in results.json; {FLAG} a hidden ReLU unit is never active (dead). '
    'IA-VAE: mean ± sd over seeds. Gap: amortization gap, optimal mean-field ELBO minus the ELBO '
    'reached. The paper has other initializations: only the means compare.',
  )


def table_3(results: Results) -> Table:
  """Table 3: how near the posterior mean of one pair of models is to the MAP; ELBO, KL in nats."""
  body = []
  for method, label in METHODS.items():
    ours, published = results['table3'][method], paper.TABLE3[method]
    keys = ('elbo', 'elbo_paper', 'kl', 'd_map', 'r_map')
    body.append((label, *(number(ours[key]) for key in keys)))
    rest = (number(published[key]) for key in ('elbo', 'kl', 'd_map', 'r_map'))
    body.append((f'{label}, paper', '', *rest))
  pair = results['table3_pair']
  return Table(
    'Table 3. Accuracy of the inferred posterior',
    ('method', _ELBO, _ELBO_PAPER, 'KL', 'd_MAP (down)', 'r_MAP (up)'),
    tuple(body),
    f'Base {pair["base"]}, the base VAE of median ELBO, and its IA-VAE of median ELBO (seed '
    f'{pair["seed"]}): not selected for looks. d_MAP: Mahalanobis distance of the posterior mean '
    'from the MAP; r_MAP: posterior density at the mean over that at the MAP.',
  )


def figure_7(results: Results) -> Table:
  """The numbers behind Figure 7: ELBO by number of encoder parameters, nats; no rows if skipped."""
  rows = []
  for method, label in METHODS.items():
    for point in paper.figure_7_points(results, method):
      size = int(point['num_parameters'])
      known = paper.FIGURE7[method]
      published = number(known[size]) if size in known else ''
      rows.append((label, str(size), *_elbo_cells(point), published))
  note = 'Mean ± sd and median over seeds; a dead unit moves the mean, hardly the median.'
  return Table(
    'Figure 7 in numbers. Parameter efficiency',
    ('encoder', 'params', *_ELBO_COLUMNS, 'paper'),
    tuple(rows),
    note if rows else 'Skipped by the config: no encoder of another width was trained.',
  )


def references(results: Results) -> Table:
  """The exact references and the inference gaps, nats."""
  r = results['references']
  rows = tuple(
    (label, number(r[key], 3), number(r[f'{key}_paper'], 3) if f'{key}_paper' in r else '')
    for key, label in _REFERENCES.items()
  )
  note = 'Exact means over the data set; amortization gaps over base VAEs without a dead unit.'
  return Table('Inference gaps', ('quantity', 'nats', "paper's conv."), rows, note)


def controls(results: Results) -> Table:
  """What else could have made the gain: every control, nats; no rows if all were skipped."""
  entries = results.get('controls') or {}
  rows = tuple(
    (
      LABELS.get(name, name),
      str(int(entries[name]['num_parameters'])),
      *_elbo_cells(entries[name]),
      number(entries[name]['kl_mean']),
      number(gap),
      str(int(entries[name]['num_models'])),
      number(entries[name]['epochs_mean'], 0),
    )
    for name, gap in amortization_gaps(results).items()
  )
  skipped = [label for name, label in LABELS.items() if name not in entries]
  note = (
    'Mean ± sd over all models, dead units included; gap: amortization gap of the median model. '
    'Without x: the hypernetwork sees no instance. Continued: the base trained on. Unfrozen: the '
    'base trained too. Plain: one encoder trained for the total budget of IA-VAE. '
    f'Skipped by the config: {", ".join(skipped) or "none"}.'
  )
  columns = ('encoder', 'params', *_ELBO_COLUMNS, 'KL', 'gap', 'models', 'epochs')
  return Table('Controls', columns, rows, note)


def refinement(results: Results) -> Table:
  """True ELBO after T steps of gradient ascent on the posterior itself, nats."""
  r = results['refinement']
  optimum = results['references']['elbo_optimal']
  rows = tuple(
    (str(int(steps)), *(number(v, 3) for v in (vae, ia_vae, optimum - vae, optimum - ia_vae)))
    for steps, vae, ia_vae in zip(r['num_steps'], r['vae'], r['ia_vae'], strict=True)
  )
  rates = ', '.join(f'{rate:g}' for rate in r['learning_rates'])
  return Table(
    'Refinement at test time',
    ('steps', 'from VAE: ELBO', 'from IA-VAE: ELBO', 'from VAE: gap', 'from IA-VAE: gap'),
    rows,
    'Adam on mean and log scale of every posterior with the exact gradient, from the pair of Table '
    f'3; at each number of steps the best of the learning rates {rates}.'
    if rows
    else 'Skipped by the config.',
  )


def free_numbers(results: Results) -> Table:
  """The published numbers that need no convention beside ours, and ours over ten data draws."""
  return _beside(results, 'KL, d_MAP, r_MAP', needs_convention=False, note='KL in nats.')


def elbos(results: Results) -> Table:
  """The published ELBOs beside ours in the paper's convention, and ours over ten data draws."""
  note = f'Nats. {paper.CONVENTION} That they agree is no independent confirmation.'
  return _beside(results, "ELBOs in the paper's convention", needs_convention=True, note=note)


def _beside(results: Results, what: str, *, needs_convention: bool, note: str) -> Table:
  rows = tuple(
    (
      c.name,
      *map(number, (c.value, c.published)),
      signed(c.value - c.published, 2),
      *places(c.published, paper.DRAWS[c.name]),
    )
    for c in paper.comparisons(results)
    if paper.needs_convention(c.name) == needs_convention
  )
  columns = ('number', 'here', 'paper', 'here minus paper', *PLACES)
  return Table(f'Beside the paper: {what}', columns, rows, f'{note} {paper.COMPARISON}')


PLACES = ('ten draws', 'lowest', 'highest', 'paper minus mean, sd')


def places(published: float, draws: paper.Spread) -> tuple[str, ...]:
  """Our number over ten data draws, and where the published one lies: cells below `PLACES`."""
  away = signed((published - draws.mean) / draws.sd, 1)
  return (spread(draws.mean, draws.sd, 3), number(draws.low, 3), number(draws.high, 3), away)
