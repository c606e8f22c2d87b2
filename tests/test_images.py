"""The image experiment: its config is checked, its results have the public schema."""

import json
import shutil

import numpy as np
import pytest

import launch as program
from configs import default, digits, fashion_mnist, mnist, omniglot
from iavae import config as config_lib
from iavae import experiments
from iavae.errors import ConfigError
from iavae.experiments import image_evaluation, images
from iavae.experiments.image_checks import load_data
from iavae.experiments.image_variants import CONTROLS
from launcher import ROOT, succeed

CONFIGS = {'digits': digits, 'mnist': mnist, 'fashion_mnist': fashion_mnist, 'omniglot': omniglot}
ROW = {
  *('dataset', 'protocol', 'preset', 'method', 'seed', 'split', 'num_examples'),
  *('elbo', 'kl', 'log_likelihood', 'iwae', 'iwae_samples'),
}
COMPARISON = {
  *('a', 'b', 'metric', 'mean_difference', 'ci95', 'p_value', 'test', 'effect_size', 'num_seeds')
}
TINY = (
  f'--config={ROOT / "configs" / "digits.py"}:reduced',
  '--config.experiment=controls',
  '--config.controls=("shuffled",)',
  '--config.num_seeds=2',
  '--config.data.num_train=60',
  '--config.data.num_validation=30',
  '--config.data.num_test=30',
  '--config.training.batch_size=20',
  '--config.model.encoder_width=4',
  '--config.model.encoder_blocks=1',
  '--config.model.decoder_width=4',
  '--config.model.kernel_sizes=(3,)',
  '--config.pretrain.num_epochs=2',
  '--config.adapt.num_epochs=1',
  '--config.evaluation.num_samples=2',
  '--config.evaluation.iwae_samples=3',
)


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  directory = tmp_path_factory.mktemp('images')
  succeed(*TINY, f'--workdir={directory}')
  return directory


@pytest.fixture(scope='module')
def results(workdir):
  return json.loads((workdir / 'results.json').read_text())


def test_rows_have_the_schema(results):
  methods = ['base', 'instance_adaptive', 'shuffled']
  found = [(row['seed'], row['split'], row['method']) for row in results['rows']]
  assert found == [(s, p, m) for s in (0, 1) for p in ('validation', 'test') for m in methods]
  for row in results['rows']:
    assert set(row) == ROW
    assert (row['dataset'], row['protocol'], row['preset']) == (
      'digits',
      'stochastic',
      'reduced, changed',
    )
    assert (row['num_examples'], row['iwae_samples']) == (30, 3)
    assert row['elbo'] == pytest.approx(row['log_likelihood'] - row['kl'], abs=1e-4)
    assert row['elbo'] < row['iwae'] < 0 <= row['kl']


def test_comparisons_are_those_of_the_rows(results):
  assert all(COMPARISON < set(entry) for entry in results['comparisons'])

  def mean(method):
    rows = [r for r in results['rows'] if (r['method'], r['split']) == (method, 'test')]
    return np.mean([row['elbo'] for row in rows])

  pairs = [
    (entry['a'], entry['b'], entry['mean_difference'])
    for entry in results['comparisons']
    if (entry['split'], entry['metric']) == ('test', 'elbo')
  ]
  adapted = 'instance_adaptive'
  expected = [(adapted, 'base'), (adapted, 'shuffled'), ('shuffled', 'base')]
  assert [(a, b) for a, b, _ in pairs] == expected
  for a, b, difference in pairs:
    assert difference == pytest.approx(mean(a) - mean(b), abs=1e-9)


def test_per_example_values_give_the_rows_again(workdir, results):
  with np.load(workdir / 'per_example.npz') as arrays:
    for row in results['rows']:
      if row['split'] == 'test':
        values = arrays[f'elbo_{row["method"]}'][row['seed']]
        assert values.mean(dtype=float) == pytest.approx(row['elbo'], rel=1e-6)
    assert set(np.unique(arrays['samples_base'])) <= {0, 1}
    assert arrays['originals'].shape == arrays['reconstruction_base'].shape == (10, 8, 8, 1)


def test_diagnostics_are_of_every_row_and_seed(results):
  found = [(entry['seed'], entry['method']) for entry in results['diagnostics']]
  assert found == [(s, m) for s in (0, 1) for m in ('base', 'instance_adaptive', 'shuffled')]
  tests = {(r['seed'], r['method']): r for r in results['rows'] if r['split'] == 'test'}
  for entry in results['diagnostics']:
    assert (entry['dataset'], entry['split'], entry['num_examples']) == ('digits', 'test', 30)
    # All test images are the first 500: the closed form of the table and the sum of its parts
    kl = tests[entry['seed'], entry['method']]['kl']
    assert entry['kl'] == pytest.approx(kl, rel=1e-5)
    assert sum(entry['kl_per_dim']) == pytest.approx(entry['kl'], rel=1e-4)
    assert entry['mutual_information'] + entry['aggregate_kl'] == pytest.approx(entry['kl'])
    assert entry['latent_dim'] == len(entry['kl_per_dim']) == 8 >= entry['active_units']
    assert entry['sbc']['num_simulations'] == 200 and 0 < entry['sbc']['coverage'] <= 1
    assert (entry['modulation'] is None) == (entry['method'] == 'base')


