"""Aggressive training: the encoder of a plain VAE catches up before the decoder moves on.

At first, n train steps of the encoder alone are followed by one of the decoder alone, so that
q(z | x) does not lag behind p(z | x); after that both train as usual, and inference is that of a
plain VAE    (He et al., arXiv:1901.05534, algorithm 1).

Differs from the paper: n and the number of steps are fixed. There the encoder trains until its loss
stops falling, for at most 100 steps, and the phase ends when the mutual information of x and z
stops rising; both need numbers that a compiled epoch does not return.
"""

import jax.numpy as jnp

from iavae.inference import amortized
from iavae.posteriors import gaussian
from iavae.types import Array, GenerativeModel, InferenceMethod, Network, PosteriorFamily

DEFAULTS: dict[str, object] = {
  'num_encoder_steps': 10,  # n
  'num_aggressive_steps': 5000,  # train steps in all, of encoder or decoder
}


def make(
  model: GenerativeModel,
  encoder: Network,
  *,
  num_encoder_steps: int = 10,
  num_aggressive_steps: int = 5000,
  family: PosteriorFamily = gaussian.MEAN_FIELD,
) -> InferenceMethod:
  """A plain VAE with a rule for which half a step trains.

  Raises:
    ValueError: for negative numbers of steps.
  """
  if num_encoder_steps < 0 or num_aggressive_steps < 0:
    raise ValueError('num_encoder_steps and num_aggressive_steps are 0 or more')

  def trains(step: Array) -> dict[str, Array]:
    usual = step >= num_aggressive_steps
    turn_of_decoder = step % (num_encoder_steps + 1) == num_encoder_steps
    return {
      'model': usual | turn_of_decoder,
      'inference': usual | ~turn_of_decoder | jnp.asarray(num_encoder_steps == 0),
    }

  return amortized.make(model, encoder, family=family)._replace(trains=trains)
