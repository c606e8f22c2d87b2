"""Which numbers did the paper publish, and do ours agree with them?

Pollastro, Apicella, Isgro, Prevete: Instance-Adaptive Parametrization for Amortized Variational
Inference (arXiv:2604.06796): Tables 2 and 3 and Figure 7 of the synthetic experiment, Table 4 of
the image experiment. The ELBO of the synthetic experiment exceeds the exact log p(x), so
it is no bound: the numbers come out when the decoder is evaluated at the posterior mean and the
Gaussian constant is dropped, -||x - f(mu)||^2 / (2 sigma^2) - KL. That is inferred, the paper does
not say so. Only `elbo_paper` of our results is compared with the ELBOs here.
"""

from collections.abc import Iterable, Iterator, Mapping
from statistics import fmean
from typing import Any, Literal, NamedTuple

from iavae.tables import Results

# One row a base VAE: (ELBO, KL), nats.
TABLE2_VAE = (
  (-7.95, 5.47),
  (-7.86, 5.48),
  (-7.91, 5.48),
  (-7.83, 5.48),
  (-7.84, 5.46),
  (-8.60, 5.50),
  (-7.94, 5.48),
  (-7.87, 5.48),
  (-7.95, 5.48),
  (-7.84, 5.49),
)

# Over 10 seeds on the base VAE of the same row: (ELBO mean, ELBO sd, KL mean, KL sd), nats.
TABLE2_IA_VAE = (
  (-6.43, 0.08, 5.55, 0.01),
  (-6.42, 0.04, 5.54, 0.01),
  (-6.43, 0.03, 5.53, 0.01),
  (-6.42, 0.04, 5.61, 0.02),
  (-6.42, 0.02, 5.58, 0.02),
  (-6.45, 0.06, 5.54, 0.04),
  (-6.39, 0.05, 5.53, 0.02),
  (-6.43, 0.05, 5.53, 0.01),
  (-6.39, 0.05, 5.54, 0.01),
  (-6.35, 0.03, 5.56, 0.01),
)

TABLE3 = {
  'vae': {'elbo': -7.83, 'kl': 5.48, 'd_map': 1.44, 'r_map': 0.53},
  'ia_vae': {'elbo': -6.36, 'kl': 5.55, 'd_map': 0.56, 'r_map': 0.84},
}

# ELBO by number of parameters. The paper prints the VAE with 68 parameters to two digits, the two
# others as 'approximately' and 'average'.
FIGURE7 = {'vae': {68: -6.84, 116: -6.40}, 'ia_vae': {68: -6.40}}

# The data draw, the seeds and the stopping epoch of the paper are unknown: a tolerance is what they
# can move. Base VAE: draw and stopping .1, sampling sd of the data-set mean .08, as the gap has a
# heavy tail. IA-VAE: sampling sd .033, and the rows of the paper differ by .1. KL: rows and block
# layouts differ by .04 and .06. The wider encoders of Figure 7 lie between base and IA-VAE.
# Table 3 shows single models, ours of median ELBO: to the above add the sd between models, .06 and
# .05, and what the paper's are above the mean of their own Table 2, .13 and .05: -7.83 is the best
# of its ten rows, and the IA-VAE (KL 5.55) is not of the same row (KL 5.61 +- .02).
TOLERANCES = {
  'table2': {'vae': {'elbo': 0.2, 'kl': 0.04}, 'ia_vae': {'elbo': 0.1, 'kl': 0.06}},
  'table3': {
    'vae': {'elbo': 0.3, 'kl': 0.05, 'd_map': 0.12, 'r_map': 0.04},
    'ia_vae': {'elbo': 0.15, 'kl': 0.08, 'd_map': 0.12, 'r_map': 0.04},
  },
  'figure7': {'vae': 0.15, 'ia_vae': 0.1},
}

# Test ELBO of Table 4: (mean, sd) over 10 seeds, nats, by our names of data sets and methods; every
# p-value is printed as '< 0.01', no KL is.
TABLE4 = {
  'omniglot': {'base': (-90.30, 0.03), 'instance_adaptive': (-89.73, 0.01)},
  'mnist': {'base': (-79.42, 0.03), 'instance_adaptive': (-78.68, 0.01)},
  'fashion_mnist': {'base': (-225.87, 0.07), 'instance_adaptive': (-224.79, 0.01)},
}

# How the data of the paper's Table 4 is made from gray images; another way moves all values.
TABLE4_PROTOCOLS = {'omniglot': 'burda', 'mnist': 'dynamic', 'fashion_mnist': 'stochastic'}

CONVENTION = (
  "'ELBO' is the true one: full Gaussian density, exact expectation. 'Paper's conv.' evaluates the "
  'decoder at the posterior mean and drops the Gaussian constant, -||x - f(mu)||^2 / (2 sigma^2) - '
  'KL: inferred from the published numbers, not stated in the paper, and no bound on log p(x).'
)
COMPARISON = (
  "The paper's convention is what is compared here. A tolerance is what the unknown data draw, "
  'seeds and stopping can move. Table 2: means over bases without a dead unit; Figure 7: medians.'
)

METHODS = {'vae': 'VAE', 'ia_vae': 'IA-VAE'}
_NAMES = {'elbo': 'ELBO', 'kl': 'KL', 'd_map': 'd_MAP', 'r_map': 'r_MAP'}

