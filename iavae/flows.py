"""What the posteriors with a flow share: how does noise become a draw, who says how far it moves?

A flow is an invertible map of noise ~ N(0, I) to z, log q(z) = log N(noise; 0, I) - log |dz/dnoise|
(Rezende & Mohamed, arXiv:1505.05770, eq. 5). Networks, where a flow has such, read a context, a
head of the encoder, beside z; what changes z starts at zero, a flow as the identity.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from iavae import layers
from iavae.posteriors.gaussian import DiagonalGaussian, diagonal_gaussian
from iavae.types import Array, Params, Posterior, PosteriorFamily

Shapes = dict[str, tuple[int, int]]  # layer -> (D_in, D_out)
Transformed = tuple[Array, Array]  # a vector, and the log-determinant of the flow, in nats

MAX_LOG_SCALE = 2.0  # of one step of a flow, which so keeps a single draw from a large gradient


def bounded(a: Array) -> Array:
  """M tanh(a / M), M = MAX_LOG_SCALE: a log-scale that is `a` where that is small."""
  return MAX_LOG_SCALE * jnp.tanh(a / MAX_LOG_SCALE)


def context_family(
  make_posterior: Callable[..., Posterior], init: Callable[..., Params], context_dim: int
) -> PosteriorFamily:
  """A family with the mean-field Gaussian as base, a context and networks that read it.

  Args:
    make_posterior: (base, context: [C], params['flow']) -> q(z | x).
    init: as `PosteriorFamily.init`, of {'flow': ..}.
  """
  return PosteriorFamily(
    heads=lambda latent_dim: {'mean': latent_dim, 'log_var': latent_dim, 'context': context_dim},
    init=init,
    posterior=lambda params, heads: make_posterior(
      diagonal_gaussian(heads), heads['context'], params['flow']
    ),
  )


def forward(base: DiagonalGaussian, noise: Array) -> Transformed:
  """z = mean + exp(log_scale) * noise, and log |dz/dnoise|: ([Z], [])."""
  return base.mean + jnp.exp(base.log_scale) * noise, jnp.sum(base.log_scale)


def backward(base: DiagonalGaussian, z: Array) -> Transformed:
  """The inverse of `forward`: the noise of which z is made, and log |dz/dnoise|: ([Z], [])."""
  return (z - base.mean) * jnp.exp(-base.log_scale), jnp.sum(base.log_scale)


def draw(transform: Callable[[Array], Transformed], rng: Array, like: Array) -> Transformed:
  """A draw through a flow, and its log-density in nats.

  Args:
    transform: noise -> (z, log |dz/dnoise|).
    like: an array with the shape and type of the noise, which is that of the mean-field Gaussian.

  Returns:
    ([Z], []).
  """
  noise = jax.random.normal(rng, like.shape, like.dtype)
  z, log_det = transform(noise)
  return z, jnp.sum(norm.logpdf(noise)) - log_det


def log_prob(inverse: Callable[[Array], Transformed], z: Array) -> Array:
  """log q(z) of any z: [Z] by the inverse of a flow, z -> (noise, log |dz/dnoise|); [] in nats."""
  noise, log_det = inverse(z)
  return jnp.sum(norm.logpdf(noise)) - log_det


def init_networks(rng: Array, shapes: dict[str, Shapes]) -> Params:
  """Weights {network: {layer: {'kernel', 'bias'}}}; the layers called 'output' start at zero.

  Args:
    shapes: {network: {layer: (D_in, D_out)}}.
  """
  return {
    name: network | {'output': jax.tree.map(jnp.zeros_like, network['output'])}
    for name, network in layers.torch_uniform(rng, shapes).items()
  }


def network_shapes(num_in: int, hidden: int, num_out: int) -> Shapes:
  """The layers of a network for `affine` that reads `num_in` entries and moves `num_out`."""
  return {'hidden': (num_in, hidden), 'output': (hidden, 2 * num_out)}


def affine(params: Params, given: Array, context: Array) -> tuple[Array, Array]:
  """The shift and log-scale of some entries given others: one hidden layer of ELUs.

  Args:
    params: {'hidden', 'output'}.
    given: those others, [D].
    context: [C].

  Returns:
    [n] each, n entries to move; the log-scale is `bounded`.
  """
  units = jax.nn.elu(linear(params['hidden'], jnp.append(given, context)))
  shift, raw_scale = jnp.split(linear(params['output'], units), 2)
  return shift, bounded(raw_scale)


def linear(layer: Params, u: Array) -> Array:
  """`layers.linear` of u: [D_in] in the precision of the bias, as log-densities add up rounding."""
  return layers.linear({'kernel': exact_kernel(layer), 'bias': layer['bias']}, u)


def exact_kernel(layer: Params) -> Array:
  """The kernel in the precision of the bias, which training leaves in float32."""
  return layer['kernel'].astype(layer['bias'].dtype)


def name_steps(steps: list) -> dict[str, Any]:
  """{'step_00': .., 'step_01': .., ...}."""
  return {f'step_{t:02d}': step for t, step in enumerate(steps)}


def steps(flow: Params) -> list[Params]:
  """The networks of a flow in the order in which noise passes them."""
  return [flow[name] for name in sorted(flow)]
