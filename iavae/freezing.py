"""Which leaves does a stage train, and which stay as they are?"""

import jax

from iavae.types import Params


def is_below(name: str, paths: tuple[str, ...]) -> bool:
  """Whether a leaf such as 'inference/encoder/mean/kernel' is at or below one of the paths."""
  return any(name == path or name.startswith(path + '/') for path in paths)


def partition(params: Params, frozen_paths: tuple[str, ...]) -> tuple[Params, Params]:
  """Splits params into (trained, frozen), each with None for the leaves of the other.

  Frozen leaves never meet the optimizer, so they stay bit-identical.

  Args:
    frozen_paths: prefixes such as 'inference/encoder'.

  Raises:
    ValueError: for a prefix that matches no leaf.
  """
  names = {jax.tree_util.keystr(p, simple=True, separator='/') for p, _ in
           jax.tree_util.tree_leaves_with_path(params)}  # fmt: skip
  for prefix in frozen_paths:
    if not any(is_below(name, (prefix,)) for name in names):
      raise ValueError(f'nothing to freeze at {prefix!r}; leaves: {", ".join(sorted(names))}')

  def is_frozen(path: jax.tree_util.KeyPath) -> bool:
    return is_below(jax.tree_util.keystr(path, simple=True, separator='/'), frozen_paths)

  trained = jax.tree_util.tree_map_with_path(lambda p, a: None if is_frozen(p) else a, params)
  frozen = jax.tree_util.tree_map_with_path(lambda p, a: a if is_frozen(p) else None, params)
  return trained, frozen


def merge(trained: Params, frozen: Params) -> Params:
  """The inverse of `partition`."""
  return jax.tree.map(
    lambda a, b: b if a is None else a, trained, frozen, is_leaf=lambda leaf: leaf is None
  )
