"""What shows the results of the synthetic experiment (arXiv:2604.06796, section 5.1)?"""

from iavae.reports import latents
from iavae.reports import synthetic_figures as figures
from iavae.reports import synthetic_tables as tables
from iavae.reports.record import Report, Shown
from iavae.reports.synthetic_findings import findings

_FIGURES = {
  'figure_6': Shown(
    tables.table_3,
    figures.figure_6,
    'Figure 6. The exact posterior of two examples, drawn by chance: brighter is denser. Level '
    'sets of its Laplace approximation; the posterior means inferred by VAE and IA-VAE.',
  ),
  'figure_7': Shown(
    tables.figure_7,
    figures.figure_7,
    'Figure 7. ELBO by number of encoder parameters. Hollow: the values that the paper prints. A '
    'band that leaves the panel belongs to a width with a dead model among its seeds.',
  ),
  'gaps': Shown(
    tables.controls,
    figures.figure_gaps,
    'What each method leaves below log p(x): the approximation gap of any mean-field posterior, '
    'and the amortization gap of the median model.',
  ),
  'gap_histogram': Shown(
    tables.references,
    figures.figure_gap_histogram,
    'The amortization gap of every example, pair of Table 3. A few examples hold most of it.',
  ),
  'refinement': Shown(
    tables.refinement,
    figures.figure_refinement,
    'What a number of gradient steps on the posterior adds to each encoder. Dotted: IA-VAE without '
    'any.',
  ),
}

_LATENTS = latents.make(lambda results, method: tables.LABELS[method])
REPORT = Report(
  command='python launch.py --config=configs/synthetic.py',
  needed=('table2', 'table3', 'table3_pair', 'references', 'refinement', 'seconds', 'provenance'),
  title=lambda results: 'The amortization gap of IA-VAE on the synthetic model',
  lead=lambda results: (
    'Instance-Adaptive Parametrization for Amortized Variational Inference (arXiv:2604.06796), '
    'section 5.1, reproduced and controlled. All values in nats.'
  ),
  findings=lambda results: findings(results) + _LATENTS.findings(results),
  tables=(
    tables.free_numbers,
    tables.elbos,
    tables.table_2,
    tables.table_3,
    tables.figure_7,
    tables.references,
    tables.controls,
    tables.refinement,
    _LATENTS.carried,
    _LATENTS.modulations,
  ),
  summary=(tables.free_numbers, tables.elbos, tables.controls),
  figures=_FIGURES,
)
