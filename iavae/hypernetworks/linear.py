"""The hypernetwork h(x, e_l; psi): which modulation does an example ask for?

The paper's synthetic one is a single linear projection, h(x, e_l) = W [x; e_l] + b in R^d_max, of
which block l uses the first d_l components (arXiv:2604.06796, section 4.1). As it is linear, every
modulated parameter is affine in x, so a modulated dense layer with input u is a plain dense layer,
shared by all examples, of the products [u; 1] x [x; 1]: `affine_layers` returns its weights.
"""

import jax
import jax.numpy as jnp

from iavae.modulation import Blocks, join
from iavae.types import Array, Params


def init(
  rng: Array,
  blocks: Blocks,
  data_dim: int,
  embedding_dim: int = 2,
  init_scale: float = 1e-2,
) -> Params:
  """W ~ N(0, init_scale^2), b = 0, e_l ~ N(0, 1).

  Returns:
    {'weight': [d_max, D + E], 'bias': [d_max], 'embeddings': [L, E]}.
  """
  rng_weight, rng_embeddings = jax.random.split(rng)
  max_size = max(blocks.sizes)
  return {
    'weight': init_scale * jax.random.normal(rng_weight, (max_size, data_dim + embedding_dim)),
    'bias': jnp.zeros(max_size),
    'embeddings': jax.random.normal(rng_embeddings, (len(blocks.sizes), embedding_dim)),
  }


def modulation(params: Params, blocks: Blocks, x: Array) -> Params:
  """The definition: h(x, e_l)_{1:d_l} of every block, as a pytree like the base parameters.

  Args:
    params: of `init`.
    x: [D].
  """

  def h(embedding: Array) -> Array:
    return params['weight'] @ jnp.concatenate([x, embedding]) + params['bias']

  outputs = jax.vmap(h)(params['embeddings'])  # [L, d_max]
  return jax.tree.map(lambda l, i: outputs[l, i], blocks.index, blocks.position)


def affine_layers(params: Params, blocks: Blocks, base: Params, data_dim: int) -> Params:
  """The fast path: the modulated encoder's parameters as affine functions of x, layer by layer.

  Entry [o, j, :] of a layer is the row a of phi(x) = a [x; 1] for the weight from input j to output
  o, the bias being input D_in. Per-example weights are never formed.

  Args:
    params: of `init`.
    base: phi_AVI, {layer: {'kernel': [D_in, D_out], 'bias': [D_out]}}.
    data_dim: D.

  Returns:
    {layer: [D_out, D_in + 1, D + 1]}.
  """
  weight_x, weight_e = jnp.split(params['weight'], [data_dim], axis=1)
  layers = {}
  for name, tensors in base.items():
    i, l = join(blocks.position[name]), join(blocks.index[name])
    shift = params['bias'][i] + jnp.sum(weight_e[i] * params['embeddings'][l], axis=-1)
    layers[name] = jnp.concatenate([weight_x[i], (join(tensors) + shift)[..., None]], axis=-1)
  return layers
