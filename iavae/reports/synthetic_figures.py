"""What do the results of the synthetic experiment look like?

Each `figure_*(results, per_example)` returns a matplotlib Figure, from results files only. Values
in nats. The one thing evaluated here is the known density of the synthetic model
(Figure 6).
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter

from iavae import paper
from iavae.figures import BLUE, GRAY, INK, ORANGE, RED, SKY, plain, skipped
from iavae.reports.record import PerExample
from iavae.reports.synthetic_tables import LABELS, amortization_gaps
from iavae.tables import Results

_COLORS = {'vae': ORANGE, 'ia_vae': BLUE}


def log_joint(x: np.ndarray, z: np.ndarray, noise_scale: float) -> np.ndarray:
  """log p(x, z) of the synthetic model in nats, [...].

  z ~ N(0, I_2), x = (z1, z2, z1 + z2 + z1 z2) + noise_scale N(0, I_3).

  Args:
    x: [..., 3].
    z: [..., 2].
    noise_scale: sd of the observation noise.
  """
  z1, z2 = z[..., 0], z[..., 1]
  residual = (x - np.stack([z1, z2, z1 + z2 + z1 * z2], axis=-1)) / noise_scale
  constant = 2.5 * np.log(2 * np.pi) + 3 * np.log(noise_scale)
  return -0.5 * (np.sum(residual**2, axis=-1) + z1**2 + z2**2) - constant


def _posterior_panel(axes: Axes, example: PerExample, noise_scale: float) -> None:
  """Draws p(z | x) of one example around its MAP, with the estimates; arrays without axis N."""
  center, covariance = example['z_map'], example['laplace_covariance']
  points = {name: example[name] for name in ('z', 'vae_mean', 'ia_vae_mean')}
  reach = max(np.abs(p - center).max() for p in points.values())
  half_width = max(1.15 * reach, 3.3 * np.sqrt(np.diag(covariance).max()))
  offsets = np.linspace(-half_width, half_width, 301)
  grid = center + np.stack(np.meshgrid(offsets, offsets), axis=-1)
  log_density = log_joint(example['x'], grid, noise_scale)
  delta = grid - center
  distance = np.sqrt(np.einsum('...i,ij,...j', delta, np.linalg.inv(covariance), delta))

  box = center[0] + offsets[[0, -1]], center[1] + offsets[[0, -1]]
  axes.imshow(
    np.exp(log_density - log_density.max()),
    extent=(*box[0], *box[1]),
    origin='lower',
    cmap='gray',
    vmax=1.1,
  )
  axes.contour(grid[..., 0], grid[..., 1], distance, levels=(1, 2, 3), colors=SKY, linewidths=1)
  for name, style in _MARKERS.items():
    axes.plot(*(center if name == 'z_map' else points[name]), linestyle='none', **style)
  axes.set_xlabel('$z_1$')
  axes.set_ylabel('$z_2$')
  axes.tick_params(colors=INK)


_CROSS = {'marker': 'X', 'markersize': 11, 'markeredgecolor': 'white', 'markeredgewidth': 1.2}
_MARKERS = {
  'z': {
    'marker': '^',
    'markersize': 11,
    'color': '#E3211C',
    'markeredgecolor': 'white',
    'label': '$z_{true}$',
  },
  'z_map': {
    'marker': '*',
    'markersize': 17,
    'color': 'white',
    'markeredgecolor': 'black',
    'label': 'MAP',
  },
  # Larger, so that it shows below the other where the two means agree
  'vae_mean': {**_CROSS, 'markersize': 17, 'color': ORANGE, 'label': 'mean of VAE'},
  'ia_vae_mean': {**_CROSS, 'color': BLUE, 'label': 'mean of IA-VAE'},
}


def figure_6(results: Results, per_example: PerExample) -> Figure:
  """Figure 6: exact posterior density of two examples, and the means that the encoders infer.

  The examples are drawn by chance with a fixed seed, not picked.

  Args:
    per_example: arrays of `per_example.npz`, first axis N.
  """
  noise_scale = results['provenance']['config']['data']['noise_scale']
  num_examples = len(per_example['x'])
  chosen = np.random.default_rng(0).choice(num_examples, min(2, num_examples), replace=False)
  figure = Figure(figsize=(9, 5.1), layout='constrained')
  panels = figure.subplots(1, len(chosen), squeeze=False)[0]
  for axes, index in zip(panels, chosen, strict=True):
    example = {name: values[index] for name, values in per_example.items()}
    _posterior_panel(axes, example, noise_scale)
    axes.set_title(f'example {index}', fontsize=11, color=INK)
  handles = [Line2D([], [], linestyle='none', **style) for style in _MARKERS.values()]
  handles.append(Line2D([], [], color=SKY, label='Laplace, 1 to 3 sd'))
  figure.legend(handles=handles, loc='outside lower center', ncols=5, frameon=False)
  return figure


def _published_points(axes: Axes) -> list[float]:
  """Draws the paper's values of Figure 7 and returns them, nats."""
  for (method, published), marker in zip(paper.FIGURE7.items(), 'sD', strict=True):
    axes.plot(
      list(published),
      list(published.values()),
      marker,
      markerfacecolor='white',
      markeredgecolor=ORANGE if method == 'vae' else RED,
      markeredgewidth=1.8,
      markersize=8,
      label=f'{paper.METHODS[method]}, published',
    )
  return [value for published in paper.FIGURE7.values() for value in published.values()]


