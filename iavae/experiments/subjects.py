"""Whose gaps are measured: which models and encoders does a work directory hold?"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from iavae import config as config_lib
from iavae import data, epochs, train
from iavae.errors import ConfigError
from iavae.experiments import (
  cost,
  cremer_models,
  image_checks,
  image_models,
  image_rows,
  synthetic_methods,
  synthetic_rows,
)
from iavae.experiments import synthetic as synthetic_protocol
from iavae.experiments.image_rows import BASE
from iavae.models import synthetic
from iavae.rng import purpose_rng
from iavae.types import Array, GenerativeModel, InferenceMethod, Params


class Subject(NamedTuple):
  """A trained model, its inference, and examples.

  Attributes:
    x: [N, H, W, C] or [N, D].
    split: which x is of; '': the data are not split.
    log_evidence: x -> log p(x) where it is known, else None.
    convolutional: whether the decoder is.
  """

  name: str
  model: GenerativeModel
  method: InferenceMethod
  params: Params
  x: np.ndarray
  split: str = ''
  log_evidence: Callable[[Array], Array] | None = None
  convolutional: bool = False


class Source(NamedTuple):
  """A finished run: its config, its work directory, and where progress is shown."""

  config: ConfigDict
  workdir: pathlib.Path
  console: Console


def load(source: Source, options: ConfigDict) -> tuple[list[Subject], dict[str, Any]]:
  """The subjects that options.methods names, and what their data are, for results.json.

  Nothing is trained.

  Raises:
    ConfigError: for a run or a stage that is not finished, a lost checkpoint, an experiment without
      subjects, an unknown name, or fewer examples than are asked for.
  """
  experiment = str(source.config.get('experiment'))
  if experiment not in _LOADERS:
    raise ConfigError(f'there is no gap report of --config.experiment={experiment!r}')
  if not (source.workdir / 'results.json').exists():
    raise ConfigError(
      f'{source.workdir} holds no finished run; run the same command without --mode=gaps first'
    )
  return _LOADERS[experiment](source, options)


def check_examples(options: ConfigDict, images: data.Dataset, flag: str) -> None:
  """Raises ConfigError if there are fewer images than `options` ask for; `flag` names these."""
  there = len(getattr(images, options.split))
  if options.num_examples > there:
    raise ConfigError(
      f'{flag}.num_examples={options.num_examples} is more than the {there} images of '
      f'{flag}.split={options.split}'
    )


def examples(options: ConfigDict, images: data.Dataset, seed: int) -> np.ndarray:
  """The images that are measured, the first of their split: [N, H, W, C], 0 or 1."""
  first = getattr(images, options.split)[: options.num_examples]
  if options.split != 'train':
    return first
  if images.resample:
    return np.asarray(epochs.binarize(jnp.asarray(first), purpose_rng(seed, 'measure')))
  return (first > 127).astype(np.uint8)


def _chosen(asked: tuple[str, ...], known: list[str], default: list[str]) -> list[str]:
  for name in asked:
    if name not in known:
      raise ConfigError(
        f'--gaps.methods: {name!r} is not in this run; there are {", ".join(known)}.'
        + config_lib.suggestion(name, known)
      )
  return list(asked) or default


def _described(images: data.Dataset) -> dict[str, Any]:
  return {'name': images.name, 'protocol': images.protocol, 'digests': images.digests}


def _of_images(source: Source, options: ConfigDict) -> tuple[list[Subject], dict[str, Any]]:
  config = source.config
  if config.experiment == 'cost':
    config = cost.frozen_decoder(config)
  images = image_checks.load_data(config, config.seed)
  check_examples(options, images, '--gaps')
  made = image_models.make_images(config, images.train.shape[1:])
  rows = image_rows.make_rows(config, made, num_train=len(images.train), resample=images.resample)
  default = [*([BASE] if config.pretrain.num_epochs else []), config.method]
  names = _chosen(options.methods, list(rows), default)
  rows = {name: row for name, row in rows.items() if name in (BASE, *names)}
  fitted = image_rows.train_seed(
    rows, images, config.seed, source.workdir, source.console, trains=False
  )
  x = examples(options, images, config.seed)
  convolutional = image_models.is_convolutional(config)
  methods = {name: rows[name].variant.method for name in names}
  found = [
    Subject(
      name, made.model, method, fitted[name].params, x, options.split, convolutional=convolutional
    )
    for name, method in methods.items()
  ]
  return found, _described(images)


def _of_cremer(source: Source, options: ConfigDict) -> tuple[list[Subject], dict[str, Any]]:
  config = source.config
  images = image_checks.load_images(config, config.seed)
  check_examples(options, images, '--gaps')
  names = _chosen(options.methods, list(config.models), list(config.models))
  config = ConfigDict(config.to_dict() | {'models': names})
  trained = cremer_models.train(config, images, source.workdir, source.console, trains=False)
  x = examples(options, images, config.seed)
  found = [Subject(m.name, m.model, m.method, m.params, x, options.split) for m in trained.values()]
  return found, _described(images)


def _of_synthetic(source: Source, options: ConfigDict) -> tuple[list[Subject], dict[str, Any]]:
  """The first model of each stage; all of its data are one set, which it was trained on."""
  config = source.config
  num, noise_scale = config.data.num_examples, config.data.noise_scale
  _, x = synthetic_protocol.make_data(config.seed, num, noise_scale)
  if options.num_examples > num:
    raise ConfigError(f'--gaps.num_examples={options.num_examples} is more than all {num}')
  model = synthetic.make(noise_scale)
  base = synthetic_protocol.pretrain_stage(config, x)

  def trained(stage: train.Stage) -> train.Trained:
    return synthetic_rows.train_stage(config, stage, x, *source[1:], trains=False)

  bases = trained(base).params
  if config.experiment == 'synthetic':
    stages = {config.method: synthetic_protocol.adapt_stage(config, x, bases)}
  else:
    stages = dict(synthetic_methods.stages(config, x, bases))
  stages = {BASE: base} | stages
  names = _chosen(options.methods, list(stages), list(stages))
  found = []
  for name in names:
    params = bases if name == BASE else trained(stages[name]).params
    first = jax.tree.map(lambda leaf: leaf[0], params)
    evidence = lambda x: synthetic.log_evidence(x, noise_scale)  # noqa: E731
    few = np.asarray(x[: options.num_examples])
    found.append(Subject(name, model, stages[name].method, first, few, log_evidence=evidence))
  return found, {'name': 'synthetic', 'protocol': f'noise {noise_scale}'}


_LOADERS: Mapping[str, Callable[[Source, ConfigDict], tuple[list[Subject], dict[str, Any]]]] = {
  **dict.fromkeys(('images', 'controls', 'methods', 'cost'), _of_images),
  **dict.fromkeys(('synthetic', 'synthetic_methods'), _of_synthetic),
  'cremer': _of_cremer,
}
