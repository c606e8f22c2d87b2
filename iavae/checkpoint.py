"""Checkpoints: what survives a kill? The only file that knows Orbax.

A checkpoint is a flat dict {leaf name: array} and the SHA-256 digest of all of it, saved by Orbax
in one atomic step. Restoring verifies the digest, the names, the shapes and the types; a damaged
newest step is skipped, with a warning, for the one before it.
"""

import hashlib
import logging
import pathlib
from typing import TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging

from iavae.errors import ConfigError

Tree = TypeVar('Tree')
_DIGEST = 'sha256'
# Orbax logs with tracebacks what it raises too, and asyncio the reads that fail beside the first
absl_logging.set_verbosity(absl_logging.FATAL)
logging.getLogger('asyncio').setLevel(logging.CRITICAL)


def _flatten(tree: Tree) -> dict[str, np.ndarray]:
  leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(tree))
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(leaf)
    for path, leaf in leaves
  }


def _digest(leaves: dict[str, np.ndarray]) -> np.ndarray:
  digest = hashlib.sha256()
  for name in sorted(leaves):
    leaf = np.ascontiguousarray(leaves[name])
    digest.update(f'{name} {leaf.dtype} {leaf.shape}'.encode() + leaf.tobytes())
  return np.frombuffer(digest.digest(), np.uint8)


def _check_leaves(found: dict[str, np.ndarray], like: dict[str, np.ndarray], where: str) -> None:
  """Raises ConfigError with a table of the leaves that differ in presence, shape or type."""

  def describe(leaves: dict[str, np.ndarray], name: str) -> str:
    return f'{leaves[name].dtype}{list(leaves[name].shape)}' if name in leaves else 'missing'

  rows = [
    f'  {name}: {describe(found, name)} in the checkpoint, {describe(like, name)} in the config'
    for name in sorted(found.keys() | like.keys())
    if describe(found, name) != describe(like, name)
  ]
  if rows:
    raise ConfigError(
      f'the checkpoint in {where} is of another model, or of another version of iavae; use another '
      '--workdir\n' + '\n'.join(rows)
    )


def require_finished(is_finished: bool, stage: str, workdir: pathlib.Path) -> None:
  """Raises ConfigError for a stage that would have to be trained first."""
  if not is_finished:
    raise ConfigError(
      f'{workdir} has no checkpoint of the finished stage {stage}; the same command without '
      '--mode=gaps trains it'
    )


class Checkpoints:
  """The checkpoints of one stage, newest last; a context manager that waits for pending saves."""

  def __init__(self, directory: pathlib.Path, keep: int = 2):
    """Opens or creates `directory` (absolute) and removes what a kill left half-written."""
    self.directory = directory
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
    self._manager = ocp.CheckpointManager(directory, options=options)
    self._damaged: list[int] = []  # newer than the one that was restored

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *_: object) -> None:
    self._manager.close()

  def save(self, step: int, tree: Tree) -> None:
    """Saves in the background; a failure is raised by the next save or on leaving.

    Raises:
      RuntimeError: if the directory holds this step or a newer one, unless `restore` found it
        damaged: such a step makes way.
    """
    leaves = _flatten(tree)
    while self._damaged:
      self._manager.delete(self._damaged.pop())
    saved = self._manager.save(
      step, args=ocp.args.StandardSave(leaves | {_DIGEST: _digest(leaves)})
    )
    if not saved:
      raise RuntimeError(f'{self.directory} already holds step {step} or a newer one')

  def restore(self, like: Tree) -> Tree | None:
    """The newest intact checkpoint as a tree like `like`; None if there is none.

    Raises:
      ConfigError: if its leaves differ from `like` in name, shape or type, or if there are
        checkpoints and all are damaged: to start over in silence would hide the loss.
    """
    like_leaves = _flatten(like)
    steps = sorted(self._manager.all_steps(), reverse=True)
    for i, step in enumerate(steps):
      leaves = self._read(step)
      if leaves is not None:
        self._damaged = steps[:i]
        _check_leaves(leaves, like_leaves, str(self.directory))
        return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in like_leaves])
    if steps:
      raise ConfigError(
        f'every checkpoint in {self.directory} is damaged; delete it to train this stage again'
      )
    return None

  def _read(self, step: int) -> dict[str, np.ndarray] | None:
    """Leaves of one step, None if it is damaged."""
    try:
      # Not through the manager, which reads no step at all if the newest lacks a part
      with ocp.StandardCheckpointer() as reader:
        leaves = dict(reader.restore(self.directory / str(step) / 'default'))
      digest = leaves.pop(_DIGEST)
      intact = np.array_equal(digest, _digest(leaves))
    except (ValueError, KeyError, OSError, TypeError) as error:
      logging.debug('step %d: %s', step, error)
      intact = False
    if not intact:
      logging.warning(
        'checkpoint %s step %d is damaged; trying the one before', self.directory, step
      )
      return None
    return leaves