EQUAL_WITHIN = 0.05  # nats; the seeds of one setting differ by .02 to .08

# Published numbers are decimal, so both ends of a tolerance belong to it whatever binary makes of
# them.
_ROUNDING = 1e-9


class Comparison(NamedTuple):
  """One of our numbers beside the published one; all in the same unit."""

  name: str
  value: float
  published: float
  tolerance: float


def verdict(value: float, published: float, tolerance: float) -> Literal['inside', 'outside']:
  """Whether |value - published| <= tolerance, in the unit of the three; a NaN is outside."""
  return 'inside' if abs(value - published) <= tolerance + _ROUNDING else 'outside'


def table_4_obstacles(dataset: str, protocol: str, preset: str) -> list[str]:
  """Why values of this data set do not compare with Table 4, in words; empty if they do."""
  if dataset not in TABLE4:
    return [f'the paper has no values for {dataset}']
  reasons = []
  if preset != 'full':
    reasons.append(f'{preset} preset')
  if protocol != TABLE4_PROTOCOLS[dataset]:
    reasons.append(f"protocol {protocol}, the paper's is {TABLE4_PROTOCOLS[dataset]}")
  return reasons


def column_means(rows: Iterable[Iterable[float]]) -> list[float]:
  """Mean of every column of a published table, in its unit."""
  return [fmean(column) for column in zip(*rows, strict=True)]


def unflagged(results: Results) -> list[Mapping[str, Any]]:
  """The rows of Table 2 whose base VAE has no dead unit; all rows if none is free of them."""
  rows = results['table2']
  return [row for row in rows if not row['vae']['dead_units']] or list(rows)


def figure_7_points(results: Results, method: str) -> list[Mapping[str, float]]:
  """The points of one method in Figure 7 by number of parameters; empty if skipped.

  The VAE has a list of them, one a width; IA-VAE has one.
  """
  points = (results.get('figure7') or {}).get(method) or []
  points = [points] if isinstance(points, Mapping) else points
  return sorted(points, key=lambda point: point['num_parameters'])


def comparisons(results: Results) -> list[Comparison]:
  """Every published number beside ours: ELBOs in the paper's convention, nats.

  Table 2 by means, ours over bases without a dead unit, as the paper shows none; Figure 7 by
  medians, for the same reason.
  """
  return [*_compare_table_2(results), *_compare_table_3(results), *_compare_figure_7(results)]


def agreement_finding(results: Results) -> str:
  """One sentence: how many published numbers are matched within tolerance, and which are not."""
  compared = comparisons(results)
  outside = [c.name for c in compared if verdict(*c[1:]) == 'outside']
  if not outside:
    return f'All {len(compared)} published numbers compared are matched within tolerance.'
  inside = f'{len(compared) - len(outside)} of {len(compared)} published numbers'
  return f'{inside} are matched within tolerance; outside: {"; ".join(outside)}.'


def width_finding(results: Results) -> str | None:
  """One sentence: how wide a plain encoder equals IA-VAE in true ELBO; None if that was skipped."""
  vae, ia_vae = (figure_7_points(results, method) for method in METHODS)
  if not vae or not ia_vae:
    return None
  goal = ia_vae[0]['elbo_median'] - EQUAL_WITHIN
  sizes = [int(point['num_parameters']) for point in vae]
  enough = [size for size, point in zip(sizes, vae, strict=True) if point['elbo_median'] >= goal]
  needs = f'needs {enough[0]}' if enough else f'does not get there with up to {sizes[-1]}'
  size = int(ia_vae[0]['num_parameters'])
  return f'To equal the IA-VAE of {size} parameters, a wider VAE {needs} (paper: about 116).'


def _compare_table_2(results: Results) -> Iterator[Comparison]:
  vae, ia_vae = column_means(TABLE2_VAE), column_means(TABLE2_IA_VAE)
  for method, our_key, key, published in (
    ('vae', 'elbo_paper', 'elbo', vae[0]),
    ('vae', 'kl', 'kl', vae[1]),
    ('ia_vae', 'elbo_paper_mean', 'elbo', ia_vae[0]),
    ('ia_vae', 'kl_mean', 'kl', ia_vae[2]),
  ):
    ours = fmean(row[method][our_key] for row in unflagged(results))
    name = f'Table 2, {METHODS[method]}, {_NAMES[key]}'
    yield Comparison(name, ours, published, TOLERANCES['table2'][method][key])


def _compare_table_3(results: Results) -> Iterator[Comparison]:
  for method, published in TABLE3.items():
    for key, theirs in published.items():
      ours = results['table3'][method]['elbo_paper' if key == 'elbo' else key]
      name = f'Table 3, {METHODS[method]}, {_NAMES[key]}'
      yield Comparison(name, ours, theirs, TOLERANCES['table3'][method][key])


def _compare_figure_7(results: Results) -> Iterator[Comparison]:
  for method, published in FIGURE7.items():
    for point in figure_7_points(results, method):
      size = int(point['num_parameters'])
      if size in published:
        name = f'Figure 7, {METHODS[method]} of {size} parameters, ELBO'
        tolerance = TOLERANCES['figure7'][method]
        yield Comparison(name, point['elbo_paper_median'], published[size], tolerance)
