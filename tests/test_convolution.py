"""Convolution: the primitive against lax, in value and in gradients of every kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iavae.convolution import convolve, same
from rounding import assert_within_ulps

CASES = {
  '3x3': ((7, 6, 3), (3, 3, 3, 4), 1, same(3)),
  'halving': ((7, 6, 3), (2, 2, 3, 4), 2, same(2)),
  'masked': ((8, 7, 2), (3, 5, 2, 5), 1, ((4, -1), (2, 2))),
  '1x1': ((5, 5, 1), (1, 1, 1, 4), 1, same(1)),
  'strided': ((9, 9, 2), (3, 3, 2, 2), 3, ((1, 0), (0, 2))),
}
NUM = 4


def reference(u, kernel, stride, padding):
  order = ('NHWC', 'HWIO', 'NHWC')
  strides = (stride, stride)
  return jax.lax.conv_general_dilated(u[None], kernel, strides, padding, dimension_numbers=order)[0]


@pytest.fixture(params=CASES)
def case(request, x64):
  shape, kernel_shape, stride, padding = CASES[request.param]
  rng = np.random.default_rng(0)
  return rng.normal(size=(NUM, *shape)), rng.normal(size=kernel_shape), stride, padding


def both(function):
  return function(convolve), function(reference)


def assert_equal(found, expected):
  """Sums of up to some hundred terms, in float64: a thousand ulps are 2e-13 of the largest."""
  assert_within_ulps(found, expected, 1000)


def test_value_of_one_image_and_of_a_batch(case):
  u, kernel, stride, padding = case
  assert_equal(*both(lambda c: c(u[0], kernel, stride, padding)))
  assert_equal(*both(lambda c: jax.vmap(lambda u: c(u, kernel, stride, padding))(u)))


def make_loss(c, stride, padding):
  return lambda u, kernel: jnp.sum(jnp.sin(jax.vmap(lambda u: c(u, kernel, stride, padding))(u)))


def test_gradient_of_a_batch(case):
  u, kernel, stride, padding = case
  assert_equal(*both(lambda c: jax.grad(make_loss(c, stride, padding), (0, 1))(u, kernel)))


def test_kernels_of_their_own_for_every_example(case):
  u, kernel, stride, padding = case
  kernels = np.stack([kernel * (i + 1) for i in range(NUM)])

  def gradient(c):
    one = jax.grad(lambda u, k: jnp.sum(jnp.sin(c(u, k, stride, padding))), (0, 1))
    return jax.vmap(one)(u, kernels)

  assert_equal(*both(gradient))


def test_forward_mode_and_second_order(case):
  u, kernel, stride, padding = case

  def mixed(c):
    loss = make_loss(c, stride, padding)
    tangent = jax.jvp(loss, (u, kernel), (u, kernel))[1]
    slope = lambda kernel: jnp.sum(jax.grad(loss)(u, kernel) ** 2)
    return tangent, jax.grad(slope)(kernel)

  assert_equal(*both(mixed))


def test_gradient_in_a_loop_is_compiled_in_the_fast_axis_order():
  """The trap: inside a scan XLA on CPU is slow at convolutions in any order but NHWC, HWIO."""
  u, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 3))

  def program(c):
    loss = make_loss(c, 1, same(3))
    step = lambda kernel, _: (kernel - jax.grad(loss, 1)(u, kernel), None)
    text = jax.jit(lambda k: jax.lax.scan(step, k, None, length=2)).lower(kernel).as_text()
    return [line for line in text.splitlines() if 'stablehlo.convolution' in line]

  found, expected = both(program)
  in_order = '[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]'
  assert found and all(in_order in line for line in found)
  assert not all(in_order in line for line in expected)


def test_halving_drops_the_last_row_of_an_odd_size():
  u = jnp.arange(49.0).reshape(7, 7, 1)
  assert convolve(u, jnp.ones((2, 2, 1, 1)), 2, same(2)).shape == (3, 3, 1)
