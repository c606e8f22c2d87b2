"""The experiments that compare methods: tiny runs from the command line, and what they leave."""

import json
from pathlib import Path

import numpy as np
import pytest

import launch as program
from configs import default
from iavae import inference, posteriors
from iavae.command_line import parse
from iavae.experiments import image_effects, image_models, image_variants, synthetic_rows
from iavae.models import synthetic
from iavae.reports import cost as cost_report
from iavae.reports import labels
from iavae.reports import synthetic_methods as synthetic_report
from launcher import ROOT, succeed

IMAGES = (
  f'--config={ROOT / "configs" / "digits.py"}:reduced',
  '--config.data.num_train=60',
  '--config.data.num_validation=30',
  '--config.data.num_test=30',
  '--config.training.batch_size=20',
  '--config.model.encoder=mlp',
  '--config.model.decoder=mlp',
  '--config.model.hidden=(6,5)',
  '--config.model.latent_dim=2',
  '--config.hypernetwork.normalized=True',
  '--config.pretrain.num_epochs=2',
  '--config.adapt.num_epochs=1',
  '--config.evaluation.num_samples=2',
  '--config.evaluation.iwae_samples=3',
)
SYNTHETIC = (
  f'--config={ROOT / "configs" / "synthetic.py"}',
  '--config.experiment=synthetic_methods',
  '--config.num_bases=2',
  '--config.data.num_examples=64',
  '--config.training.max_epochs=2',
)


def results_of(workdir):
  assert (workdir / 'report.html').stat().st_size > 10_000
  return json.loads((workdir / 'results.json').read_text())


@pytest.mark.slow
def test_methods_families_and_modulations_share_a_table(tmp_path):
  """All start at one base; the gap is measured but for flows; a frozen decoder stays."""
  succeed(
    *IMAGES, f'--workdir={tmp_path}', '--config.experiment=methods',
    '--config.methods=("svi","full_covariance","iaf","film")', '--config.adapt.train_decoder=False',
    '--config.evaluation.gap_examples=10', '--config.flow.hidden=3', '--config.flow.context_dim=2',
  )  # fmt: skip
  results = results_of(tmp_path)
  names = ['base', 'instance_adaptive', 'svi', 'full_covariance', 'iaf', 'film']
  assert [row['method'] for row in results['rows'] if row['split'] == 'test'] == names
  starts = {name: curve[0][0] for name, curve in results['curves'].items()}
  best = max(results['curves']['base'][0])
  for name in ('full_covariance', 'iaf', 'film'):
    assert starts[name] == pytest.approx(best, abs=0.5), name  # other draws of z at most
  assert [gap['method'] for gap in results['gaps']] == [n for n in names if n != 'iaf']
  for gap in results['gaps']:
    assert gap['num_examples'] == 10
    assert gap['amortization_gap'] == pytest.approx(gap['elbo_optimal'] - gap['elbo'], abs=1e-4)
    assert gap['amortization_gap'] >= 0
  trained = {name: count['trained'] for name, count in results['num_parameters'].items()}
  measured = {entry['method']: entry for entry in results['diagnostics']}
  assert [name for name in names if measured[name]['mutual_information'] is None] == ['iaf']
  assert [name for name in names if measured[name]['modulation']] == ['instance_adaptive', 'film']
  assert [name for name in names if not measured[name]['kl_per_dim_exact']] == names[3:5]
  assert trained['svi'] == 0 < trained['full_covariance'] < trained['film'] < trained['base']


@pytest.mark.slow
def test_cost_is_measured_for_every_number_of_steps(tmp_path):
  succeed(
    *IMAGES, f'--workdir={tmp_path}', '--config.experiment=cost', '--config.cost.num_steps=(0,1,4)',
    '--config.cost.num_examples=20', '--config.cost.methods=("svi","iterative")',
  )  # fmt: skip
  results = results_of(tmp_path)
  points = {(p['method'], p['num_steps']): p for p in results['points']}
  methods = ('base', 'instance_adaptive', 'svi', 'iterative')
  assert set(points) == {(m, t) for m in methods for t in (0, 1, 4)}
  arrays = np.load(tmp_path / 'per_example.npz')
  for (method, steps), point in points.items():
    values = arrays[f'elbo_{method}_{steps}']
    assert len(values) == 20 and point['elbo'] == pytest.approx(values.mean(), rel=1e-5)
    assert point['standard_error'] == pytest.approx(values.std(ddof=1) / 20**0.5, rel=1e-4)
    assert point['milliseconds'] > 0
  for method in methods:  # operations are affine in the number of steps
    zero, one, four = (points[method, t]['megaflops'] for t in (0, 1, 4))
    assert four - zero == pytest.approx(4 * (one - zero), rel=1e-6) and one > zero
  # The prior is the same for both that start there
  assert points['svi', 0]['elbo'] == pytest.approx(points['iterative', 0]['elbo'], rel=1e-4)
  assert points['svi', 4]['elbo'] > points['svi', 0]['elbo']
  assert [entry['method'] for entry in results['diagnostics']] == list(methods)


