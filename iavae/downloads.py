"""How does a file get here, whole and verified, or not at all?"""

import contextlib
import hashlib
import http.client
import logging
import os
import pathlib
import queue
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from iavae.errors import ConfigError

STALL = 5  # seconds without an answer, or without any more of it
PATIENCE = 6  # seconds until an answer begins, name servers included: they know no other limit


class MissingError(ConfigError):
  """Files that are not at hand and cannot be downloaded."""


class File(NamedTuple):
  """A published file, known by its digest."""

  name: str
  digest: str  # hexadecimal
  url: str = ''  # '' if it is to be had by hand only
  algorithm: str = 'sha256'


def mismatch(path: pathlib.Path | str, file: File, digest: str) -> str:
  """The line on a file whose digest is another than the recorded one."""
  return (
    f'{path} is not the published file or not all of it: '
    f'{file.algorithm} {file.digest} expected, {digest} found'
  )


def digest_of(path: pathlib.Path, algorithm: str) -> str:
  """The hexadecimal digest of a file; ConfigError if it cannot be read."""
  try:
    with open(path, 'rb') as file:
      return hashlib.file_digest(file, algorithm).hexdigest()
  except OSError as error:
    raise ConfigError(f'{path} cannot be read: {error.strerror}') from None


def download(files: list[File], folders: list[pathlib.Path]) -> None:
  """Downloads files to the first folder that can be written; each is whole, verified or absent."""
  for n, file in enumerate(files):
    try:
      response = _open(file.url)
    except (OSError, http.client.HTTPException) as error:
      names = ' and '.join(f'{f.name} ({f.algorithm} {f.digest})' for f in files[n:])
      raise MissingError(
        f'no {names} in {folders[0]}, and {file.url} does not answer '
        f'({getattr(error, "reason", error)}); put it there, or set --config.data.directory'
      ) from None
    logging.info('downloading %s', file.url)
    with response:
      _save(response, file, _writable(folders))


def _open(url: str) -> Any:
  """Opens a URL within PATIENCE seconds."""
  answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

  def ask() -> None:
    try:
      answers.put(urllib.request.urlopen(url, timeout=STALL))
    except (OSError, http.client.HTTPException) as error:
      answers.put(error)

  threading.Thread(target=ask, daemon=True).start()
  try:
    answer = answers.get(timeout=PATIENCE)
  except queue.Empty:
    raise TimeoutError(f'silent for {PATIENCE} seconds') from None
  if isinstance(answer, Exception):
    raise answer
  return answer


def _save(response: Any, file: File, folder: pathlib.Path) -> None:
  path = folder / file.name
  try:
    with whole(path) as target:
      shutil.copyfileobj(response, target)
      target.flush()
      digest = digest_of(pathlib.Path(target.name), file.algorithm)
      if digest != file.digest:
        raise ConfigError(mismatch(file.url, file, digest) + '; try again')
  except (OSError, http.client.HTTPException) as error:
    raise ConfigError(
      f'the download of {file.url} to {path} broke off ({error}); try again'
    ) from None


def _writable(folders: list[pathlib.Path]) -> pathlib.Path:
  for folder in folders:
    with contextlib.suppress(OSError):
      folder.mkdir(parents=True, exist_ok=True)
      if os.access(folder, os.W_OK):
        return folder
  raise ConfigError(f'cannot write to {folders[0]}; set --config.data.directory to another folder')


@contextlib.contextmanager
def whole(path: pathlib.Path) -> Iterator[IO[bytes]]:
  """A file to write, which takes its name when all is written, and vanishes on an error."""
  temporary = path.with_name(f'.{path.name}.{os.getpid()}')
  try:
    with open(temporary, 'wb') as file:
      yield file
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
