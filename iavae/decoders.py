"""Decoders without autoregression: p(x | z) with pixels independent given z."""

import math

import jax
import jax.numpy as jnp

from iavae.models.vae import bernoulli_mean
from iavae.networks import mlp
from iavae.types import Array, Decoder, Params


def mlp_decoder(
  latent_dim: int,
  image_shape: tuple[int, ...],
  hidden: tuple[int, ...],
  activation: str = 'relu',
  initialization: str = 'torch',
) -> Decoder:
  """A multilayer perceptron from z: [latent_dim] to the logits of an image."""
  network = mlp(hidden, {'logits': math.prod(image_shape)}, activation, initialization)

  def init(rng: Array) -> Params:
    return network.init(rng, jnp.zeros(latent_dim))

  def logits(params: Params, x: Array, z: Array) -> Array:
    return network.apply(params, z)['logits'].reshape(image_shape)

  def sample(params: Params, z: Array, rng: Array) -> Array:
    return jax.random.bernoulli(rng, bernoulli_mean(logits(params, None, z))).astype(z.dtype)

  return Decoder(init=init, logits=logits, sample=sample)
