"""Helpers of the end-to-end tests: launch.py in a subprocess, on a run that takes seconds."""

import pathlib
import signal
import subprocess
import sys
import time

from absl import flags
from ml_collections import config_flags

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = ROOT / 'configs' / 'synthetic.py'
TINY = (
  '--config.num_bases=2',
  '--config.num_seeds=2',
  '--config.data.num_examples=64',
  '--config.training.max_epochs=4',
  '--config.training.epochs_per_call=1',
  '--config.controls=()',
  '--config.widths=()',
  '--config.refinement_steps=(0,2)',
)
# Many calls in a stage, so that a kill finds one in the middle
LONG = tuple(a.replace('max_epochs=4', 'max_epochs=30') for a in TINY)

_HANGS = (
  1800  # seconds; no run here takes as long, not on a busy machine and without a cache either
)


def command(*arguments: object) -> list[str]:
  return [sys.executable, str(ROOT / 'launch.py'), *map(str, arguments)]


def launch(*arguments: object, cwd: pathlib.Path = ROOT) -> subprocess.CompletedProcess:
  """launch.py, to its end; it inherits the compilation cache of conftest.py."""
  return subprocess.run(
    command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=_HANGS
  )


def run_tiny(workdir: pathlib.Path, overrides: tuple[str, ...] = TINY) -> str:
  """A run that has to succeed; returns its stdout."""
  return succeed(f'--config={CONFIG}', f'--workdir={workdir}', *overrides)


def succeed(*arguments: object) -> str:
  """launch.py, which has to end well; returns its stdout."""
  done = launch(*arguments)
  assert done.returncode == 0, done.stderr
  assert 'Traceback' not in done.stderr and 'Warning' not in done.stderr, done.stderr
  return done.stdout


def interrupt(
  workdir: pathlib.Path, moment, how: signal.Signals = signal.SIGKILL
) -> tuple[int, str]:
  """Starts a LONG run and sends a signal once moment() is true; returns (exit code, stderr)."""
  process = subprocess.Popen(
    command(f'--config={CONFIG}', f'--workdir={workdir}', *LONG),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )
  give_up = time.monotonic() + _HANGS
  while process.poll() is None and not moment() and time.monotonic() < give_up:
    time.sleep(0.002)
  process.send_signal(how)  # does nothing to a process that poll() saw ending
  return process.wait(), process.stderr.read()


def num_lines(path: pathlib.Path) -> int:
  return path.read_bytes().count(b'\n') if path.exists() else 0


def parse(*overrides: str):
  """configs/synthetic.py with overrides, parsed as launch.py parses it, in this process."""
  values = flags.FlagValues()
  argv = ['launch.py', f'--config={CONFIG}', *overrides]
  config_flags.DEFINE_config_file('config', None, '', values, lock_config=True, sys_argv=argv)
  values(argv)
  return values.config
