"""The hypernetwork of the image experiments: convolutions by slices, dense layers by columns.

A block is a layer with its embedding e_l, and c = [x; e_l]. One two-layer linear network, shared by
all convolutions, makes a kernel input channel by input channel (Ha et al., arXiv:1609.09106):

  Delta K_i = sum_r W_out[:, :, r, :] a_i,r + B_out,   a_i = W_i c + B_i in R^d,   i = 1..C_in

and one linear map, shared by all dense layers, a matrix column by column:

  Delta W_j = W_dense [c; e_in_j] + b_dense,   j = 1..D_in        (arXiv:2604.06796, section 4.2)

A smaller layer uses the first components. Only kernels are modulated; biases and batch
normalization stay as they are. Where the paper is silent: d = 16, the size of e_l (Ha's d, the
size of the embedding, would be 800 here, 41.5 million weights); W_i starts as N(0, 1 / dim c), B_i
at 0.

The output is linear in c, so the modulated layers never need the weights of an example:

  conv(u, Delta K) = conv([sum_i a_i,r u_i]_r, W_out) + conv(sum_i u_i, B_out),
  Delta W u = (W_x x + W_e e_l + b) sum_j u_j + W_in sum_j e_in_j u_j

a mix of channels for each example and then one shared convolution, and a term of rank one.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from iavae import layers
from iavae.by_name import check_sizes
from iavae.convolution import convolve
from iavae.types import Array, Hypernetwork, Linear, Params

DEFAULTS: dict[str, object] = {
  'embedding_dim': 16,  # entries of a block embedding e_l
  'slice_dim': 16,  # d, entries of a_i
  'column_embedding_dim': 8,  # entries of e_in_j
  'init_scale': 1e-3,  # standard deviation of the initial output layers
  'normalized': False,  # divide the sums over the inputs of a dense layer by D_in and sqrt(D_in)
}
# A convolution of so few channels is cheaper with its weights formed than with d channels
_FEW_CHANNELS = 4


def _blocks(base: Params) -> dict[str, int]:
  """Index l of the embedding of every layer."""
  return {name: l for l, name in enumerate(sorted(n for n in base if 'kernel' in base[n]))}


def _kernels(base: Params, rank: int) -> dict[str, Array]:
  layers_of_rank = {name: base[name]['kernel'] for name in _blocks(base)}
  return {name: kernel for name, kernel in layers_of_rank.items() if kernel.ndim == rank}


def init(rng: Array, base: Params, data_dim: int, options: dict) -> Params:
  """psi for a base network {layer: {'kernel', ...}} and x: [data_dim].

  Returns:
    {'embeddings': [L, E]}, and where there are such layers 'convolution': {'slice_weight':
    [C_in, d, data_dim + E], 'slice_bias': [C_in, d], 'weight': [h, w, d, C_out], 'bias':
    [h, w, 1, C_out]} and 'dense': {'weight': [D_out, data_dim + E + n], 'bias': [D_out],
    'columns': [D_in, n]}, each as large as the largest layer needs.
  """
  rngs = jax.random.split(rng, 5)
  condition_dim, scale = data_dim + options['embedding_dim'], options['init_scale']
  num_blocks = len(_blocks(base))
  psi = {'embeddings': jax.random.normal(rngs[0], (num_blocks, options['embedding_dim']))}
  if convolutions := _kernels(base, 4).values():
    height, width, num_in, num_out = (max(k.shape[i] for k in convolutions) for i in range(4))
    slices = (num_in, options['slice_dim'])
    weight = (height, width, options['slice_dim'], num_out)
    psi['convolution'] = {
      'slice_weight': jax.random.normal(rngs[1], (*slices, condition_dim)) * condition_dim**-0.5,
      'slice_bias': jnp.zeros(slices),
      'weight': scale * jax.random.normal(rngs[2], weight),
      'bias': jnp.zeros((height, width, 1, num_out)),
    }
  if matrices := _kernels(base, 2).values():
    num_in, num_out = (max(k.shape[i] for k in matrices) for i in range(2))
    column_dim = options['column_embedding_dim']
    psi['dense'] = {
      'weight': scale * jax.random.normal(rngs[3], (num_out, condition_dim + column_dim)),
      'bias': jnp.zeros(num_out),
      'columns': jax.random.normal(rngs[4], (num_in, column_dim)),
    }
  return psi


def _gains(num_in: int, normalized: bool) -> tuple[float, float]:
  """What multiplies the part that is the same for all columns, and that of their embeddings."""
  return (1 / num_in, num_in**-0.5) if normalized else (1.0, 1.0)


def shift_layer(psi: Params, layer: Params, code: Array, normalized: bool) -> Params:
  """The definition: {'kernel': Delta K or Delta W} of one layer from what x asks of it.

  Args:
    psi: of `init`; of 'convolution' only 'weight' and 'bias' are read, of 'dense' 'columns' and
      the part of 'weight' that multiplies them, its last n columns.
    code: of a convolution a, [C_in, d], of a dense layer W_x x + W_e e_l + b, [D_out], or larger.
  """
  shape = layer['kernel'].shape
  if len(shape) == 4:
    p = psi['convolution']
    make_slice = lambda a: jnp.einsum('hwro,r->hwo', p['weight'], a) + p['bias'][:, :, 0]  # noqa: E731
    kernel = jax.vmap(make_slice, out_axes=2)(code[: shape[2]])
    return {'kernel': kernel[: shape[0], : shape[1], :, : shape[3]]}
  p, (gain, column_gain) = psi['dense'], _gains(shape[0], normalized)
  weight = p['weight'][:, -p['columns'].shape[1] :]
  make_column = lambda embedding: gain * code + column_gain * (weight @ embedding)  # noqa: E731
  return {'kernel': jax.vmap(make_column)(p['columns'][: shape[0]])[:, : shape[1]]}


def modulation(psi: Params, base: Params, x: Array, normalized: bool) -> Params:
  """The definition: h(x, e_l) of every layer, as a pytree like `base`; x: [D]."""

  def code(rank: int, condition: Array) -> Array:
    if rank == 4:
      p = psi['convolution']
      slices = jax.vmap(lambda weight, bias: weight @ condition + bias)
      return slices(p['slice_weight'], p['slice_bias'])
    p = psi['dense']
    return p['weight'][:, : condition.size] @ condition + p['bias']

  result = jax.tree.map(jnp.zeros_like, base)
  for name, l in _blocks(base).items():
    layer, condition = base[name], jnp.concatenate([x, psi['embeddings'][l]])
    shift = shift_layer(psi, layer, code(layer['kernel'].ndim, condition), normalized)
    result[name] = result[name] | shift
  return result


def _unrolled_convolution(kernel: Array, u: Array) -> Array:
  """A convolution whose kernel differs between examples, as a matrix product over its windows."""
  stride, padding = layers.window(kernel)
  eye = jnp.eye(kernel[..., 0].size, dtype=u.dtype).reshape(*kernel.shape[:3], -1)
  windows = convolve(u, eye, stride, padding)
  return windows @ kernel.reshape(-1, kernel.shape[3])


def _modulated_convolution(p: Params, layer: Params, a: Array, u: Array) -> Array:
  """Convolution of u: [H, W, C_in] with K + Delta K; a: [C_in_max, d] of this example and layer."""
  height, width, num_in, num_out = layer['kernel'].shape
  # B_out as one more slice, for which every a_i is 1
  a = jnp.append(a[:num_in], jnp.ones((num_in, 1), a.dtype), axis=1)
  weight = jnp.concatenate([p['weight'], p['bias']], axis=2)[:height, :width, :, :num_out]
  if num_in <= _FEW_CHANNELS:
    shift = _unrolled_convolution(jnp.einsum('hwro,ir->hwio', weight, a), u)
  else:
    shift = convolve(u @ a, weight, *layers.window(layer['kernel']))
  return layers.linear(layer, u) + shift


def _modulated_dense(p: Params, layer: Params, common: Array, normalized: bool, u: Array) -> Array:
  """(W + Delta W) u + bias; common: [D_out_max], W_x x + W_e e_l + b; u: [D_in]."""
  num_in, num_out = layer['kernel'].shape
  gain, column_gain = _gains(num_in, normalized)
  columns = p['columns'][:num_in]
  embedded = p['weight'][:num_out, -columns.shape[1] :] @ (u @ columns)
  shift = gain * jnp.sum(u) * common[:num_out] + column_gain * embedded
  return layers.linear(layer, u) + shift


def apply_layer(psi: Params, layer: Params, code: Array, normalized: bool, u: Array) -> Array:
  """The fast path: the output of a layer that `shift_layer` with these arguments modulates."""
  if layer['kernel'].ndim == 4:
    return _modulated_convolution(psi['convolution'], layer, code, u)
  return _modulated_dense(psi['dense'], layer, code, normalized, u)


def fast_layers(psi: Params, base: Params, x: Array, normalized: bool) -> Linear:
  """The fast path: the layers of the modulated network, without forming its weights; x: [D]."""
  blocks, embeddings = _blocks(base), psi['embeddings']
  affine: dict[int, Callable[[int], Array]] = {}
  if 'convolution' in psi:  # the part of x is the same for all layers
    weight = psi['convolution']['slice_weight']
    a_x = weight[..., : x.size] @ x + psi['convolution']['slice_bias']
    affine[4] = lambda l: a_x + weight[..., x.size :] @ embeddings[l]
  if 'dense' in psi:
    split = jnp.split(psi['dense']['weight'], [x.size, x.size + embeddings.shape[1]], axis=1)
    common_x = split[0] @ x + psi['dense']['bias']
    affine[2] = lambda l: common_x + split[1] @ embeddings[l]

  def linear(name: str, u: Array) -> Array:
    layer = base[name]
    return apply_layer(psi, layer, affine[layer['kernel'].ndim](blocks[name]), normalized, u)

  return linear


def make(
  embedding_dim: int = 16,
  slice_dim: int = 16,
  column_embedding_dim: int = 8,
  init_scale: float = 1e-3,
  normalized: bool = False,
) -> Hypernetwork:
  """See DEFAULTS; psi as `init` describes it. The base network is {layer: {'kernel', 'bias'}}.

  Raises:
    ValueError: for bad hyperparameters.
  """
  sizes = {
    'embedding_dim': embedding_dim,
    'slice_dim': slice_dim,
    'column_embedding_dim': column_embedding_dim,
  }
  check_sizes(**sizes)
  if not init_scale >= 0:
    raise ValueError('init_scale is 0 or more')
  options = sizes | {'init_scale': init_scale}
  return Hypernetwork(
    init=functools.partial(init, options=options),
    modulation=functools.partial(modulation, normalized=normalized),
    layers=functools.partial(fast_layers, normalized=normalized),
  )
