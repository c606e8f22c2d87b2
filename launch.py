"""Trains, evaluates and reports one experiment.

  python launch.py --config=configs/synthetic.py [--config.<key>=<value> ...] [--workdir=DIR]
  python launch.py --mode=gaps --workdir=DIR [--gaps.<key>=<value> ...]

  --config    a file of configs/; --config=configs/synthetic.py:<method> adapts by another method,
              --config=configs/mnist.py:reduced takes a preset. Keys and their units are in the file
              (of images: configs/default.py); --config.<key>=<value> overrides any.
  --workdir   where checkpoints, results.json, per_example.npz, figures and report.html go
              (default: runs/<config name>, or runs/<config name>-<what follows the colon>). The
              same command again resumes a run that was interrupted, or evaluates again one that is
              finished.
  --mode      train (the default), or gaps: measures what the inference of a finished run loses, and
              whose fault that is, into gaps/ of its work directory. The run is named by --workdir
              or by the same --config; keys of the measurement are in configs/gaps.py.

Exit codes: 0 done, 1 a defect, 2 a bad flag, config or input, 3 NaN or infinity in training,
4 the work directory is in use, 130 interrupted.
"""

import errno
import os
import sys


def main(argv: list[str]) -> int:
  """Runs the experiment that the config names; returns the exit code."""
  if {'--help', '-h', '-help', '--helpfull'} & set(argv[1:]):
    try:
      print(__doc__.strip(), flush=True)
    except BrokenPipeError:  # of `| head -1`; what Python flushes at its end must not fail, too
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
  try:
    from iavae import command_line
    from iavae.errors import IavaeError
  except ModuleNotFoundError as error:
    print(
      f'error: there is no {error.name} in this Python; use .venv/bin/python, which make sets up',
      file=sys.stderr,
    )
    return 2
  command_line.tame_streams()
  command_line.keep_interrupts()
  command = None
  try:
    from configs import gaps

    command = command_line.parse(argv, gaps.get_config())
    command_line.configure_jax()
    from iavae import experiments

    if command.mode == 'gaps':
      experiments.run_gaps(command.config, command.gaps, command.workdir)
    else:
      experiments.run(command.config, command.workdir)
  except IavaeError as error:
    print(f'error: {error}', file=sys.stderr)
    return error.exit_code
  except KeyboardInterrupt:
    again = 'starts again' if command and command.mode == 'gaps' else 'resumes the run'
    print(f'interrupted; the same command {again}', file=sys.stderr)
    return 130
  except Exception as error:  # the OS says it in an OSError, Orbax in others
    if os.strerror(errno.ENOSPC) not in str(error):
      raise
    print(
      f'error: no space left for {command.workdir}; free some, then the same command resumes the '
      'run',
      file=sys.stderr,
    )
    return 2
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv))
