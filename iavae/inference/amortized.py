"""Amortized inference, the plain VAE: one set of encoder weights for all examples.

q(z | x) = q(z; f(x; phi))        (Kingma & Welling, arXiv:1312.6114; arXiv:2604.06796, eqs. 5-7)
"""

from collections.abc import Callable

import jax

from iavae.bounds import bound_loss, posterior_loss
from iavae.posteriors.gaussian import diagonal_gaussian
from iavae.types import (
  Array,
  GenerativeModel,
  InferenceMethod,
  Metrics,
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
    encoder: of x: [H, W, C] or [D] to the heads that `posterior` reads. If it has batch
      normalization, `loss` normalizes by the batch; without its `apply_train`, by the running
      moments, as `infer` always does.
    posterior: heads -> q(z | x).
  """

  def init(rng: Array, x: Array) -> Params:
    rng_model, rng_encoder = jax.random.split(rng)
    return {'model': model.init(rng_model), 'inference': {'encoder': encoder.init(rng_encoder, x)}}

  def infer(params: Params, x: Array, rng: Array) -> Posterior:
    return posterior(encoder.apply(params['inference']['encoder'], x))

  def batch_normalized_loss(
    params: Params, x: Array, rng: Array, beta: Array | float = 1.0
  ) -> tuple[Array, Metrics]:
    heads, tracking = encoder.apply_train(params['inference']['encoder'], x)
    loss, metrics = posterior_loss(model, params['model'], posterior(heads), x, rng, beta)
    return loss + tracking, metrics

  loss = batch_normalized_loss if encoder.apply_train else bound_loss(model, infer)
  return InferenceMethod(init=init, infer=infer, loss=loss)
