"""Convolution: how does one image meet a kernel, at full speed inside a compiled loop too?

XLA on CPU rewrites a convolution for its fast kernels only outside of loops. The gradients that
`lax.conv_general_dilated` gives have other axis orders, so in a scanned epoch they run 15 to 100
times slower. `convolve` is a primitive of its own: bilinear, and closed under transposition, so its
gradients of every order are again convolutions in the one axis order that needs no rewriting.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from iavae.types import Array

Padding = tuple[tuple[int, int], tuple[int, int]]
_ORDER = ('NHWC', 'HWIO', 'NHWC')


def convolve(
  u: Array, kernel: Array, stride: int = 1, padding: Padding = ((0, 0), (0, 0))
) -> Array:
  """Cross-correlation of one image with a kernel, zero-padded.

  out[i, j, o] = sum_{a, b, c} u[stride i + a - top, stride j + b - left, c] kernel[a, b, c, o]

  Args:
    u: [H, W, C_in]; is cast to the type of the kernel.
    kernel: [h, w, C_in, C_out].
    padding: ((top, bottom), (left, right)); negative crops.

  Returns:
    [H', W', C_out].
  """
  u = u.astype(kernel.dtype)
  if kernel.shape[:2] == (1, 1) and stride == 1 and padding == same(1):
    return u @ kernel[0, 0]  # whose gradient with respect to the kernel is faster by far
  window = {'strides': (stride, stride), 'padding': padding}
  if jax.default_backend() != 'cpu':
    convolution = jax.lax.conv_general_dilated(
      u[None], kernel, window['strides'], padding, dimension_numbers=_ORDER
    )
  else:
    convolution = _bind(u[None], kernel, **window)
  return convolution[0]


def same(size: int) -> Padding:
  """The padding of a square kernel that keeps the size of an image at stride 1 (odd sizes)."""
  return (((size - 1) // 2,) * 2,) * 2


_primitive = Primitive('convolve')


def _bind(
  u: Array,
  kernel: Array,
  *,
  strides: tuple[int, int],
  padding: Sequence[tuple[int, int]],
  dilation: tuple[int, int] = (1, 1),
  kernel_dilation: tuple[int, int] = (1, 1),
) -> Array:
  padding = tuple((int(low), int(high)) for low, high in padding)
  return _primitive.bind(
    u,
    kernel,
    strides=strides,
    padding=padding,
    dilation=dilation,
    kernel_dilation=kernel_dilation,
  )


def _lax(u: Array, kernel: Array, *, strides, padding, dilation, kernel_dilation) -> Array:
  return jax.lax.conv_general_dilated(
    u, kernel, strides, padding, dilation, kernel_dilation, dimension_numbers=_ORDER
  )


def _dilated(sizes: Sequence[int], dilation: Sequence[int]) -> list[int]:
  return [1 + (size - 1) * d for size, d in zip(sizes, dilation, strict=True)]


def _transpose_u(cotangent, u, kernel, *, strides, padding, dilation, kernel_dilation) -> Array:
  """The cotangent of u: the cotangent of the output, convolved with the reversed kernel."""
  size = _dilated(u.aval.shape[1:3], dilation)
  window = _dilated(kernel.shape[:2], kernel_dilation)
  out = _dilated(cotangent.shape[1:3], strides)
  low = [w - p[0] - 1 for w, p in zip(window, padding, strict=True)]
  high = [s + w - 1 - o - l for s, w, o, l in zip(size, window, out, low, strict=True)]
  return _bind(
    cotangent,
    jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3),
    strides=dilation,
    padding=zip(low, high, strict=True),
    dilation=strides,
    kernel_dilation=kernel_dilation,
  )


def _transpose_kernel(
  cotangent, u, kernel, *, strides, padding, dilation, kernel_dilation
) -> Array:
  """The cotangent of the kernel: u with channels as batch, convolved with the output's."""
  size = _dilated(u.shape[1:3], dilation)
  window = _dilated(kernel.aval.shape[:2], kernel_dilation)
  out = _dilated(cotangent.shape[1:3], strides)
  high = [o + w - 1 - s - p[0] for o, w, s, p in zip(out, window, size, padding, strict=True)]
  gradient = _bind(
    jnp.swapaxes(u, 0, 3),
    jnp.moveaxis(cotangent, 0, 2),
    strides=kernel_dilation,
    padding=[(p[0], h) for p, h in zip(padding, high, strict=True)],
    dilation=dilation,
    kernel_dilation=strides,
  )
  return jnp.moveaxis(gradient, 0, 2)


def _batch(operands, axes, **window) -> tuple[Array, int]:
  """vmap: over images it is a larger batch; over kernels one convolution for each."""
  (u, kernel), (u_axis, kernel_axis) = operands, axes
  if kernel_axis is None:
    u = jnp.moveaxis(u, u_axis, 0)
    flat = _bind(u.reshape(-1, *u.shape[2:]), kernel, **window)
    return flat.reshape(*u.shape[:2], *flat.shape[1:]), 0
  return jax.vmap(functools.partial(_lax, **window), axes)(u, kernel), 0


_primitive.def_impl(functools.partial(jax.jit, static_argnames=(
  'strides', 'padding', 'dilation', 'kernel_dilation'))(_lax))  # fmt: skip
_primitive.def_abstract_eval(
  lambda u, kernel, **window: u.update(
    shape=jax.eval_shape(functools.partial(_lax, **window), u, kernel).shape
  )
)
mlir.register_lowering(_primitive, mlir.lower_fun(_lax, multiple_results=False))
ad.defbilinear(_primitive, _transpose_u, _transpose_kernel)
batching.primitive_batchers[_primitive] = _batch
