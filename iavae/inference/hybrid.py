"""Hybrid inference: any method, then T steps of Adam on its posterior at test time.

q_0 = infer(x), q_{t+1} = q_t + Adam(grad ELBO(q_t, theta, x)) on the variational parameters of x;
the networks of a flow, which all examples share, stay. Training is that of the method; the steps
are for `infer` only (as in Hjelm et al., arXiv:1511.06382, and Cremer et al., arXiv:1801.03558,
section 5.2).
"""

import functools

import jax
import optax

from iavae import inference
from iavae.bounds import elbo
from iavae.posteriors import gaussian
from iavae.refine import Refinement, local_only, refine
from iavae.rng import REFINE
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
  'of': 'amortized',  # the method, with its defaults unless `make` is told otherwise
  'num_steps': 10,  # T
  'learning_rate': 0.03,  # of Adam at the first step; falls to 0 along a cosine
  'num_samples': 2,  # draws of z a step
}
STEPS = 'ascent'


def make(
  model: GenerativeModel,
  encoder: Network,
  *,
  of: str = 'amortized',
  num_steps: int = 10,
  learning_rate: float = 0.03,
  num_samples: int = 2,
  family: PosteriorFamily = gaussian.MEAN_FIELD,
  **hyperparameters: object,
) -> InferenceMethod:
  """params are those of the method `of`.

  Args:
    hyperparameters: of the method.

  Raises:
    ValueError: for an unknown method, or bad hyperparameters.
  """
  if of == 'hybrid':
    raise ValueError("a hybrid of 'hybrid' is a hybrid with more steps; take another method")
  if num_steps < 0 or num_samples < 1 or not learning_rate > 0:
    raise ValueError('num_steps is 0 or more, num_samples 1 or more, learning_rate above 0')
  method = inference.find(of).make(model, encoder, family=family, **hyperparameters)
  schedule = optax.cosine_decay_schedule(learning_rate, max(num_steps, 1))
  bound = functools.partial(elbo, num_samples=num_samples)
  refinement = Refinement(num_steps, local_only(optax.adam(schedule)), bound)

  def infer(params: Params, x: Array, rng: Array) -> Posterior:
    posterior = method.infer(params, x, rng)  # with its key, so that zero steps return the same
    rng_steps = jax.random.fold_in(rng, REFINE)
    return refine(refinement, model, params['model'], posterior, x, rng_steps)

  return method._replace(infer=infer)
