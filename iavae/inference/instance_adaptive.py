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

from iavae import hypernetwork
from iavae.bounds import bound_loss
from iavae.modulation import make_blocks, modulate
from iavae.posteriors.gaussian import diagonal_gaussian
from iavae.types import Array, GenerativeModel, InferenceMethod, Network, Params, Posterior

DEFAULTS: dict[str, object] = {
  'embedding_dim': 2,  # E, entries of a block embedding e_l
  'init_scale': 1e-2,  # standard deviation of the hypernetwork's initial weights
  'layout': 'tensor',  # 'tensor' (six blocks in the paper's encoder) or 'layer' (three)
  'conditioned': True,  # False: h reads zeros instead of x, the static control
  'factored': True,  # False: the definition, with weights of its own for every example
}
FROZEN = ('inference/encoder',)


def make(
  model: GenerativeModel,
  encoder: Network,
  *,
  embedding_dim: int = 2,
  init_scale: float = 1e-2,
  layout: str = 'tensor',
  conditioned: bool = True,
  factored: bool = True,
  posterior: Callable[..., Posterior] = diagonal_gaussian,
) -> InferenceMethod:
  """An IA-VAE; params['inference'] = {'encoder': phi_AVI, 'hypernetwork': psi and embeddings}.

  Args:
    encoder: of x: [D] to the heads that `posterior` reads.
    posterior: heads -> q(z | x).
    Others: see DEFAULTS. `factored` changes the cost, not the result.
  """

  def init(rng: Array, x: Array) -> Params:
    rng_model, rng_encoder, rng_hypernetwork = jax.random.split(rng, 3)
    base = encoder.init(rng_encoder, x)
    psi = hypernetwork.init(
      rng_hypernetwork, make_blocks(base, layout), x.size, embedding_dim, init_scale
    )
    return {'model': model.init(rng_model), 'inference': {'encoder': base, 'hypernetwork': psi}}

  def infer(params: Params, x: Array, rng: Array) -> Posterior:
    base, psi = params['inference']['encoder'], params['inference']['hypernetwork']
    blocks = make_blocks(base, layout)
    condition = x.ravel() if conditioned else jnp.zeros_like(x.ravel())
    if factored:
      layers = hypernetwork.affine_layers(psi, blocks, base, x.size)
      return posterior(encoder.apply_affine(layers, x, condition))
    modulation = hypernetwork.modulation(psi, blocks, condition)
    return posterior(encoder.apply(modulate(base, modulation), x))

  return InferenceMethod(init=init, infer=infer, loss=bound_loss(model, infer))
