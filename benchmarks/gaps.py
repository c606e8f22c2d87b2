"""What does a gap report cost: how long for 1,000 images, where does the time go, how much memory?

  python -m benchmarks.gaps [--quick]

Prints two tables and writes benchmarks/gaps.json. The plain VAE of many papers, 784-200-200-50 and
back (configs: preset mlp), untrained, with images of MNIST's size: IWAE with 5,000 draws from q and
from the best mean-field posterior, which is searched in 3,000 steps.
"""

import argparse
import functools
import time
from collections.abc import Callable

from benchmarks import timing  # first: it configures jax

# isort: split
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.methods import make_config
from benchmarks.timing import SHAPE, Section, binary, interleave, judge
from configs import default
from iavae import gap_parts, gaps
from iavae.experiments import image_models
from iavae.gap_parts import Example, Problem, Protocol
from iavae.inference import amortized
from iavae.optimum import Search
from iavae.types import Array, Params

NUM_EXAMPLES = 1000
BATCH = 50
LOOP = 2  # examples one by one
PROTOCOL = Protocol(flow_search=Search(num_steps=0), num_annealed=0, num_doubled=0, at_once=BATCH)
MANY = 1_000_000  # draws


def make_problem() -> tuple[Problem, Params]:
  images = image_models.make_images(make_config(default.MLP, BATCH), SHAPE)
  method = amortized.make(images.model, images.encoder)
  return gaps.problem_of(images.model, method), method.init(jax.random.key(0), jnp.zeros(SHAPE))


def part_of(problem: Problem, params: Params, protocol: Protocol) -> Callable[..., Array]:
  """IWAE from q, the search, IWAE from its result: both bounds of one example."""

  def one(x: Array, rng: Array) -> Array:
    q = problem.posterior(params, x, rng)
    target = functools.partial(problem.log_joint, params['model'], x)
    first, moments = gap_parts.encoder(protocol, target, Example(x, q), rng, 1)
    best, _ = gap_parts.mean_field(protocol, target, Example(x, q=moments), rng, 1)
    return jnp.stack([first.log_evidence, best.log_evidence])

  return one


def measure_report(num_examples: int) -> Section:
  """A whole report; compiled programs are cached by a run on a few examples before."""
  problem, params = make_problem()
  x = np.asarray(binary(0, num_examples, *SHAPE))
  gaps.measure(problem, params, x[:BATCH], jax.random.key(1), PROTOCOL)
  began, busy = time.perf_counter(), time.process_time()
  seconds = gaps.measure(problem, params, x, jax.random.key(1), PROTOCOL).summary['seconds']
  total, cpu = time.perf_counter() - began, time.process_time() - busy
  rows = {f'report: examples a second, of {num_examples}': judge(num_examples / total, '')}
  rows |= {f'report: share of the part {k}': judge(v / total, '') for k, v in seconds.items()}
  once = {'wall_min': total, 'wall_median': total, 'cpu_min': cpu, 'cpu_median': cpu}
  times = {key: 1e3 * seconds for key, seconds in once.items()}
  return Section({f'report of {num_examples} examples, once': times}, rows)


def measure_loop(rounds: int) -> Section:
  """A batch against its examples one by one, an example's time in both."""
  problem, params = make_problem()
  x, rngs = binary(0, BATCH, *SHAPE), jax.random.split(jax.random.key(1), BATCH)
  one = part_of(problem, params, PROTOCOL)
  batch, single = jax.jit(jax.vmap(one)), jax.jit(one)

  def loop() -> list[Array]:
    return [single(x[i], rngs[i]) for i in range(LOOP)]

  names = f'one by one, of {LOOP}', f'a batch of {BATCH}'
  times = interleave(
    {
      names[0]: timing.clock(loop, scale=1 / LOOP),
      names[1]: timing.clock(batch, x, rngs, scale=1 / BATCH),
    },
    rounds,
  )
  return Section(times, {'an example: one by one / in a batch': timing.compare(times, *names)})


def measure_memory() -> Section:
  """What the program of a batch allocates with many draws against few."""
  problem, params = make_problem()
  x, rngs = binary(0, BATCH, *SHAPE), jax.random.split(jax.random.key(1), BATCH)

  def megabytes(num_samples: int) -> float:
    one = part_of(problem, params, PROTOCOL._replace(num_samples=num_samples))
    return timing.temporary_megabytes(timing.compiled(jax.vmap(one), x, rngs))

  ratio = megabytes(MANY) / megabytes(PROTOCOL.num_samples)
  return Section({}, {f'memory: {MANY:,} draws / {PROTOCOL.num_samples:,}': judge(ratio, '<= 1.1')})


def main(num_examples: int, rounds: int) -> None:
  """Measures everything, prints the tables, writes gaps.json."""
  times, rows = {}, {}
  sections = (lambda: measure_report(num_examples), lambda: measure_loop(rounds), measure_memory)
  for measure in sections:
    section = measure()
    times |= section.times
    rows |= section.rows
  memory = {'gaps': timing.peak_megabytes()}
  timing.show_and_save('gaps', Section(times, rows), memory, rounds)


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--quick', action='store_true', help='100 examples, one round')
  quick = parser.parse_args().quick
  main(100 if quick else NUM_EXAMPLES, 1 if quick else 3)
