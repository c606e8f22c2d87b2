"""Semi-amortized inference: an encoder's posterior, then T steps of ascent for every example.

l_0 = f(x; phi), l_{t+1} = l_t + step(grad ELBO(l_t, theta, x)), q = q(z; l_T) with variational
parameters l (Kim et al., arXiv:1802.02550, algorithm 2). What is trained how:

  sa_vae   phi and theta follow the ELBO at l_T through all steps
  svi      phi follows the ELBO at l_0, theta that at a fixed l_T               ("VAE+SVI")
  svi_kl   phi follows -KL(q_0 || q_T) to a fixed q_T, theta as in svi        ("VAE+SVI+KL")

What a family of posteriors shares between examples follows the ELBO at l_T in all three.

Differs from the paper: the gradient through the steps is exact (reverse over reverse, one step at a
time), not a finite difference of r = 1e-5 whose every intermediate is clipped at a norm of 5; and l
is ascended example by example, see `refine.kim_momentum`.
"""

from typing import NamedTuple

import jax
import optax

from iavae.bounds import divergence, posterior_loss
from iavae.inference import amortized
from iavae.posteriors import gaussian
from iavae.refine import Heads, Refinement, heads_bound, make_optimizer, refine
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
  'variant': 'sa_vae',  # or 'svi', 'svi_kl'
  'num_steps': 20,  # T
  'learning_rate': 0.02,  # of the steps
  'optimizer': 'momentum',  # of the steps: 'momentum' (Kim et al.) or 'adam'
}
STEPS = 'ascent'
VARIANTS = ('sa_vae', 'svi', 'svi_kl')
_fixed = jax.lax.stop_gradient


class _Parts(NamedTuple):
  """What semi-amortized inference is made of; see `make`."""

  model: GenerativeModel
  family: PosteriorFamily
  variant: str
  num_steps: int
  inner: optax.GradientTransformation


def _ascend(
  parts: _Parts, params: Params, heads: Heads, x: Array, rng: Array, beta: Array | float
) -> Heads:
  """l_T from l_0."""
  # The path derivative is no gradient that could be differentiated once more
  once = parts.variant != 'sa_vae'
  bound = heads_bound(parts.family, params['inference'], beta, path_derivative=once)
  refinement = Refinement(parts.num_steps, parts.inner, bound)
  return refine(refinement, parts.model, params['model'], heads, x, rng)


def _loss(
  parts: _Parts, params: Params, start: Heads, x: Array, rng: Array, beta: Array | float
) -> tuple[Array, Metrics]:
  model, family, shared = parts.model, parts.family, params['inference']
  rng_steps, rng_start, rng_loss = jax.random.split(rng, 3)
  heads = _ascend(parts, params, start, x, rng_steps, beta)
  if parts.variant == 'sa_vae':
    return posterior_loss(
      model, params['model'], family.posterior(shared, heads), x, rng_loss, beta
    )
  refined = family.posterior(shared, _fixed(heads))
  value, metrics = posterior_loss(model, params['model'], refined, x, rng_loss, beta)
  first = family.posterior(_fixed(shared), start)
  if parts.variant == 'svi':
    of_encoder = posterior_loss(model, _fixed(params['model']), first, x, rng_start, beta)[0]
  else:
    of_encoder = divergence(first, _fixed(refined), rng_start)
  # Its gradient only: the loss is that of the posterior which `infer` returns
  return value + of_encoder - _fixed(of_encoder), metrics


def make(
  model: GenerativeModel,
  encoder: Network,
  *,
  variant: str = 'sa_vae',
  num_steps: int = 20,
  learning_rate: float = 0.02,
  optimizer: str = 'momentum',
  family: PosteriorFamily = gaussian.MEAN_FIELD,
) -> InferenceMethod:
  """SA-VAE and its kin; params['inference'] = {'encoder': phi} and what the family shares.

  Raises:
    ValueError: for bad hyperparameters, and from `loss` for svi_kl with a family whose densities
      cannot be evaluated.
  """
  if variant not in VARIANTS:
    raise ValueError(f'unknown variant {variant!r}; one of {", ".join(VARIANTS)}')
  parts = _Parts(model, family, variant, num_steps, make_optimizer(optimizer, learning_rate))

  def infer(params: Params, x: Array, rng: Array) -> Posterior:
    start = encoder.apply(params['inference']['encoder'], x)
    heads = _ascend(parts, params, start, x, rng, 1.0)
    return family.posterior(params['inference'], heads)

  def loss(
    params: Params, x: Array, rng: Array, beta: Array | float = 1.0
  ) -> tuple[Array, Metrics]:
    start = encoder.apply(params['inference']['encoder'], x)
    return _loss(parts, params, start, x, rng, beta)

  plain = amortized.make(model, encoder._replace(apply_train=None), family=family)
  return InferenceMethod(init=plain.init, infer=infer, loss=loss)
