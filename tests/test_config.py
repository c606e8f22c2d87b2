"""Config and command line: every wrong value is refused in one clear line, every right one passes.

launch.main is called in this process: it leaves nothing behind if it refuses its input.
"""

import json
import math
import os
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

import launch as program
from configs import default
from iavae import command_line, experiments
from iavae import config as config_lib
from iavae.errors import ConfigError
from iavae.experiments import synthetic
from iavae.experiments.synthetic import CHECKS
from launcher import CONFIG, ROOT, launch, parse

NAN, INF = math.nan, math.inf
NOT_NATURAL = [0, -1, 10**10, 2.5, NAN, INF, True, 'x', None, (1,)]
NOT_POSITIVE = [0.0, -0.1, 1e-300, 1e300, NAN, INF, -INF, True, 10**400, 'x', None, (1.0,)]
NOT_NAME = ['', 'rellu', 0, None, NAN, ('relu',)]
WRONG = {
  'experiment': ['', 'synthetik', 'synthetic_evaluation', '../synthetic', 0, None],
  'method': ['', 'instance_adaptve', 'a:b', 0, None, NAN, ('amortized',)],
  'seed': [-1, 2**32, 0.5, 0.0, NAN, True, '0', None],
  'num_bases': NOT_NATURAL,
  'num_seeds': NOT_NATURAL,
  'data.num_examples': [0, 1, -5, 64.0, 64.5, 46_341, 10**20, NAN, INF, True, 'x', None, (64,)],
  'data.noise_scale': [*NOT_POSITIVE, 1e-4, 1e4],
  'encoder.hidden': NOT_NATURAL,
  'encoder.activation': NOT_NAME,
  'hypernetwork.embedding_dim': NOT_NATURAL,
  'hypernetwork.init_scale': NOT_POSITIVE,
  'hypernetwork.layout': ['', 'tensors', 0, None, ('tensor',)],
  'training.learning_rate': NOT_POSITIVE,
  'training.batch_size': NOT_NATURAL,
  'training.max_epochs': NOT_NATURAL,
  'training.patience': NOT_NATURAL,
  'training.epochs_per_call': NOT_NATURAL,
  'training.schedule': NOT_NAME,
  'training.max_norm': [-1.0, NAN, INF, -INF, True, 10**400, 'x', None, (1.0,)],
  'train_base': [0, 1, 'True', None, (True,)],
  'methods': ['svi', ('svi', 1), ['svi'], 0, None],
  'controls': ['static', ('statik',), (1,), ('relu', 'relu'), ['relu'], 0, None, (('relu',),)],
  'widths': [4, 'x', (0,), (-1, 2), (4, 2), (2, 2), (2.5,), ('2',), (True,), [2], None, (NAN,)],
  'refinement_steps': [4, 'x', (-1,), (4, 2), (2, 2), (2.5,), ('2',), (False,), [2], None, (NAN,)],
}
RIGHT = {
  'method': 'amortized',
  'seed': 2**32 - 1,
  'num_bases': 1,
  'num_seeds': 10**9,
  'data.num_examples': 46_340,
  'data.noise_scale': 1e-3,
  'encoder.activation': 'glu',
  'hypernetwork.layout': 'layer',
  'training.batch_size': 1,
  'training.schedule': 'cosine',
  'training.max_norm': 0.0,
  'train_base': True,
  'methods': ('energy:static', 'iaf'),
  'controls': (),
  'widths': (7,),
  'refinement_steps': (0,),
}


def config_with(key, value):
  nested = parse().to_dict()
  group, _, name = key.rpartition('.')
  (nested[group] if group else nested)[name] = value
  return ConfigDict(nested)  # of a dict, which casts no value


def refuse(capfd, *arguments):
  """stderr of launch.main, which has to refuse its command line with exit code 2."""
  code = program.main(['launch.py', *arguments])
  out, err = capfd.readouterr()
  assert (code, out) == (2, '')
  assert err.startswith('error: ')
  assert 'Traceback' not in err
  return err.removeprefix('error: ').removesuffix('\n')