def test_page_and_provenance(workdir, results):
  page = (workdir / 'report.html').read_text()
  assert 'reduced' in page and 'data:image/png' in page
  assert results['provenance']['config']['data']['name'] == 'digits'
  assert set(results['data']['digests']) == {'train', 'validation', 'test', 'source'}


def test_with_more_seeds_it_trains_these_only_and_finds_the_same_of_the_others(workdir, results):
  before = (workdir / 'metrics.jsonl').read_text()
  succeed(*TINY, f'--workdir={workdir}', '--config.num_seeds=3')
  after = (workdir / 'metrics.jsonl').read_text()
  assert after.startswith(before)
  added = [json.loads(line)['stage'] for line in after[len(before) :].splitlines()]
  assert {stage.partition('/')[0] for stage in added} == {'seed2'} and len(added) == 4
  again = json.loads((workdir / 'results.json').read_text())
  for key in ('rows', 'diagnostics'):
    assert [entry for entry in again[key] if entry['seed'] < 2] == results[key]
  assert all(again['curves'][name][:2] == curve for name, curve in results['curves'].items())


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    (['--config.training.batch_size=100'], '60 training images do not fill a batch'),
    (['--config.model.encoder_blocks=4'], 'images of 8 x 8 are gone after 4 halvings'),
    (['--config.training.micro_batch=7'], 'micro_batch=7 does not divide'),
    (['--config.training.micro_batch=1'], 'the control shuffled needs other examples'),
    (['--config.data.num_train=5000'], 'num_train=5000 is not a whole number from 0 (all) to 1275'),
  ],
)
def test_bad_sizes_are_refused_before_anything_is_written(overrides, message, tmp_path, capfd):
  code = program.main(['launch.py', *TINY, f'--workdir={tmp_path / "never"}', *overrides])
  err = capfd.readouterr().err
  assert code == 2 and message in err and err.count('\n') == 1
  assert not (tmp_path / 'never').exists()


@pytest.mark.parametrize(
  ('name', 'preset'),
  [(name, preset) for name in ('mnist', 'fashion_mnist', 'omniglot')
   for preset in CONFIGS[name].PRESETS],
)  # fmt: skip
def test_every_preset_finds_the_images_it_asks_for(name, preset):
  directory = ROOT.parent / 'shared' / 'data' / name
  if not directory.exists():
    pytest.skip(f'shared/data/{name} is not beside this checkout')
  config = CONFIGS[name].get_config(preset)
  config.data.directory = str(directory)
  found = load_data(config, 0)
  asked = config.data.num_train or len(found.train)
  assert len(found.train) == asked and found.train.shape[1:] == (28, 28, 1)


@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize('variant', ['', 'reduced', 'amortized', 'amortized,reduced'])
def test_every_config_is_sensible(name, variant):
  config = CONFIGS[name].get_config(variant)
  config_lib.validate(config, images.CHECKS)
  assert config.data.name == name
  assert config.preset == ('reduced' if 'reduced' in variant else 'full')
  assert config.method == ('amortized' if 'amortized' in variant else 'instance_adaptive')
  keys = {key for key in config_lib.flatten(config) if not key.startswith('inference.')}
  assert keys == set(images.CHECKS)


def test_the_papers_values():
  """Table 1 of arXiv:2604.06796, and arXiv:1802.02550 for what it leaves to that."""
  for name, decay in (('omniglot', 5e-3), ('mnist', 5e-4), ('fashion_mnist', 0.0)):
    config = CONFIGS[name].get_config()
    assert config.model.latent_dim == 32 and len(config.model.kernel_sizes) == 12
    assert config.hypernetwork.embedding_dim == 16
    assert config.hypernetwork.column_embedding_dim == 8
    adapt, pretrain = config.adapt, config.pretrain
    assert (adapt.learning_rate, adapt.decoder_learning_rate) == (1e-4, 5e-5)
    assert adapt.weight_decay == decay
    assert (pretrain.learning_rate, pretrain.warmup_epochs, pretrain.num_epochs) == (1e-3, 10, 100)
    assert (config.training.batch_size, config.num_seeds) == (50, 10)
  assert default.CONTROLS == CONTROLS


