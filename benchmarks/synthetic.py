"""How fast is the synthetic experiment, against the obvious way to write it?

  make bench

Prints a table and writes benchmarks/results.json: {name: {'ratio': ..., ...}}. Every ratio is of
two things measured in the same run on the same machine; nothing here passes or fails.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parent.parent
TABLE2_ONLY = ('controls', 'widths', 'refinement_steps')
NAIVE_STEPS = 300
STEPS = 157  # of an epoch: 5000 examples in batches of 32


def launch(directory: pathlib.Path, cache: pathlib.Path, *options: str) -> subprocess.Popen:
  """launch.py on the paper's bases and IA-VAEs alone, with a compilation cache of its own."""
  command = [sys.executable, 'launch.py', '--config=configs/synthetic.py', f'--workdir={directory}']
  command += [f'--config.{key}=()' for key in TABLE2_ONLY] + list(options)
  environment = os.environ | {'JAX_COMPILATION_CACHE_DIR': str(cache)}
  return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def measure_table2(scratch: pathlib.Path) -> dict[str, float]:
  """The 110 models of Table 2 from a cold start: wall seconds, peak memory, time per model-step."""
  began = time.perf_counter()
  process = launch(scratch / 'table2', scratch / 'cold')
  _, status, usage = os.wait4(process.pid, 0)
  seconds = time.perf_counter() - began
  if status:
    raise SystemExit('the run of Table 2 failed')
  metrics = (scratch / 'table2' / 'metrics.jsonl').read_text().splitlines()
  lines = [json.loads(line) for line in metrics]
  adapt = [line for line in lines if line['stage'] == 'adapt']
  # The second call has compiled nothing, and all 100 models are still in training in it
  epochs = adapt[1]['epoch'] - adapt[0]['epoch']
  return {
    'seconds': seconds,
    'peak_memory_mb': usage.ru_maxrss / 1024,
    'us_per_model_step': adapt[1]['seconds'] / (epochs * STEPS * 100) * 1e6,
    'model_steps': model_steps(lines),
  }


def model_steps(lines: list[dict]) -> float:
  """Training steps of all models of a run, at least: one that stops in a call counts until it."""
  total, previous = 0, {}
  for line in lines:
    epochs = line['epoch'] - previous.get(line['stage'], 0)
    previous[line['stage']] = line['epoch']
    total += epochs * line['num_training'] * STEPS
  return total


def measure_start(scratch: pathlib.Path) -> dict[str, float]:
  """Seconds from the command to the end of the first epoch: cold, then with a warm cache."""
  seconds = {}
  for name in ('cold', 'warm'):
    began = time.perf_counter()
    directory = scratch / f'start_{name}'
    options = ('--config.training.epochs_per_call=1', '--config.training.max_epochs=1')
    process = launch(directory, scratch / 'start', *options)
    while not (directory / 'metrics.jsonl').exists() and process.poll() is None:
      time.sleep(0.01)
    seconds[name] = time.perf_counter() - began
    process.wait()
  return seconds


def measure_naive_step() -> float:
  """Microseconds of a training step of one IA-VAE: jit, vmap over the batch, a Python loop.

  The definition as the paper writes it: per-example weights, one block after another.
  """
  import jax
  import optax

  from iavae import freezing, networks
  from iavae.experiments.synthetic import make_data
  from iavae.inference import instance_adaptive
  from iavae.models import synthetic

  encoder = networks.mlp((2,), {'mean': 2, 'log_var': 2})
  method = instance_adaptive.make(synthetic.make(), encoder, factored=False)
  _, x = make_data(seed=0, num_examples=5000, noise_scale=0.1)
  params = method.init(jax.random.key(0), x[0])
  trained, frozen = freezing.partition(params, instance_adaptive.FROZEN)
  optimizer = optax.adam(1e-4)

  @jax.jit
  def step(trained, opt_state, batch, rng):
    def loss(trained):
      full, rngs = freezing.merge(trained, frozen), jax.random.split(rng, len(batch))
      return jax.vmap(lambda x, rng: method.loss(full, x, rng, 1.0)[0])(batch, rngs).mean()

    updates, opt_state = optimizer.update(jax.grad(loss)(trained), opt_state)
    return optax.apply_updates(trained, updates), opt_state

  state, best = (trained, optimizer.init(trained)), float('inf')
  for _ in range(4):  # the first round compiles
    began = time.perf_counter()
    for i in range(NAIVE_STEPS):
      start = 32 * (i % 156)
      state = step(*state, x[start : start + 32], jax.random.fold_in(jax.random.key(1), i))
    jax.block_until_ready(state)
    best = min(best, time.perf_counter() - began)
  return best / NAIVE_STEPS * 1e6


def main() -> None:
  """Measures everything, prints the table, writes results.json."""
  from rich.console import Console
  from rich.table import Table

  with tempfile.TemporaryDirectory() as name:
    scratch = pathlib.Path(name)
    table2, start = measure_table2(scratch), measure_start(scratch)
  naive = measure_naive_step()
  results = {
    # The loop would need its time per step for every step that these models took
    'table2_one_at_a_time_over_together': {
      'ratio': naive * 1e-6 * table2['model_steps'] / table2['seconds'],
      'together_seconds': table2['seconds'],
      'together_peak_memory_mb': table2['peak_memory_mb'],
    },
    'model_step_one_at_a_time_over_together': {
      'ratio': naive / table2['us_per_model_step'],
      'one_at_a_time_us': naive,
      'together_us': table2['us_per_model_step'],
    },
    'first_epoch_cold_over_warm_start': {
      'ratio': start['cold'] / start['warm'],
      'cold_seconds': start['cold'],
      'warm_seconds': start['warm'],
    },
  }
  table = Table('what', 'ratio', 'measured')
  for name, row in results.items():
    measured = ', '.join(f'{key} {value:.4g}' for key, value in row.items() if key != 'ratio')
    table.add_row(name, f'{row["ratio"]:.2f}', measured)
  Console(width=140).print(table)
  (ROOT / 'benchmarks' / 'results.json').write_text(json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
  main()
