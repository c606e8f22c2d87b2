"""The work directory of a run: its lock, the config and the data that it is bound to, whole files.

It is bound to what its numbers are trained from. What may change, without training anything again:
all that is only evaluated, where the data lie, and how many seeds there are, which may grow.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from iavae.config import ABSENT, differences
from iavae.errors import BusyError, ConfigError

# Keys and sections that no training depends on; whether the data are the same, their digests tell
_FREE = (
  *('changed', 'data.path', 'data.directory', 'evaluation', 'gaps', 'refinement_steps'),
  *('cost.num_steps', 'cost.num_examples'),
)


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
def claim(
  workdir: pathlib.Path,
  config: dict[str, Any],
  digests: Mapping[str, str] | None = None,
  *,
  grows: tuple[str, ...] = (),
) -> Iterator[None]:
  """Holds a work directory for one run of one config on the same data.

  The lock is the operating system's, so a killed run leaves none behind.

  Args:
    digests: of the data, by the name of a part; None where the config says all of them.
    grows: keys of the config whose values may be larger than those that the directory holds.

  Raises:
    ConfigError: if the directory cannot be written, or holds a run of another config, of other
      data, or of another version of this code; nothing in it changes.
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
    _check_config(workdir, config, grows)
    _check_data(workdir, digests or {})
    _write_json(workdir / 'config.json', config)
    if digests:
      _write_json(workdir / 'data.json', dict(digests))
    yield


def _check_config(workdir: pathlib.Path, config: dict[str, Any], grows: tuple[str, ...]) -> None:
  held = _read_json(workdir / 'config.json')
  if held is None:
    return
  changed = {
    key: values
    for key, values in differences(held, config).items()
    if not (_is_free(key) or (key in grows and ABSENT not in values and values[0] < values[1]))
  }
  if not changed:
    return
  lines = '\n  '.join(f'{key}: {old} -> {new}' for key, (old, new) in changed.items())
  if _is_other_version(held, config):
    raise other_version(workdir, f'there -> here:\n  {lines}')
  raise ConfigError(
    f'{workdir} holds a run of another config; use another --workdir (there -> here):\n  {lines}'
  )


def other_version(workdir: pathlib.Path, details: str) -> ConfigError:
  """The error about a directory whose config has other keys than this version knows."""
  return ConfigError(
    f'{workdir} holds a run of another version of iavae; go on with that version (git_commit in '
    f'its results.json), or use another --workdir; {details}'
  )


def _is_other_version(held: dict[str, Any], config: dict[str, Any]) -> bool:
  """Whether two configs of one experiment and method have different keys."""
  same = all(held.get(key) == config.get(key) for key in ('experiment', 'method'))
  absent = (ABSENT in values for values in differences(held, config).values())
  return same and any(absent)


def holds(workdir: pathlib.Path, config: dict[str, Any]) -> bool:
  """Whether the config of a directory is this one, to the last key."""
  held = _read_json(workdir / 'config.json')
  return held is not None and not differences(held, config)


def _is_free(key: str) -> bool:
  return key in _FREE or key.partition('.')[0] in _FREE


def _check_data(workdir: pathlib.Path, digests: Mapping[str, str]) -> None:
  """Raises ConfigError if a part of the data is not what the directory was made from."""
  if not digests:
    return
  held = _read_json(workdir / 'data.json')
  if held is None:  # older directories tell it in their results only
    results = _read_json(workdir / 'results.json') or {}
    held = results.get('data', {}).get('digests', {})
  others = [part for part in digests if held.get(part, digests[part]) != digests[part]]
  if others:
    raise ConfigError(
      f'{workdir} holds a run on other data: {", ".join(others)} differ; give the images that it '
      'was made from, or use another --workdir'
    )


def _read_json(path: pathlib.Path) -> dict[str, Any] | None:
  """A JSON object, or None where there is no such file."""
  try:
    held = json.loads(path.read_text(encoding='utf8'))
  except FileNotFoundError:
    return None
  except ValueError:
    held = None
  if not isinstance(held, dict):
    raise ConfigError(f'{path} is damaged; restore it, or use another --workdir')
  return held


def _write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
  write_text(path, json.dumps(value, indent=2) + '\n')
