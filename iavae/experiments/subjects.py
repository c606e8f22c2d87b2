"""Whose gaps are measured: which models and encoders does a work directory hold?"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from iavae import data, epochs
from iavae.errors import ConfigError
from iavae.rng import purpose_rng
from iavae.types import Array, GenerativeModel, InferenceMethod, Params


class Subject(NamedTuple):
  """A trained model, its inference, and examples.

  Attributes:
    x: [N, H, W, C] or [N, D].
    log_evidence: x -> log p(x) where it is known, else None.
  """

  name: str
  model: GenerativeModel
  method: InferenceMethod
  params: Params
  x: np.ndarray
  log_evidence: Callable[[Array], Array] | None = None


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
  return first > 127
