"""Aggressive training: the encoder of a plain VAE catches up before the decoder moves on.

At first, n train steps of the encoder alone are followed by one of the decoder alone, so that
q(z | x) does not lag behind p(z | x); after that both train as usual, and inference is that of a
plain VAE    (He et al., arXiv:1901.05534, algorithm 1).

Differs from the paper: n and the share of the steps are fixed. There the encoder trains until its
loss stops falling, for at most 100 steps, and the phase ends when the mutual information of x and z
stops rising; both need numbers that a compiled epoch does not return. It is about the beginning of
training: from a trained base VAE, as the image experiments start, there is less for it to do.
"""

import jax.numpy as jnp

from iavae.inference import amortized
from iavae.posteriors import gaussian
from iavae.types import Array, GenerativeModel, InferenceMethod, Network, PosteriorFamily

DEFAULTS: dict[str, object] = {
  'num_encoder_steps': 10,  # n
  'aggressive_share': 0.2,  # of the train steps, those of encoder or decoder
}


def make(
  model: GenerativeModel,
  encoder: Network,
  *,
  num_encoder_steps: int = 10,
  aggressive_share: float = 0.2,
  family: PosteriorFamily = gaussian.MEAN_FIELD,
) -> InferenceMethod:
  """A plain VAE with a rule for which half a step trains.

  Raises:
    ValueError: for a number of steps or a share out of range.
  """
  if not 0 <= num_encoder_steps < 10**9 or not 0 <= aggressive_share <= 1:
    raise ValueError('num_encoder_steps is 0 or more, aggressive_share from 0 to 1')

  def trains(step: Array, num_steps: int) -> dict[str, Array]:
    usual = step >= aggressive_share * num_steps
    turn_of_decoder = step % (num_encoder_steps + 1) == num_encoder_steps
    return {
      'model': usual | turn_of_decoder,
      'inference': usual | ~turn_of_decoder | jnp.asarray(num_encoder_steps == 0),
    }

  return amortized.make(model, encoder, family=family)._replace(trains=trains)
