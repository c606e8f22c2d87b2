"""What is lost in inference by each model of Cremer et al.'s experiment, image by image?"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from iavae import config as config_lib
from iavae import data, epochs, parallel
from iavae.errors import ConfigError
from iavae.evaluate import make_evaluate
from iavae.experiments.cremer_models import Trained
from iavae.gaps import make_amortization_gap
from iavae.rng import purpose_rng
from iavae.types import Array, InferenceMethod, Params, Posterior

CHECKS: dict[str, config_lib.Check] = {
  'gaps.split': config_lib.one_of('train', 'validation', 'test'),
  'gaps.num_examples': (lambda v: config_lib.is_int(v) and v > 1, 'a whole number above 1'),
  'gaps.iwae_samples': config_lib.NATURAL,
  'gaps.evaluation_samples': config_lib.NATURAL,
  'gaps.num_steps': config_lib.NATURAL,
  'gaps.num_samples': config_lib.NATURAL,
  'gaps.learning_rate': config_lib.POSITIVE,
}


def check(config: ConfigDict, images: data.Dataset) -> None:
  """Raises ConfigError if there are not as many images as config.gaps asks for."""
  split, asked = config.gaps.split, config.gaps.num_examples
  if asked > len(getattr(images, split)):
    raise ConfigError(
      f'--config.gaps.num_examples={asked} is more than the {len(getattr(images, split))} of '
      f'--config.gaps.split={split}'
    )


def examples(config: ConfigDict, images: data.Dataset) -> np.ndarray:
  """The images that are measured, the first of their split: [N, H, W, C], 0 or 1."""
  first = getattr(images, config.gaps.split)[: config.gaps.num_examples]
  if config.gaps.split != 'train':
    return first
  if images.resample:
    return np.asarray(epochs.binarize(jnp.asarray(first), purpose_rng(config.seed, 'measure')))
  return first > 127


def _mean_field(method: InferenceMethod) -> InferenceMethod:
  """The mean-field Gaussian with which the posteriors of a method begin."""

  def infer(params: Params, x: Array, rng: Array) -> Posterior:
    q = method.infer(params, x, rng)
    return getattr(q, 'base', q)

  return method._replace(infer=infer)


def measure(
  config: ConfigDict,
  trained: Mapping[str, Trained],
  images: data.Dataset,
  workdir: pathlib.Path,
  console: Console,
) -> list[dict[str, Any]]:
  """What is known of each model: bounds and the evidence of every image, [N] in nats.

  Returns:
    One dict a model: 'name', 'split', 'num_examples', and [N] each 'log_evidence',
    'elbo_optimal_flow', L[q*] of the best flow (None: not measured), 'elbo_optimal', of the best
    mean-field Gaussian, and 'elbo', of what the encoder infers.
  """
  options, x, found = config.gaps, examples(config, images), []
  at_once, samples_at_once = parallel.evaluation_chunk(convolutional=False)
  for name, one in trained.items():
    console.print(f'measuring {name}', highlight=False)
    evaluate = make_evaluate(
      one.model,
      one.method,
      num_samples=options.evaluation_samples,
      iwae_samples=options.iwae_samples,
      at_once=at_once,
      samples_at_once=samples_at_once,
    )
    gap = make_amortization_gap(
      one.model,
      _mean_field(one.method),
      num_steps=options.num_steps,
      learning_rate=options.learning_rate,
      num_samples=options.num_samples,
      evaluation_samples=options.evaluation_samples,
      at_once=at_once,
    )
    # The same noise for all models: differences between them are paired
    rng = purpose_rng(config.seed, 'measure', config.gaps.split)
    metrics = evaluate(one.params, x, rng)
    found.append(
      {
        'name': name,
        'split': options.split,
        'num_examples': len(x),
        'log_evidence': metrics['iwae'],
        'elbo_optimal_flow': None,
        'elbo_optimal': gap(one.params, x, rng)['elbo_optimal'],
        'elbo': metrics['elbo'],
      }
    )
  return found
