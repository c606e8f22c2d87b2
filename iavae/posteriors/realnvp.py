"""Real NVP: what if each half of z in turn is shifted and scaled by what the other half says?"""

from typing import NamedTuple

import jax.numpy as jnp

from iavae import flows
from iavae.by_name import check_sizes
from iavae.posteriors.gaussian import DiagonalGaussian
from iavae.types import Array, Params, PosteriorFamily

DEFAULTS: dict[str, object] = {
  'num_steps': 4,  # couplings; the halves change roles after each
  'context_dim': 64,  # entries of the head that the networks read
  'hidden': 128,  # units of each network
}


class RealNVP(NamedTuple):
  """z_B' = exp(s(z_A)) z_B + t(z_A), z_A' = z_A, and in the next step A and B change roles.

  (Dinh et al., arXiv:1605.08803, eqs. 4 and 5.) t and s read the context, too; z_0 ~ the
  mean-field Gaussian. In the first step A is the first half of z.

  Differs from the paper: s is bounded, see `flows.bounded`.

  Attributes:
    base: the distribution of z_0.
    context: [C].
    flow: a network (t, s) a step, {'step_00': ..}, see `flows.affine`.
  """

  base: DiagonalGaussian
  context: Array
  flow: Params

  def transform(self, noise: Array) -> flows.Transformed:
    """z_T and log |dz_T/dnoise|: ([Z], [])."""
    z, log_det = flows.forward(self.base, noise)
    for t, step in enumerate(flows.steps(self.flow)):
      given, rest = _halves(t, z)
      shift, log_scale = flows.affine(step, given, self.context)
      z = _join(t, given, jnp.exp(log_scale) * rest + shift)
      log_det += jnp.sum(log_scale)
    return z, log_det

  def inverse(self, z: Array) -> flows.Transformed:
    """The noise of which z: [Z] is made, and log |dz/dnoise|: ([Z], [])."""
    log_det = 0.0
    for t, step in reversed(list(enumerate(flows.steps(self.flow)))):
      given, rest = _halves(t, z)
      shift, log_scale = flows.affine(step, given, self.context)
      z = _join(t, given, jnp.exp(-log_scale) * (rest - shift))
      log_det += jnp.sum(log_scale)
    noise, log_det_base = flows.backward(self.base, z)
    return noise, log_det + log_det_base

  def sample_and_log_prob(self, rng: Array) -> tuple[Array, Array]:
    """A draw and log q(z): ([Z], [] in nats)."""
    return flows.draw(self.transform, rng, self.base.mean)

  def log_prob(self, z: Array) -> Array:
    """log q(z) of z: [Z], [] in nats."""
    return flows.log_prob(self.inverse, z)


def _halves(t: int, z: Array) -> tuple[Array, Array]:
  """(A, B) of step t."""
  first, second = z[: z.size // 2], z[z.size // 2 :]
  return (second, first) if t % 2 else (first, second)


def _join(t: int, given: Array, rest: Array) -> Array:
  """The inverse of `_halves`."""
  return jnp.concatenate([rest, given] if t % 2 else [given, rest])


def make(num_steps: int = 4, context_dim: int = 64, hidden: int = 128) -> PosteriorFamily:
  """The family of `RealNVP`, see DEFAULTS.

  Raises:
    ValueError: for a size that is not a whole number above 0.
  """
  check_sizes(num_steps=num_steps, context_dim=context_dim, hidden=hidden)

  def init(rng: Array, heads: dict[str, Array]) -> Params:
    (latent_dim,), half = heads['mean'].shape, heads['mean'].shape[0] // 2
    sizes = [(latent_dim - half, half) if t % 2 else (half, latent_dim - half)
             for t in range(num_steps)]  # fmt: skip
    steps = [flows.network_shapes(a + context_dim, hidden, b) for a, b in sizes]
    return {'flow': flows.init_networks(rng, flows.name_steps(steps))}

  return flows.context_family(RealNVP, init, context_dim)