@pytest.mark.slow
def test_synthetic_methods_are_evaluated_exactly(tmp_path):
  rows = '("svi","full_covariance","energy","energy:shuffled")'
  succeed(*SYNTHETIC, f'--workdir={tmp_path}', f'--config.methods={rows}')
  results = results_of(tmp_path)
  found = {row['method']: row for row in results['rows']}
  assert list(found) == ['base', 'svi', 'full_covariance', 'energy', 'energy:shuffled']
  sizes = [row['num_parameters'] for row in results['rows']]
  assert sizes == [20, 0, 23, 58, 58]
  assert [row['decoder_gradients'] for row in results['rows']] == [0, 100, 0, 0, 0]
  assert found['energy']['elbos'] != found['energy:shuffled']['elbos']
  x = np.load(tmp_path / 'per_example.npz')['x']
  evidence = np.mean([synthetic.log_evidence(example) for example in x])
  assert results['references']['log_evidence'] == pytest.approx(float(evidence), rel=1e-4)
  assert all(row['elbo_mean'] < evidence for row in results['rows'])
  assert [entry['method'] for entry in results['diagnostics']] == list(found)
  for entry in results['diagnostics']:
    assert (entry['modulation'] is not None) == entry['method'].startswith('energy')


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([*IMAGES, '--config.posterior=iav'], "--config.posterior='iav' is not one of autoregressive"),
    ([*IMAGES, '--config.modulation=flim'], "--config.modulation='flim' is not one of paper"),
    ([*IMAGES, '--config.flow.hidden=-1'], '--config.flow.hidden=-1 is not a whole number'),
    (
      [*IMAGES, '--config.experiment=controls', '--config.adapt.train_decoder=False'],
      'the control decoder_only trains nothing',
    ),
    (
      [*IMAGES, '--config.model.encoder=resnet', '--config.pretrain.num_epochs=0'],
      'joint training, --config.pretrain.num_epochs=0, needs an encoder without batch',
    ),
    (
      [*IMAGES, '--config.experiment=cost', '--config.cost.methods=("hybrid",)'],
      'is made a hybrid: leave hybrid out',
    ),
    (
      [
        *IMAGES,
        '--config.experiment=methods',
        '--config.methods=("iaf",)',
        '--config.adapt.estimator=antithetic',
      ],
      'iaf: the antithetic estimator needs the mean-field Gaussian family',
    ),
    ([*SYNTHETIC, '--config.methods=("svy",)'], "'svy' is not a row. Did you mean svi?"),
    ([*SYNTHETIC, '--config.methods=("aggressive",)'], 'and this decoder is known'),
    ([f'{SYNTHETIC[0]}:svi'], 'here inference is one forward pass; take --config.experiment=syn'),
    (
      [*IMAGES, '--config.experiment=methods', '--config.methods=("film","flim")'],
      "'flim' is none of them. Did you mean film?",
    ),
    ([*IMAGES, '--config.experiment=cost', '--config.cost.num_steps=()'], 'and not empty'),
    ([*IMAGES, '--config.experiment=cost', '--config.cost.num_examples=1'], 'above 1'),
    (
      [*IMAGES, '--config.experiment=cost', '--config.data.num_test=1'],
      'a standard error takes two test images',
    ),
    ([*IMAGES, '--config.experiment=synthetic'], 'is not for this file of --config: '),
    ([*IMAGES, '--config.flow.num_steps=3'], '--config.flow.num_steps has no effect'),
    ([*IMAGES, '--config.hypernetwork.rank=3'], '--config.hypernetwork.rank has no effect'),
    ([*IMAGES, '--config.model.latent_maps=3'], '--config.model.latent_maps has no effect'),
    (
      [a for a in IMAGES if 'hidden' not in a and 'normalized' not in a]
      + ['--config.modulation=gates', '--config.model.hidden=(6,)'],
      'instance_adaptive: no layer is left to modulate',
    ),
  ],
)  # fmt: skip
def test_bad_flags_answer_in_one_line(arguments, message, tmp_path, capfd):
  code = program.main(['launch.py', *arguments, f'--workdir={tmp_path / "never"}'])
  err = capfd.readouterr().err
  assert code == 2 and message in err and err.count('\n') == 1
  assert not (tmp_path / 'never').exists()


