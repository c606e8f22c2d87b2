"""How are programs timed against each other, and what is a ratio worth?

What is compared is measured in turns (A, B, A, B, ...) in one run on one machine. A target is met
or not by the ratio of the minima of wall time; nothing here passes or fails.
"""
# ruff: noqa: E402

import json
import os
import pathlib
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from iavae.command_line import configure_jax

os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # the targets are a CPU's
configure_jax()  # before jax loads

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from rich.console import Console
from rich.table import Table

from iavae.types import Array

BATCH_SIZE = 50  # the paper's
SHAPE = (28, 28, 1)

Clock = Callable[[], tuple[float, float]]  # runs something -> (wall seconds, CPU seconds)
Times = dict[str, dict[str, float]]


class Section(NamedTuple):
  """What a part of the benchmark found: times by name, rows of the table by name."""

  times: Times
  rows: dict[str, dict]


def clock(function: Callable, *args: Any, scale: float = 1.0) -> Clock:
  """Times function(*args) until its arrays are there; `scale` multiplies the times."""

  def run() -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(function(*args))
    return scale * (time.perf_counter() - wall), scale * (time.process_time() - cpu)

  return run


def interleave(clocks: dict[str, Clock], rounds: int, warm_up: bool = True) -> Times:
  """Milliseconds of each, measured in turns; the first round is not counted."""
  rows = [[run() for run in clocks.values()] for _ in range(rounds + warm_up)][warm_up:]
  times = {}
  for name, pairs in zip(clocks, zip(*rows, strict=True), strict=True):
    wall, cpu = ([1e3 * seconds for seconds in kind] for kind in zip(*pairs, strict=True))
    times[name] = {
      'wall_min': min(wall),
      'wall_median': statistics.median(wall),
      'cpu_min': min(cpu),
      'cpu_median': statistics.median(cpu),
    }
  return times


def judge(ratio: float, target: str) -> dict:
  """A row: a ratio, its target such as '<= 1.0' ('' for none), and whether it is met."""
  row = {'ratio': ratio}
  if not target:
    return row
  sign, bound = target.split()
  is_met = ratio <= float(bound) if sign == '<=' else ratio >= float(bound)
  return row | {'target': target, 'met': is_met}


def compare(times: Times, above: str, below: str, target: str = '') -> dict:
  """The row of a quotient of times: the minima of wall time decide; medians and CPU time beside."""
  quotient = {key: times[above][key] / times[below][key] for key in times[above]}
  beside = {'of_medians': quotient['wall_median'], 'of_cpu': quotient['cpu_min']}
  return judge(quotient['wall_min'], target) | beside


def compiled(function: Callable, *args: Any) -> Any:
  return jax.jit(function).lower(*args).compile()


def shapes_of(tree: Any) -> Any:
  return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)


def count_flops(function: Callable, *args: Any) -> float:
  """By XLA, on one device; the body of a loop is counted once, so there must be none."""
  return compiled(function, *shapes_of(args)).cost_analysis()['flops']


def noise(seed: int, *shape: int) -> Array:
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def binary(seed: int, *shape: int) -> Array:
  return (noise(seed, *shape) > 0).astype(jnp.float32)


def temporary_megabytes(program: Any) -> float:
  """What the program allocates, without arguments and results; on all devices."""
  return program.memory_analysis().temp_size_in_bytes * jax.device_count() / 1e6


def peak_megabytes() -> float:
  """Of this process so far."""
  scale = 1e6 if sys.platform == 'darwin' else 1e3
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def show_and_save(name: str, section: Section, memory: dict[str, float], rounds: int) -> None:
  """Prints the tables, writes benchmarks/<name>.json; memory: megabytes at peak by name."""
  device = jax.devices()[0]
  machine = {
    'device': f'{jax.device_count()} x {device.device_kind} ({platform.machine()})',
    'cores': len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count(),
    'python': platform.python_version(),
    'jax': jax.__version__,
    'jaxlib': jaxlib.__version__,
  }
  results = {
    'ratios': section.rows,
    'milliseconds': section.times,
    'peak_memory_mb': memory,
    'machine': machine,
    'rounds': rounds,
  }
  print_tables(results)
  path = pathlib.Path(__file__).parent / f'{name}.json'
  path.write_text(json.dumps(results, indent=1) + '\n')


def print_tables(results: dict) -> None:
  """Ratios with their targets, then times."""
  table = Table('what', 'ratio', 'of medians', 'of CPU time', 'target', 'met')
  for name, row in results['ratios'].items():
    beside = [f'{row[key]:.2f}' if key in row else '' for key in ('of_medians', 'of_cpu')]
    met = {True: 'yes', False: 'no'}.get(row.get('met'), '')
    table.add_row(name, f'{row["ratio"]:.2f}', *beside, row.get('target', ''), met)
  times = Table('milliseconds', 'wall, min', 'wall, median', 'CPU, min', 'CPU, median')
  for name, row in results['milliseconds'].items():
    times.add_row(name, *(f'{value:.1f}' for value in row.values()))
  console = Console(width=110)
  console.print(table)
  console.print(times)
  console.print(json.dumps(results['peak_memory_mb'] | results['machine']))
