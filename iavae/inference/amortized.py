"""Amortized inference, the plain VAE: one set of encoder weights for all examples.

q(z | x) = q(z; f(x; phi))        (Kingma & Welling, arXiv:1312.6114; arXiv:2604.06796, eqs. 5-7)
"""

import jax

from iavae.bounds import bound_loss
from iavae.posteriors import gaussian
from iavae.rng import FAMILY
from iavae.types import (
  Array,
  GenerativeModel,
  InferenceMethod,
  Network,
  Params,
  Posterior,
  PosteriorFamily,
)

DEFAULTS: dict[str, object] = {
  'estimator': 'standard',  # of the training loss, or another of `bounds.ESTIMATORS`
}


def init_inference(encoder: Network, family: PosteriorFamily, rng: Array, x: Array) -> Params:
  """{'encoder': phi} and what the family shares, as every method with an encoder has them.

  Args:
    x: an example, [H, W, C] or [D], for its shape.
  """
  phi = encoder.init(rng, x)
  heads = jax.eval_shape(encoder.apply, phi, x)
  return {'encoder': phi} | family.init(jax.random.fold_in(rng, FAMILY), heads)


def make(
  model: GenerativeModel,
  encoder: Network,
  *,
  estimator: str = 'standard',
  family: PosteriorFamily = gaussian.MEAN_FIELD,
) -> InferenceMethod:
  """A VAE; params['inference'] = {'encoder': phi} and what the family shares.

  Args:
    encoder: of x: [H, W, C] or [D] to the heads of the family. One with batch normalization
      normalizes by the batch in training; without its `apply_train`, by the running moments, as
      `infer` always does.

  Raises:
    ValueError: for an unknown estimator, or one that batch normalization does not go with.
  """

  if encoder.apply_train and estimator != 'standard':
    raise ValueError('an encoder with batch normalization trains with the standard estimator')

  def init(rng: Array, x: Array) -> Params:
    rng_model, rng_encoder = jax.random.split(rng)
    inference = init_inference(encoder, family, rng_encoder, x)
    return {'model': model.init(rng_model), 'inference': inference}

  def infer(params: Params, x: Array, rng: Array) -> Posterior:
    heads = encoder.apply(params['inference']['encoder'], x)
    return family.posterior(params['inference'], heads)

  def infer_train(params: Params, x: Array, rng: Array) -> tuple[dict[str, Array], Array]:
    return encoder.apply_train(params['inference']['encoder'], x)

  return InferenceMethod(
    init=init,
    infer=infer,
    loss=bound_loss(model, infer, estimator),
    infer_train=infer_train if encoder.apply_train else None,
    posterior=lambda params, heads: family.posterior(params['inference'], heads),
  )