def _efficiency_panel(axes: Axes, results: Results, key: str) -> None:
  """Draws one convention of Figure 7; `key` is 'elbo' or 'elbo_paper'."""
  vae = paper.figure_7_points(results, 'vae')
  size, mean, sd, median = (
    np.array([point[name] for point in vae])
    for name in ('num_parameters', f'{key}_mean', f'{key}_sd', f'{key}_median')
  )
  axes.fill_between(size, mean - sd, mean + sd, color=ORANGE, alpha=0.25, label='VAE, mean ± sd')
  axes.plot(size, median, 'o-', color=ORANGE, label='VAE, median', markersize=5)
  heights = [*median]
  for point in paper.figure_7_points(results, 'ia_vae'):
    label = f'IA-VAE, {int(point["num_parameters"])} parameters'
    axes.axhline(point[f'{key}_median'], color=RED, linewidth=1.8, label=label)
    heights.append(point[f'{key}_median'])
  if key == 'elbo_paper':
    heights += _published_points(axes)
  else:
    optimum = results['references']['elbo_optimal']
    axes.axhline(optimum, color=INK, linestyle='--', linewidth=1.2, label='mean-field optimum')
    heights.append(optimum)
  # one dead seed would stretch the axis by 80 nats: the medians set it, the band may leave it
  margin = 0.08 * (max(heights) - min(heights)) + 0.02
  axes.set_ylim(min(heights) - margin, max(heights) + margin)
  axes.set_xlabel('number of encoder parameters')
  axes.legend(frameon=False, fontsize=9, loc='lower right')
  plain(axes)


def figure_7(results: Results, per_example: PerExample) -> Figure:
  """Figure 7: ELBO by number of encoder parameters, left in the paper's convention, right true."""
  del per_example
  if not paper.figure_7_points(results, 'vae'):
    return skipped('Figure 7 was skipped by the config.')
  figure = Figure(figsize=(9, 4.2), layout='constrained')
  left, right = figure.subplots(1, 2)
  _efficiency_panel(left, results, 'elbo_paper')
  left.set_ylabel("ELBO in the paper's convention (nats)")
  _efficiency_panel(right, results, 'elbo')
  right.set_ylabel('true ELBO (nats)')
  return figure