WRONG = {
  'experiment': ['', 'image', None],
  'method': ['', 'instance_adaptve', 3],
  'controls': [('c1',), ['continued'], 'continued'],
  'data.name': ['', 'mnistt', None],
  'data.num_train': [-1, 1.5, None, True],
  'model.encoder': ['', 'cnn', None],
  'model.kernel_sizes': [(), (2,), (3.0,), 3, None, (0,)],
  'model.hidden': [(), (0,), 'x'],
  'model.fix_vertical_shift': [1, 'yes', None],
  'adapt.weight_decay': [-1e-3, float('nan'), float('inf'), None],
  'adapt.learning_rate': [0.0, -1.0, float('nan'), 'x'],
  'training.precision': ['float16', '', None],
  'evaluation.num_samples': [0, -1, 2.5],
}


@pytest.mark.parametrize(('key', 'value'), [(k, v) for k, vs in WRONG.items() for v in vs])
def test_a_wrong_value_is_refused_by_name(key, value, tmp_path, monkeypatch):
  monkeypatch.setattr(images, 'run', lambda *_: pytest.fail(f'{key}={value!r} is accepted'))
  nested = digits.get_config().to_dict()
  group, _, name = key.rpartition('.')
  (nested[group] if group else nested)[name] = value
  with pytest.raises(ConfigError, match=f'--config.{key}') as caught:
    experiments.run(type(digits.get_config())(nested), tmp_path / 'never')
  assert len(str(caught.value).splitlines()) == 1


MINE = (
  f'--config={ROOT / "configs" / "digits.py"}:amortized,reduced',
  *('--config.model.encoder=mlp', '--config.model.decoder=mlp', '--config.model.hidden=(4,)'),
  *('--config.pretrain.num_epochs=2', '--config.adapt.num_epochs=1', '--config.num_seeds=1'),
  *('--config.training.batch_size=20', '--config.evaluation.diagnostic_examples=0'),
  *('--config.data.num_train=0', '--config.data.num_validation=0', '--config.data.num_test=0'),
)


def test_a_run_is_bound_to_its_images_and_not_to_their_place(tmp_path, monkeypatch, capfd):
  """And what is only evaluated may change, while a gap report never trains."""
  images_of_mine = np.random.default_rng(0).random((60, 4, 4))
  path, directory = tmp_path / 'a.npz', tmp_path / 'run'
  monkeypatch.chdir(tmp_path)

  def run(*overrides):
    code = program.main(['launch.py', f'--workdir={directory}', *overrides])
    return code, capfd.readouterr().err

  def held():
    names = ('results.json', 'metrics.jsonl', 'config.json', 'data.json')
    return {name: (directory / name).read_text() for name in names}

  np.savez(path, x=images_of_mine)
  assert run(*MINE, '--config.data.path=a.npz')[0] == 0
  first = held()
  assert json.loads(first['config.json'])['data']['path'] == str(path)

  np.savez(path, x=1 - images_of_mine)
  for _ in range(2):
    code, err = run(*MINE, '--config.data.path=a.npz')
    assert code == 2 and err.count('\n') == 1 and 'holds a run on other data' in err
    assert held() == first
    shutil.rmtree(directory / 'checkpoints' / 'seed0' / 'amortized', ignore_errors=True)
  code, err = run('--mode=gaps')
  assert code == 2 and 'holds a run on other data' in err

  np.savez(path, x=images_of_mine)
  code, err = run('--mode=gaps', '--gaps.num_examples=2')
  assert code == 2 and err.count('\n') == 1
  assert 'no checkpoint of the finished stage seed0/amortized; the same command without' in err
  assert held() == first

  (tmp_path / 'elsewhere').mkdir()
  monkeypatch.chdir(tmp_path / 'elsewhere')
  code, _ = run(*MINE, '--config.data.path=../a.npz', '--config.evaluation.iwae_samples=2')
  assert code == 0
  again = {name: json.loads(held()[name]) for name in ('results.json', 'config.json')}
  assert again['results.json']['rows'][0]['iwae_samples'] == 2
  assert again['config.json']['evaluation']['iwae_samples'] == 2
  lines = [json.loads(line) for line in held()['metrics.jsonl'].splitlines()]
  assert [line['stage'] for line in lines] == ['seed0/base'] * 2 + ['seed0/amortized'] * 2


def test_a_method_among_the_rows_of_one_seed_has_no_test():
  rows = [
    {'dataset': 'd', 'method': m, 'split': s, 'elbo': -1.0, 'iwae': -0.5}
    for m in ('base', 'other')
    for s in ('validation', 'test')
  ]
  found = image_evaluation.compare(rows, 'other')
  assert [entry['test'] for entry in found] == ['none'] * 4
