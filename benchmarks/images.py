"""How fast are the image experiments, against the obvious ways to write them?

  python -m benchmarks.images [--quick]

Prints two tables and writes benchmarks/images.json, at the paper's sizes (arXiv:2604.06796, 4.2):
images 28x28, batches of 50, the ResNet of width 64, the PixelCNN of 12 layers; `timing` says how.
All data are noise: no time depends on them. The programs run as in training, on a CPU: a batch is
spread over one virtual device a core. Only the sampler and what it is compared with run on one.
"""

import argparse
import functools
import json
import math
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks import timing  # first: it configures jax

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks.image_encoder import measure_encoder
from benchmarks.timing import (
  BATCH_SIZE,
  SHAPE,
  Clock,
  Section,
  Times,
  binary,
  clock,
  compare,
  count_flops,
  interleave,
  judge,
  noise,
)
from configs import default
from iavae import gradients, pixelcnn
from iavae.experiments import image_models, image_rows
from iavae.freezing import partition
from iavae.parallel import micro_batch, replicate, shard_batch
from iavae.types import Array, GenerativeModel, Params

ROOT = pathlib.Path(__file__).parent.parent
ROUNDS = 8
STEPS = 2  # of an epoch of the whole model: the compiler would take a loop of one apart
SMALL_STEPS = 20  # of an epoch of the small model
SAMPLES = 16  # images drawn at once
NAIVE_PIXELS = 8  # of 784; every one of them costs the same full pass
MATRIX = 2048  # rows of the matrices of the measured peak; larger ones are slower


class Training(NamedTuple):
  """A stage as `iavae.experiments.images` trains it, before its first epoch."""

  model: GenerativeModel
  method: Any
  run_epoch: Callable
  state: tuple[Params, Any, Params]  # trained, optimizer, frozen


def make_trainings(config: ConfigDict, *names: str) -> list[Training]:
  """The stages of those names: image_rows.BASE, or the method of the config."""
  parts = image_models.make_images(config, SHAPE)
  num_train = STEPS * BATCH_SIZE
  rows = image_rows.make_rows(config, parts, num_train=num_train, resample=True)
  init = rows[image_rows.BASE].variant.method.init
  base = jax.jit(init)(jax.random.key(0), jnp.zeros(SHAPE))
  trainings = []
  for name in names:
    variant, program = rows[name].variant, rows[name].program
    trained, frozen = partition(variant.start(base, jax.random.key(1)), variant.frozen)
    state = replicate((trained, program.optimizer.init(trained), frozen))
    trainings.append(Training(parts.model, variant.method, program.run_epoch, state))
  return trainings


def intensities(num: int) -> Array:
  pixels = np.random.default_rng(0).integers(0, 256, (num, *SHAPE), np.uint8)
  return replicate(jnp.asarray(pixels))


def step_clock(training: Training) -> Clock:
  """One step: an epoch of STEPS of them, divided."""
  pixels, rng, number = intensities(STEPS * BATCH_SIZE), jax.random.key(2), jnp.int32(0)
  return clock(training.run_epoch, *training.state, pixels, rng, number, scale=1 / STEPS)


def step_flops(training: Training) -> float:
  """Of the gradient of a batch: the optimizer does nothing that counts."""
  params, _, frozen = training.state
  gradient = gradients.make_gradient(training.model, training.method, micro_batch=BATCH_SIZE)
  rngs = jax.random.split(jax.random.key(0), BATCH_SIZE)
  return count_flops(gradient, params, frozen, binary(0, BATCH_SIZE, *SHAPE), rngs, jnp.ones(()))


