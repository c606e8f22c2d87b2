"""LoRA: is it enough to move a layer within a few directions, each by as much as x asks for?

  Delta W_l = U_l diag(s_l(g)) V_l,   s_l = A_l g + a_l in R^rank,   g = silu(T f + t)

from the base encoder's own features f of x (Hu et al., arXiv:2106.09685, eq. 3, where s = 1 for
all x). U_l reads the inputs of the layer, V_l writes its outputs; of a convolution U_l is one to
`rank` channels and V_l a 1x1 convolution. Biases stay as they are.

V_l starts at 0 and a_l at 1, so that an s that does not depend on x is LoRA. The modulated layer
is two thin products beside that of the base,

  (W + Delta W) u = W u + V^T (s * U^T u).
"""

import functools

import jax
import jax.numpy as jnp

from iavae import layers, trunks
from iavae.by_name import check_sizes
from iavae.types import Array, Hypernetwork, Params

DEFAULTS: dict[str, object] = trunks.DEFAULTS | {'rank': 8}


def _init(rng: Array, kernel: Array, trunk_dim: int, rank: int) -> Params:
  rng_scale, rng_inward = jax.random.split(rng)
  *window, num_in, num_out = kernel.shape
  inward = (*window, num_in, rank)
  fan_in = kernel.size // num_out
  return {
    'scale': trunks.normal_layer(rng_scale, trunk_dim, rank) | {'bias': jnp.ones(rank)},
    'inward': fan_in**-0.5 * jax.random.normal(rng_inward, inward),
    'outward': jnp.zeros((rank, num_out)),
  }


def _shift(p: Params, layer: Params, g: Array) -> Params:
  return {'kernel': p['inward'] * layers.linear(p['scale'], g) @ p['outward']}


def _apply(p: Params, layer: Params, g: Array, u: Array) -> Array:
  thin = layers.linear({'kernel': p['inward'], 'bias': jnp.zeros(p['inward'].shape[-1])}, u)
  return layers.linear(layer, u) + thin * layers.linear(p['scale'], g) @ p['outward']


def make(trunk_dim: int = 32, early_layers: bool = False, rank: int = 8) -> Hypernetwork:
  """See DEFAULTS; psi_l = {'scale': [trunk_dim] to [rank], 'inward': U, 'outward': V}.

  U is [..., D_in, rank], as the kernel it adds to, V is [rank, D_out].
  """
  check_sizes(rank=rank)
  form = trunks.make_form(functools.partial(_init, rank=rank), _shift, _apply)
  return trunks.make(form, trunk_dim, early_layers)
