"""Provenance: which code, versions and machine made these numbers?"""

import importlib.metadata
import pathlib
import platform
import shlex
import subprocess
import sys
from typing import Any

import jax
from ml_collections import ConfigDict

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy', 'scipy')


def git_commit() -> str:
  """Commit of this checkout, with '+' if it has uncommitted changes; 'unknown' outside git."""

  def git(*arguments: str) -> str:
    here = pathlib.Path(__file__).parent
    command = ['git', *arguments]
    return subprocess.run(command, cwd=here, check=True, capture_output=True, text=True).stdout

  try:
    changed = git('status', '--porcelain', '--untracked-files=no')
    return git('rev-parse', 'HEAD').strip() + ('+' if changed else '')
  except (OSError, subprocess.CalledProcessError):
    return 'unknown'


def describe(config: ConfigDict) -> dict[str, Any]:
  """command, config, seed, git commit, versions, device; ready for JSON."""
  device = jax.devices()[0]
  return {
    'command': shlex.join(['python', *sys.argv]),
    'config': config.to_dict(),
    'seed': config.seed,
    'git_commit': git_commit(),
    'versions': {'python': platform.python_version()}
    | {name: importlib.metadata.version(name) for name in PACKAGES},
    'device': f'{len(jax.devices())} x {device.device_kind} ({platform.machine()})',
  }