def decoder_gradient(model: GenerativeModel, size: int) -> Callable:
  """(params, x, z) -> gradient with respect to params and z, `size` images at a time."""

  def gradient(params: Params, x: Array, z: Array) -> tuple[Params, Array]:
    def part(x: Array, z: Array) -> tuple[Params, Array]:
      def mean_loss(params: Params, z: Array) -> Array:
        return -jnp.mean(jax.vmap(model.log_likelihood, (None, 0, 0))(params, x, z))

      return jax.grad(mean_loss, (0, 1))(params, z)

    return gradients._accumulate(part, size, x, z)

  return gradient


class OneDevice:
  """A process with one device that makes a train step of the plain VAE when asked to."""

  def __init__(self) -> None:
    flags = re.sub(r'(device_count)=\d+', r'\1=1', os.environ['XLA_FLAGS'])
    self._process = subprocess.Popen(
      [sys.executable, '-m', 'benchmarks.images', '--one-device'],
      cwd=ROOT,
      env=os.environ | {'XLA_FLAGS': flags},
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )

  def __call__(self) -> tuple[float, float]:
    """(wall seconds, CPU seconds) of a step there."""
    self._process.stdin.write('\n')
    self._process.stdin.flush()
    return tuple(json.loads(self._process.stdout.readline()))

  def close(self) -> None:
    """Ends the process."""
    self._process.communicate()


def serve_one_device() -> None:
  """The other end of OneDevice: a step for every line."""
  (training,) = make_trainings(default.get_config(), image_rows.BASE)
  run = step_clock(training)
  for _ in sys.stdin:
    print(json.dumps(run()), flush=True)


def measure_training(rounds: int) -> Section:
  """The whole model: IA-VAE against VAE, all devices against one, and the share of the peak."""
  config = default.get_config()
  vae, adaptive = make_trainings(config, image_rows.BASE, config.method)
  x, z = binary(0, BATCH_SIZE, *SHAPE), noise(1, BATCH_SIZE, config.model.latent_dim)
  params = vae.state[0]['model']
  flops = {
    'VAE step': step_flops(vae),
    'decoder': count_flops(decoder_gradient(vae.model, BATCH_SIZE), params, x, z),
    'matmul': 2.0 * MATRIX**3,
  }
  decoder = jax.jit(decoder_gradient(vae.model, micro_batch(BATCH_SIZE, True)))
  matrix = noise(2, MATRIX, MATRIX)
  clocks = {
    'VAE step': step_clock(vae),
    'IA-VAE step': step_clock(adaptive),
    'decoder': clock(decoder, params, shard_batch(x), shard_batch(z)),
    'matmul': clock(jax.jit(jnp.matmul), shard_batch(matrix), replicate(matrix)),
  }
  name = 'VAE step, one device'
  one_device = OneDevice()
  try:
    times = interleave(clocks | {name: one_device}, rounds)
  finally:
    one_device.close()
  rows = {
    'IA-VAE step / VAE step': compare(times, 'IA-VAE step', 'VAE step', '<= 1.0'),
    f'VAE step: {jax.device_count()} devices / one': compare(times, 'VAE step', name),
  }
  for part in ('VAE step', 'decoder'):
    rows[f'{part}: share of the matmul peak'] = share_of_peak(times, flops, part)
  return Section(times, rows)


def share_of_peak(times: Times, flops: dict[str, float], part: str) -> dict:
  """The row of FLOP/s relative to those of a large matrix product in the same rounds."""
  rate = {
    (name, key): flops[name] / times[name][key] / 1e6
    for name in (part, 'matmul')
    for key in times[name]
  }
  share = {key: rate[part, key] / rate['matmul', key] for key in times[part]}
  return judge(share['wall_min'], '>= 0.6') | {
    'of_medians': share['wall_median'],
    'of_cpu': share['cpu_min'],
    'gflop': flops[part] / 1e9,
    'gflops_per_second': rate[part, 'wall_min'],
    'peak_gflops_per_second': rate['matmul', 'wall_min'],
  }


