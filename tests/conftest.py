"""Shared set-up, before JAX is imported: two virtual devices, a compilation cache, quick compiling.

Most of the time of these tests is compilation, so XLA is told to optimize little. They hold
whatever code it generates: bits are compared only where one program ran twice or nothing was
computed, all else to a stated tolerance (see `rounding`).
"""

import os
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
os.environ.setdefault(
  'XLA_FLAGS', '--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0'
)
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(ROOT / '.cache' / 'xla'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')

import jax  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture
def x64():
  """Float64 for one test."""
  with jax.enable_x64(True):
    yield
