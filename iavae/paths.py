"""Local paths, as users write them."""

import pathlib
import re

from iavae.errors import ConfigError


def local(text: str, flag: str) -> pathlib.Path:
  """The absolute path of a local file or folder; `~` is the home directory.

  Args:
    flag: where the text comes from, e.g. '--workdir'.

  Raises:
    ConfigError: for an address such as gs://bucket/run, or no text.
  """
  if re.match(r'[A-Za-z][A-Za-z0-9+.-]*://', text):
    raise ConfigError(f'{flag}={text} is no local path; give a folder or file of this machine')
  if not text:
    raise ConfigError(f'{flag} is empty; give a path')
  try:
    return pathlib.Path(text).expanduser().absolute()
  except RuntimeError:  # ~somebody
    raise ConfigError(f'{flag}={text}: there is no such home directory; give it in full') from None
