"""Cremer et al.'s experiment: what is trained and measured, and what its report says of claims."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import launch as program
from configs import cremer as keys
from configs import cremer_fashion, cremer_mnist
from iavae import config as config_lib
from iavae import poster, report
from iavae.command_line import parse
from iavae.experiments import cremer, cremer_claims, cremer_models
from iavae.experiments.image_checks import load_images
from iavae.reports import cremer as cremer_report
from iavae.reports import cremer_levels, cremer_verdicts
from launcher import ROOT, launch, succeed

TINY = (
  f'--config={ROOT / "configs" / "cremer_mnist.py"}:reduced',
  '--config.data.name=digits',
  '--config.data.protocol=stochastic',
  '--config.data.num_train=200',
  '--config.data.num_validation=40',
  '--config.data.num_test=40',
  '--config.model.latent_dim=3',
  '--config.model.regular_hidden=(8,)',
  '--config.model.large_hidden=(12,)',
  '--config.model.decoder_hidden=(8,)',
  '--config.flow.hidden=4',
  '--config.flow.context_dim=2',
  '--config.training.num_epochs=3',
  '--config.training.batch_size=50',
  '--config.training.annealing_epochs=2',
  '--config.gaps.num_examples=12',
  '--config.gaps.num_samples=100',
  '--config.gaps.num_steps=10',
  '--config.gaps.flow_steps=10',
  '--config.gaps.draws_a_step=2',
  '--config.gaps.flow_hidden=3',
  '--config.gaps.num_annealed=0',  # these three are measured in test_gap_report.py
  '--config.gaps.num_doubled=0',
  '--config.gaps.num_simulated=0',
)
LEVELS = ('log_evidence', 'elbo_optimal_flow', 'elbo_optimal', 'elbo')
GAPS = ('approximation_gap', 'amortization_gap', 'inference_gap', 'flow_gain')


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  directory = tmp_path_factory.mktemp('cremer')
  succeed(*TINY, f'--workdir={directory}')
  return directory


@pytest.fixture(scope='module')
def results(workdir):
  return json.loads((workdir / 'results.json').read_text())


def test_columns_are_those_of_the_images(workdir, results):
  """Means and errors are those of per_example.npz; bounds are bounds."""
  assert [column['name'] for column in results['columns']] == list(keys.MODELS)
  with np.load(workdir / 'per_example.npz') as arrays:
    for column in results['columns']:
      assert (column['split'], column['num_examples']) == ('train', 12)
      for key in (*LEVELS, *GAPS):
        values = arrays[f'{column["name"]}/{key}'].astype(float)
        error = values.std(ddof=1) / np.sqrt(12)
        assert values.shape == (12,)
        assert column[key]['mean'] == pytest.approx(values.mean(), rel=1e-6)
        assert column[key]['standard_error'] == pytest.approx(error, rel=1e-5)
      gap = column['inference_gap']
      assert gap['mean'] > -5 * gap['standard_error']


def test_gaps_add_up_as_printed(results):
  rows = {row[0]: row[1:] for row in cremer_report.table(results).rows}
  for i, name in enumerate(keys.MODELS):
    level = {label: row[i] for label, row in rows.items()}
    optimal = level['L[q*_Flow]' if name.endswith('flow') else 'L[q*_FFG]']
    evidence, elbo = level['log p-hat(x)'], level['L[q]']
    cents = lambda text: round(100 * float(text))
    assert cents(level['Inference gap']) == cents(evidence) - cents(elbo)
    assert cents(level['Approximation']) == cents(evidence) - cents(optimal)
    assert cents(level['Amortization']) == cents(optimal) - cents(elbo)


def test_page_and_labels(workdir, results):
  page = (workdir / 'report.html').read_text()
  assert 'digits (stochastic), reduced, changed preset' in page and 'data:image/png' in page
  assert 'poster' not in cremer_report.table(results).columns  # of digits there is none
  assert (workdir / 'tables.md').read_text().count('not measured') >= 2


def test_again_it_trains_no_more(workdir, results):
  before = (workdir / 'metrics.jsonl').read_bytes()
  assert launch(*TINY, f'--workdir={workdir}').returncode == 0
  assert (workdir / 'metrics.jsonl').read_bytes() == before
  assert json.loads((workdir / 'results.json').read_text())['columns'] == results['columns']


def test_its_models_are_measured_again_by_mode_gaps(workdir, results):
  """The report of gaps of a run of this experiment, by the same search and the same keys."""
  short = [flag.replace('--config.gaps.', '--gaps.') for flag in TINY if '.gaps.' in flag]
  succeed('--mode=gaps', f'--workdir={workdir}', *short, '--gaps.split=train',
          "--gaps.methods=('large_flow',)")  # fmt: skip
  (again,) = json.loads((workdir / 'gaps' / 'results.json').read_text())['subjects']
  before = results['measurements']['large_flow']
  for level, value in before['levels'].items():
    assert again['levels'][level]['mean'] == pytest.approx(value['mean'], rel=1e-6)


def test_what_its_latents_carry_is_told(results):
  assert [entry['method'] for entry in results['diagnostics']] == list(keys.MODELS)
  assert all(entry['latent_dim'] == 3 for entry in results['diagnostics'])
  worst = [entry | {'kl': 0.01, 'active_units': 0} for entry in results['diagnostics']]
  told = cremer_report.findings(results | {'diagnostics': worst})
  assert any('(--config.training.annealing_epochs, now 2)' in sentence for sentence in told)


def test_models_differ_in_what_their_names_say():
  """Encoder, family and annealing; one start for those of one shape, by shapes only."""
  config = cremer_mnist.get_config()
  shapes, hyperparameters = {}, {}
  for name, variant in cremer_models.MODELS.items():
    _, method = cremer_models.make_method(config, variant, (28, 28, 1))
    params = jax.eval_shape(method.init, jax.random.key(0), jnp.zeros((28, 28, 1)))
    shapes[name] = jax.tree.map(lambda a: a.shape, params)
    hyperparameters[name] = cremer_models._hyperparameters(config, variant, 50_000)
  encoder = shapes['regular_ffg']['inference']['encoder']
  assert {name: layer['kernel'] for name, layer in encoder.items()} == {
    'hidden_0': (784, 200),
    'hidden_1': (200, 200),
    'mean': (200, 50),
    'log_var': (200, 50),
  }
  decoder = {name: layer['kernel'] for name, layer in shapes['regular_ffg']['model'].items()}
  assert decoder == {'hidden_0': (50, 200), 'hidden_1': (200, 200), 'logits': (200, 784)}
  assert all(shape['model'] == shapes['regular_ffg']['model'] for shape in shapes.values())
  for family in ('ffg', 'flow'):
    assert shapes[f'noanneal_{family}'] == shapes[f'regular_{family}']
    large = shapes[f'large_{family}']['inference']['encoder']
    assert large['hidden_1']['kernel'] == (500, 500)
  assert 'flow' in shapes['large_flow']['inference']
  assert 'flow' not in shapes['large_ffg']['inference']
  epochs = {name: h.warmup_epochs for name, h in hyperparameters.items()}
  assert epochs == {name: 0 if 'noanneal' in name else 400 for name in keys.MODELS}
  h = hyperparameters['large_flow']
  assert (h.num_epochs, h.batch_size, h.eps, h.schedule) == (3280, 100, 1e-4, 'burda')
  assert (h.decay_steps, h.warmup_start, h.learning_rates['model']) == (3280 * 500, 0.0, 1e-3)


@pytest.mark.parametrize('preset', ['', 'reduced'])
@pytest.mark.parametrize(
  ('file', 'name', 'folder'),
  [(cremer_mnist, 'mnist', 'binarized_mnist'), (cremer_fashion, 'fashion_mnist', 'fashion_mnist')],
)
def test_every_config_is_sensible_and_finds_its_images(file, name, folder, preset):
  config = file.get_config(preset)
  config_lib.validate(config, cremer.CHECKS)
  assert set(config_lib.flatten(config)) == set(cremer.CHECKS)
  assert config.data.protocol == poster.PROTOCOLS[name]
  assert config.models == tuple(cremer_models.MODELS) == tuple(cremer_levels.MODELS)
  assert config.preset == (preset or 'full')
  directory = ROOT.parent / 'shared' / 'data' / folder
  if not directory.exists():
    pytest.skip(f'shared/data/{folder} is not beside this checkout')
  config.data.directory = str(directory)
  images = load_images(config, 0)
  assert not images.resample and images.train.shape[1:] == (28, 28, 1)
  assert len(images.train) == (config.data.num_train or len(images.train))


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    (
      "--config.models=('regular_fgg',)",
      "--config.models=('regular_fgg',) is not a tuple of different names. 'regular_fgg' is none "
      'of them. Did you mean regular_ffg?',
    ),
    ('--config.models=()', '--config.models=() is not a tuple of different names'),
    (
      '--config.training.schedule=burdas',
      "schedule='burdas' is not one of cosine, burda",
    ),
    ('--config.training.annealing_epochs=0', 'annealing_epochs=0 is not a whole number from 1'),
    ('--config.gaps.num_examples=1', 'num_examples=1 is not a whole number above 1'),
    ('--config.gaps.num_examples=300', 'num_examples=300 is more than the 200'),
    ('--config.training.batch_size=300', '200 training images do not fill a batch'),
    ('--config.posterior=iaf', 'the config has no key posterior'),
  ],
)
def test_bad_input_is_refused_in_one_line(override, message, tmp_path, capfd):
  code = program.main(['launch.py', *TINY, f'--workdir={tmp_path / "never"}', override])
  err = capfd.readouterr().err
  assert code == 2 and message in err and err.count('\n') == 1
  assert not (tmp_path / 'never').exists()


def test_which_models_are_trained_changes_no_number():
  path = f'--config={ROOT / "configs" / "cremer_mnist.py"}:reduced'
  flags = ["--config.models=('large_ffg',)", '--config.gaps.num_examples=9']
  _, config, _, workdir = parse(['launch.py', path, *flags])
  assert config.changed == ('gaps.num_examples',)
  assert workdir.name == 'cremer_mnist-reduced'


def test_an_unknown_preset_is_refused_with_a_suggestion(capfd):
  path = ROOT / 'configs' / 'cremer_fashion.py'
  assert program.main(['launch.py', f'--config={path}:reducd']) == 2
  err = capfd.readouterr().err
  assert err == (
    "error: 'reducd' after the colon of --config is no preset (reduced). Did you mean reduced?\n"
  )


# the poster


@pytest.mark.parametrize('dataset', poster.TABLE1)
def test_the_poster_adds_up(dataset):
  for model, levels in poster.TABLE1[dataset].items():
    found = cremer_levels.gaps(model, dict(zip(poster.LEVELS, levels, strict=True)))
    assert tuple(found.values())[:3] == poster.TABLE1_GAPS[dataset][model]


@pytest.mark.parametrize('dataset', poster.TABLE1)
def test_gaps_of_the_posters_levels_are_the_posters_gaps(dataset):
  for column in like_the_poster(dataset)['columns']:
    found = [column[key]['mean'] for key in GAPS[:3]]
    assert found == pytest.approx(poster.TABLE1_GAPS[dataset][column['name']], abs=1e-9)


def test_the_poster_is_as_published():
  path = ROOT.parent / 'shared' / 'paper' / 'tables.json'
  if not path.exists():
    pytest.skip('the published tables are not beside this checkout')
  published = json.loads(path.read_text(encoding='utf8'))['cremer_table1']
  names = ('log_evidence', 'elbo_optimal_flow', 'elbo_optimal_ffg', 'elbo')
  gaps = ('approximation_gap', 'amortization_gap', 'inference_gap')
  for i, column in enumerate(published['columns']):
    short, model = column.split('_', 1)
    dataset = {'mnist': 'mnist', 'fashion': 'fashion_mnist'}[short]
    assert poster.TABLE1[dataset][model] == tuple(published[name][i] for name in names)
    assert poster.TABLE1_GAPS[dataset][model] == tuple(published[name][i] for name in gaps)


def test_other_images_have_no_published_column():
  assert poster.levels('mnist', 'static', 'large_ffg')['elbo'] == -91.12
  assert poster.levels('mnist', 'dynamic', 'large_ffg') is None
  assert poster.levels('digits', 'stochastic', 'large_ffg') is None


# claims


def made_up(dataset, columns):
  """Results of models with these levels, {model: {level: [N]}}."""
  found = []
  for name, levels in columns.items():
    column = {'name': name, 'split': 'train', 'num_examples': 2} | levels
    found.append(column | cremer_claims.gaps(column, cremer_models.MODELS[name].posterior))
  of = {column['name']: column for column in found}
  return {
    'columns': [cremer_claims.summarize(column) for column in found],
    'contrasts': json.loads(json.dumps(cremer_claims.contrasts(of))),
    'dataset': dataset,
    'protocol': poster.PROTOCOLS[dataset],
    'preset': 'full',
  }


def like_the_poster(dataset, noise=0.0, **moved):
  """The published levels, of four images; `moved` adds to the flow's or the encoder's."""
  columns = {}
  for model, levels in poster.TABLE1[dataset].items():
    wave = noise * np.array([1.0, -1.0, 1.0, -1.0])
    columns[model] = {
      level: value + moved.get(f'{model}__{level}', 0.0) + wave * (level == 'elbo')
      for level, value in zip(poster.LEVELS, levels, strict=True)
    }
  return made_up(dataset, columns)


def verdicts(results):
  return [row[-1] for row in cremer_verdicts.claims(results).rows]


def test_the_posters_own_numbers_meet_its_claims():
  """What counts as a claim is what they say of their own table."""
  assert verdicts(like_the_poster('mnist')) == ['holds', 'not measured', 'holds', 'holds']
  assert verdicts(like_the_poster('fashion_mnist')) == ['not measured', 'holds', 'holds', 'holds']


@pytest.mark.parametrize(
  ('dataset', 'moved', 'claim'),
  [
    ('mnist', {'regular_flow__elbo': -1.5}, 0),  # amortization 2.52, approximation 1.58: still
    ('mnist', {'regular_ffg__elbo': -1.2}, 0),  # 2.77 and 1.34: more than twice
    ('mnist', {'regular_ffg__elbo': 1.0}, 0),  # .57 and 1.34
    ('fashion_mnist', {'regular_ffg__elbo': 3.0}, 1),  # 1.17 and 1.25
    ('mnist', {'large_flow__elbo': -0.1}, 2),  # 1.02 to 1.09
    ('mnist', {'large_flow__elbo_optimal': 5.0}, 3),  # 8.27 nats
    ('mnist', {'noanneal_flow__elbo_optimal': -4.0}, 3),  # 5.56
  ],
)
def test_a_claim_that_is_missed_does_not_hold(dataset, moved, claim):
  expected = 'holds' if 'regular_flow__elbo' in moved else 'does not hold'
  results = like_the_poster(dataset, **moved)
  assert verdicts(results)[claim] == expected
  missed = cremer_verdicts.claims(results).rows[claim][-2]
  (model, _) = next(iter(moved)).split('__')
  assert (cremer_levels.MODELS[model] in missed) == (expected != 'holds')


def test_within_two_standard_errors_is_undecided():
  """Amortization of Regular minus that of Large is 1.02 - .99 with a flow."""
  columns = {column['name']: column for column in like_the_poster('mnist', noise=0.3)['columns']}
  assert columns['large_flow']['elbo']['standard_error'] == pytest.approx(0.3 / np.sqrt(3))
  # The noise is of the images, so that it cancels between models of the same ones
  assert verdicts(like_the_poster('mnist', noise=0.3))[2] == 'holds'
  assert verdicts(like_the_poster('mnist', noise=1.0))[0] == 'undecided (within 2 SE)'


def test_what_is_not_measured_is_said_to_be():
  columns = like_the_poster('mnist')['columns']
  some = {
    column['name']: {level: np.full(2, column[level]['mean']) for level in LEVELS}
    for column in columns
  }
  some['regular_flow']['elbo_optimal_flow'] = None
  del some['large_ffg']
  results = made_up('mnist', some)
  assert verdicts(results) == ['not measured'] * 4
  assert 'Regular: ?; Large: 13.27; No Anneal: 1.56' in cremer_verdicts.findings(results)[3]
  assert 'Each model is trained once' in cremer_verdicts.findings(results)[4]
  assert cremer_report.table(results).rows[1][3] == ''


def test_ours_and_theirs_side_by_side():
  table = cremer_report.table(like_the_poster('mnist', regular_ffg__elbo=-0.017))
  assert table.columns[:5] == ('', 'Regular, FFG', 'poster', 'Regular, Flow', 'poster')
  assert table.rows[3][:4] == ('L[q]', '-92.78', '-92.76', '-91.42')
  assert table.rows[5][:4] == ('Amortization', '1.59', '1.57', '1.02')


def test_the_figure_shows_what_is_measured():
  drawn = cremer_report.figure(like_the_poster('mnist'), {})
  heights = [bar.get_height() for bar in drawn.axes[0].patches]
  assert sum(heights) == pytest.approx(2 * (2.91 + 2.60 + 2.03 + 2.66 + 4.47 + 4.88))
  without = made_up('mnist', {'regular_flow': dict.fromkeys(LEVELS, np.zeros(2))
                              | {'elbo_optimal_flow': None}})  # fmt: skip
  assert 'No gap' in cremer_report.figure(without, {}).texts[0].get_text()


def test_a_damaged_result_is_told(workdir, tmp_path):
  results = json.loads((workdir / 'results.json').read_text())
  del results['columns'][0]['elbo']
  (tmp_path / 'results.json').write_text(json.dumps(results))
  (tmp_path / 'per_example.npz').write_bytes((workdir / 'per_example.npz').read_bytes())
  with pytest.raises(report.ResultsError, match="lack 'elbo'"):
    report.write(tmp_path)
