"""What do the results of an image experiment look like?

Each `figure_*(results, per_example)` returns a matplotlib Figure, from results files only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iavae import pictures
from iavae.figures import BLUE, GRAY, GREEN, INK, ORANGE, PURPLE, RED, SKY, plain, skipped
from iavae.reports import image_numbers as numbers
from iavae.reports import labels
from iavae.reports.labels import BASE, Group
from iavae.reports.record import PerExample
from iavae.tables import Results

_STYLES = {
  BASE: (ORANGE, '-'),
  'continued': (RED, '-'),
  'decoder_only': (SKY, '-'),
  'encoder_only': (PURPLE, '-'),
  'static': (GREEN, '-'),
  'shuffled': (GREEN, '--'),
  'frozen_decoder': (BLUE, '--'),
  'wider': (ORANGE, '--'),
}
_OTHERS = (GRAY, RED, SKY, PURPLE, GREEN, ORANGE)
_SAME_START = 1.0  # nats; training that starts within it starts from the same checkpoint


def _title(figure: Figure, results: Results) -> None:
  """Names a preset that is not the full one in the picture itself."""
  if numbers.reduced(results):
    figure.suptitle(numbers.reduced(results).strip(' ()'), fontsize=10, color=GRAY)


def _compared(results: Results) -> tuple[str, str]:
  return BASE, labels.adapted(results)


def figure_8(results: Results, per_example: PerExample) -> Figure:
  """Figure 8: test images, and below each its reconstructions by the base and by IA-VAE.

  Args:
    per_example: `originals` and `reconstruction_<method>`, [n, H, W, C] in [0, 1].
  """
  rows = {'original': per_example.get('originals')}
  for method in _compared(results):
    rows[labels.label(results, method)] = per_example.get(f'reconstruction_{method}')
  if any(images is None or not len(images) for images in rows.values()):
    return skipped('No reconstructions were kept.')
  shown = {name: pictures.panes(images) for name, images in rows.items()}
  count, height, width = shown['original'].shape[:3]
  figure = Figure(figsize=(9, 9 / count * height / width * len(rows) + 0.4), layout='constrained')
  panels = figure.subplots(len(rows), 1)
  for axes, (name, images) in zip(panels, shown.items(), strict=True):
    pictures.show(axes, pictures.mosaic(images, count))
    axes.set_ylabel(name, color=INK, rotation=0, ha='right', va='center')
  pictures.name_channels(figure, rows['original'])
  _title(figure, results)
  return figure


def figure_samples(results: Results, per_example: PerExample) -> Figure:
  """Samples from the prior of the base and of IA-VAE.

  Args:
    per_example: `samples_<method>`, [m, H, W, C] in {0, 1}.
  """
  kept = {
    m: per_example[f'samples_{m}'] for m in _compared(results) if f'samples_{m}' in per_example
  }
  if not kept:
    return skipped('No samples were kept.')
  drawn = {m: pictures.mosaic(pictures.panes(images), 8) for m, images in kept.items()}
  height, width = next(iter(drawn.values())).shape[:2]
  figure = Figure(figsize=(9, 4.4 * height / width + 0.6), layout='constrained')
  for axes, (method, picture) in zip(
    figure.subplots(1, len(kept), squeeze=False)[0], drawn.items(), strict=True
  ):
    pictures.show(axes, picture)
    axes.set_title(labels.label(results, method), fontsize=11, color=INK)
  pictures.name_channels(figure, next(iter(kept.values())))
  _title(figure, results)
  return figure


def _style(results: Results, method: str) -> tuple[str, str]:
  if method == labels.adapted(results):
    return BLUE, '-'
  others = [name for name in numbers.methods(results) if name not in _STYLES]
  place = others.index(method) if method in others else 0
  color = _OTHERS[place % len(_OTHERS)]
  return _STYLES.get(method, (color, ('-', '--', ':', '-.')[place // len(_OTHERS) % 4]))


def _curve(axes: Axes, seeds: Sequence[Sequence[float]], style: tuple[str, str], name: str) -> None:
  """Draws validation ELBOs [S][epochs]: the mean as far as all seeds go, and their range."""
  color, line = style
  shared = np.array([seed[: min(map(len, seeds))] for seed in seeds])
  epochs = np.arange(shared.shape[1])
  axes.fill_between(epochs, shared.min(axis=0), shared.max(axis=0), color=color, alpha=0.15)
  axes.plot(epochs, shared.mean(axis=0), line, color=color, linewidth=1.8, label=name)
  for seed in seeds:
    rest = np.arange(len(epochs) - 1, len(seed))
    axes.plot(rest, seed[len(epochs) - 1 :], line, color=color, linewidth=0.7, alpha=0.6)


def _curves_panel(axes: Axes, results: Results, curves: Mapping[str, Any], start: bool) -> None:
  """Draws {method: [S][epochs]}; `start`: whether the first epoch has to be on the panel."""
  for method, seeds in curves.items():
    _curve(axes, seeds, _style(results, method), labels.label(results, method))
  # the first epochs from scratch would stretch the axis by hundreds of nats: they may leave it
  seeds = [seed for method in curves.values() for seed in method]
  shown = np.concatenate([[*seed[:start], *seed[len(seed) // 4 :]] for seed in seeds])
  margin = 0.06 * np.ptp(shown) + 0.02
  axes.set_ylim(shown.min() - margin, shown.max() + margin)
  axes.set_xlabel('epoch')
  plain(axes)


def _panels(results: Results, curves: Mapping[str, Any]) -> list[tuple[bool, list[str]]]:
  """(whether from the base, methods): what starts from scratch, and what starts from the base."""
  first = {method: np.mean([seed[0] for seed in seeds]) for method, seeds in curves.items()}
  start = first.get(labels.adapted(results), np.inf)
  later = [m for m in curves if m != BASE and abs(first[m] - start) < _SAME_START]
  split = ((False, [m for m in curves if m not in later]), (True, later))
  return [panel for panel in split if panel[1]]


def _above_base(curves: Mapping[str, Any], method: str) -> list[np.ndarray]:
  """The curves of a method above the best of the base of the same seed, which others would hide."""
  tops = [max(seed[1:] or seed) for seed in curves[BASE]]
  return [np.asarray(seed) - top for seed, top in zip(curves[method], tops, strict=True)]


def figure_curves(results: Results, per_example: PerExample) -> Figure:
  """Validation ELBO by epoch: left what starts from scratch, right what starts from the base."""
  del per_example
  known = [*dict.fromkeys((BASE, labels.adapted(results), *labels.CONTROLS, *results['curves']))]
  every = {method: results['curves'].get(method) for method in known}
  curves = {method: seeds for method, seeds in every.items() if seeds and min(map(len, seeds))}
  if not curves:
    return skipped('No training curves were kept.')
  panels = _panels(results, curves)
  figure = Figure(figsize=(9, 4.4), layout='constrained')
  drawn = figure.subplots(1, len(panels), squeeze=False)[0]
  for axes, (start, names) in zip(drawn, panels, strict=True):
    paired = start and len({len(curves.get(name, ())) for name in (BASE, *names)}) == 1
    seeds = {name: _above_base(curves, name) if paired else curves[name] for name in names}
    _curves_panel(axes, results, seeds, start)
    axes.set_ylabel('validation ELBO' + (', above the base' if paired else '') + ' (nats)')
  figure.legend(loc='outside lower center', ncols=4, frameon=False, fontsize=9)
  _title(figure, results)
  return figure


def _gain_point(axes: Axes, entry: Mapping[str, Any], height: float, **style: Any) -> None:
  """Draws one gain on the base and its confidence interval, nats."""
  gain = entry['mean_difference']
  low, high = entry['ci95'] or (gain, gain)
  axes.plot([low, high], [height] * 2, color=style['color'], linewidth=1.6)
  axes.plot([gain], [height], 'o', markersize=7, markeredgewidth=1.6, **style)


def _leave_out_the_far_left(axes: Axes, gains: Sequence[float]) -> None:
  """Limits the axis where a few methods far below the base would hide how the others differ."""
  low, high = np.percentile(gains, [10, 90])
  limit = low - 2 * (high - low)
  for row, gain in enumerate(gains):
    if len(gains) > 4 and gain < limit:
      axes.set_xlim(limit, max(gains) + 0.1 * (max(gains) - limit))
      axes.annotate(f'\N{LEFTWARDS ARROW} {gain:.1f}', (limit, row), color=INK, fontsize=8)


def _gains_panel(axes: Axes, results: Results, group: Group) -> None:
  elbo, iwae = (numbers.gains(results, group, metric) for metric in ('elbo', 'iwae'))
  names = [*dict.fromkeys((*elbo, *iwae))]
  base = numbers.by_seed(results, group, BASE, 'elbo')
  axes.axvline(0, color=INK, linewidth=1)
  for row, method in enumerate(names):
    color = _style(results, method)[0]
    if method in elbo:
      _gain_point(axes, elbo[method], row - 0.13, color=color)
      seeds = numbers.by_seed(results, group, method, 'elbo')
      dots = [value - base[seed] for seed, value in seeds.items() if seed in base]
      axes.plot(dots, [row - 0.32] * len(dots), '|', color=GRAY, markersize=6)
    if method in iwae:
      _gain_point(axes, iwae[method], row + 0.17, color=color, markerfacecolor='white')
  axes.set_yticks(range(len(names)), [labels.label(results, m) for m in names])
  axes.set_ylim(len(names) - 0.4, -0.6)
  _leave_out_the_far_left(axes, [entry['mean_difference'] for entry in elbo.values()])
  axes.set_xlabel('nats above the base VAE, test data')
  axes.set_title(group.name, fontsize=11, color=INK)
  plain(axes)
  axes.grid(visible=False, axis='y')


def figure_gains(results: Results, per_example: PerExample) -> Figure:
  """What each method gains on the base, with 95 % confidence intervals over seeds."""
  del per_example
  groups = [group for group in numbers.groups(results) if numbers.gains(results, group)]
  if not groups:
    return skipped('There is nothing to compare with the base.')
  most = max(len(numbers.gains(results, group)) for group in groups)
  figure = Figure(figsize=(9, (1.1 + 0.52 * most) * len(groups)), layout='constrained')
  for axes, group in zip(figure.subplots(len(groups), 1, squeeze=False)[:, 0], groups, strict=True):
    _gains_panel(axes, results, group)
  return figure
