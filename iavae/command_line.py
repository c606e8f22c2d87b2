"""The command line: what did the user ask for, and is the process ready to do it?

Imports nothing heavy, so that help and errors answer at once.
"""

import io
import json
import os
import pathlib
import re
import signal
import sys
import threading
import types
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from iavae import paths
from iavae.errors import ConfigError

MODES = ('train', 'gaps')
# What may differ between runs whose numbers are compared
_HARMLESS = (
  *('seed', 'num_seeds', 'experiment', 'controls', 'methods', 'models'),
  *('evaluation.gap_examples', 'evaluation.diagnostic_examples'),
  *('data.directory', 'training.micro_batch'),
)
CACHE = pathlib.Path(os.environ.get('XDG_CACHE_HOME', '~/.cache')).expanduser() / 'iavae' / 'xla'


class Command(NamedTuple):
  """What the user asks for.

  Attributes:
    mode: one of MODES.
    gaps: the options of a gap report, see configs/gaps.py.
    workdir: absolute.
  """

  mode: str
  config: ConfigDict
  gaps: ConfigDict
  workdir: pathlib.Path


def parse(argv: list[str], gaps: ConfigDict | None = None) -> Command:
  """The command of sys.argv; `gaps` are the defaults of --gaps.<key>.

  Raises:
    ConfigError: for anything wrong with the flags or the config file, in one line.
  """
  values = flags.FlagValues()
  flags.DEFINE_string('workdir', None, 'Work directory.', values)
  flags.DEFINE_string('mode', MODES[0], 'What to do.', values)
  try:
    config_flags.DEFINE_config_file(
      'config', None, 'Config file.', values, lock_config=True, sys_argv=argv
    )
    config_flags.DEFINE_config_dict(
      'gaps', gaps or ConfigDict(), 'Gap report.', values, lock_config=True, sys_argv=argv
    )
    positional = values(argv)[1:]
    if values.config is not None:
      _record(values.config, values['config'].override_values)
  except Exception as error:  # a config file is code: it may raise anything
    raise ConfigError(_one_line(error, argv)) from None
  if positional:
    raise ConfigError(f'{positional[0]!r} is not a flag; see python launch.py --help')
  if values.mode not in MODES:
    raise ConfigError(f'--mode={values.mode!r} is not one of {", ".join(MODES)}')
  if values.mode == 'train' and values['gaps'].override_values:
    first = next(iter(values['gaps'].override_values))
    raise ConfigError(f'--gaps.{first} has no effect without --mode=gaps')
  workdir = values.workdir
  if values.config is not None:
    _make_absolute(values.config)
    if workdir is None:
      workdir = _default_workdir(values['config'].config_filename)
    return Command(values.mode, values.config, values.gaps, paths.local(workdir, '--workdir'))
  if values.mode == 'train' or workdir is None:
    raise ConfigError('--config is missing, e.g. --config=configs/synthetic.py; see --help')
  directory = paths.local(workdir, '--workdir')
  return Command(values.mode, _config_of(directory), values.gaps, directory)


def _make_absolute(config: ConfigDict) -> None:
  """Paths of the config, so that they name the same files from any folder."""
  data = config.get('data', {})
  for key in ('path', 'directory'):
    if isinstance(text := data.get(key), str) and text:
      data[key] = str(paths.local(text, f'--config.data.{key}'))


def _config_of(workdir: pathlib.Path) -> ConfigDict:
  """The config that a work directory holds."""
  path = workdir / 'config.json'
  try:
    config = ConfigDict(_with_tuples(json.loads(path.read_text(encoding='utf8'))))
  except FileNotFoundError:
    raise ConfigError(f'there is no {path}; --workdir is that of a finished run') from None
  except (OSError, ValueError, TypeError):
    raise ConfigError(f'{path} is damaged; restore it, or give --config, too') from None
  return config.lock()


def _with_tuples(value: Any) -> Any:
  """What JSON made of a config, with the tuples that it had."""
  if isinstance(value, dict):
    return {key: _with_tuples(entry) for key, entry in value.items()}
  return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _record(config: ConfigDict, overrides: dict[str, object]) -> None:
  """Tells a config with the key `changed` what the command line changed of it."""
  if 'changed' in config:
    config.changed = tuple(
      sorted(key for key in overrides if key not in _HARMLESS and not key.startswith('cost.'))
    )


def _default_workdir(config_file: str) -> str:
  """'runs/mnist-svi-mlp' of configs/mnist.py:svi,mlp."""
  path, _, variant = config_file.partition(':')
  return 'runs/' + '-'.join([pathlib.Path(path).stem, *re.findall(r'\w+', variant)])


def _one_line(error: Exception, argv: list[str]) -> str:
  """What absl or ml_collections, which tell of some errors in several lines, want to say."""
  text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
  near = re.search(r'Did you mean "(.+)" instead of "(.+)"', text)
  if near:
    return f'the config has no key {near[2]}. Did you mean {near[1]}?'
  if isinstance(error, (KeyError, AttributeError)) and re.fullmatch(r'\W*\w+\W*', text):
    name = re.sub(r'\W', '', text)
    flags_of_it = [re.match(rf'--?config\.([\w.]*\b{name})\b', word) for word in argv]
    return 'the config has no key ' + next((found[1] for found in flags_of_it if found), name)
  if isinstance(error, OSError):
    reason = str(error.__cause__ or error).strip().splitlines()[-1].strip()
    return 'cannot read the file of --config: ' + re.sub(r'^\[Errno \d+\] ', '', reason)
  if 'Traceback' in text:
    last = text.strip().splitlines()[-1]
    ours = last.removeprefix('iavae.errors.ConfigError: ')
    return ours if ours != last else f'the file of --config raises: {last}'
  return ' '.join(text.split())


def configure_jax() -> None:
  """One virtual device per core on a CPU, compiled programs kept between runs; before jax loads."""
  flag = '--xla_force_host_platform_device_count'
  if flag not in os.environ.get('XLA_FLAGS', ''):
    count = min(len(os.sched_getaffinity(0)), 8) if hasattr(os, 'sched_getaffinity') else 1
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {flag}={count}'.strip()
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(CACHE))
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')


def keep_interrupts() -> None:
  """Ctrl-C ends the run wherever it is.

  Where Python's own handler is in place, asyncio, and Orbax by it, takes the first Ctrl-C as a wish
  to cancel its task, which may end without having noticed.
  """

  def stop(number: int, frame: types.FrameType | None) -> None:
    raise KeyboardInterrupt

  if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, stop)


def tame_streams() -> None:
  """A terminal without UTF-8 shows '?' instead of ending the run, a damaged checkpoint no noise."""
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors='replace')
  default = sys.unraisablehook

  def hook(unraisable: 'sys.UnraisableHookArgs') -> None:
    # TensorStore's, after a damaged leaf, of which the program itself warns
    if str(unraisable.exc_value) != 'Event loop is closed':
      default(unraisable)

  sys.unraisablehook = hook
