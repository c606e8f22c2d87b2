"""What does each method cost beside the plain VAE: a train step, and inference?

  python -m benchmarks.methods [--quick]

Prints two tables and writes benchmarks/methods.json. The plain VAE of many papers, 784-200-200-50
and back (configs: preset mlp), in batches of 50, for inference of 500: every method, posterior
family and modulation with its defaults. And SA-VAE's exact step with 20 inner steps on the PixelCNN
model, in batches of 10.
"""

import argparse
import itertools
from typing import Any

from benchmarks import timing  # first: it configures jax

# isort: split
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from benchmarks.images import Training, intensities, make_trainings
from benchmarks.timing import SHAPE, Clock, Section, binary, clock, compare, interleave, judge
from configs import default
from iavae.freezing import merge
from iavae.gradients import make_gradient
from iavae.types import BATCH, Array, InferenceMethod, Params

ROUNDS = 6
STEPS = 4  # of an epoch
BATCH_SIZE = 50
INFERENCES = 500  # images
VAE = 'VAE'
AT_ONCE = 6  # methods beside one VAE
INNER_STEPS = 20
SA_BATCH = 10


def make_config(preset: dict, batch_size: int, **overrides: Any) -> ConfigDict:
  config = default.get_config()
  with config.unlocked():
    config.update_from_flattened_dict(preset | {'training.batch_size': batch_size} | overrides)
  return config


def epoch_clock(training: Training, num_steps: int, batch_size: int) -> Clock:
  """A train step, as part of an epoch."""
  pixels, rng = intensities(num_steps * batch_size), jax.random.key(2)
  return clock(training.run_epoch, *training.state, pixels, rng, jnp.int32(0), scale=1 / num_steps)


def infer_clock(training: Training) -> Clock:
  """A draw of z from the posteriors of INFERENCES images.

  In smaller batches what is around them would count; posteriors themselves as the result would be
  copies of a flow's weights, one for every image.
  """
  method: InferenceMethod = training.method

  def draw(params: Params, x: Array, rng: Array) -> Array:
    rng_infer, rng_z = jax.random.split(rng)
    return method.infer(params, x, rng_infer).sample_and_log_prob(rng_z)[0]

  infer = jax.jit(jax.vmap(draw, in_axes=(None, 0, 0), axis_name=BATCH))
  params = merge(training.state[0], training.state[2])
  rngs = jax.random.split(jax.random.key(0), INFERENCES)
  return clock(infer, params, binary(0, INFERENCES, *SHAPE), rngs)


def measure_methods(rounds: int) -> Section:
  """Every row of --config.experiment=methods, a few at a time, each beside the plain VAE."""
  names = [name for name in ('instance_adaptive', *default.METHODS) if name != 'amortized']
  times, rows = {}, {}
  for some in (names[i : i + AT_ONCE] for i in range(0, len(names), AT_ONCE)):
    config = make_config(default.MLP, BATCH_SIZE, experiment='methods', methods=tuple(some))
    trainings = dict(zip((VAE, *some), make_trainings(config, 'base', *some), strict=True))
    clocks: dict[str, Clock] = {}
    for name, training in trainings.items():
      clocks[f'{name}: train step'] = epoch_clock(training, STEPS, BATCH_SIZE)
      clocks[f'{name}: inference'] = infer_clock(training)
    found = interleave(clocks, rounds)
    for name, what in itertools.product(some, ('train step', 'inference')):
      rows[f'{what}: {name} / VAE'] = compare(found, f'{name}: {what}', f'{VAE}: {what}')
    times |= found
  return Section(times, dict(sorted(rows.items())))


def measure_gated(rounds: int) -> Section:
  """Inference of configs' preset `gated` beside the plain VAE's."""
  trainings = make_trainings(make_config(default.GATED, BATCH_SIZE), 'base', 'instance_adaptive')
  names = 'plain encoder of the gated preset', 'gated preset'
  clocks = {name: infer_clock(of) for name, of in zip(names, trainings, strict=True)}
  times = interleave(clocks, 5 * rounds)
  return Section(times, {'inference: gated preset / VAE': compare(times, *names[::-1], '<= 1.2')})


def scratch_megabytes(config: ConfigDict, num_steps: int) -> float:
  """Of SA-VAE's gradient with so many inner steps."""
  config = ConfigDict(config.to_dict())
  config.inference.num_steps = num_steps
  (training,) = make_trainings(config, 'semi_amortized')
  gradient = make_gradient(training.model, training.method, micro_batch=SA_BATCH)
  x, rngs = binary(0, SA_BATCH, *SHAPE), jax.random.split(jax.random.key(0), SA_BATCH)
  params, _, frozen = training.state
  program = timing.compiled(gradient, params, frozen, x, rngs, jnp.ones(()))
  return timing.temporary_megabytes(program)


def measure_semi_amortized(rounds: int) -> Section:
  """An exact step of SA-VAE on the paper's model against one of its VAE, and its memory."""
  config = default.get_config('semi_amortized')
  with config.unlocked():
    config.training.batch_size = SA_BATCH
    config.inference.num_steps = INNER_STEPS
  base, refined = make_trainings(config, 'base', 'semi_amortized')
  names = f'PixelCNN VAE step, {SA_BATCH} images', f'PixelCNN SA-VAE step, {INNER_STEPS} inner'
  clocks = {
    names[0]: epoch_clock(base, STEPS, SA_BATCH),
    names[1]: epoch_clock(refined, 1, SA_BATCH),
  }
  times = interleave(clocks, rounds)
  growth = scratch_megabytes(config, INNER_STEPS) / scratch_megabytes(config, INNER_STEPS // 4)
  return Section(
    times,
    {
      'PixelCNN: SA-VAE step / VAE step': compare(times, names[1], names[0], '<= 25'),
      f'memory: SA-VAE {INNER_STEPS} / {INNER_STEPS // 4} inner steps': judge(growth, '<= 1.1'),
    },
  )


def main(rounds: int) -> None:
  """Measures everything, prints the tables, writes methods.json."""
  times, rows, memory = {}, {}, {}
  for measure in (measure_methods, measure_gated, measure_semi_amortized):
    section = measure(rounds)
    times |= section.times
    rows |= section.rows
  memory['methods'] = timing.peak_megabytes()
  timing.show_and_save('methods', Section(times, rows), memory, rounds)


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--quick', action='store_true', help='two rounds')
  main(2 if parser.parse_args().quick else ROUNDS)
