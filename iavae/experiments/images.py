"""The image protocol: a base VAE, then IA-VAE from its best checkpoint, for a number of seeds.

Both stages keep the parameters of the best validation ELBO (arXiv:2604.06796, sections 4.2, 5.2).
With config.experiment = 'controls' every control of config.controls is trained from the same base
checkpoint, for as many epochs, on the same batches.

Differs from the paper: the ELBO has a closed-form KL and 10 draws of z, not one.
"""

import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from iavae import data, fit, parallel, provenance
from iavae.errors import ConfigError
from iavae.evaluate import make_evaluate
from iavae.experiments import image_evaluation, image_models
from iavae.experiments.image_checks import CHECKS
from iavae.experiments.image_models import Images, Variant
from iavae.inference import amortized
from iavae.rng import purpose_rng
from iavae.types import Params
from iavae.workdir import write_arrays, write_text

__all__ = ['CHECKS', 'check', 'run']

BASE = 'base'


class _Row(NamedTuple):
  """What is compiled once for a method and used for every seed."""

  variant: Variant
  program: fit.Program
  evaluate: Any


def _check_controls(config: ConfigDict) -> None:
  controls = config.controls if config.experiment == 'controls' else ()
  if 'shuffled' in controls and _micro_batch(config) == 1:
    raise ConfigError(
      'the control shuffled needs other examples to read, and one is worked on at a time; take '
      'another --config.training.batch_size or micro_batch'
    )
  if 'wider' in controls and (config.model.encoder, config.model.activation) == ('mlp', 'glu'):
    raise ConfigError(
      'the control wider cannot widen --config.model.activation=glu; leave it out of '
      '--config.controls, or take another activation'
    )


def load_data(config: ConfigDict, seed: int) -> data.Dataset:
  """The images of one seed.

  Raises:
    ConfigError: see `data.load`; and if they do not fill a batch, or vanish in the encoder.
  """
  options = config.data.to_dict()
  if options['path']:  # of one's own images, whatever the config was made for
    known = options['protocol'] in data.DATASETS['own']
    options |= {'name': 'own', 'protocol': options['protocol'] if known else ''}
  images = data.load(seed=seed, **options)
  if len(images.train) < config.training.batch_size:
    raise ConfigError(
      f'{len(images.train)} training images do not fill a batch of '
      f'--config.training.batch_size={config.training.batch_size}; take a smaller one'
    )
  if config.training.micro_batch and config.training.batch_size % config.training.micro_batch:
    raise ConfigError(
      f'--config.training.micro_batch={config.training.micro_batch} does not divide '
      f'--config.training.batch_size={config.training.batch_size}'
    )
  height, width, _ = images.train.shape[1:]
  blocks = config.model.encoder_blocks
  if config.model.encoder == 'resnet' and not min(height, width) >> blocks:
    raise ConfigError(
      f'images of {height} x {width} are gone after {blocks} halvings; take a smaller '
      '--config.model.encoder_blocks, or --config.model.encoder=mlp'
    )
  return images


def check(config: ConfigDict) -> None:
  """Raises ConfigError as `load_data` does, and for controls that the config does not allow."""
  _check_controls(config)
  load_data(config, config.seed)


def _hyperparameters(config: ConfigDict, stage: str) -> fit.Hyperparameters:
  options = config[stage]
  decoder_rate = options.get('decoder_learning_rate', options.learning_rate)
  return fit.Hyperparameters(
    num_epochs=options.num_epochs,
    batch_size=config.training.batch_size,
    learning_rates={'inference': options.learning_rate, 'model': decoder_rate},
    weight_decay=options.get('weight_decay', 0.0),
    warmup_epochs=options.get('warmup_epochs', 0),
    precision=config.training.precision,
    micro_batch=_micro_batch(config),
  )


def _is_convolutional(config: ConfigDict) -> bool:
  return 'mlp' not in (config.model.encoder, config.model.decoder)


def _micro_batch(config: ConfigDict) -> int:
  size = parallel.micro_batch(config.training.batch_size, _is_convolutional(config))
  return config.training.micro_batch or size


def _make_rows(config: ConfigDict, images: Images, resample: bool) -> dict[str, _Row]:
  """Base, config.method and the controls, in the order of the table."""
  base = amortized.make(images.model, images.encoder)
  variants = {BASE: Variant(base, (), lambda params, rng: params)}
  controls = config.controls if config.experiment == 'controls' else ()
  for name in (config.method, *controls):
    variants[name] = image_models.make_variant(config, images, name)
  at_once, samples_at_once = parallel.evaluation_chunk(_is_convolutional(config))
  rows = {}
  for name, variant in variants.items():
    stage = 'pretrain' if name == BASE else 'adapt'
    program = fit.make_program(
      images.model, variant.method, _hyperparameters(config, stage), resample=resample
    )
    evaluate = make_evaluate(
      images.model,
      variant.method,
      **config.evaluation,
      at_once=at_once,
      samples_at_once=samples_at_once,
    )
    rows[name] = _Row(variant, program, evaluate)
  return rows


