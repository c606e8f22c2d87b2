"""Trains, evaluates and reports one experiment.

  python launch.py --config=configs/synthetic.py [--config.<key>=<value> ...] [--workdir=DIR]

  --config    a file of configs/; --config=configs/synthetic.py:<method> adapts by another method.
              Its keys, with their units, are in the file; any is overridden by --config.<key>=<value>.
  --workdir   where checkpoints, results.json, per_example.npz, figures and report.html go
              (default: runs/<config name>). The same command again resumes a run that was
              interrupted, or evaluates again one that is finished.

Exit codes: 0 done, 1 a defect, 2 a bad flag, config or input, 3 NaN or infinity in training,
4 the work directory is in use, 130 interrupted.
"""

import os
import pathlib
import sys

CACHE = pathlib.Path(os.environ.get('XDG_CACHE_HOME', '~/.cache')).expanduser() / 'iavae' / 'xla'


def _parse(argv: list[str]):
  """(config, workdir) from the command line, or ConfigError."""
  from absl import flags
  from ml_collections import config_flags

  from iavae.errors import ConfigError

  config_flag = config_flags.DEFINE_config_file('config', None, 'Config file.', lock_config=True)
  workdir_flag = flags.DEFINE_string('workdir', None, 'Work directory.')
  try:
    positional = flags.FLAGS(argv)[1:]
  except FileNotFoundError as error:
    raise ConfigError(f'--config: there is no file {error.filename or error}') from None
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError, SyntaxError) as error:
    raise ConfigError(_one_line(error)) from None
  if positional:
    raise ConfigError(f'{positional[0]!r} is not a flag; see python launch.py --help')
  if config_flag.value is None:
    raise ConfigError('--config is missing, e.g. --config=configs/synthetic.py; see --help')
  name = pathlib.Path(flags.FLAGS['config'].config_filename).stem
  return config_flag.value, pathlib.Path(workdir_flag.value or f'runs/{name}').absolute()


def _one_line(error: BaseException) -> str:
  return ' '.join(str(error.args[0] if error.args else error).split())


def _configure_jax() -> None:
  """One virtual device per core on a CPU, compiled programs kept between runs; before jax loads."""
  flag = '--xla_force_host_platform_device_count'
  if flag not in os.environ.get('XLA_FLAGS', ''):
    count = min(len(os.sched_getaffinity(0)), 8) if hasattr(os, 'sched_getaffinity') else 1
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {flag}={count}'.strip()
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(CACHE))
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')


def main(argv: list[str]) -> int:
  """Runs the experiment that the config names; returns the exit code."""
  if {'--help', '-h', '-help', '--helpfull'} & set(argv[1:]):
    print(__doc__.strip())
    return 0
  from iavae.errors import IavaeError

  try:
    config, workdir = _parse(argv)
    _configure_jax()
    from iavae.experiments import run

    run(config, workdir)
  except IavaeError as error:
    print(f'error: {error}', file=sys.stderr)
    return error.exit_code
  except KeyboardInterrupt:
    print('interrupted; the same command resumes the run', file=sys.stderr)
    return 130
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv))
