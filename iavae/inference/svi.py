"""Stochastic variational inference from scratch: no encoder, T steps of ascent for every example.

l_0 = 0 (the prior, for Gaussians), l_{t+1} = l_t + step(grad ELBO(l_t, theta, x)) with variational
parameters l; theta follows the ELBO at l_T, held fixed    (Hoffman et al., arXiv:1206.7051; the row
SVI of Kim et al., arXiv:1802.02550, section 4.1).

Differs from the papers: Adam, as 20 plain steps at the rate of Kim et al. are far from enough where
posteriors are narrow; theirs is there as 'momentum', example by example (`refine.kim_momentum`).
"""

import jax

from iavae.bounds import posterior_loss
from iavae.posteriors import gaussian
from iavae.refine import Refinement, heads_bound, make_optimizer, refine, zero_heads
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
  'num_steps': 20,  # T
  'learning_rate': 0.1,  # of the steps
  'optimizer': 'adam',  # of the steps, or 'momentum' (Kim et al., with a rate of .02)
  'decays': False,  # True: the rate of Adam falls to 0 along a cosine in the T steps
}
STEPS = 'ascent'


def make(
  model: GenerativeModel,
  encoder: Network,
  *,
  num_steps: int = 20,
  learning_rate: float = 0.1,
  optimizer: str = 'adam',
  decays: bool = False,
  family: PosteriorFamily = gaussian.MEAN_FIELD,
) -> InferenceMethod:
  """SVI; params['inference'] holds what the family shares, nothing for most.

  Args:
    encoder: only tells the sizes of the variational parameters; it has no part in the result.

  Raises:
    ValueError: for bad hyperparameters.
  """
  inner = make_optimizer(optimizer, learning_rate, num_steps if decays else 0)

  def init(rng: Array, x: Array) -> Params:
    rng_model, rng_family = jax.random.split(rng)
    return {
      'model': model.init(rng_model),
      'inference': family.init(rng_family, zero_heads(encoder, x)),
    }

  def ascend(params: Params, x: Array, rng: Array, beta: Array | float) -> Posterior:
    fixed = jax.lax.stop_gradient(params)
    refinement = Refinement(num_steps, inner, heads_bound(family, fixed['inference'], beta))
    heads = refine(refinement, model, fixed['model'], zero_heads(encoder, x), x, rng)
    return family.posterior(params['inference'], jax.lax.stop_gradient(heads))

  def loss(
    params: Params, x: Array, rng: Array, beta: Array | float = 1.0
  ) -> tuple[Array, Metrics]:
    rng_steps, rng_loss = jax.random.split(rng)
    posterior = ascend(params, x, rng_steps, beta)
    return posterior_loss(model, params['model'], posterior, x, rng_loss, beta)

  return InferenceMethod(
    init=init, infer=lambda params, x, rng: ascend(params, x, rng, 1.0), loss=loss
  )