def measure_epoch(rounds: int) -> Section:
  """A scanned epoch against its steps one by one, each an epoch of one step, of a small model."""
  config = default.get_config()
  with config.unlocked():
    config.update_from_flattened_dict(default.REDUCED)
  (training,) = make_trainings(config, image_rows.BASE)
  params, opt_state, frozen = training.state
  pixels, number = intensities(SMALL_STEPS * BATCH_SIZE), jnp.int32(0)
  batches = [replicate(batch) for batch in pixels.reshape(SMALL_STEPS, BATCH_SIZE, *SHAPE)]
  rngs = list(jax.random.split(jax.random.key(2), SMALL_STEPS))

  def dispatch() -> tuple:
    state = params, opt_state
    for batch, rng in zip(batches, rngs, strict=True):
      *state, metrics = training.run_epoch(*state, frozen, batch, rng, number)
    return state, metrics

  scan = functools.partial(training.run_epoch, params, opt_state, frozen, pixels, rngs[0], number)
  names = f'{SMALL_STEPS} small steps, scanned', f'{SMALL_STEPS} small steps, dispatched'
  times = interleave({names[0]: clock(scan), names[1]: clock(dispatch)}, rounds)
  return Section(times, {'epoch: scanned / step by step': compare(times, *names, '<= 1.0')})


def measure_sampling(rounds: int) -> Section:
  """The cached sampler against a full pass of the decoder, and against a pass for every pixel."""
  latent_dim, num_pixels = default.get_config().model.latent_dim, math.prod(SHAPE[:2])
  decoder = pixelcnn.make(latent_dim)
  params = jax.jit(decoder.init)(jax.random.key(0))
  x, z = binary(0, SAMPLES, *SHAPE), noise(1, SAMPLES, latent_dim)
  rngs = jax.random.split(jax.random.key(1), SAMPLES)

  @jax.jit
  def pixel(params: Params, x: Array, z: Array, index: int) -> Array:
    """The body of `pixelcnn.sample_naively`, for a batch."""
    i, j = index // SHAPE[1], index % SHAPE[1]
    logits = jax.vmap(decoder.logits, (None, 0, 0))(params, x, z)[:, i, j]
    return x.at[:, i, j].set((0.5 < jax.nn.sigmoid(logits)).astype(x.dtype))

  def some_pixels() -> Array:
    drawn = jnp.zeros_like(x)
    for index in range(NAIVE_PIXELS):
      drawn = pixel(params, drawn, z, index)
    return drawn

  cached = jax.jit(jax.vmap(decoder.sample, (None, 0, 0)))
  full_pass = jax.jit(jax.vmap(decoder.logits, (None, 0, 0)))
  naive = f'sampling, naive (from {NAIVE_PIXELS} of {num_pixels} pixels)'
  clocks = {
    'sampling, cached': clock(cached, params, z, rngs),
    'decoder, full pass': clock(full_pass, params, x, z),
    naive: clock(some_pixels, scale=num_pixels / NAIVE_PIXELS),
  }
  times = interleave(clocks, rounds)
  rows = {
    'sampling: cached / full pass': compare(
      times, 'sampling, cached', 'decoder, full pass', '<= 2.0'
    ),
    'sampling: naive / cached': compare(times, naive, 'sampling, cached', '>= 400'),
  }
  return Section(times, rows)


def main(rounds: int) -> None:
  """Measures everything, prints the tables, writes images.json."""
  times, rows, memory = {}, {}, {}
  # The train steps first: the high-water mark is theirs until the other ways of computing come
  for measure in (measure_training, measure_epoch, measure_sampling, measure_encoder):
    section = measure(rounds)
    times |= section.times
    rows |= section.rows
    memory[measure.__name__.removeprefix('measure_')] = timing.peak_megabytes()
  timing.show_and_save('images', Section(times, rows), memory, rounds)


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--quick', action='store_true', help='two rounds')
  parser.add_argument('--one-device', action='store_true', help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.one_device:
    serve_one_device()
  else:
    main(2 if options.quick else ROUNDS)
