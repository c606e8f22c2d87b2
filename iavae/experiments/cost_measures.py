"""What does inference cost: milliseconds and floating-point operations an example?"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from iavae.bounds import elbo
from iavae.refine import Refinement, local_only, make_step
from iavae.types import Array, GenerativeModel, InferenceMethod, Params, Posterior

NUM_SAMPLES = 2  # draws of z a step
_ROUNDS = 5  # of timing; the fastest counts
_ANY_RATE = 0.02  # costs do not depend on it


class Subject(NamedTuple):
  """What is measured: inference in T steps.

  Attributes:
    method: (T) -> a method whose `infer` takes T steps of its own, or one that takes none.
    refined: whether the steps are Adam's, on the posterior of that method.
  """

  method: Callable[[int], InferenceMethod]
  refined: bool
  params: Params


def start_refining(
  model: GenerativeModel, subject: Subject, rate: float, params: Params, x: Array, rng: Array
) -> tuple[Any, Callable]:
  """The state before the first step of Adam on the posterior of x: [...], and the step."""
  bound = functools.partial(elbo, num_samples=NUM_SAMPLES)
  refinement = Refinement(0, local_only(optax.adam(rate)), bound)
  q = subject.method(0).infer(params, x, rng)
  step = make_step(refinement, model, params['model'], x, jax.random.fold_in(rng, 1))
  return (q, refinement.optimizer.init(q)), step


def _make_infer(model: GenerativeModel, subject: Subject, num_steps: int) -> Callable:
  """(params, x: [B, ...], T) -> draws of z; where Adam takes the steps, T may be any from 1 on."""

  def one(params: Params, x: Array, rng: Array, num_steps: Array) -> Posterior:
    state, step = start_refining(model, subject, _ANY_RATE, params, x, rng)
    return jax.lax.fori_loop(0, num_steps, lambda i, state: step(state, i)[0], state)[0]

  def own(params: Params, x: Array, rng: Array, _: Array) -> Posterior:
    return subject.method(num_steps).infer(params, x, rng)

  infer = one if subject.refined and num_steps else own

  def draw(params: Params, x: Array, rng: Array, num_steps: Array) -> Array:
    # Posteriors as the result would be copies of a flow's networks, one for every example
    return infer(params, x, rng, num_steps).sample_and_log_prob(rng)[0]

  @jax.jit
  def batch(params: Params, x: Array, num_steps: Array) -> Array:
    rngs = jax.random.split(jax.random.key(0), len(x))
    return jax.vmap(draw, in_axes=(None, 0, 0, None))(params, x, rngs, num_steps)

  return batch


def megaflops(model: GenerativeModel, subject: Subject, x: Array) -> tuple[float, float]:
  """Millions of operations an example of x: [B, ...], before the first step and of each.

  As XLA counts them, which counts a loop once, so what it counts of one step is one step.
  """

  def step_only(params: Params, x: Array, rng: Array) -> Posterior:
    state, step = start_refining(model, subject, _ANY_RATE, params, x, rng)
    return step(state, 0)[0][0]

  def count(infer: Callable) -> float:
    rngs = jax.random.split(jax.random.key(0), len(x))
    program = jax.jit(jax.vmap(infer, in_axes=(None, 0, 0)))
    analysis = program.lower(subject.params, x, rngs).compile().cost_analysis()
    return analysis.get('flops', 0.0) / len(x) / 1e6

  first = count(subject.method(0).infer)
  return first, count(step_only if subject.refined else subject.method(1).infer) - first


def measure(
  model: GenerativeModel, subjects: dict[str, Subject], x: np.ndarray, steps: tuple[int, ...]
) -> dict[tuple[str, int], dict[str, float]]:
  """{(name, T): {'milliseconds', 'megaflops'}} an example of a batch x: [B, ...], in turns."""
  x = jnp.asarray(x, jnp.float32)
  programs, found = {}, {}
  for name, subject in subjects.items():
    before, each = megaflops(model, subject, x)
    refining = _make_infer(model, subject, 1)  # one program for all T
    for t in steps:
      shared = subject.refined and t
      programs[name, t] = refining if shared else _make_infer(model, subject, t)
      found[name, t] = {'milliseconds': np.inf, 'megaflops': before + t * each}
  for turn in range(_ROUNDS + 1):
    for (name, t), program in programs.items():
      began = time.perf_counter()
      jax.block_until_ready(program(subjects[name].params, x, t))
      milliseconds = 1e3 * (time.perf_counter() - began) / len(x)
      if turn:  # the first compiles
        fastest = min(found[name, t]['milliseconds'], milliseconds)
        found[name, t] |= {'milliseconds': fastest}
  return found