def _train_seed(
  rows: dict[str, _Row],
  images: data.Dataset,
  seed: int,
  workdir: pathlib.Path,
  console: Console,
) -> dict[str, fit.Fitted]:
  """The base VAE of a seed, then every other method from its best checkpoint."""
  shape = images.train.shape[1:]
  rng = purpose_rng(seed, 'init', BASE)
  base = jax.jit(rows[BASE].variant.method.init)(rng, jnp.zeros(shape))
  fitted: dict[str, fit.Fitted] = {}
  for name, row in rows.items():
    start = row.variant.start(base, purpose_rng(seed, 'init', name))
    fitted[name] = fit.fit(
      row.program,
      start,
      row.variant.frozen,
      images,
      name=f'seed{seed}/{name}',
      seed=seed,
      workdir=workdir,
      console=console,
    )
    if name == BASE:
      base = fitted[BASE].params
  return fitted


def _preset(config: ConfigDict) -> str:
  """The label of every number: 'full', 'reduced', ..., and what else is not the paper's."""
  precision = config.training.precision
  return config.preset if precision == 'float32' else f'{config.preset}, {precision}'


def _evaluate_seed(
  config: ConfigDict,
  rows: dict[str, _Row],
  fitted: dict[str, fit.Fitted],
  images: data.Dataset,
  seed: int,
) -> tuple[list[dict], dict[str, np.ndarray]]:
  """The rows of one seed, and the test ELBO of every method and example, [N]."""
  found, elbos = [], {}
  for split in ('validation', 'test'):
    for name, row in rows.items():
      # The same noise for all methods of a seed: differences between them are paired
      rng = purpose_rng(seed, 'evaluate', split)
      metrics = row.evaluate(fitted[name].params, getattr(images, split), rng)
      labels = {
        'dataset': images.name,
        'protocol': images.protocol,
        'preset': _preset(config),
        'method': name,
        'seed': seed,
        'split': split,
      }
      found.append(image_evaluation.make_row(metrics, config.evaluation.iwae_samples, labels))
      elbos[name] = metrics['elbo']  # of the test set in the end
  return found, elbos


def _pictures(
  config: ConfigDict, images: Images, rows: dict[str, _Row], params: dict[str, Params],
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


def run(config: ConfigDict, workdir: pathlib.Path, console: Console) -> dict:
  """All seeds, then results.json and per_example.npz in `workdir`; returns the results.

  Raises:
    IavaeError: see `fit.fit` and `load_data`.
  """
  seeds = range(config.seed, config.seed + config.num_seeds)
  first = load_data(config, config.seed)
  images = image_models.make_images(config, first.train.shape[1:])
  rows = _make_rows(config, images, first.resample)
  table, curves, elbos, seconds = [], {}, {}, {}
  for seed in seeds:
    of_seed = first if seed == config.seed else load_data(config, seed)
    fitted = _train_seed(rows, of_seed, seed, workdir, console)
    found, of_methods = _evaluate_seed(config, rows, fitted, of_seed, seed)
    table += found
    for name, trained in fitted.items():
      curves.setdefault(name, []).append(trained.validation_elbo.tolist())
      seconds.setdefault(name, []).append(trained.seconds)
      elbos.setdefault(name, []).append(of_methods[name])
    if seed == config.seed:
      params = {name: trained.params for name, trained in fitted.items()}
      originals = first.test[: image_evaluation.NUM_RECONSTRUCTIONS]
      pictures = _pictures(config, images, rows, params, originals)
  results = {
    'rows': table,
    'comparisons': image_evaluation.compare(table, config.method),
    'curves': curves,
    'num_parameters': {
      name: image_models.count_parameters(row.variant, images.shape) for name, row in rows.items()
    },
    'seconds': {name: float(np.mean(s)) for name, s in seconds.items()}
    | {'total': float(sum(sum(s) for s in seconds.values()))},
    'data': {
      'num_train': len(first.train),
      'num_validation': len(first.validation),
      'num_test': len(first.test),
      'digests': first.digests,
    },
    'provenance': provenance.describe(config),
  }
  per_example = {f'elbo_{name}': np.stack(values) for name, values in elbos.items()} | pictures
  write_arrays(workdir / 'per_example.npz', per_example)
  write_text(workdir / 'results.json', json.dumps(results, indent=2, allow_nan=False) + '\n')
  return results
