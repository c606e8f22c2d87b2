"""Which parameters of an encoder move together, and how is a modulation added to them?

A *block* is a group of the base encoder's parameters that shares one embedding; a *modulation* is a
pytree like the base parameters, added to them: phi_l(x) = phi_AVI,l + h(x, e_l)_{1:d_l}
(arXiv:2604.06796, eqs. 8, 17).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from iavae.types import Params

LAYOUTS = ('tensor', 'layer')


class Blocks(NamedTuple):
  """Where each parameter of an encoder finds its modulation: entry `position` of block `index`.

  Attributes:
    index: pytree like the parameters of integers, the block l of each parameter.
    position: pytree like the parameters of integers, its place among the d_l of its block.
    sizes: (d_1, ..., d_L).
  """

  index: Params
  position: Params
  sizes: tuple[int, ...]


def check_dense(params: Params) -> None:
  """Raises a ValueError for an encoder with other layers than {'kernel': [D_in, D_out], 'bias'}."""
  for name, layer in params.items():
    if layer.keys() != {'kernel', 'bias'} or layer['kernel'].ndim != 2:
      raise ValueError(f'this modulation is for dense layers with a bias, and {name} is none')


def make_blocks(params: Params, layout: str = 'tensor') -> Blocks:
  """Blocks of an encoder {layer: {'kernel': [D_in, D_out], 'bias': [D_out]}}.

  A kernel comes before its bias and is filled row by row as [D_out, D_in], the paper's order.

  Args:
    params: arrays or ShapeDtypeStructs.
    layout: 'tensor', every kernel and every bias is a block (the paper's synthetic encoder: 6
      blocks, 68 parameters in all); 'layer', a kernel and its bias are one (the variant `layer3`:
      3 blocks).

  Raises:
    ValueError: for an unknown layout, or other layers.
  """
  check_dense(params)
  if layout not in LAYOUTS:
    raise ValueError(f'unknown layout {layout!r}; one of {", ".join(LAYOUTS)}')
  index: dict[str, dict] = {}
  position: dict[str, dict] = {}
  sizes: list[int] = []
  for layer, tensors in sorted(params.items()):  # as jit returns a dict
    index[layer], position[layer] = {}, {}
    for name in ('kernel', 'bias'):
      shape, size = tensors[name].shape, int(np.prod(tensors[name].shape))
      if layout == 'tensor' or name == 'kernel':
        sizes.append(0)
      entries = sizes[-1] + np.arange(size).reshape(shape[::-1]).T
      index[layer][name] = np.full(shape, len(sizes) - 1)
      position[layer][name] = entries
      sizes[-1] += size
  return Blocks(index, position, tuple(sizes))


def modulate(base: Params, modulation: Params) -> Params:
  """phi_AVI + h, leaf by leaf; a zero modulation returns `base` bit for bit."""
  return jax.tree.map(jnp.add, base, modulation)


def join(tensors: dict[str, np.ndarray]) -> np.ndarray:
  """Kernel [D_in, D_out] and bias [D_out] of a dense layer as one matrix [D_out, D_in + 1]."""
  numpy = np if isinstance(tensors['kernel'], np.ndarray) else jnp
  return numpy.concatenate([tensors['kernel'].T, tensors['bias'][:, None]], axis=1)
