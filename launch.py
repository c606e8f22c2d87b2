"""Trains, evaluates and reports one experiment.

  python launch.py --config=configs/synthetic.py [--config.<key>=<value> ...] [--workdir=DIR]

  --config    a file of configs/; --config=configs/synthetic.py:<method> adapts by another method.
              Its keys and their units are in the file; --config.<key>=<value> overrides any.
  --workdir   where checkpoints, results.json, per_example.npz, figures and report.html go
              (default: runs/<config name>). The same command again resumes a run that was
              interrupted, or evaluates again one that is finished.

Exit codes: 0 done, 1 a defect, 2 a bad flag, config or input, 3 NaN or infinity in training,
4 the work directory is in use, 130 interrupted.
"""

import errno
import io
import os
import pathlib
import re
import sys

CACHE = pathlib.Path(os.environ.get('XDG_CACHE_HOME', '~/.cache')).expanduser() / 'iavae' / 'xla'


def _parse(argv: list[str]):
  """(config, workdir) from the command line, or ConfigError."""
  from absl import flags
  from ml_collections import config_flags

  from iavae.errors import ConfigError

  values = flags.FlagValues()
  flags.DEFINE_string('workdir', None, 'Work directory.', values)
  try:
    config_flags.DEFINE_config_file(
      'config', None, 'Config file.', values, lock_config=True, sys_argv=argv
    )
    positional = values(argv)[1:]
    if values.config is not None:
      values.config.get('experiment')  # the error of a file that cannot be read comes only now
  except Exception as error:  # a config file is code: it may raise anything
    raise ConfigError(_one_line(error)) from None
  if positional:
    raise ConfigError(f'{positional[0]!r} is not a flag; see python launch.py --help')
  if values.config is None:
    raise ConfigError('--config is missing, e.g. --config=configs/synthetic.py; see --help')
  name = pathlib.Path(values['config'].config_filename).stem
  return values.config, pathlib.Path(values.workdir or f'runs/{name}').absolute()


def _one_line(error: Exception) -> str:
  """What absl or ml_collections, which tell of some errors in several lines, want to say."""
  text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
  near = re.search(r'Did you mean "(.+)" instead of "(.+)"', text)
  if near:
    return f'the config has no key {near[2]}. Did you mean {near[1]}?'
  if isinstance(error, (KeyError, AttributeError)) and re.fullmatch(r'\W*\w+\W*', text):
    return 'the config has no key ' + re.sub(r'\W', '', text)
  if isinstance(error, OSError):
    reason = str(error.__cause__ or error).strip().splitlines()[-1].strip()
    return 'cannot read the file of --config: ' + re.sub(r'^\[Errno \d+\] ', '', reason)
  if 'Traceback' in text:
    return f'the file of --config raises: {text.strip().splitlines()[-1]}'
  return ' '.join(text.split())


def _configure_jax() -> None:
  """One virtual device per core on a CPU, compiled programs kept between runs; before jax loads."""
  flag = '--xla_force_host_platform_device_count'
  if flag not in os.environ.get('XLA_FLAGS', ''):
    count = min(len(os.sched_getaffinity(0)), 8) if hasattr(os, 'sched_getaffinity') else 1
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {flag}={count}'.strip()
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(CACHE))
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')


def _tame_streams() -> None:
  """A terminal without UTF-8 shows '?' instead of ending the run, a damaged checkpoint no noise."""
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors='replace')
  default = sys.unraisablehook

  def hook(unraisable) -> None:
    # TensorStore's, after a damaged leaf, of which the program itself warns
    if str(unraisable.exc_value) != 'Event loop is closed':
      default(unraisable)

  sys.unraisablehook = hook


def main(argv: list[str]) -> int:
  """Runs the experiment that the config names; returns the exit code."""
  _tame_streams()
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
  except Exception as error:  # the OS says it in an OSError, Orbax in others
    if os.strerror(errno.ENOSPC) not in str(error):
      raise
    print(
      f'error: no space left for {workdir}; free some, then the same command resumes the run',
      file=sys.stderr,
    )
    return 2
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv))
