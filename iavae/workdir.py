"""The work directory: whose is it, which config does it hold, and how is a file written whole?"""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from iavae.config import differences
from iavae.errors import BusyError, ConfigError


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a file whole or not at all."""
  temporary = path.with_name(f'.{path.name}.tmp')
  temporary.write_text(text, encoding='utf8')
  os.replace(temporary, path)


def write_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes an .npz whole or not at all."""
  temporary = path.with_name(f'.{path.name}.tmp')
  with open(temporary, 'wb') as file:
    np.savez_compressed(file, **arrays)
  os.replace(temporary, path)


@contextlib.contextmanager
def claim(workdir: pathlib.Path, config: dict[str, Any]) -> Iterator[None]:
  """Holds a work directory for one run of one config.

  The lock is the operating system's, so a killed run leaves none behind.

  Raises:
    ConfigError: if the directory cannot be written or holds a run of another config.
    BusyError: if another process holds it.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    lock = open(workdir / '.lock', 'a+', encoding='utf8')
  except OSError as error:
    raise ConfigError(
      f'cannot write to {workdir}: {error.strerror}; choose another --workdir'
    ) from None
  with lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      lock.seek(0)
      owner = lock.read().strip() or 'another process'
      raise BusyError(f'{workdir} is in use by {owner}; wait, or use another --workdir') from None
    lock.truncate(0)
    lock.write(f'process {os.getpid()} on {socket.gethostname()}')
    lock.flush()
    _check_config(workdir, config)
    yield


def _check_config(workdir: pathlib.Path, config: dict[str, Any]) -> None:
  path = workdir / 'config.json'
  if not path.exists():
    write_text(path, json.dumps(config, indent=2) + '\n')
    return
  try:
    changed = differences(json.loads(path.read_text(encoding='utf8')), config)
  except (ValueError, TypeError, AttributeError):  # no JSON, or no dict in it
    raise ConfigError(f'{path} is damaged; restore it, or use another --workdir') from None
  if changed:
    raise ConfigError(
      f'{workdir} holds a run of another config; use another --workdir (there -> here):\n  '
      + '\n  '.join(changed)
    )
