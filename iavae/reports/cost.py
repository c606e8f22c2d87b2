"""What shows the cost-accuracy picture: which ELBO for how many milliseconds, and operations?"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iavae.figures import BLUE, GRAY, GREEN, INK, ORANGE, PURPLE, RED, SKY, plain
from iavae.reports import labels, latents
from iavae.reports.labels import Group
from iavae.reports.record import PerExample, Report, Shown
from iavae.tables import Results, Table, number

_COLORS = (ORANGE, BLUE, GREEN, PURPLE, GRAY, SKY, RED)
_AXES = {'milliseconds': 'milliseconds an example', 'megaflops': 'million operations an example'}


def _methods(results: Results) -> list[str]:
  return list(dict.fromkeys(point['method'] for point in results['points']))


def _points(results: Results, method: str) -> list[dict]:
  return [point for point in results['points'] if point['method'] == method]


def _label(results: Results, method: str) -> str:
  return 'VAE (base)' if method == labels.BASE else labels.label(results, method)


def _name(results: Results) -> str:
  return Group(results['dataset'], results['protocol'], results['preset']).name


def points(results: Results) -> Table:
  """Every method after every number of steps."""
  rows = tuple(
    (
      f'{_label(results, method)}, {point["num_steps"]} steps',
      number(point['elbo']),
      number(point['standard_error']),
      f'{point["milliseconds"]:.4f}',
      f'{point["megaflops"]:.2f}',
      '' if point['learning_rate'] is None else str(point['learning_rate']),
    )
    for method in _methods(results)
    for point in _points(results, method)
  )
  return Table(
    f'ELBO and cost of inference: {_name(results)}',
    ('method', 'ELBO', 'SE', 'ms', 'Mflop', 'rate of Adam'),
    rows,
    f'{results["num_examples"]} test images, nats; SE: over images. Time of an image in a batch of '
    f'{results["batch_size"]} on the device below, operations as XLA counts them. Steps: of Adam '
    'with 2 draws of z each, at the rate that is best on validation images; of iterative '
    'inference: its own.',
  )


def elbos(results: Results) -> Table:
  """One row a method, one column a number of steps."""
  steps = list(dict.fromkeys(point['num_steps'] for point in results['points']))
  rows = []
  for method in _methods(results):
    by_steps = {point['num_steps']: number(point['elbo']) for point in _points(results, method)}
    rows.append((_label(results, method), *(by_steps.get(t, '') for t in steps)))
  columns = ('steps', *map(str, steps))
  note = 'Test ELBO, nats, after so many steps on the posterior of each image; one decoder for all.'
  return Table(f'ELBO by steps at test time: {_name(results)}', columns, tuple(rows), note)


def frontier(results: Results) -> list[dict]:
  """The points that no faster point reaches, from fast to slow."""
  best: list[dict] = []
  for point in sorted(results['points'], key=lambda p: p['milliseconds']):
    if not best or point['elbo'] > best[-1]['elbo']:
      best.append(point)
  return best


def findings(results: Results) -> list[str]:
  """Which methods are worth their time at all."""
  best = frontier(results)
  names = list(dict.fromkeys(_label(results, point['method']) for point in best))
  told = '; '.join(
    f'{_label(results, p["method"])} with {p["num_steps"]} steps: {number(p["elbo"])} nats in '
    f'{p["milliseconds"]:.3f} ms'
    for p in best
  )
  return [
    f'No other choice is both faster and better than these: {told}.',
    f'Methods among them: {", ".join(names)}.',
  ]


def _panel(axes: Axes, results: Results, key: str) -> None:
  for method, color in zip(_methods(results), _COLORS * 9, strict=False):
    found = [point for point in _points(results, method) if point[key] > 0]
    x, y = [point[key] for point in found], [point['elbo'] for point in found]
    axes.plot(x, y, 'o-', color=color, markersize=4, label=_label(results, method))
  # far from the others, the first steps from the prior would hide them
  values = sorted(point['elbo'] for point in results['points'])
  low = values[len(values) // 4]
  axes.set_ylim(low - 0.6 * (values[-1] - low), values[-1] + 0.08 * (values[-1] - low))
  axes.set_xscale('log')
  axes.set_xlabel(_AXES[key], color=INK)
  plain(axes)


def figure(results: Results, per_example: PerExample) -> Figure:
  """ELBO against time, and against operations; a point for every number of steps."""
  del per_example
  drawn = Figure(figsize=(9, 4.6), layout='constrained')
  panels = drawn.subplots(1, 2, sharey=True)
  for axes, key in zip(panels, _AXES, strict=True):
    _panel(axes, results, key)
  panels[0].set_ylabel('test ELBO (nats)')
  handles, labels = panels[0].get_legend_handles_labels()
  drawn.legend(handles, labels, loc='outside lower center', ncols=4, frameon=False, fontsize=9)
  return drawn


_LATENTS = latents.make(_label, lambda results: f': {_name(results)}')
REPORT = Report(
  command='python launch.py --config=configs/<data set>.py --config.experiment=cost',
  needed=('points', 'num_examples', 'data', 'seconds', 'provenance'),
  title=lambda results: f'Cost and accuracy of inference: {_name(results)}',
  lead=lambda results: (
    'One decoder, every method trained with it frozen, then refined at test time. All values in '
    'nats.'
  ),
  findings=lambda results: findings(results) + _LATENTS.findings(results),
  tables=(elbos, points, _LATENTS.carried, _LATENTS.modulations),
  summary=(elbos, points),
  figures={
    'cost': Shown(
      elbos,
      figure,
      'Test ELBO against time and against operations an example; each point is a number of steps '
      'at test time, none on the left. Points far below the others are cut off.',
    )
  },
)
