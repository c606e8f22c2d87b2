"""Checkpoints: bit for bit, the newest that is intact, and never another model's."""

import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iavae import checkpoint
from iavae.checkpoint import Checkpoints
from iavae.errors import ConfigError

TREE = {
  'weights': jnp.array([[jnp.nan, -0.0, jnp.inf], [1e-45, 3.4e38, -1.0]], jnp.float32),
  'frozen': None,
  'counts': (jnp.array([-1, 2**31 - 1], jnp.int32), jnp.array(7, jnp.int32)),
  'flags': [jnp.array([True, False])],
}


def tree_of(step):
  return {'a': jnp.full((2, 3), step, jnp.float32), 'b': jnp.array(step, jnp.int32)}


def save(directory, *steps):
  with Checkpoints(directory) as checkpoints:
    for step in steps:
      checkpoints.save(step, tree_of(step))


def restored_step(directory):
  with Checkpoints(directory) as checkpoints:
    tree = checkpoints.restore(tree_of(0))
  np.testing.assert_array_equal(tree['a'], np.full((2, 3), int(tree['b'])))
  return int(tree['b'])


def largest_file(directory):
  return max((p for p in directory.rglob('*') if p.is_file()), key=lambda p: p.stat().st_size)


def flip(directory):
  """Flips one bit in the values of leaf `a` where they lie uncompressed, else in its midst."""
  path = largest_file(directory)
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def truncate(directory):
  path = largest_file(directory)
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
  'flipped bit': flip,
  'truncated file': truncate,
  'deleted file': lambda directory: largest_file(directory).unlink(),
  'deleted metadata': lambda directory: (directory / 'default' / '_METADATA').unlink(),
  'deleted manifest': lambda directory: (directory / 'default' / 'manifest.ocdbt').unlink(),
  'deleted arrays': lambda directory: shutil.rmtree(directory / 'default'),
}


def test_round_trip_is_exact_bit_for_bit(tmp_path):
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, TREE)
  with Checkpoints(tmp_path) as checkpoints:
    restored = checkpoints.restore(jax.tree.map(jnp.zeros_like, TREE))
  assert jax.tree.structure(restored) == jax.tree.structure(TREE)
  for old, new in zip(jax.tree.leaves(TREE), jax.tree.leaves(restored), strict=True):
    assert (old.dtype, old.shape) == (new.dtype, new.shape)
    assert np.asarray(old).tobytes() == np.asarray(new).tobytes()


def test_an_empty_directory_holds_nothing(tmp_path):
  with Checkpoints(tmp_path / 'new') as checkpoints:
    assert checkpoints.restore(TREE) is None


def test_the_newest_is_restored_and_two_are_kept(tmp_path):
  save(tmp_path, 1, 2, 10)
  assert restored_step(tmp_path) == 10
  assert sorted(p.name for p in tmp_path.iterdir() if p.name.isdigit()) == ['10', '2']


def test_values_that_changed_in_silence_are_found_by_the_digest(tmp_path, monkeypatch, caplog):
  """A file that decodes without complaint to other values: what Orbax itself does not notice."""
  save(tmp_path, 1)
  with monkeypatch.context() as patch:
    digest = checkpoint._digest
    patch.setattr(checkpoint, '_digest', lambda leaves: digest(leaves | {'b': np.int32(0)}))
    save(tmp_path, 2)
  with caplog.at_level(logging.WARNING):
    assert restored_step(tmp_path) == 1
  assert 'step 2 is damaged' in caplog.text


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_newest_step_is_skipped_with_a_warning_and_replaced(damage, tmp_path, caplog):
  save(tmp_path, 1, 2)
  DAMAGES[damage](tmp_path / '2')
  with caplog.at_level(logging.WARNING), Checkpoints(tmp_path) as checkpoints:
    assert int(checkpoints.restore(tree_of(0))['b']) == 1
    checkpoints.save(2, tree_of(2))  # as the run does that resumes from step 1
  assert caplog.messages == [f'checkpoint {tmp_path} step 2 is damaged; trying the one before']
  assert restored_step(tmp_path) == 2


@pytest.mark.parametrize('damage', DAMAGES)
def test_all_damaged_is_an_error_not_a_fresh_start(damage, tmp_path):
  save(tmp_path, 1, 2)
  for step in ('1', '2'):
    DAMAGES[damage](tmp_path / step)
  with Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(ConfigError) as caught:
      checkpoints.restore(tree_of(0))
  expected = f'every checkpoint in {tmp_path} is damaged; delete it to train this stage again'
  assert str(caught.value) == expected
  assert {p.name for p in tmp_path.iterdir()} >= {'1', '2'}


@pytest.mark.parametrize(
  ('like', 'row'),
  [
    ({'a': jnp.zeros((2, 3))}, 'b: int32[] in the checkpoint, missing in the config'),
    (tree_of(0) | {'c': jnp.zeros(4)}, 'c: missing in the checkpoint, float32[4] in the config'),
    (
      tree_of(0) | {'a': jnp.zeros((3, 2))},
      'a: float32[2, 3] in the checkpoint, float32[3, 2] in the config',
    ),
    (
      tree_of(0) | {'a': jnp.zeros((2, 3), jnp.bfloat16)},
      'a: float32[2, 3] in the checkpoint, bfloat16[2, 3] in the config',
    ),
    (tree_of(0) | {'b': jnp.uint32(0)}, 'b: int32[] in the checkpoint, uint32[] in the config'),
  ],
)
def test_the_checkpoint_of_another_model_is_refused_leaf_by_leaf(like, row, tmp_path):
  save(tmp_path, 1)
  with Checkpoints(tmp_path) as checkpoints, pytest.raises(ConfigError) as caught:
    checkpoints.restore(like)
  assert str(caught.value).splitlines() == [
    f'the checkpoint in {tmp_path} is of another model, or of another version of '
    'iavae; use another --workdir',
    f'  {row}',
  ]


@pytest.mark.parametrize('step', [1, 2])
def test_an_old_step_is_not_saved_again(step, tmp_path):
  save(tmp_path, 1, 2)
  with pytest.raises(RuntimeError, match=f'already holds step {step} or a newer one'):
    save(tmp_path, step)
  assert restored_step(tmp_path) == 2


def test_leftovers_of_a_killed_save_are_removed(tmp_path):
  save(tmp_path, 1)
  leftover = tmp_path / '2.orbax-checkpoint-tmp'
  shutil.copytree(tmp_path / '1', leftover)
  assert restored_step(tmp_path) == 1
  assert not leftover.exists()
  save(tmp_path, 2)
  assert restored_step(tmp_path) == 2
