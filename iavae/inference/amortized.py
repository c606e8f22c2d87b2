"""Amortized inference, the plain VAE: one set of encoder weights for all examples.

q(z | x) = q(z; f(x; phi))        (Kingma & Welling, arXiv:1312.6114; arXiv:2604.06796, eqs. 5-7)
"""

from collections.abc import Callable

import jax

from iavae.bounds import bound_loss
from iavae.posteriors.gaussian import diagonal_gaussian
from iavae.types import (
  Array,
  GenerativeModel,
  InferenceMethod,
  Network,
  Params,
  Posterior,
)

DEFAULTS: dict[str, object] = {}


def make(
  model: GenerativeModel,
  encoder: Network,
  *,
  posterior: Callable[..., Posterior] = diagonal_gaussian,
) -> InferenceMethod:
  """A VAE; params['inference'] = {'encoder': phi}.

  Args:
    encoder: of x: [H, W, C] or [D] to the heads that `posterior` reads. One with batch
      normalization normalizes by the batch in training; without its `apply_train`, by the running
      moments, as `infer` always does.
    posterior: heads -> q(z | x).
  """

  def init(rng: Array, x: Array) -> Params:
    rng_model, rng_encoder = jax.random.split(rng)
    return {'model': model.init(rng_model), 'inference': {'encoder': encoder.init(rng_encoder, x)}}

  def infer(params: Params, x: Array, rng: Array) -> Posterior:
    return posterior(encoder.apply(params['inference']['encoder'], x))

  def infer_train(params: Params, x: Array, rng: Array) -> tuple[Posterior, Array]:
    heads, tracking = encoder.apply_train(params['inference']['encoder'], x)
    return posterior(heads), tracking

  return InferenceMethod(
    init=init,
    infer=infer,
    loss=bound_loss(model, infer),
    infer_train=infer_train if encoder.apply_train else None,
  )