def figure_gaps(results: Results, per_example: PerExample) -> Figure:
  """Approximation and amortization gap of the median model of each method, stacked."""
  del per_example
  gaps = amortization_gaps(results)
  if not gaps:
    return skipped('The controls were skipped by the config.')
  approximation = results['references']['approximation_gap']
  names, values = list(gaps), np.array(list(gaps.values()))
  rows = np.arange(len(names))
  figure = Figure(figsize=(9, 0.8 + 0.42 * len(names)), layout='constrained')
  axes = figure.subplots()
  axes.barh(rows, approximation, color=GRAY, height=0.62)
  colors = [_COLORS.get(name, SKY) for name in names]
  axes.barh(rows, values, left=approximation, color=colors, height=0.62)
  for row, value in zip(rows, values, strict=True):
    axes.annotate(
      f'{value:.2f}',
      (approximation + max(value, 0.0), row),
      xytext=(5, 0),
      textcoords='offset points',
      va='center',
      color=INK,
    )
  axes.set_yticks(rows, [LABELS.get(name, name) for name in names])
  axes.invert_yaxis()
  axes.margins(x=0.08)
  axes.set_xlabel('nats below log p(x)')
  handles = [
    Patch(color=GRAY, label=f'approximation gap, {approximation:.2f}'),
    Patch(color=SKY, label='amortization gap, the number at the bar'),
  ]
  figure.legend(handles=handles, loc='outside upper right', ncols=2, frameon=False)
  plain(axes)
  axes.grid(visible=False, axis='y')
  return figure


def figure_refinement(results: Results, per_example: PerExample) -> Figure:
  """True ELBO by number of gradient steps on the posterior, from both encoders."""
  del per_example
  r = results['refinement']
  if not r['num_steps']:
    return skipped('Refinement at test time was skipped by the config.')
  figure = Figure(figsize=(9, 4), layout='constrained')
  axes = figure.subplots()
  for method, label in paper.METHODS.items():
    axes.plot(r['num_steps'], r[method], 'o-', color=_COLORS[method], label=f'from {label}')
  optimum = results['references']['elbo_optimal']
  axes.axhline(optimum, color=INK, linestyle='--', linewidth=1.2, label='mean-field optimum')
  axes.axhline(r['ia_vae'][0], color=BLUE, linestyle=':', linewidth=1.2)
  axes.set_xscale('symlog', linthresh=1)
  axes.set_xlim(-0.15, 1.1 * max(r['num_steps']) + 0.15)
  axes.xaxis.set_major_locator(FixedLocator(r['num_steps']))
  axes.xaxis.set_minor_locator(FixedLocator([]))
  axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
  axes.set_xlabel('gradient steps at test time')
  axes.set_ylabel('true ELBO (nats)')
  axes.legend(frameon=False, loc='lower right')
  plain(axes)
  return figure


def figure_gap_histogram(results: Results, per_example: PerExample) -> Figure:
  """Distribution of the amortization gap over examples, log axis in nats.

  Args:
    per_example: `elbo_optimal`, `vae_elbo` and `ia_vae_elbo`, each [N].
  """
  del results
  floor = 1e-3  # nats; below it an encoder is as good as optimal
  gaps = {
    method: np.maximum(per_example['elbo_optimal'] - per_example[f'{method}_elbo'], floor)
    for method in paper.METHODS
  }
  top = max(gap.max() for gap in gaps.values())
  bins = np.geomspace(floor, 1.01 * top, 61)
  figure = Figure(figsize=(9, 3.8), layout='constrained')
  axes = figure.subplots()
  for method, gap in gaps.items():
    worst = np.sort(gap)[-max(1, len(gap) // 10) :].sum() / gap.sum()
    label = f'{paper.METHODS[method]}: mean {gap.mean():.2f}, worst tenth holds {worst:.0%}'
    axes.hist(gap, bins, color=_COLORS[method], alpha=0.3)
    axes.hist(gap, bins, color=_COLORS[method], histtype='step', linewidth=1.6, label=label)
    axes.axvline(gap.mean(), color=_COLORS[method], linestyle='--', linewidth=1.2)
  axes.set_xscale('log')
  axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
  axes.set_xlabel('amortization gap of one example (nats; dashed: mean)')
  axes.set_ylabel('examples')
  axes.margins(y=0.3)  # room for the legend
  axes.legend(frameon=False, loc='upper left')
  plain(axes)
  return figure
