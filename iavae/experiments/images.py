"""The image protocol: a base VAE, then IA-VAE from its best checkpoint, for a number of seeds.

Both stages keep the parameters of the best validation ELBO (arXiv:2604.06796, sections 4.2, 5.2).
With config.experiment = 'controls' or 'methods' every row that config.controls or config.methods
names is trained from the same base checkpoint, for as many epochs, on the same batches.

Differs from the paper: the ELBO has a closed-form KL and 10 draws of z, not one.
"""

import json
import pathlib

import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from iavae import data, posteriors, provenance
from iavae.experiments import image_evaluation, image_models, image_rows, image_variants
from iavae.experiments.image_checks import CHECKS, check, load_data
from iavae.experiments.image_models import Images
from iavae.experiments.image_rows import BASE, Row
from iavae.rng import purpose_rng
from iavae.types import Params
from iavae.workdir import write_arrays, write_text

__all__ = ['CHECKS', 'GROWS', 'check', 'run']

GROWS = ('num_seeds',)  # each seed has stages of its own


def _evaluate_seed(
  config: ConfigDict,
  rows: dict[str, Row],
  params: dict[str, Params],
  images: data.Dataset,
  seed: int,
) -> tuple[list[dict], dict[str, np.ndarray]]:
  """The rows of one seed, and the test ELBO of every method and example, [N]."""
  found, elbos = [], {}
  for split in ('validation', 'test'):
    for name, row in rows.items():
      # The same noise for all methods of a seed: differences between them are paired
      rng = purpose_rng(seed, 'evaluate', split)
      metrics = row.evaluate(params[name], getattr(images, split), rng)
      labels = image_rows.labels(config, images, name, seed) | {'split': split}
      found.append(image_evaluation.make_row(metrics, config.evaluation.iwae_samples, labels))
      elbos[name] = metrics['elbo']  # of the test set in the end
  return found, elbos


def _gaps_of_seed(
  config: ConfigDict,
  rows: dict[str, Row],
  params: dict[str, Params],
  images: data.Dataset,
  seed: int,
) -> list[dict]:
  """The amortization gap of every method on the first test images.

  But for a flow whose networks all images share: the best one for an image would need them trained
  anew.
  """
  x, found = images.test[: config.evaluation.gap_examples], []
  of_base = None
  for name, row in rows.items() if len(x) else ():
    if image_variants.shares_networks(row.variant, x.shape[1:]):
      continue
    shared = of_base if name not in posteriors.names() and 'model' in row.variant.frozen else None
    gap = row.measure_gap(params[name], x, purpose_rng(seed, 'gap'), shared)
    if name == BASE:
      of_base = gap['elbo_optimal']
    means = {key: float(np.mean(values, dtype=np.float64)) for key, values in gap.items()}
    found.append(image_rows.labels(config, images, name, seed) | {'num_examples': len(x)} | means)
  return found


def _pictures(
  config: ConfigDict, images: Images, rows: dict[str, Row], params: dict[str, Params],
  originals: np.ndarray,
) -> dict[str, np.ndarray]:  # fmt: skip
  """Reconstructions and samples of base and adapted method of the first seed."""
  rng, arrays = purpose_rng(config.seed, 'pictures'), {'originals': originals}
  for name in (BASE, config.method):
    drawn = image_evaluation.draw_pictures(
      images.model, rows[name].variant.method, params[name], originals, rng
    )
    arrays |= {f'{key}_{name}': array for key, array in drawn.items()}
  return arrays


def _costs(rows: dict[str, Row], shape: tuple[int, ...], seconds: dict[str, list[float]]) -> dict:
  """What each method needs: parameters, and seconds of training, means over the seeds."""
  counts = {name: image_variants.count_parameters(row.variant, shape) for name, row in rows.items()}
  means = {name: float(np.mean(values)) for name, values in seconds.items()}
  total = {'total': float(sum(map(sum, seconds.values())))}
  return {'num_parameters': counts, 'seconds': means | total}


def run(config: ConfigDict, workdir: pathlib.Path, console: Console) -> dict:
  """All seeds, then results.json and per_example.npz in `workdir`; returns the results.

  Raises:
    IavaeError: see `fit.fit` and `load_data`.
  """
  first = load_data(config, config.seed)
  images = image_models.make_images(config, first.train.shape[1:])
  rows = image_rows.make_rows(config, images, num_train=len(first.train), resample=first.resample)
  table, gaps, diagnosed, curves, elbos, seconds = [], [], [], {}, {}, {}
  for seed in range(config.seed, config.seed + config.num_seeds):
    of_seed = first if seed == config.seed else load_data(config, seed)
    fitted = image_rows.train_seed(rows, of_seed, seed, workdir, console)
    params = {name: trained.params for name, trained in fitted.items()}
    found, of_methods = _evaluate_seed(config, rows, params, of_seed, seed)
    table += found
    gaps += _gaps_of_seed(config, rows, params, of_seed, seed)
    diagnosed += image_rows.diagnose(config, rows, params, of_seed, seed)
    for name, trained in fitted.items():
      curves.setdefault(name, []).append(trained.validation_elbo.tolist())
      seconds.setdefault(name, []).append(trained.seconds)
      elbos.setdefault(name, []).append(of_methods[name])
    if seed == config.seed:
      originals = first.test[: image_evaluation.NUM_RECONSTRUCTIONS]
      pictures = _pictures(config, images, rows, params, originals)
  results = {
    'rows': table,
    'comparisons': image_evaluation.compare(table, config.method),
    'gaps': gaps,
    'diagnostics': diagnosed,
    'curves': curves,
    **_costs(rows, images.shape, seconds),
    'data': {f'num_{s}': len(getattr(first, s)) for s in ('train', 'validation', 'test')}
    | {'digests': first.digests},
    'provenance': provenance.describe(config),
  }
  per_example = {f'elbo_{name}': np.stack(values) for name, values in elbos.items()} | pictures
  write_arrays(workdir / 'per_example.npz', per_example)
  write_text(workdir / 'results.json', json.dumps(results, indent=2, allow_nan=False) + '\n')
  return results
