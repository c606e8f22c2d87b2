"""Amortized inference regularization: an encoder trained on noisy x, as a denoising VAE is.

theta, phi follow the ELBO of x under q(z | x + noise), noise ~ N(0, s^2 I): inference that must
hold in a neighborhood of x can overfit the training set less    (Shu et al., arXiv:1805.08913,
section 4). At test time x is clean.

With a `row_norm` H the weights of every unit of the encoder are scaled to the norm H, which bounds
how fast its output can change (section 5 there).
"""

import jax
import jax.numpy as jnp

from iavae.bounds import posterior_loss
from iavae.inference import amortized
from iavae.posteriors import gaussian
from iavae.types import (
  Array,
  GenerativeModel,
  InferenceMethod,
  Metrics,
  Network,
  Params,
  Posterior,
  PosteriorFamily,
)

DEFAULTS: dict[str, object] = {
  'noise_scale': 0.2,  # s, in units of x
  'row_norm': 0.0,  # H; 0 leaves the weights as they are
}


def normalize_rows(params: Params, norm: float) -> Params:
  """Kernels with the weights of every unit or channel, all axes but the last, of that norm."""

  def scale(path: jax.tree_util.KeyPath, leaf: Array) -> Array:
    if path[-1].key != 'kernel':
      return leaf
    squares = jnp.sum(leaf**2, axis=tuple(range(leaf.ndim - 1)))
    return norm * leaf * jax.lax.rsqrt(squares + jnp.finfo(leaf.dtype).tiny)

  return jax.tree_util.tree_map_with_path(scale, params)


def make(
  model: GenerativeModel,
  encoder: Network,
  *,
  noise_scale: float = 0.2,
  row_norm: float = 0.0,
  family: PosteriorFamily = gaussian.MEAN_FIELD,
) -> InferenceMethod:
  """A denoising VAE; params['inference'] = {'encoder': phi} and what the family shares.

  Differs from the paper: an encoder with batch normalization uses its running moments.
  """
  if noise_scale < 0 or row_norm < 0:
    raise ValueError('noise_scale and row_norm are 0 or more')

  def infer(params: Params, x: Array, rng: Array) -> Posterior:
    phi = params['inference']['encoder']
    heads = encoder.apply(normalize_rows(phi, row_norm) if row_norm else phi, x)
    return family.posterior(params['inference'], heads)

  def loss(
    params: Params, x: Array, rng: Array, beta: Array | float = 1.0
  ) -> tuple[Array, Metrics]:
    rng_noise, rng_loss = jax.random.split(rng)
    noisy = x + noise_scale * jax.random.normal(rng_noise, x.shape, x.dtype)
    posterior = infer(params, noisy, rng_noise)
    return posterior_loss(model, params['model'], posterior, x, rng_loss, beta)

  return amortized.make(model, encoder, family=family)._replace(
    infer=infer, loss=loss, infer_train=None
  )
