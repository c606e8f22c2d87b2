"""A single linear hypernetwork for all blocks, the paper's synthetic one.

h(x, e_l) = W [x; e_l] + b in R^d_max, of which block l uses the first d_l components
(arXiv:2604.06796, section 4.1; e_l ~ N(0, 1), and its N(0, 10^-2) as a standard deviation, are how
we read it). Every modulated parameter is affine in x, so a modulated dense
layer with input u is a plain one, shared by all examples, of the products [u; 1] x [x; 1].
"""

import functools

import jax
import jax.numpy as jnp

from iavae.by_name import check_sizes
from iavae.modulation import LAYOUTS, Blocks, join, make_blocks
from iavae.types import Array, Hypernetwork, Linear, Params

DEFAULTS: dict[str, object] = {
  'embedding_dim': 2,  # E, entries of a block embedding e_l
  'init_scale': 1e-2,  # standard deviation of the initial weights
  'layout': 'tensor',  # 'tensor' (six blocks in the paper's encoder) or 'layer' (three)
}


def make(embedding_dim: int = 2, init_scale: float = 1e-2, layout: str = 'tensor') -> Hypernetwork:
  """See DEFAULTS; psi = {'weight': [d_max, D + E], 'bias': [d_max], 'embeddings': [L, E]}.

  Raises:
    ValueError: for bad hyperparameters, or in `init` an encoder with other layers than dense ones.
  """
  check_sizes(embedding_dim=embedding_dim)
  if not init_scale >= 0 or layout not in LAYOUTS:
    raise ValueError(f'init_scale is 0 or more, layout one of {", ".join(LAYOUTS)}')
  blocks_of = functools.partial(make_blocks, layout=layout)
  return Hypernetwork(
    init=lambda rng, base, data_dim: init(
      rng, blocks_of(base), data_dim, embedding_dim, init_scale
    ),
    modulation=lambda psi, base, x: modulation(psi, blocks_of(base), x),
    layers=lambda psi, base, x: layers(psi, blocks_of(base), base, x),
  )


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


def layers(params: Params, blocks: Blocks, base: Params, x: Array) -> Linear:
  """The fast path: modulated dense layers as one matrix product with [u; 1] x [x; 1]."""
  affine = affine_layers(params, blocks, base, x.size)
  condition = jnp.append(x, 1.0)

  def linear(name: str, u: Array) -> Array:
    weight = affine[name].reshape(len(affine[name]), -1)
    return weight @ jnp.outer(jnp.append(u, 1.0), condition).ravel()

  return linear


def affine_layers(params: Params, blocks: Blocks, base: Params, data_dim: int) -> Params:
  """The modulated encoder's parameters as affine functions of x, layer by layer.

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
  affine = {}
  for name, tensors in base.items():
    i, l = join(blocks.position[name]), join(blocks.index[name])
    shift = params['bias'][i] + jnp.sum(weight_e[i] * params['embeddings'][l], axis=-1)
    affine[name] = jnp.concatenate([weight_x[i], (join(tensors) + shift)[..., None]], axis=-1)
  return affine
