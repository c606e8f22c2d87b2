"""A deep latent-variable model of binary images: how likely is an image under a decoder?

z ~ N(0, I_Z), x ~ Bernoulli(sigmoid(logits(x, z))) pixel by pixel; the logits of an autoregressive
decoder depend on the pixels before as well.
"""

import math

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from iavae.types import Array, Decoder, GenerativeModel, Params

_LEAST = 1e-5  # as Kim et al.: probabilities stay in [1e-5, 1 - 1e-5]
_LARGEST_LOGIT = math.log((1 - _LEAST) / _LEAST)


def bernoulli_mean(logits: Array) -> Array:
  """P(x_i = 1) = sigmoid(l_i) of logits l clipped as in the likelihood, of any shape."""
  return jax.nn.sigmoid(jnp.clip(logits, -_LARGEST_LOGIT, _LARGEST_LOGIT))


def bernoulli_log_likelihood(logits: Array, x: Array) -> Array:
  """log p(x) = sum_i x_i l_i - log(1 + exp l_i) with logits l clipped to +-11.5, [] in nats.

  Args:
    logits, x: any one shape; x in {0, 1}.
  """
  logits = jnp.clip(logits, -_LARGEST_LOGIT, _LARGEST_LOGIT).astype(
    jnp.promote_types(x.dtype, 'float32')
  )
  return jnp.sum(x * logits - jax.nn.softplus(logits))


def make(decoder: Decoder, latent_dim: int) -> GenerativeModel:
  """The model of a decoder; params are the decoder's."""

  def decode(params: Params, z: Array) -> Array:
    return bernoulli_mean(decoder.logits(params, None, z))

  return GenerativeModel(
    init=decoder.init,
    sample_prior=lambda params, rng: jax.random.normal(rng, (latent_dim,)),
    log_prior=lambda params, z: jnp.sum(norm.logpdf(z)),
    log_likelihood=lambda params, x, z: bernoulli_log_likelihood(decoder.logits(params, x, z), x),
    decode=None if decoder.autoregressive else decode,
    sample=decoder.sample,
    standard_normal_prior=True,
  )