def test_every_key_has_a_check_and_every_check_a_key():
  assert set(config_lib.flatten(parse())) == set(CHECKS) == set(WRONG)


def test_defaults_are_sensible():
  config_lib.validate(parse(), CHECKS)


@pytest.mark.parametrize('key', sorted(RIGHT))
def test_a_right_value_passes(key):
  config_lib.validate(config_with(key, RIGHT[key]), CHECKS)


@pytest.mark.parametrize(
  ('key', 'value'), [(key, value) for key, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_refused_by_name(key, value, tmp_path, monkeypatch):
  monkeypatch.setattr(synthetic, 'run', lambda *_: pytest.fail(f'{key}={value!r} is accepted'))
  config = config_with(key, value)
  with pytest.raises(ConfigError, match=f'--config.{key}') as caught:
    experiments.run(config, tmp_path / 'never')
  assert len(str(caught.value).splitlines()) == 1
  assert not (tmp_path / 'never').exists()


@pytest.mark.parametrize('key', sorted(WRONG))
def test_a_missing_key_is_refused_by_name(key):
  config = parse().copy_and_resolve_references()
  group, _, name = key.rpartition('.')
  with config.unlocked():
    del (config[group] if group else config)[name]
  with pytest.raises(ConfigError, match=f'^--config.{key} is missing'):
    config_lib.validate(config, CHECKS)


def test_an_unknown_key_of_a_config_file_is_refused():
  config = config_with('training.patiense', 3)
  with pytest.raises(ConfigError) as caught:
    config_lib.validate(config, CHECKS)
  expected = '--config.training.patiense is not a key. Did you mean training.patience?'
  assert str(caught.value) == expected


def test_one_line_for_each_bad_key(capfd):
  err = refuse(
    capfd,
    f'--config={CONFIG}',
    '--config.seed=-1',
    '--config.training.patience=0',
    '--config.widths=(3,2)',
  )
  assert err.splitlines() == [
    '--config.seed=-1 is not a whole number from 0 to 2^32 - 1',
    '--config.training.patience=0 is not a whole number from 1 to 10^9',
    '--config.widths=(3, 2) is not a tuple of increasing whole numbers, 1 or more',
  ]


@pytest.mark.parametrize(
  ('argument', 'expected'),
  [
    ('--config.num_base=3', 'the config has no key num_base. Did you mean num_bases?'),
    (
      '--config.data.num_exmples=3',
      'the config has no key num_exmples. Did you mean num_examples?',
    ),
    ('--config.get=3', 'the config has no key get'),
    (
      '--config.num_bases=x',
      "flag --config.num_bases=x: invalid literal for int() with base 10: 'x'",
    ),
    (
      '--config.num_bases=1.5',
      "flag --config.num_bases=1.5: invalid literal for int() with base 10: '1.5'",
    ),
    (
      '--config.training.learning_rate=',
      "flag --config.training.learning_rate=: could not convert string to float: ''",
    ),
    (
      '--config.training.learning_rate=1e999',
      '--config.training.learning_rate=inf is not a finite number above 0 (1e-37 to 1e37)',
    ),
    ('--config.data=5', "flag --config.data=5: Failed to parse '5' as a ConfigDict"),
    ('--config.controls=("a",', 'flag --config.controls=("a",: Error while parsing string'),
    (
      '--config.controls=statik',
      "--config.controls=('statik',) is not a tuple of different names. 'statik' is none of them. "
      'Did you mean static? Known: static, continued, ',
    ),
    ('--config.num_bases', 'Missing value for flag --config.num_bases'),
    (
      '--config.method=instance_adaptve',
      "--config.method: unknown method 'instance_adaptve'; one of adam_refined, aggressive, "
      'amortized, denoising, hybrid, instance_adaptive, iterative, semi_amortized, svi. '
      "Did you mean 'instance_adaptive'?",
    ),
    (
      '--config.experiment=synthetik',
      "--config.experiment='synthetik' is not one of controls, cost, cremer, images, methods, "
      'synthetic, synthetic_methods. Did you mean synthetic?',
    ),
    ('positional', "'positional' is not a flag; see python launch.py --help"),
    ('--wrokdir=x', "Unknown command line flag 'wrokdir'. Did you mean: workdir ?"),
    ('--workdir', 'Missing value for flag --workdir'),
    ('--config..x=5', "Could not parse '.x'"),
    ('--flagfile=/nonexistent', 'ERROR:: Unable to open flagfile'),
  ],
)
def test_a_bad_argument_is_refused_in_one_line(argument, expected, capfd):
  err = refuse(capfd, f'--config={CONFIG}', argument)
  assert err.startswith(expected)
  assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('def get_config():\n  return 1 / 0\n', 'division by zero'),
    ("def get_config():\n  return int('x')\n", 'the file of --config raises: ValueError: invalid'),
    ('def get_config(\n', "'(' was never closed"),
    ('x = 1\n', "module 'config_config' has no attribute 'get_config'"),
    ("def get_config():\n  return {'seed': 1}\n", "--config.experiment='None' is not one of"),
  ],
)
def test_a_broken_config_file_is_refused_in_one_line(text, expected, tmp_path, capfd, monkeypatch):
  monkeypatch.delitem(sys.modules, 'config_config', raising=False)  # of an earlier config file
  (tmp_path / 'broken.py').write_text(text)
  err = refuse(capfd, f'--config={tmp_path / "broken.py"}')
  assert err.startswith(expected)
  assert len(err.splitlines()) == 1