@pytest.mark.parametrize(
  ('variant', 'flags', 'message'),
  [
    (
      'semi_amortized',
      ['--config.inference.variant=svi_kl', '--config.posterior=iaf'],
      'semi_amortized: the family of this posterior cannot evaluate a z that it did not draw',
    ),
    ('svi', ['--config.inference.num_steps=-3'], 'svi: num_steps=-3 is below 0'),
    ('hybrid', ['--config.inference.of=hybrd'], "hybrid: unknown method 'hybrd'"),
    ('svi', ['--config.method=iterative'], 'choose a method by --config=FILE:iterative'),
    ('aggressive', ['--config.adapt.train_decoder=False'], 'and the decoder is to stay'),
    ('denoising', ['--config.inference.noise_scale=nan'], 'nan is not a finite number'),
    ('denoising', ['--config.inference.condition=x'], 'has no key inference.condition'),
    ('rdeuced', [], "'rdeuced' after the colon of --config is neither a preset (reduced) nor"),
    ('film', [], 'a modulation; take --config.modulation=film'),
    ('iaf', [], 'a family of posteriors; take --config.posterior=iaf'),
    ('svi,iterative', [], 'is more than one METHOD,PRESET'),
    (
      'hybrid',
      [
        '--config.inference.of=instance_adaptive',
        '--config.modulation=gradient',
        '--config.hypernetwork.num_steps=2',
      ],
      'the modulation takes one step here',
    ),
  ],
)
def test_a_method_refuses_what_it_cannot_use(variant, flags, message, tmp_path, capfd):
  first = IMAGES[0].replace(':reduced', f':{variant},reduced')
  arguments = ['launch.py', first, *IMAGES[1:], *flags, f'--workdir={tmp_path / "never"}']
  code = program.main(arguments)
  err = capfd.readouterr().err
  assert code == 2 and message in err and err.startswith('error: ') and err.count('\n') == 1
  assert not (tmp_path / 'never').exists()


def test_the_frontier_has_no_point_that_another_beats():
  points = [
    {'method': m, 'num_steps': t, 'elbo': e, 'milliseconds': ms}
    for m, t, e, ms in [('a', 0, -10, 1), ('a', 1, -8, 2), ('b', 0, -9, 3), ('b', 1, -7, 4)]
  ]
  found = cost_report.frontier({'points': points})
  assert [(p['method'], p['num_steps']) for p in found] == [('a', 0), ('a', 1), ('b', 1)]


def test_findings_name_the_nearest_with_and_without_the_decoder():
  row = {'num_parameters': 5}
  rows = [
    row | {'method': 'svi', 'elbo_mean': -3.0, 'decoder_gradients': 20},
    row | {'method': 'energy', 'elbo_mean': -3.2, 'decoder_gradients': 0},
    row | {'method': 'film', 'elbo_mean': -3.5, 'decoder_gradients': 0},
  ]
  said = synthetic_report.findings({'rows': rows, 'references': {'elbo_optimal': -2.8}})
  assert 'energy-normalized FiLM, 0.400 nats' in said[0] and 'SVI from the prior, 0.200' in said[1]


def test_every_row_of_the_synthetic_experiment_exists():
  import configs.synthetic as config

  assert set(config.get_config().methods) <= set(synthetic_rows.known_rows())


@pytest.mark.parametrize(
  ('variant', 'flags', 'read'),
  [
    (
      '',
      ['modulation', 'hypernetwork.trunk_dim', 'adapt.train_base', 'posterior'],
      'adapt.estimator',
    ),
    ('svi', ['inference.num_steps', 'flow.hidden'], ''),
  ],
)
def test_keys_that_something_reads(variant, flags, read):
  """What the command line may change, and what it may not; nothing changed is never refused."""
  config = default.make(variant, {}, {})
  with config.unlocked():
    config.modulation, config.posterior = 'film', 'iaf'
    config.changed = (*flags, read) if read else tuple(flags)
  assert image_effects.unread(config, [config.method]) == []
  config.changed = ('hypernetwork.rank', 'hypernetwork.slice_dim', 'model.hidden')
  assert image_effects.unread(config, [config.method]) == list(config.changed)
  assert image_effects.unread(config, [config.method, 'lora', 'trunk']) == ['model.hidden']


def test_the_label_says_what_the_command_line_changed():
  config = default.make('', {}, {})
  assert image_models.preset_label(config) == 'full'
  config.changed = ('adapt.num_epochs',)
  assert image_models.preset_label(config) == 'changed'
  config.preset, config.training.precision = 'reduced', 'bfloat16'
  assert image_models.preset_label(config) == 'reduced, changed, bfloat16'


def test_the_command_line_tells_what_it_changed():
  path = f'--config={ROOT / "configs" / "digits.py"}:svi,reduced'
  flags = ['--config.seed=3', '--config.data.num_train=50', '--config.cost.num_examples=9']
  _, config, _, workdir = parse(['launch.py', path, *flags])
  assert config.changed == ('data.num_train',)
  assert workdir == Path.cwd() / 'runs' / 'digits-svi-reduced'
  _, config, _, workdir = parse(['launch.py', path.replace(':svi,reduced', ''), '--workdir=there'])
  assert config.changed == () and workdir == Path.cwd() / 'there'


def test_controls_have_one_list():
  assert default.CONTROLS == image_variants.CONTROLS == tuple(labels.CONTROLS)


def test_every_row_has_a_name_in_words():
  assert set(default.METHODS) <= set(labels.METHODS)
  assert {*inference.names(), *posteriors.names()} - {'instance_adaptive', 'gaussian'} <= set(
    labels.METHODS
  )
