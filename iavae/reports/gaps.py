"""What shows a gap report: tables, histograms, the worst examples, a verdict in words?"""

import numpy as np
from matplotlib.figure import Figure

from iavae import pictures
from iavae.figures import BLUE, INK, ORANGE, plain, skipped
from iavae.gap_words import OPTIMAL
from iavae.reports import cremer_levels, gap_tables, labels, latents
from iavae.reports.gap_tables import Subjects
from iavae.reports.record import PerExample, Report, Shown
from iavae.tables import Results, number

_COLUMNS = 16  # of the pictures of the worst examples


def _is_ours(results: Results) -> bool:
  return 'protocol' in results['data']


def label(results: Results, name: str) -> str:
  """A subject in words; of a model that was not made here, its user's."""
  if not _is_ours(results):
    return name
  return cremer_levels.MODELS.get(name) or labels.label(results, name)


def _subjects(results: Results) -> Subjects:
  return [(label(results, s['name']), s) for s in results['subjects']]


_LATENTS = latents.make(label)


levels = gap_tables.of_results(gap_tables.levels, _subjects)
errors = gap_tables.of_results(gap_tables.errors, _subjects)
evidence = gap_tables.of_results(gap_tables.evidence, _subjects)
searches = gap_tables.of_results(gap_tables.searches, _subjects)
sandwiches = gap_tables.of_results(gap_tables.sandwiches, _subjects)


def findings(results: Results) -> list[str]:
  """The verdict on each subject, then what is not to be trusted, then what the latents carry."""
  told = []
  for name, summary in _subjects(results):
    told.append(f'{name}: {" ".join(summary["verdict"])}')
    told += [f'{name}, not to be trusted: {words}.' for words in summary['warnings']]
  return told + _LATENTS.findings(results)


def _losses(per_example: PerExample, summary: Results) -> tuple[np.ndarray, np.ndarray]:
  """(amortization gap, inference gap) of every example, [N] each."""
  name, by = summary['name'], summary['log_evidence_by']
  elbo = per_example[f'{name}/q/elbo']
  optimal = per_example[f'{name}/{OPTIMAL[summary["family"]]}/elbo']
  return optimal - elbo, per_example[f'{name}/{by}/log_evidence'] - elbo


def figure_histogram(results: Results, per_example: PerExample) -> Figure:
  """How the gaps of the examples are spread, one panel a subject."""
  subjects = _subjects(results)
  drawn = Figure(figsize=(9, 2.4 * len(subjects)), layout='constrained')
  panels = drawn.subplots(len(subjects), 1, sharex=True, squeeze=False)[:, 0]
  losses = [_losses(per_example, summary) for _, summary in subjects]
  low, high = (f(np.concatenate([np.concatenate(pair) for pair in losses])) for f in (min, max))
  bins = np.linspace(min(low, 0), high, 41)
  for axes, (name, _), (amortization, inference) in zip(panels, subjects, losses, strict=True):
    axes.hist(inference, bins, color=BLUE, alpha=0.35, label='inference gap')
    axes.hist(amortization, bins, color=ORANGE, alpha=0.8, label='amortization gap')
    axes.axvline(float(np.mean(amortization)), color=INK, linewidth=1)
    axes.set_title(name, loc='left', color=INK, fontsize=10)
    axes.set_ylabel('examples', color=INK)
    plain(axes)
  panels[0].legend(frameon=False, fontsize=9)
  panels[-1].set_xlabel('nats', color=INK)
  return drawn


def figure_levels(results: Results, per_example: PerExample) -> Figure:
  """What of log p(x) - ELBO is lost to the family, and what to the encoder."""
  del per_example
  subjects = _subjects(results)
  drawn = Figure(figsize=(9, 1.2 + 0.5 * len(subjects)), layout='constrained')
  axes = drawn.subplots()
  for i, (_, summary) in enumerate(subjects):
    gaps, left = summary['gaps'][summary['family']], 0.0
    for key, color in (('amortization', ORANGE), ('approximation', BLUE)):
      error = gaps[key]['standard_error']
      style = {'color': color, 'label': f'{key} gap' if i == 0 else None}
      axes.barh(i, gaps[key]['mean'], 0.6, left=left, xerr=error, ecolor=INK, **style)
      left += gaps[key]['mean']
  axes.set_yticks(range(len(subjects)), [name for name, _ in subjects])
  axes.invert_yaxis()
  axes.set_xlabel('nats below log p(x)', color=INK)
  plain(axes)
  axes.legend(frameon=False, fontsize=9, ncols=2, loc='lower left', bbox_to_anchor=(0, 1))
  return drawn


def figure_worst(results: Results, per_example: PerExample) -> Figure:
  """The examples of the largest amortization gaps, as pictures."""
  shown = [s for s in _subjects(results) if f'{s[1]["name"]}/worst' in per_example]
  if not shown:
    return skipped('The examples are no images: [H, W], or [H, W, C] with C up to 4.')
  worst = [per_example[f'{summary["name"]}/worst'] for _, summary in shown]
  drawn = [pictures.mosaic(pictures.panes(images), _COLUMNS) for images in worst]
  height, width = drawn[0].shape[:2]
  figure = Figure(figsize=(9, (0.5 + 9 * height / width) * len(shown)), layout='constrained')
  panels = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
  for axes, (name, summary), picture in zip(panels, shown, drawn, strict=True):
    pictures.show(axes, picture)
    lost = _losses(per_example, summary)[0][summary['worst']]
    title = f'{name}: {number(lost[0], 1)} to {number(lost[-1], 1)} nats'
    axes.set_title(title, loc='left', color=INK, fontsize=10)
  pictures.name_channels(figure, worst[0])
  return figure


def _title(results: Results) -> str:
  data, preset = results['data'], results['provenance']['config'].get('preset', 'full')
  if not _is_ours(results):
    return f'Inference gaps: {data["name"]}'
  return f'Inference gaps: {labels.Group(data["name"], data["protocol"], preset).name}'


REPORT = Report(
  command='python launch.py --mode=gaps',
  needed=('subjects', 'data', 'seconds', 'provenance'),
  title=_title,
  lead=lambda results: (
    'log p(x) minus the ELBO of what an encoder infers, in two parts: what the best posterior of '
    'the family for each example loses (approximation), and what the encoder loses beside it '
    '(amortization; Cremer et al., arXiv:1801.03558). All values in nats.'
  ),
  findings=findings,
  tables=(levels, errors, evidence, searches, sandwiches, _LATENTS.carried, _LATENTS.modulations),
  summary=(levels, errors, evidence, searches, sandwiches),
  figures={
    'levels': Shown(levels, figure_levels, 'What is lost to the encoder, and what to the family.'),
    'histogram': Shown(
      errors, figure_histogram, 'Gaps of the examples; the line is the mean amortization gap.'
    ),
    'worst': Shown(
      errors,
      figure_worst,
      'The examples of the largest amortization gaps, the largest first.',
    ),
  },
)
