"""IA-VAE: a hypernetwork adds to the encoder's weights a modulation of its own for every example.

phi_l(x; psi) = phi_AVI,l + h(x, e_l; psi), q(z | x) = q(z; f(x; phi(x; psi)))
(Pollastro et al., arXiv:2604.06796, eqs. 8-10, 17 and Algorithm 1). Still one forward pass. The
base encoder phi_AVI comes from a trained VAE and is frozen: which leaves a stage trains is its
mask's affair (`FROZEN`), so that unfreezing it is a change of the mask, not of the method.

A hypernetwork that reads the ELBO's gradient may do so several times; then psi follows the mean of
the ELBOs after each time, theta the last, as in iterative inference.

Differs from the paper: nothing in the result. By default the modulated layers are computed without
forming the weights of each example (`factored`, equal to the definition to float error).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from iavae import hypernetworks
from iavae.bounds import bound_loss
from iavae.inference.amortized import init_inference
from iavae.modulation import modulate
from iavae.posteriors import gaussian
from iavae.refine import Heads, bound_gradient, describe, heads_bound, loss_of_last
from iavae.types import (
  BATCH,
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
  'hypernetwork': 'linear',  # a module of iavae.hypernetworks; its own hyperparameters follow
  'condition': 'x',  # what h reads: 'x', 'zeros' (the static control), or 'other' (see `make`)
  'estimator': 'standard',  # of the training loss, or 'antithetic', see `bounds.antithetic_loss`
  'factored': True,  # False: the definition, with weights of its own for every example
}
FROZEN = ('inference/encoder',)


def _zeros(x: Array) -> Array:
  return jnp.zeros_like(x)


def _other(x: Array) -> Array:
  """The example before in the batch; needs a `vmap` whose axis is called BATCH."""
  size = jax.lax.axis_size(BATCH)
  return jax.lax.ppermute(x, BATCH, [(i, (i + 1) % size) for i in range(size)])


CONDITIONS: dict[str, Callable[[Array], Array]] = {
  'x': lambda x: x,
  'zeros': _zeros,
  'other': _other,
}


def make(
  model: GenerativeModel,
  encoder: Network,
  *,
  hypernetwork: str = 'linear',
  condition: str = 'x',
  estimator: str = 'standard',
  factored: bool = True,
  family: PosteriorFamily = gaussian.MEAN_FIELD,
  **hyperparameters: object,
) -> InferenceMethod:
  """An IA-VAE; params['inference'] = {'encoder': phi_AVI, 'hypernetwork': psi and embeddings}.

  Args:
    encoder: of x: [H, W, C] or [D] to the heads of the family.
    condition: 'x'; 'zeros': h reads nothing, so all examples share one modulation; 'other': it
      reads another of the examples that are worked on at once, as informative a priori and useless
      for this one; alone it has only itself to read.
    factored: changes the cost, not the result.
    hyperparameters: of the hypernetwork, see its module.

  Raises:
    ValueError: for an unknown hypernetwork or hyperparameter, or one that reads features of an
      encoder without any.
  """
  h = hypernetworks.make(hypernetwork, **hyperparameters)
  if h.reads != 'x' and encoder.features is None:
    raise ValueError(f'the hypernetwork {hypernetwork!r} reads features, this encoder has none')
  steps = [f'step{i}' for i in range(h.num_steps)]

  def read(params: Params, heads: Heads, x: Array, rng: Array) -> tuple[Array, Array | float]:
    """What h is told, [data_dim], and a term with the ELBO's gradient for those heads, if read."""
    if h.reads == 'x':
      return x.ravel(), 0.0
    features = encoder.features(params['inference']['encoder'], x)
    if h.reads == 'features':
      return features, 0.0
    # As in iterative inference the gradient is an input, not a path: nothing flows back through it
    bound = heads_bound(family, params['inference'])
    gradient = bound_gradient(bound, model, params['model'], heads, x, rng)
    term = sum(jnp.vdot(gradient[name], heads[name]) for name in heads)
    return jnp.append(features, describe(heads, gradient)), term

  def init(rng: Array, x: Array) -> Params:
    rng_model, rng_encoder, rng_hypernetwork = jax.random.split(rng, 3)
    inference = init_inference(encoder, family, rng_encoder, x)
    params = {'model': model.init(rng_model), 'inference': inference}
    base = inference['encoder']
    heads = jax.eval_shape(encoder.apply, base, x)
    size = jax.eval_shape(lambda heads: read(params, heads, x, rng)[0], heads).size
    if len(steps) == 1:
      inference['hypernetwork'] = h.init(rng_hypernetwork, base, size)
    else:
      rngs = jax.random.split(rng_hypernetwork, len(steps))
      psis = [h.init(rng, base, size) for rng in rngs]
      inference['hypernetwork'] = dict(zip(steps, psis, strict=True))
    return params

  def modulated(psi: Params, base: Params, x: Array, told: Array) -> Heads:
    """The heads of the modulated encoder."""
    if factored:
      return encoder.apply_layers(h.layers(psi, base, told), base, x)
    return encoder.apply(modulate(base, h.modulation(psi, base, told)), x)

  def run(params: Params, x: Array, rng: Array) -> tuple[Heads, Array | float]:
    """The last heads, and the sum of the terms of those before them that depend on psi."""
    base, psi = params['inference']['encoder'], params['inference']['hypernetwork']
    heads, total = encoder.apply(base, x) if h.reads == 'gradient' else {}, 0.0
    for i, step in enumerate(steps):
      rng_step = jax.random.fold_in(rng, i) if h.reads == 'gradient' else rng
      told, term = read(params, heads, x, rng_step)
      total += term if i else 0.0
      heads = modulated(psi if len(steps) == 1 else psi[step], base, x, CONDITIONS[condition](told))
    return heads, total

  def infer(params: Params, x: Array, rng: Array) -> Posterior:
    return family.posterior(params['inference'], run(params, x, rng)[0])

  def loss_of_steps(
    params: Params, x: Array, rng: Array, beta: Array | float = 1.0
  ) -> tuple[Array, Metrics]:
    rng_steps, rng_loss = jax.random.split(rng)
    heads, total = run(params, x, rng_steps)
    return loss_of_last(model, family, params, (heads, total, len(steps)), x, rng_loss, beta)

  if len(steps) > 1 and estimator != 'standard':
    raise ValueError('several steps are trained with the standard estimator')
  loss = loss_of_steps if len(steps) > 1 else bound_loss(model, infer, estimator)
  return InferenceMethod(init=init, infer=infer, loss=loss)
