"""Mixtures of kernels: is it enough to choose between a few changes of a layer?

  Delta W_l = sum_k alpha_l,k(g) E_l,k,   Delta b_l = sum_k alpha_l,k(g) e_l,k,
  alpha_l = softmax(A_l g + a_l),         g = silu(T f + t)

from the base encoder's own features f of x. CondConv (Yang et al., arXiv:1904.04971, eq. 1) mixes
whole kernels with sigmoids; here experts are added to the base, and start at 0. A_l does not: with
equal weights alpha all experts would stay the same.

What mixes kernels mixes outputs, so all examples share one layer with K times as many:

  (W + Delta W) u + b + Delta b = W u + b + sum_k alpha_k (E_k u + e_k).
"""

import functools

import jax
import jax.numpy as jnp

from iavae import layers, trunks
from iavae.by_name import check_sizes
from iavae.types import Array, Hypernetwork, Params

DEFAULTS: dict[str, object] = trunks.DEFAULTS | {'num_experts': 4}


def _init(rng: Array, kernel: Array, trunk_dim: int, num_experts: int) -> Params:
  *inputs, num_out = kernel.shape
  return {
    'mixture': trunks.normal_layer(rng, trunk_dim, num_experts),
    'kernel': jnp.zeros((*inputs, num_experts, num_out)),
    'bias': jnp.zeros((num_experts, num_out)),
  }


def _mix(p: Params, g: Array, experts: Array) -> Array:
  """sum_k alpha_k experts_k: [..., K, D_out] -> [..., D_out]."""
  return jnp.einsum('k,...ko->...o', jax.nn.softmax(layers.linear(p['mixture'], g)), experts)


def _shift(p: Params, layer: Params, g: Array) -> Params:
  return {name: _mix(p, g, p[name]) for name in ('kernel', 'bias')}


def _apply(p: Params, layer: Params, g: Array, u: Array) -> Array:
  together = {'kernel': p['kernel'].reshape(*p['kernel'].shape[:-2], -1), 'bias': p['bias'].ravel()}
  outputs = layers.linear(together, u)
  experts = outputs.reshape(*outputs.shape[:-1], *p['bias'].shape)
  return layers.linear(layer, u) + _mix(p, g, experts)


def make(trunk_dim: int = 32, early_layers: bool = False, num_experts: int = 4) -> Hypernetwork:
  """See DEFAULTS; psi_l = {'mixture': [trunk_dim] to [K], 'kernel': E, 'bias': e}.

  E is [..., D_in, K, D_out], e is [K, D_out].
  """
  check_sizes(num_experts=num_experts)
  form = trunks.make_form(functools.partial(_init, num_experts=num_experts), _shift, _apply)
  return trunks.make(form, trunk_dim, early_layers)
