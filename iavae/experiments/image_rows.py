"""Rows of an image experiment: how is each method compiled, trained and diagnosed for a seed?"""

import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
from rich.console import Console

from iavae import data, fit, parallel
from iavae.amortization_gap import make_amortization_gap
from iavae.diagnostics import make_measure
from iavae.evaluate import make_evaluate
from iavae.experiments import image_models, image_variants
from iavae.experiments.image_models import Images
from iavae.experiments.image_variants import Variant
from iavae.inference import amortized
from iavae.rng import purpose_rng
from iavae.types import Params

BASE = 'base'
NUM_SIMULATIONS = {False: 500, True: 200}  # for the calibration; is the decoder autoregressive?


class Row(NamedTuple):
  """What is compiled once for a method and used for every seed."""

  variant: Variant
  program: fit.Program
  evaluate: Any
  measure_gap: Any
  measure: Any


def others(config: ConfigDict) -> tuple[str, ...]:
  """What stands beside config.method in the table."""
  of_experiment = {
    'controls': config.controls,
    'methods': config.methods,
    'cost': config.cost.methods,
  }
  names = of_experiment.get(config.experiment, ())
  return tuple(name for name in names if name != config.method)


def _hyperparameters(
  config: ConfigDict, name: str, *, is_plain: bool, num_train: int
) -> fit.Hyperparameters:
  options = config.pretrain if name == BASE else config.adapt
  of_plain = options.get('plain_learning_rate', 0.0) if is_plain else 0.0
  rate = of_plain or options.learning_rate
  num_steps = options.num_epochs * (num_train // config.training.batch_size)
  decoder_rate = options.get('decoder_learning_rate', options.learning_rate)
  return fit.Hyperparameters(
    num_epochs=options.num_epochs,
    batch_size=config.training.batch_size,
    learning_rates={'inference': rate, 'model': decoder_rate},
    weight_decay=options.get('weight_decay', 0.0),
    warmup_epochs=options.get('warmup_epochs', 0),
    precision=config.training.precision,
    micro_batch=micro_batch(config),
    decay_steps=num_steps if options.schedule == 'cosine' else 0,
  )


def micro_batch(config: ConfigDict) -> int:
  """How many images of a batch are worked on at once."""
  size = parallel.micro_batch(config.training.batch_size, image_models.is_convolutional(config))
  return config.training.micro_batch or size


def make_rows(
  config: ConfigDict, images: Images, *, num_train: int, resample: bool
) -> dict[str, Row]:
  """Base, config.method and the others, in the order of the table.

  Args:
    num_train: images to train on.
    resample: see `epochs.make_epoch`.
  """
  base = amortized.make(images.model, images.encoder, family=images.family)
  variants = {BASE: Variant(base, (), lambda params, rng: params)}
  for name in (config.method, *others(config)):
    variants[name] = image_variants.make_variant(config, images, name)
  at_once, samples_at_once = parallel.evaluation_chunk(image_models.is_convolutional(config))
  rows = {}
  for name, variant in variants.items():
    is_plain = not image_variants.has_hypernetwork(variant, images.shape)
    hyperparameters = _hyperparameters(config, name, is_plain=is_plain, num_train=num_train)
    program = fit.make_program(images.model, variant.method, hyperparameters, resample=resample)
    evaluate = make_evaluate(
      images.model,
      variant.method,
      num_samples=config.evaluation.num_samples,
      iwae_samples=config.evaluation.iwae_samples,
      at_once=at_once,
      samples_at_once=samples_at_once,
    )
    measure_gap = make_amortization_gap(images.model, variant.method, at_once=at_once)
    measure = make_measure(
      images.model,
      variant.method,
      at_once=at_once,
      num_simulations=NUM_SIMULATIONS[images.model.decode is None],
    )
    rows[name] = Row(variant, program, evaluate, measure_gap, measure)
  return rows


def train_seed(
  rows: dict[str, Row],
  images: data.Dataset,
  seed: int,
  workdir: pathlib.Path,
  console: Console,
  trains: bool = True,
) -> dict[str, fit.Fitted]:
  """The base VAE of a seed, then every other method from its best checkpoint; see `fit.fit`."""
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
      trains=trains,
    )
    if name == BASE:
      base = fitted[BASE].params
  return fitted


def labels(config: ConfigDict, images: data.Dataset, method: str, seed: int) -> dict[str, Any]:
  """What is said of every number of a method and seed."""
  return {
    'dataset': images.name,
    'protocol': images.protocol,
    'preset': image_models.preset_label(config),
    'method': method,
    'seed': seed,
  }


def diagnose(
  config: ConfigDict,
  rows: dict[str, Row],
  params: dict[str, Params],
  images: data.Dataset,
  seed: int,
) -> list[dict[str, Any]]:
  """`diagnostics.make_measure` of every row on the first test images; [] if there are too few."""
  x, rng = images.test[: config.evaluation.diagnostic_examples], purpose_rng(seed, 'diagnostics')
  if len(x) < 2:
    return []
  return [
    labels(config, images, name, seed) | {'split': 'test'} | row.measure(params[name], x, rng)
    for name, row in rows.items()
  ]
