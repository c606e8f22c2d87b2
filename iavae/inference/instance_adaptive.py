"""IA-VAE: a hypernetwork adds to the encoder's weights a modulation of its own for every example.

phi_l(x; psi) = phi_AVI,l + h(x, e_l; psi), q(z | x) = q(z; f(x; phi(x; psi)))
(Pollastro et al., arXiv:2604.06796, eqs. 8-10, 17 and Algorithm 1). Still one forward pass. The
base encoder phi_AVI comes from a trained VAE and is frozen: which leaves a stage trains is its
mask's affair (`FROZEN`), so that unfreezing it is a change of the mask, not of the method.

Differs from the paper: nothing in the result. By default the modulated layers are computed without
forming the weights of each example (`factored`, equal to the definition to float error).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from iavae import hypernetworks
from iavae.bounds import bound_loss
from iavae.modulation import modulate
from iavae.posteriors.gaussian import diagonal_gaussian
from iavae.types import BATCH, Array, GenerativeModel, InferenceMethod, Network, Params, Posterior

DEFAULTS: dict[str, object] = {
  'hypernetwork': 'linear',  # a module of iavae.hypernetworks; its own hyperparameters follow
  'condition': 'x',  # what h reads: 'x', 'zeros' (the static control), or 'other' (see `make`)
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
  factored: bool = True,
  posterior: Callable[..., Posterior] = diagonal_gaussian,
  **hyperparameters: object,
) -> InferenceMethod:
  """An IA-VAE; params['inference'] = {'encoder': phi_AVI, 'hypernetwork': psi and embeddings}.

  Args:
    encoder: of x: [H, W, C] or [D] to the heads that `posterior` reads.
    condition: 'x'; 'zeros': h reads nothing, so all examples share one modulation; 'other': it
      reads another of the examples that are worked on at once, as informative a priori and useless
      for this one; alone it has only itself to read.
    factored: changes the cost, not the result.
    posterior: heads -> q(z | x).
    hyperparameters: of the hypernetwork, see its module.
  """
  h = hypernetworks.make(hypernetwork, **hyperparameters)

  def init(rng: Array, x: Array) -> Params:
    rng_model, rng_encoder, rng_hypernetwork = jax.random.split(rng, 3)
    base = encoder.init(rng_encoder, x)
    psi = h.init(rng_hypernetwork, base, x.size)
    return {'model': model.init(rng_model), 'inference': {'encoder': base, 'hypernetwork': psi}}

  def infer(params: Params, x: Array, rng: Array) -> Posterior:
    base, psi = params['inference']['encoder'], params['inference']['hypernetwork']
    read = CONDITIONS[condition](x.ravel())
    if factored:
      return posterior(encoder.apply_layers(h.layers(psi, base, read), base, x))
    return posterior(encoder.apply(modulate(base, h.modulation(psi, base, read)), x))

  return InferenceMethod(init=init, infer=infer, loss=bound_loss(model, infer))
