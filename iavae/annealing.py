"""Annealed importance sampling: what is log p(x) when no posterior is close?

Chains move from a Gaussian, f_0, to p(x, z), f_1, by Hamiltonian Monte Carlo through
f_b(z) = f_0(z)^(1 - b) p(x, z)^b, b = b_0, .., b_T, and collect weights
w = prod_t f_{b_t}(z_{t-1}) / f_{b_{t-1}}(z_{t-1}), whose mean is p(x) (Neal, physics/9803008). Run
backwards from an exact draw of p(z | x), which simulated data have, they bound log p(x) from above
(Grosse et al., arXiv:1511.02543).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from iavae.evidence import LogDensity
from iavae.posteriors.gaussian import DiagonalGaussian
from iavae.types import Array

_SHARPNESS = 4.0  # of the sigmoid along which b rises (Wu et al., arXiv:1611.04273)
_ACCEPTANCE = 0.65  # at which the step sizes aim
_GAIN = 0.3  # how fast: log step size += gain * (acceptance - aim)
_PILOT = 4  # a pilot run has one temperature for so many of the run itself


class Annealing(NamedTuple):
  """How to anneal.

  Attributes:
    num_temperatures: T; more of them tighten both bounds.
    num_leapfrog: leapfrog steps of a transition.
    step_size: at which the adaptation starts, in standard deviations of f_0.
  """

  num_chains: int = 16
  num_temperatures: int = 200
  num_leapfrog: int = 10
  step_size: float = 0.2


class Annealed(NamedTuple):
  """log_weights: [num_chains], nats; acceptance: [], the mean over transitions and chains."""

  log_weights: Array
  acceptance: Array


def temperatures(num: int) -> Array:
  """b_0 = 0, .., b_num = 1 along a sigmoid, [num + 1]."""
  b = jax.nn.sigmoid(_SHARPNESS * (2 * jnp.arange(num + 1) / num - 1))
  return (b - b[0]) / (b[-1] - b[0])


class _Path(NamedTuple):
  """From f_0 = start to f_1 = target."""

  start: DiagonalGaussian
  target: LogDensity
  num_leapfrog: int

  def log_ratio(self, z: Array) -> Array:
    """log f_1(z) - log f_0(z) of z: [Z], [] in nats."""
    return self.target(z) - self.start.log_prob(z)

  def move(self, z: Array, b: Array, step_size: Array, rng: Array) -> tuple[Array, Array]:
    """A transition that leaves f_b as it is, and how likely it was to be accepted: ([Z], [])."""
    from blackjax.mcmc import hmc  # here, as it takes a second

    def log_density(z: Array) -> Array:
      return (1 - b) * self.start.log_prob(z) + b * self.target(z)

    state, told = hmc.build_kernel()(
      rng,
      hmc.init(z, log_density),
      log_density,
      step_size,
      jnp.exp(2 * self.start.log_scale),  # the inverse of the mass: steps in units of f_0
      self.num_leapfrog,
    )
    return state.position, told.acceptance_rate


def _draw(start: DiagonalGaussian, rng: Array) -> Array:
  return start.sample_and_log_prob(rng)[0]


def _adapted_steps(path: _Path, annealing: Annealing, rng: Array) -> Array:
  """A step size for every transition of one chain, [T - 1], from a shorter pilot run.

  Adapted in the run itself a step would depend on where the chain is, and the weights lose their
  mean p(x).
  """
  b = temperatures(annealing.num_temperatures)[1:-1]

  def body(carry: tuple[Array, Array], inputs: tuple) -> tuple[tuple, Array]:
    z, log_step = carry
    b, i = inputs
    z, acceptance = path.move(z, b, jnp.exp(log_step), jax.random.fold_in(rng, i))
    return (z, log_step + _GAIN * (acceptance - _ACCEPTANCE)), log_step

  pilot = b[::_PILOT]
  rng_draw, rng = jax.random.split(rng)
  start = _draw(path.start, rng_draw), jnp.log(jnp.asarray(annealing.step_size, b.dtype))
  steps = jax.lax.scan(body, start, (pilot, jnp.arange(len(pilot))))[1]
  return jnp.exp(jnp.repeat(steps, _PILOT)[: len(b)])


def _chain(path: _Path, b: Array, steps: Array, z: Array, rng: Array) -> tuple[Array, Array]:
  """Log-weight and mean acceptance of one chain from z: [Z] through b: [T + 1], up or down."""

  def body(carry: tuple[Array, Array], inputs: tuple) -> tuple[tuple, Array]:
    z, log_weight = carry
    i, b, before, step = inputs
    log_weight += (b - before) * path.log_ratio(z)
    z, acceptance = path.move(z, b, step, jax.random.fold_in(rng, i))
    return (z, log_weight), acceptance

  inputs = jnp.arange(len(steps)), b[1:-1], b[:-2], steps
  (z, log_weight), acceptance = jax.lax.scan(body, (z, jnp.zeros((), b.dtype)), inputs)
  return log_weight + (b[-1] - b[-2]) * path.log_ratio(z), jnp.mean(acceptance)


def anneal(
  annealing: Annealing, start: DiagonalGaussian, target: LogDensity, rng: Array
) -> Annealed:
  """Chains from a Gaussian to p(x, z); log mean w is a stochastic lower bound on log p(x).

  Args:
    start: f_0, e.g. q(z | x) or the prior.
    target: log p(x, z) of this example.
  """
  b = temperatures(annealing.num_temperatures)
  start = jax.tree.map(lambda leaf: leaf.astype(b.dtype), start)  # which may be wider, float64
  path = _Path(start, target, annealing.num_leapfrog)

  def chain(rng: Array) -> tuple[Array, Array]:
    rng_pilot, rng_draw, rng_move = jax.random.split(rng, 3)
    steps = _adapted_steps(path, annealing, rng_pilot)
    return _chain(path, b, steps, _draw(start, rng_draw), rng_move)

  log_weights, acceptance = jax.vmap(chain)(jax.random.split(rng, annealing.num_chains))
  return Annealed(log_weights, jnp.mean(acceptance))


def anneal_back(
  annealing: Annealing, start: DiagonalGaussian, target: LogDensity, z: Array, rng: Array
) -> Annealed:
  """The same transitions in reverse, all chains from one exact draw of p(z | x).

  The weights have mean 1 / p(x): -log mean w is a stochastic UPPER bound on log p(x).

  Args:
    start, target: as `anneal`.
    z: [Z], of which x was drawn.
  """
  b = temperatures(annealing.num_temperatures)[::-1]
  start, z = jax.tree.map(lambda leaf: leaf.astype(b.dtype), (start, z))
  path = _Path(start, target, annealing.num_leapfrog)

  def chain(rng: Array) -> tuple[Array, Array]:
    rng_pilot, rng_move = jax.random.split(rng)
    return _chain(path, b, _adapted_steps(path, annealing, rng_pilot)[::-1], z, rng_move)

  log_weights, acceptance = jax.vmap(chain)(jax.random.split(rng, annealing.num_chains))
  return Annealed(log_weights, jnp.mean(acceptance))
