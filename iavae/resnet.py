"""The residual encoder of the image experiments: which heads does an image get?

Three times a residual block and a strided 2x2 convolution (28 -> 14 -> 7 -> 3), then two linear
heads; 272,448 parameters at width 64 and 32 latents (the encoder of Kim et al., arXiv:1802.02550,
which arXiv:2604.06796 takes over).
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from iavae import layers
from iavae.types import Array, Linear, Network, Params

_Normalize = Callable[[str, Array], Array]


def _block(linear: Linear, normalize: _Normalize, b: int, u: Array) -> Array:
  residual = linear(f'block{b}_projection', u) if b == 0 else u
  hidden = jax.nn.relu(normalize(f'block{b}_norm1', linear(f'block{b}_conv1', u)))
  return jax.nn.relu(residual + normalize(f'block{b}_norm2', linear(f'block{b}_conv2', hidden)))


def _forward(
  linear: Linear, normalize: _Normalize, num_blocks: int, heads: Mapping[str, int], x: Array
) -> dict[str, Array]:
  u = x
  for b in range(num_blocks):
    u = linear(f'down{b}', _block(linear, normalize, b, u))
  return {name: linear(name, u.ravel()) for name in heads}


def _init(rng: Array, x: Array, heads: Mapping[str, int], width: int, num_blocks: int) -> Params:
  shapes = {}
  for b in range(num_blocks):
    channels = x.shape[-1] if b == 0 else width
    shapes[f'block{b}_conv1'] = (3, 3, channels, width)
    shapes[f'block{b}_conv2'] = (3, 3, width, width)
    shapes[f'down{b}'] = (2, 2, width, width)
  shapes['block0_projection'] = (1, 1, x.shape[-1], width)
  features = width * (x.shape[0] >> num_blocks) * (x.shape[1] >> num_blocks)
  rng_convolutions, *rngs = jax.random.split(rng, 1 + len(heads))
  params = layers.torch_uniform(rng_convolutions, shapes)
  for rng_head, (name, size) in zip(rngs, heads.items(), strict=True):
    params[name] = layers.he_normal(rng_head, (features, size))
  norms = [f'block{b}_norm{i}' for b in range(num_blocks) for i in (1, 2)]
  return params | {name: layers.batch_norm_init(width) for name in norms}


def resnet(heads: Mapping[str, int], width: int = 64, num_blocks: int = 3) -> Network:
  """A residual network with batch normalization and named linear heads.

  Each residual block is ReLU(BN(conv 3x3)), BN(conv 3x3), added to its input (through a 1x1
  convolution in the first block, where the number of channels changes), ReLU; no activation follows
  the strided convolution. Convolutions start as PyTorch's, heads with N(0, 2 / fan_in).

  Args:
    heads: name -> size, e.g. {'mean': Z, 'log_var': Z}.

  Returns:
    A Network of x: [H, W, C] to {name: [size]}; its features are the means over the image of the
    first block's output, [width].
  """

  def init(rng: Array, x: Array) -> Params:
    return _init(rng, x, heads, width, num_blocks)

  def frozen(params: Params) -> _Normalize:
    return lambda name, u: layers.frozen_batch_norm(params[name], u)

  def apply_layers(linear: Linear, params: Params, x: Array) -> dict[str, Array]:
    return _forward(linear, frozen(params), num_blocks, heads, x)

  def features(params: Params, x: Array) -> Array:
    return jnp.mean(_block(layers.shared(params), frozen(params), 0, x), axis=(0, 1))

  def apply_train(params: Params, x: Array) -> tuple[dict[str, Array], Array]:
    tracking = []

    def normalize(name: str, u: Array) -> Array:
      u, term = layers.batch_norm(params[name], u)
      tracking.append(term)
      return u

    output = _forward(layers.shared(params), normalize, num_blocks, heads, x)
    return output, sum(tracking, jnp.zeros(()))

  return Network(
    init=init,
    apply=lambda params, x: apply_layers(layers.shared(params), params, x),
    apply_layers=apply_layers,
    apply_train=apply_train,
    features=features,
  )
