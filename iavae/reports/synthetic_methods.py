"""What shows every method on the synthetic model, where the best answer is known?"""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from iavae.figures import BLUE, GRAY, INK, ORANGE, plain
from iavae.reports import labels, latents
from iavae.reports.record import PerExample, Report, Shown
from iavae.tables import Results, Table, number, spread

_OWN = {
  'base': 'VAE (base)',
  'instance_adaptive': 'IA-VAE',
  'linear': "IA-VAE's modulation",
  'energy': 'energy-normalized FiLM',
}


def _label(row: Mapping[str, Any]) -> str:
  name, _, condition = row['method'].partition(':')
  named = _OWN.get(name) or labels.METHODS.get(name, name)
  return named + {'': '', 'static': ', without x', 'shuffled': ", another's x"}[condition]


def rows(results: Results) -> Table:
  """Every method: how far from log p(x), with how many parameters and steps at test time."""
  evidence, best = (results['references'][k] for k in ('log_evidence', 'elbo_optimal'))
  lines = [
    (
      _label(row),
      str(row['num_parameters']),
      spread(row['elbo_mean'], row['elbo_sd'], 3),
      number(evidence - row['elbo_mean'], 3),
      number(best - row['elbo_mean'], 3),
      str(row['decoder_gradients']),
      f'{row["epochs_mean"]:.0f}',
      f'{row["seconds"]:.0f}',
    )
    for row in results['rows']
  ]
  known = number(best, 3), number(evidence - best, 3), number(0, 3)
  lines.append(('best mean-field', '', *known, '', '', ''))
  columns = ('method', 'inference params', 'ELBO', 'log p(x) minus it', 'best mean-field minus it')
  dead = sum(row['num_dead'] for row in results['rows'])
  left = f' {dead} models of bases with a dead unit are left out.' if dead else ''
  return Table(
    'Every method on the synthetic model',
    (*columns, 'gradients at test', 'epochs', 'seconds'),
    tuple(lines),
    f'{results["rows"][0]["num_models"]} seeds, mean ± sd, nats. One model from each base VAE, the '
    'decoder known. Exact for mean-field posteriors, 100 draws of z an example for others, which '
    'may pass the best mean-field one. Gradients: of the ELBO, at test time, an example. Epochs: '
    f'after those of the base; seconds: of all models together.{left}',
  )


def findings(results: Results) -> list[str]:
  """Who comes nearest, with and without reading the decoder at test time."""
  best = results['references']['elbo_optimal']
  said = []
  for words, test in (
    ('in one forward pass, without reading the decoder', lambda row: not row['decoder_gradients']),
    ('with gradients at test time', lambda row: row['decoder_gradients']),
  ):
    found = [row for row in results['rows'] if test(row)]
    if found:
      top = max(found, key=lambda row: row['elbo_mean'])
      said.append(
        f'Nearest {words}: {_label(top)}, {number(best - top["elbo_mean"], 3)} nats below the best '
        f'mean-field posterior, with {top["num_parameters"]} parameters.'
      )
  return said


def figure(results: Results, per_example: PerExample) -> Figure:
  """log p(x) minus the ELBO of every method; the line is the best mean-field posterior."""
  del per_example
  evidence, best = (results['references'][k] for k in ('log_evidence', 'elbo_optimal'))
  found = sorted(results['rows'], key=lambda row: row['elbo_mean'])
  drawn = Figure(figsize=(9, 1.2 + 0.27 * len(found)), layout='constrained')
  axes = drawn.subplots()
  axes.axvline(evidence - best, color=GRAY, linestyle='--', linewidth=1)
  for place, row in enumerate(found):
    color = ORANGE if row['decoder_gradients'] else BLUE
    dots = [evidence - value for value in row['elbos']]
    axes.plot(dots, [place] * len(dots), '|', color=color, alpha=0.6)
    axes.plot([evidence - row['elbo_mean']], [place], 'o', color=color)
  axes.set_yticks(range(len(found)), [_label(row) for row in found])
  axes.set_xscale('log')
  axes.set_xlabel('log p(x) minus the ELBO (nats)', color=INK)
  plain(axes)
  return drawn


_LATENTS = latents.make(lambda results, method: _label({'method': method}))
REPORT = Report(
  command='python launch.py --config=configs/synthetic.py --config.experiment=synthetic_methods',
  needed=('rows', 'references', 'seconds', 'provenance'),
  title=lambda results: 'Every inference method on the synthetic model',
  lead=lambda results: (
    'z in R^2, x = (z1, z2, z1 + z2 + z1 z2) + noise (arXiv:2604.06796, section 4.1): the '
    'posterior is known, so every gap is. All values in nats.'
  ),
  findings=lambda results: findings(results) + _LATENTS.findings(results),
  tables=(rows, _LATENTS.carried, _LATENTS.modulations),
  summary=(rows,),
  figures={
    'methods': Shown(
      rows,
      figure,
      'log p(x) minus the ELBO: means, and each model. Orange: reads gradients of the ELBO at test '
      'time. Dashed: the best mean-field posterior.',
    )
  },
)
