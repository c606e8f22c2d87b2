"""End to end: what a run leaves, that a kill costs nothing, and what goes wrong is said clearly."""

import asyncio
import functools
import json
import os
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

from iavae import command_line, ensemble, freezing, train
from iavae.checkpoint import Checkpoints
from iavae.errors import NonFiniteError
from iavae.experiments import synthetic
from launcher import CONFIG, LONG, TINY, interrupt, launch, num_lines, parse, run_tiny

TABLE2_VAE = {'elbo', 'elbo_paper', 'kl', 'dead_units', 'amortization_gap'}
TABLE2_IA = {'elbo_mean', 'elbo_sd', 'elbo_paper_mean', 'elbo_paper_sd', 'kl_mean', 'kl_sd'}
TABLE3 = {'elbo', 'elbo_paper', 'kl', 'd_map', 'r_map'}
REFERENCES = {
  *('log_evidence', 'elbo_optimal', 'kl_optimal', 'approximation_gap'),
  *('amortization_gap_vae', 'amortization_gap_ia_vae'),
}
NOISE = 0.1


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A finished TINY run, in a directory with a space and a letter beyond ASCII."""
  workdir = tmp_path_factory.mktemp('runs') / 'a run ü'
  run_tiny(workdir)
  return workdir


@pytest.fixture(scope='module')
def unbroken(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('runs') / 'unbroken'
  run_tiny(workdir, LONG)
  return workdir


def results_of(workdir):
  return json.loads((workdir / 'results.json').read_text(encoding='utf8'))


def comparable(results):
  """Without the only two things in which equal runs differ: how long, and with which command."""
  provenance = {k: v for k, v in results['provenance'].items() if k != 'command'}
  return {k: v for k, v in results.items() if k != 'seconds'} | {'provenance': provenance}


def arrays_of(workdir):
  with np.load(workdir / 'per_example.npz') as file:
    return dict(file)


def assert_same_run(one, other):
  arrays = arrays_of(one)
  assert arrays.keys() == arrays_of(other).keys()
  for name, array in arrays_of(other).items():
    assert array.dtype == arrays[name].dtype
    assert array.tobytes() == arrays[name].tobytes(), name
  assert comparable(results_of(one)) == comparable(results_of(other))


def test_results_have_every_key(finished):
  results = results_of(finished)
  assert len(results['table2']) == 2
  for row in results['table2']:
    assert row.keys() == {'vae', 'ia_vae'}
    assert row['vae'].keys() >= TABLE2_VAE
    assert row['ia_vae'].keys() >= TABLE2_IA
  assert results['table3'].keys() == {'vae', 'ia_vae'}
  assert all(row.keys() >= TABLE3 for row in results['table3'].values())
  assert results['figure7']['vae'] == []
  assert results['figure7']['ia_vae']['num_parameters'] == 68
  assert results['references'].keys() >= REFERENCES
  assert results['controls'].keys() == {'vae', 'ia_vae'}
  assert results['refinement']['num_steps'] == [0, 2]
  assert results['seconds'].keys() >= {'pretrain', 'adapt', 'evaluate', 'total'}
  assert all(seconds > 0 for seconds in results['seconds'].values())
  assert results['provenance']['config']['data']['num_examples'] == 64
  assert results['provenance']['seed'] == 0


def exact_elbo(x, mean, log_scale):
  """E_q[log p(x | z)] - KL(q || p(z)), written out with the moments of a Gaussian, per example.

  x3 + 1 = (1 + z1) (1 + z2) + noise is a product of two independent factors under q.
  """
  variance = np.exp(2 * log_scale)
  squares = ((x[:, :2] - mean) ** 2 + variance).sum(axis=1)
  target = x[:, 2] + 1
  product = target**2 - 2 * target * (1 + mean).prod(axis=1)
  product += ((1 + mean) ** 2 + variance).prod(axis=1)
  log_likelihood = -0.5 * (squares + product) / NOISE**2 - 1.5 * np.log(2 * np.pi * NOISE**2)
  return log_likelihood - kl(mean, log_scale)


def kl(mean, log_scale):
  return 0.5 * (mean**2 + np.exp(2 * log_scale) - 1 - 2 * log_scale).sum(axis=1)


def log_joint(x, z):
  """log p(x | z) p(z) up to a constant."""
  decoded = np.stack([z[:, 0], z[:, 1], (1 + z).prod(axis=1) - 1], axis=1)
  return -0.5 * ((x - decoded) ** 2).sum(axis=1) / NOISE**2 - 0.5 * (z**2).sum(axis=1)


@pytest.mark.parametrize('name', ['vae', 'ia_vae'])
def test_table3_follows_from_the_numbers_of_every_example(finished, name):
  row, arrays = results_of(finished)['table3'][name], arrays_of(finished)
  x, mean, log_scale = arrays['x'], arrays[f'{name}_mean'], arrays[f'{name}_log_scale']
  elbo = exact_elbo(x, mean, log_scale)
  np.testing.assert_allclose(arrays[f'{name}_elbo'], elbo, rtol=1e-9)
  offset = mean - arrays['z_map']
  precision = np.linalg.inv(arrays['laplace_covariance'])
  distance = np.sqrt(np.einsum('ni,nij,nj->n', offset, precision, offset))
  ratio = np.exp(log_joint(x, mean) - log_joint(x, arrays['z_map']))
  assert row['elbo'] == pytest.approx(elbo.mean(), rel=1e-9)
  assert row['kl'] == pytest.approx(kl(mean, log_scale).mean(), rel=1e-9)
  assert row['d_map'] == pytest.approx(distance.mean(), rel=1e-9)
  assert row['r_map'] == pytest.approx(ratio.mean(), rel=1e-9, abs=1e-300)


def test_the_gaps_add_up(finished):
  results, arrays = results_of(finished), arrays_of(finished)
  references, pair = results['references'], results['table3_pair']
  assert references['log_evidence'] == pytest.approx(arrays['log_evidence'].mean(), rel=1e-9)
  assert references['elbo_optimal'] == pytest.approx(arrays['elbo_optimal'].mean(), rel=1e-9)
  assert np.all(arrays['log_evidence'] >= arrays['elbo_optimal'])
  assert np.all(arrays['elbo_optimal'] >= arrays['vae_elbo'] - 1e-9)
  assert np.all(arrays['elbo_optimal'] >= arrays['ia_vae_elbo'] - 1e-9)
  base = results['table2'][pair['base']]['vae']
  # By a program for two models and by one for one of them, in float64
  assert base['elbo'] == pytest.approx(results['table3']['vae']['elbo'], rel=1e-12)
  gap = (arrays['elbo_optimal'] - arrays['vae_elbo']).mean()
  assert base['amortization_gap'] == pytest.approx(gap, rel=1e-9)


def test_report_figures_and_metrics(finished):
  assert (finished / 'report.html').read_text(encoding='utf8').lower().startswith('<!doctype html>')
  figures = sorted((finished / 'figures').glob('*.png'))
  assert len(figures) >= 3
  assert all(path.read_bytes().startswith(b'\x89PNG\r\n\x1a\n') for path in figures)
  lines = [json.loads(line) for line in (finished / 'metrics.jsonl').read_text().splitlines()]
  assert [(line['stage'], line['epoch']) for line in lines] == [
    (stage, epoch) for stage in ('pretrain', 'adapt') for epoch in (1, 2, 3, 4)
  ]
  assert all(np.isfinite(line['elbo_mean']) and line['seconds'] > 0 for line in lines)


def test_the_same_command_again_only_evaluates(finished):
  def checkpoints():
    files = sorted((finished / 'checkpoints').rglob('*'))
    return {path: path.read_bytes() for path in files if path.is_file()}

  before, results, arrays = checkpoints(), results_of(finished), arrays_of(finished)
  metrics = (finished / 'metrics.jsonl').read_bytes()
  run_tiny(finished)
  assert checkpoints() == before
  assert (finished / 'metrics.jsonl').read_bytes() == metrics
  assert comparable(results_of(finished)) == comparable(results)
  assert all(
    array.tobytes() == arrays[name].tobytes() for name, array in arrays_of(finished).items()
  )


def restore(workdir, stage):
  program = ensemble.make_program(
    stage.method, optax.adam(1e-4), batch_size=1, max_epochs=1, patience=1, epochs_per_call=1
  )
  trained, frozen = freezing.partition(stage.params, stage.frozen)
  with Checkpoints(workdir / 'checkpoints' / stage.name) as checkpoints:
    state = checkpoints.restore(program.init(trained))
  return freezing.merge(state.params, frozen), state


def test_the_base_is_frozen_bit_for_bit(finished):
  """The encoder of every adapted model is the checkpointed base, and no checkpoint holds it."""
  config = parse(*TINY)
  _, x = synthetic.make_data(config.seed, config.data.num_examples, config.data.noise_scale)
  bases, _ = restore(finished, synthetic.pretrain_stage(config, x))
  start = synthetic.adapt_stage(config, x, bases)
  adapted, state = restore(finished, start)
  assert jax.tree.leaves(state.params['inference']['encoder']) == []
  expected = jax.tree.map(lambda a: np.repeat(a, 2, axis=0), bases['inference']['encoder'])
  found = adapted['inference']['encoder']
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
  trained, fresh = (p['inference']['hypernetwork'] for p in (adapted, start.params))
  changed = [np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (trained, fresh)), strict=True)]
  assert all(changed)
  # What was evaluated is what the checkpoints hold
  pair = results_of(finished)['table3_pair']
  model = pair['base'] * 2 + pair['seed']
  with jax.enable_x64(True):
    params = jax.tree.map(lambda a: jnp.asarray(np.asarray(a)[model], jnp.float64), adapted)
    data = jnp.asarray(np.asarray(x), jnp.float64)
    q = jax.vmap(functools.partial(start.method.infer, params), (0, None))(data, jax.random.key(0))
  np.testing.assert_allclose(q.mean, arrays_of(finished)['ia_vae_mean'], rtol=1e-9, atol=1e-12)


def test_killed_again_and_again_equals_unbroken(unbroken, tmp_path):
  workdir = tmp_path / 'killed'
  metrics, checkpoints = workdir / 'metrics.jsonl', workdir / 'checkpoints'
  moments = [
    lambda: any(path.is_file() for path in checkpoints.rglob('*')),  # amid the first save
    lambda: num_lines(metrics) >= 5,  # amid the first stage
    lambda: num_lines(metrics) >= 14,  # at the start of the second
    lambda: num_lines(metrics) >= 22,  # near its end
    lambda: (workdir / 'results.json').exists(),  # amid the evaluation's files
  ]
  for moment in moments:
    code, _ = interrupt(workdir, moment)
    assert code == -signal.SIGKILL
  run_tiny(workdir, LONG)
  assert_same_run(unbroken, workdir)
  leftovers = [p for p in checkpoints.rglob('*') if 'orbax-checkpoint-tmp' in p.name]
  assert leftovers == []


def test_a_damaged_checkpoint_costs_a_call_not_the_run(unbroken, tmp_path):
  workdir = tmp_path / 'damaged'
  interrupt(workdir, lambda: num_lines(workdir / 'metrics.jsonl') >= 6)
  steps = [p for p in (workdir / 'checkpoints' / 'pretrain').iterdir() if p.name.isdigit()]
  newest = max(steps, key=lambda path: int(path.name))
  (newest / 'default' / 'manifest.ocdbt').write_bytes(b'')
  done = launch(f'--config={CONFIG}', f'--workdir={workdir}', *LONG)
  # No claim about what TensorStore's threads print of their own while a read of theirs is failing
  assert done.returncode == 0, done.stderr
  assert f'step {newest.name} is damaged; trying the one before' in done.stderr
  assert_same_run(unbroken, workdir)


def test_a_truncated_line_of_metrics_does_not_stop_a_run(finished, tmp_path):
  """What a full disk or a power cut leaves."""
  workdir = tmp_path / 'truncated'
  shutil.copytree(finished, workdir)
  lines = (workdir / 'metrics.jsonl').read_bytes()
  (workdir / 'metrics.jsonl').write_bytes(lines[:-20])
  run_tiny(workdir)
  assert_same_run(finished, workdir)


def test_ctrl_c_is_not_lost_in_a_task_that_takes_it_for_a_cancellation():
  async def deaf():
    try:
      os.kill(os.getpid(), signal.SIGINT)
      await asyncio.sleep(1)
    except asyncio.CancelledError:
      pass

  before = signal.getsignal(signal.SIGINT)
  try:
    command_line.keep_interrupts()
    with pytest.raises(KeyboardInterrupt):
      asyncio.run(deaf())
  finally:
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_exits_with_130_and_says_how_to_go_on(tmp_path):
  code, err = interrupt(tmp_path, lambda: num_lines(tmp_path / 'metrics.jsonl') >= 2, signal.SIGINT)
  assert (code, err) == (130, 'interrupted; the same command resumes the run\n')


HYPERPARAMETERS = train.Hyperparameters(
  learning_rate=1e-2, batch_size=32, max_epochs=4, patience=100, epochs_per_call=1
)


def run_stage(stage, x, workdir):
  console = Console(quiet=True)
  return train.run(stage, x, HYPERPARAMETERS, seed=0, workdir=workdir, console=console)


def tiny_stage():
  config = parse(*TINY, '--config.num_bases=3')
  _, x = synthetic.make_data(0, 64, NOISE)
  return synthetic.pretrain_stage(config, x), x


def test_nan_names_the_model_and_the_epoch(tmp_path):
  stage, x = tiny_stage()
  poisoned = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), stage.params)
  with pytest.raises(NonFiniteError, match=r'stage pretrain: .* in model 1 in epoch 1;') as caught:
    run_stage(stage._replace(params=poisoned), x, tmp_path)
  assert caught.value.exit_code == 3
  assert 'learning_rate' in str(caught.value)


def test_nan_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
  """Two good epochs, then infinite data: the run ends, and goes on from epoch 2 with good data."""
  stage, x = tiny_stage()
  call, calls = ensemble.train_call, []

  def poison(program, state, frozen, rngs, shared_rng, x):
    calls.append(int(np.max(state.epoch)))
    x = x * jnp.inf if len(calls) == 3 else x
    return call(program, state, frozen, rngs, shared_rng, x)

  monkeypatch.setattr(ensemble, 'train_call', poison)
  with pytest.raises(NonFiniteError, match=r'in model 0, 1, 2 in epoch 3;'):
    run_stage(stage, x, tmp_path / 'poisoned')
  resumed = run_stage(stage, x, tmp_path / 'poisoned')
  assert calls == [0, 1, 2, 2, 3]
  expected = run_stage(stage, x, tmp_path / 'clean')
  for a, b in zip(*(jax.tree.leaves(t.params) for t in (resumed, expected)), strict=True):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_a_diverging_run_exits_with_3(tmp_path):
  done = launch(
    f'--config={CONFIG}', f'--workdir={tmp_path}', *TINY, '--config.training.learning_rate=1e30'
  )
  assert done.returncode == 3
  assert done.stderr.startswith('error: stage pretrain: NaN or infinity in model 0, 1 in epoch 1;')
  assert len(done.stderr.splitlines()) == 1
  assert not (tmp_path / 'results.json').exists()


def test_the_optimizer_of_an_ensemble_clips_and_falls_along_a_cosine():
  """Adam of a constant gradient steps by its rate; 10 examples are 3 batches of 4 an epoch."""
  options = HYPERPARAMETERS._replace(learning_rate=0.5, batch_size=4)
  params, gradient = jnp.zeros(1), jnp.full(1, 100.0)

  def sizes(hyperparameters, num_steps=6):
    optimizer = train._make_optimizer(hyperparameters, 2, 10)
    state, found = optimizer.init(params), []
    for _ in range(num_steps):
      updates, state = optimizer.update(gradient, state, params)
      found.append(-float(updates[0]))
    return found, state

  np.testing.assert_allclose(sizes(options)[0], 0.5, rtol=1e-4)
  falling, _ = sizes(options._replace(schedule='cosine'))
  np.testing.assert_allclose(falling, 0.25 * (1 + np.cos(np.pi * np.arange(6) / 6)), rtol=1e-3)
  _, state = sizes(options._replace(max_norm=2.0), num_steps=1)
  first_moment = next(leaf for leaf in jax.tree.leaves(state) if leaf.shape == (1,))
  assert float(first_moment[0]) == pytest.approx(0.1 * 2.0, rel=1e-5)
