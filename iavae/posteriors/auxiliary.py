"""Auxiliary variables: what if z has a companion v that a flow may mix it with, and then forgets?

The q_Flow of Cremer et al. (arXiv:1801.03558, section 2.4), Real NVP between z and v.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from iavae import flows, layers
from iavae.by_name import check_sizes
from iavae.posteriors.gaussian import DiagonalGaussian
from iavae.rng import AUXILIARY
from iavae.types import Array, Params, PosteriorFamily

DEFAULTS: dict[str, object] = {
  'num_steps': 2,  # in each both z and v change
  'context_dim': 64,  # entries of the head that the networks read
  'hidden': 128,  # units of each network
}

_REVERSE_RATE = 0.3  # of the learning rate of all else


class AuxiliaryFlow(NamedTuple):
  """q(z) = int q(z, v) dv, bounded by means of a reverse model r(v | z).

  z_0 ~ the mean-field Gaussian, v_0 ~ N(m(z_0), exp(s(z_0))^2), and in each step
  v' = exp(s_v(z)) v + m_v(z), then z' = exp(s_z(v')) z + m_z(v'); r is a Gaussian like that of v_0,
  and all networks read the context, too.

  Differs from the paper: scales are exp of a bounded output, not sigmoids, so that the flow starts
  as the identity; r starts as what v_0 is drawn from, so that the bound on log q(z) starts tight.

  Attributes:
    base: the distribution of z_0.
    context: [C].
    flow: a network for every Gaussian and update, {'start', 'reverse', 'v_00', 'z_00', ..}.
  """

  base: DiagonalGaussian
  context: Array
  flow: Params

  def transform(self, noise: Array) -> flows.Transformed:
    """[z_T, v_T], and the log-determinant with respect to the noise: ([2, Z], []).

    Args:
      noise: [2, Z], for z and for v.
    """
    z, log_det = flows.forward(self.base, noise[0])
    v, log_det_v = self._affine('start', z, noise[1])
    log_det += log_det_v
    for name in sorted(name for name in self.flow if name.startswith('v_')):
      v, log_det_v = self._affine(name, z, v)
      z, log_det_z = self._affine(name.replace('v_', 'z_'), v, z)
      log_det += log_det_v + log_det_z
    return jnp.stack([z, v]), log_det

  def inverse(self, pair: Array) -> flows.Transformed:
    """The noise of which [z_T, v_T] is made, and `transform`'s log-determinant: ([2, Z], [])."""
    (z, v), log_det = pair, jnp.zeros((), pair.dtype)
    for name in sorted((name for name in self.flow if name.startswith('v_')), reverse=True):
      z, log_det_z = self._undo(name.replace('v_', 'z_'), v, z)
      v, log_det_v = self._undo(name, z, v)
      log_det += log_det_v + log_det_z
    v, log_det_v = self._undo('start', z, v)
    noise, log_det_z = flows.backward(self.base, z)
    return jnp.stack([noise, v]), log_det + log_det_v + log_det_z

  def _affine(self, name: str, given: Array, a: Array) -> flows.Transformed:
    shift, log_scale = flows.affine(self.flow[name], given, self.context)
    return jnp.exp(log_scale) * a + shift, jnp.sum(log_scale)

  def _undo(self, name: str, given: Array, a: Array) -> flows.Transformed:
    shift, log_scale = flows.affine(self.flow[name], given, self.context)
    return jnp.exp(-log_scale) * (a - shift), jnp.sum(log_scale)

  def log_reverse(self, z: Array, v: Array) -> Array:
    """log r(v | z) of z, v: [Z], [] in nats."""
    shift, log_scale = flows.affine(self.flow['reverse'], z, self.context)
    return jnp.sum(norm.logpdf(v, shift, jnp.exp(log_scale)))

  def sample_and_log_prob(self, rng: Array) -> tuple[Array, Array]:
    """A draw z ~ q and an estimate of log q(z) FROM ABOVE: ([Z], [] in nats).

    The second is log q(z, v) - log r(v | z), whose expectation given z is log q(z) +
    KL(q(v | z) || r(v | z)). So E log q(z) is overestimated and the ELBO stays a lower bound, as
    do importance-weighted ones: r(v | z) p(x, z) / q(z, v) has mean p(x).
    """
    noise = self._noise(rng)
    (z, v), log_det = self.transform(noise)
    return z, jnp.sum(norm.logpdf(noise)) - log_det - self.log_reverse(z, v)

  def mirrored_draws(self, rng: Array) -> tuple[Array, Array]:
    """Draws from a noise and its negative, as `sample_and_log_prob` each: ([2, Z], [2] in nats).

    The gradient of log q(z, v) is the path derivative: there q's parameters are held fixed.
    """
    fixed = jax.lax.stop_gradient(self)

    def draw(noise: Array) -> tuple[Array, Array]:
      pair, _ = self.transform(noise)
      again, log_det = fixed.inverse(pair)
      return pair[0], jnp.sum(norm.logpdf(again)) - log_det - self.log_reverse(*pair)

    noise = self._noise(rng)
    return jax.vmap(draw)(jnp.stack([noise, -noise]))

  def rates(self) -> 'AuxiliaryFlow':
    """What the learning rate of each leaf is multiplied by in a search, a number in its place.

    The gradient of r, alone, is a score: its noise does not vanish as q nears p(z | x), and Adam
    would make steps of it as large as any.
    """
    even = jax.tree.map(lambda _: 1.0, self)
    slow = jax.tree.map(lambda _: _REVERSE_RATE, self.flow['reverse'])
    return even._replace(flow=even.flow | {'reverse': slow})

  def _noise(self, rng: Array) -> Array:
    """[2, Z]; the draw of z is that of the mean-field Gaussian."""
    rngs, mean = (rng, jax.random.fold_in(rng, AUXILIARY)), self.base.mean
    return jnp.stack([jax.random.normal(rng, mean.shape, mean.dtype) for rng in rngs])


def make(num_steps: int = 2, context_dim: int = 64, hidden: int = 128) -> PosteriorFamily:
  """The family of `AuxiliaryFlow`, v as large as z; see DEFAULTS.

  Raises:
    ValueError: for a size that is not a whole number above 0.
  """
  check_sizes(num_steps=num_steps, context_dim=context_dim, hidden=hidden)

  def init(rng: Array, heads: dict[str, Array]) -> Params:
    (latent_dim,) = heads['mean'].shape
    return {'flow': init_flow(rng, latent_dim, num_steps, context_dim, hidden)}

  return flows.context_family(AuxiliaryFlow, init, context_dim)


def init_flow(rng: Array, latent_dim: int, num_steps: int, context_dim: int, hidden: int) -> Params:
  """The networks of a flow that starts as the identity."""
  rng_updates, rng_start = jax.random.split(rng)
  shapes = flows.network_shapes(latent_dim + context_dim, hidden, latent_dim)
  updates = [f'{letter}_{t:02d}' for letter in 'vz' for t in range(num_steps)]
  flow = flows.init_networks(rng_updates, dict.fromkeys(updates, shapes))
  # If v started as independent of z, nothing would tell z what to do with it: a saddle point
  start = layers.torch_uniform(rng_start, shapes)
  return flow | {'start': start, 'reverse': jax.tree.map(jnp.copy, start)}


def local(
  base: DiagonalGaussian, rng: Array, num_steps: int = 2, hidden: int = 50
) -> AuxiliaryFlow:
  """The flow of one example alone, all of its networks its own; it starts as the Gaussian `base`.

  (Cremer et al., section 5.2.1.) There is no context: the networks belong to the example.
  """
  flow = init_flow(rng, base.mean.size, num_steps, 0, hidden)
  return AuxiliaryFlow(base, jnp.zeros(0), flow)