def test_a_method_after_the_colon(capfd):
  err = refuse(capfd, f'--config={CONFIG}:amortised')
  assert err.startswith("--config.method: unknown method 'amortised'")
  assert err.endswith("Did you mean 'amortized'?")


@pytest.mark.parametrize(
  ('arguments', 'expected'),
  [
    ([], '--config is missing, e.g. --config=configs/synthetic.py; see --help'),
    (['--config'], 'Missing value for flag --config'),
    (['--config='], 'cannot read the file of --config: Path to config file is an empty string.'),
    (
      ['--config=nope.py'],
      "cannot read the file of --config: No such file or directory: 'nope.py'",
    ),
    (['--config=configs'], "cannot read the file of --config: Is a directory: 'configs'"),
  ],
)
def test_a_missing_config_is_refused_in_one_line(arguments, expected, capfd, monkeypatch):
  monkeypatch.chdir(ROOT)
  assert refuse(capfd, *arguments) == expected


def test_the_process_itself_exits_with_2(tmp_path):
  done = launch(f'--config={CONFIG}', '--config.num_base=3', cwd=tmp_path)
  assert (done.returncode, done.stdout) == (2, '')
  assert done.stderr == 'error: the config has no key num_base. Did you mean num_bases?\n'
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('flag', ['--help', '-h', '--helpfull'])
def test_help_is_the_docstring(flag, capsys):
  assert program.main(['launch.py', flag]) == 0
  assert capsys.readouterr().out == program.__doc__.strip() + '\n'


def test_a_gap_report_of_a_directory_of_another_version_says_so(tmp_path, capfd):
  digits = type(default.get_config())(default.get_config().to_dict())
  digits.data.name = 'digits'
  with digits.unlocked():
    del digits.evaluation.diagnostic_examples
  (tmp_path / 'config.json').write_text(json.dumps(digits.to_dict()))
  (tmp_path / 'results.json').write_text('{}')
  assert program.main(['launch.py', '--mode=gaps', f'--workdir={tmp_path}']) == 2
  assert capfd.readouterr().err == (
    f'error: {tmp_path} holds a run of another version of iavae; go on with that version '
    '(git_commit in its results.json), or use another --workdir; '
    '--config.evaluation.diagnostic_examples is missing in the config\n'
  )


