"""What shows the results of an image experiment (arXiv:2604.06796, section 5.2)?"""

from iavae.reports import image_curves, image_gaps, labels, latents
from iavae.reports import image_figures as figures
from iavae.reports import image_numbers as numbers
from iavae.reports import image_tables as tables
from iavae.reports.image_findings import findings
from iavae.reports.record import Report, Shown
from iavae.tables import Results

_LATENTS = latents.make(labels.label, tables.where)
_FIGURES = {
  'gains': Shown(
    tables.origins,
    figures.figure_gains,
    'What each method gains on the base VAE: mean and 95 % confidence interval over seeds. Filled: '
    'ELBO; hollow: IWAE; gray strokes: the ELBO of each seed.',
  ),
  'figure_8': Shown(
    tables.table_4,
    figures.figure_8,
    'Figure 8. Test images, not selected, above their reconstructions by the base VAE and by the '
    'method under test.',
  ),
  'samples': Shown(
    tables.table_4,
    figures.figure_samples,
    'Samples from the prior, decoded by the base VAE and by the decoder as trained on with the '
    'method under test.',
  ),
  'curves': Shown(
    tables.validation,
    figures.figure_curves,
    'Validation ELBO by epoch: mean and range over seeds, thin where not all seeds go on. Left: '
    'from scratch, the first epochs may leave the panel. Right: above the base VAE of the seed.',
  ),
}


def _findings(results: Results) -> list[str]:
  return findings(results) + image_curves.findings(results) + _LATENTS.findings(results)


def _title(results: Results) -> str:
  named = '; '.join(group.name for group in numbers.groups(results))
  experiment = results['provenance']['config'].get('experiment')
  main = labels.label(results, labels.adapted(results))
  title = 'Inference methods' if experiment == 'methods' else main
  return f'{title[0].upper()}{title[1:]} on images: {named}'


def _lead(results: Results) -> str:
  data = results['data']
  counts = ', '.join(
    f'{data[f"num_{split}"]:,} {split}' for split in ('train', 'validation', 'test')
  )
  return f'{_what(results)}{numbers.reduced(results)}. Images: {counts}. All values in nats.'


def _what(results: Results) -> str:
  experiment = results['provenance']['config'].get('experiment')
  if experiment == 'methods':
    start = 'from scratch' if labels.is_joint(results) else 'from the same base VAEs'
    return f'Methods, posterior families and modulations, all {start}'
  controls = ', with controls' if experiment == 'controls' else ''
  if labels.is_papers(results):
    return (
      'Instance-Adaptive Parametrization for Amortized Variational Inference (arXiv:2604.06796), '
      f'section 5.2{controls}'
    )
  name = labels.label(results, labels.adapted(results))
  return f'{name[0].upper()}{name[1:]} beside its base VAE{controls}'


REPORT = Report(
  command='python launch.py --config=configs/<data set>.py',
  needed=('rows', 'comparisons', 'curves', 'num_parameters', 'seconds', 'data', 'provenance'),
  title=_title,
  lead=_lead,
  findings=_findings,
  tables=(
    tables.table_4,
    tables.origins,
    image_gaps.table,
    tables.differences,
    tables.validation,
    _LATENTS.carried,
    _LATENTS.modulations,
  ),
  summary=(tables.table_4, tables.differences, image_gaps.table, _LATENTS.carried),
  figures=_FIGURES,
)
