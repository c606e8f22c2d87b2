"""Semi-amortized inference: an encoder's posterior, then T steps of ascent for every example.

l_0 = f(x; phi), l_{t+1} = l_t + step(grad ELBO(l_t, theta, x)), q = q(z; l_T) with variational
parameters l (Kim et al., arXiv:1802.02550, algorithm 2). What is trained how:

  sa_vae   phi and theta follow the ELBO at l_T through all steps
  svi      phi follows the ELBO at l_0, theta that at a fixed l_T               ("VAE+SVI")
  svi_kl   phi follows -KL(q_0 || q_T) to a fixed q_T, theta as in svi        ("VAE+SVI+KL")

Differs from the paper: the gradient through the steps is exact (reverse over reverse, one step at a
time), not a finite difference of r = 1e-5 whose every intermediate is clipped at a norm of 5; and l
is ascended example by example, see `refine.kim_momentum`.
"""

import jax

from iavae.bounds import divergence, posterior_loss
from iavae.inference.amortized import init_inference
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
VARIANTS = ('sa_vae', 'svi', 'svi_kl')


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
  inner = make_optimizer(optimizer, learning_rate)

  def init(rng: Array, x: Array) -> Params:
    rng_model, rng_encoder = jax.random.split(rng)
    inference = init_inference(encoder, family, rng_encoder, x)
    return {'model': model.init(rng_model), 'inference': inference}

  def ascend(params: Params, heads: Heads, x: Array, rng: Array, beta: Array | float) -> Heads:
    refinement = Refinement(num_steps, inner, heads_bound(family, params['inference'], beta))
    return refine(refinement, model, params['model'], heads, x, rng)

  def infer(params: Params, x: Array, rng: Array) -> Posterior:
    heads = encoder.apply(params['inference']['encoder'], x)
    return family.posterior(params['inference'], ascend(params, heads, x, rng, 1.0))

  def loss(
    params: Params, x: Array, rng: Array, beta: Array | float = 1.0
  ) -> tuple[Array, Metrics]:
    rng_steps, rng_start, rng_loss = jax.random.split(rng, 3)
    start = encoder.apply(params['inference']['encoder'], x)
    if variant == 'sa_vae':
      posterior = family.posterior(params['inference'], ascend(params, start, x, rng_steps, beta))
      return posterior_loss(model, params['model'], posterior, x, rng_loss, beta)
    heads = jax.lax.stop_gradient(ascend(params, start, x, rng_steps, beta))
    refined = family.posterior(params['inference'], heads)
    value, metrics = posterior_loss(model, params['model'], refined, x, rng_loss, beta)
    first = family.posterior(params['inference'], start)
    if variant == 'svi':
      fixed = jax.lax.stop_gradient(params['model'])
      of_encoder = posterior_loss(model, fixed, first, x, rng_start, beta)[0]
    else:
      of_encoder = divergence(first, jax.lax.stop_gradient(refined), rng_start)
    # Its gradient only: the loss is that of the posterior which `infer` returns
    return value + of_encoder - jax.lax.stop_gradient(of_encoder), metrics

  return InferenceMethod(init=init, infer=infer, loss=loss)