def test_help_survives_a_reader_that_leaves():
  """As `launch.py --help | head -1` does."""
  process = subprocess.Popen(
    [sys.executable, str(ROOT / 'launch.py'), '--help'],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  process.stdout.close()
  assert (process.stderr.read(), process.wait()) == ('', 0)


def test_home_is_expanded_and_data_paths_are_absolute(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  monkeypatch.chdir(tmp_path)
  digits = f'--config={ROOT / "configs" / "digits.py"}'
  flags = '--workdir=~/x', '--config.data.path=a.npz', '--config.data.directory=~/data'
  command = command_line.parse(['launch.py', digits, *flags])
  assert command.workdir == tmp_path / 'home' / 'x'
  assert command.config.data.path == str(tmp_path / 'a.npz')
  assert command.config.data.directory == str(tmp_path / 'home' / 'data')
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('flag', ['--workdir', '--config.data.path', '--config.data.directory'])
@pytest.mark.parametrize('text', ['gs://bucket/x', 's3://b', 'file:///tmp/x'])
def test_an_address_is_no_local_path(flag, text, tmp_path, capfd, monkeypatch):
  monkeypatch.chdir(tmp_path)
  digits = f'--config={ROOT / "configs" / "digits.py"}'
  expected = f'error: {flag}={text} is no local path; give a folder or file of this machine\n'
  for mode in ([digits], ['--mode=gaps', digits]):
    assert program.main(['launch.py', *mode, f'{flag}={text}']) == 2
    assert capfd.readouterr().err == expected
  assert not list(tmp_path.iterdir())


def test_other_paths_that_are_none(capfd, monkeypatch):
  digits = f'--config={ROOT / "configs" / "digits.py"}'
  assert program.main(['launch.py', digits, '--workdir=']) == 2
  assert program.main(['launch.py', digits, '--workdir=~nobody-of-this-name/x']) == 2
  monkeypatch.setenv('IAVAE_DATA', 'gs://bucket')
  assert program.main(['launch.py', digits.replace('digits', 'mnist')]) == 2
  assert capfd.readouterr().err.splitlines() == [
    'error: --workdir is empty; give a path',
    'error: --workdir=~nobody-of-this-name/x: there is no such home directory; give it in full',
    'error: IAVAE_DATA=gs://bucket is no local path; give a folder or file of this machine',
  ]


@pytest.mark.parametrize('module', ['iavae.figures', 'iavae.reports.cost'])
def test_no_figure_needs_a_backend(module):
  """A notebook's shell inherits its MPLBACKEND, which the Python that runs launch.py may lack."""
  code = f"import {module}; from iavae import figures; print(len(figures.png(figures.skipped(''))))"
  environment = os.environ | {'MPLBACKEND': 'module://matplotlib_inline.backend_inline'}
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, env=environment, capture_output=True, text=True
  )
  assert done.returncode == 0 and int(done.stdout) > 100, done.stderr


def test_help_imports_nothing_heavy():
  code = (
    'import sys, launch; code = launch.main(["launch.py", "--help"]);'
    'heavy = {"jax", "numpy", "orbax", "matplotlib", "ml_collections"} & set(sys.modules);'
    'sys.exit(f"{code} {heavy}" if code or heavy else 0)'
  )
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
  assert (done.returncode, done.stderr) == (0, '')


def test_overrides_of_every_type():
  config = parse(
    '--config.seed=7',
    '--config.data.noise_scale=0.5',
    '--config.encoder.activation=tanh',
    '--config.controls=static',
    '--config.widths=(2,3)',
    '--config.refinement_steps=()',
  )
  flat = config_lib.flatten(config)
  config_lib.validate(config, CHECKS)
  assert flat['seed'] == 7
  assert flat['data.noise_scale'] == 0.5
  assert flat['encoder.activation'] == 'tanh'
  assert flat['controls'] == ('static',)
  assert flat['widths'] == (2, 3)
  assert flat['refinement_steps'] == ()


def test_differences_are_old_and_new_values():
  old = {'a': 1, 'b': {'c': (1, 2), 'same': 'x'}, 'gone': None}
  new = {'a': 2, 'b': {'c': [1, 3], 'same': 'x', 'd': 'y'}}
  assert config_lib.differences(old, new) == {
    'a': (1, 2),
    'b.c': ([1, 2], [1, 3]),
    'b.d': (config_lib.ABSENT, 'y'),
    'gone': (None, config_lib.ABSENT),
  }


def test_a_tuple_equals_the_list_that_json_makes_of_it():
  assert config_lib.differences({'a': (1, 2)}, {'a': [1, 2]}) == {}
