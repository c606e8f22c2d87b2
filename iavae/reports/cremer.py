"""What shows inference suboptimality: Cremer et al.'s table beside theirs, and are they right?"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iavae import poster
from iavae.figures import BLUE, GRAY, INK, ORANGE, plain, skipped
from iavae.reports import cremer_verdicts, gap_tables, latents
from iavae.reports.cremer_levels import FLOW_GAIN, GAPS, LEVELS, MODELS, Levels, gaps, rounded
from iavae.reports.labels import Group
from iavae.reports.record import PerExample, Report, Shown
from iavae.tables import Results, Table, number, spread


def name(results: Results) -> str:
  """The data set and the preset in words."""
  return Group(results['dataset'], results['protocol'], results['preset']).name


def columns(results: Results) -> list[tuple[str, Levels, Levels | None]]:
  """(model, our levels and gaps, the poster's or None) of every model, rounded, nats."""
  found = []
  for column in results['columns']:
    model, ours = column['name'], rounded(column)
    theirs = poster.levels(results['dataset'], results['protocol'], model)
    with_gaps = None if theirs is None else {**theirs, **gaps(model, theirs)}
    found.append((model, ours | gaps(model, ours), with_gaps))
  return found


def table(results: Results) -> Table:
  """The poster's layout, ours and theirs beside each other."""
  header, cells = [''], []
  for model, ours, theirs in columns(results):
    header += [MODELS[model], *(['poster'] if theirs else [])]
    cells += [ours, *([theirs] if theirs else [])]
  rows = tuple(
    (words, *('' if cell[key] is None else number(cell[key]) for cell in cells))
    for key, words in (LEVELS | GAPS).items()
  )
  first = results['columns'][0]
  note = (
    f'Nats, means over {first["num_examples"]} images of the split {first["split"]}; gaps are '
    'differences of the levels as printed, with q* the best of the family of training. poster: '
    'Table 1 of arXiv:1801.03558, on its first 1,000 training images.'
  )
  if results['preset'] != 'full':
    note += f' Preset {results["preset"]}: the numbers do not compare, their pattern may.'
  return Table(f'Lower bounds and gaps: {name(results)}', tuple(header), rows, note)


def details(results: Results) -> Table:
  """Standard errors, and how each model was trained."""
  rows = []
  for column in results['columns']:
    model = column['name']
    printed = rounded(column) | gaps(model, rounded(column))
    told = [
      '' if printed[key] is None else spread(printed[key], column[key]['standard_error'])
      for key in (*LEVELS, *GAPS, FLOW_GAIN)
    ]
    curve = results['curves'][model]
    best = int(np.argmax(curve[1:])) + 1
    cost = [str(results['num_parameters'][model]), f'{results["seconds"][model]:.0f}']
    trained = (number(curve[best]), f'{best} of {len(curve) - 1}', *cost)
    rows.append((MODELS[model], *told, _added(results, model), *trained))
  words = (*LEVELS.values(), *GAPS.values(), 'Flow above FFG', gap_tables.ADDED)
  rest = ('validation ELBO', 'epoch', 'parameters', 'training, s')
  note = (
    'Mean ± standard error over images, nats; of gaps, of the differences image by image. Twice '
    'the steps: of the search for the best of the family of training. Each model is trained once: '
    'how they vary from seed to seed is not in it.'
  )
  return Table('With standard errors', ('', *words, *rest), tuple(rows), note)


def _added(results: Results, model: str) -> str:
  measured = results.get('measurements', {}).get(model)
  return '' if measured is None else gap_tables.added(measured, measured['family'])


def _measured(results: Results) -> gap_tables.Subjects:
  return [(MODELS[model], told) for model, told in results.get('measurements', {}).items()]


evidence = gap_tables.of_results(gap_tables.evidence, _measured)
searches = gap_tables.of_results(gap_tables.searches, _measured)
sandwiches = gap_tables.of_results(gap_tables.sandwiches, _measured)
_LATENTS = latents.make(lambda results, model: MODELS[model])


def findings(results: Results) -> list[str]:
  """The poster's claims, then what is not to be trusted, then what the latents carry."""
  warned = [
    f'{label}, not to be trusted: {words}.'
    for label, told in _measured(results)
    for words in told['warnings']
  ]
  return cremer_verdicts.findings(results) + warned + _LATENTS.findings(results)


def _bars(axes: Axes, column: Levels, x: float, is_ours: bool) -> None:
  bottom = 0.0
  for key, color in (('approximation_gap', BLUE), ('amortization_gap', ORANGE)):
    height = column[key] or 0.0
    style = (
      {'color': color} if is_ours else {'facecolor': 'none', 'edgecolor': color, 'hatch': '//'}
    )
    axes.bar(x, height, 0.38, bottom=bottom, **style)
    bottom += height


def figure(results: Results, per_example: PerExample) -> Figure:
  """Approximation and amortization gap of every model, one on the other."""
  del per_example
  measured = [c for c in columns(results) if c[1]['approximation_gap'] is not None]
  if not measured:
    return skipped('No gap was measured.')
  drawn = Figure(figsize=(9, 4.2), layout='constrained')
  axes = drawn.subplots()
  for i, (_, ours, theirs) in enumerate(measured):
    _bars(axes, ours, i - 0.2 * (theirs is not None), is_ours=True)
    if theirs is not None:
      _bars(axes, theirs, i + 0.2, is_ours=False)
  axes.set_xticks(range(len(measured)), [MODELS[model] for model, _, _ in measured])
  axes.set_ylabel('nats', color=INK)
  for label, style in (
    ('approximation gap', {'color': BLUE}),
    ('amortization gap', {'color': ORANGE}),
    ('the poster', {'facecolor': 'none', 'edgecolor': GRAY, 'hatch': '//'}),
  ):
    axes.bar(0, 0, label=label, **style)
  axes.legend(frameon=False, fontsize=9)
  plain(axes)
  return drawn


REPORT = Report(
  command='python launch.py --config=configs/cremer_<mnist or fashion>.py',
  needed=('columns', 'contrasts', 'curves', 'num_parameters', 'seconds', 'data', 'provenance'),
  title=lambda results: f'Inference suboptimality: {name(results)}',
  lead=lambda results: (
    'Cremer, Li & Duvenaud (arXiv:1801.03558): VAEs trained with a mean-field Gaussian (FFG) or a '
    'flow; what each loses to the family of its posteriors (approximation) and to its encoder '
    '(amortization).'
  ),
  findings=findings,
  tables=(table, cremer_verdicts.claims, details, evidence, searches, sandwiches, _LATENTS.carried),
  summary=(table, cremer_verdicts.claims, details, evidence, searches, sandwiches),
  figures={
    'gaps': Shown(
      table,
      figure,
      'Approximation and amortization gap of every model, nats; hatched: the poster.',
    )
  },
)
