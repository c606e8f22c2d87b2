"""metrics.jsonl: what happened in training, one line a call or an epoch?"""

import json
import pathlib
from typing import Any


def append(workdir: pathlib.Path, line: dict[str, Any]) -> None:
  """Adds a line; it has at least 'stage', 'epoch' and 'seconds'."""
  with open(workdir / 'metrics.jsonl', 'a', encoding='utf8') as file:
    file.write(json.dumps(line) + '\n')


def seconds(workdir: pathlib.Path, stage: str) -> float:
  """Training time of a stage over all its runs; an epoch trained twice after a kill counts once."""
  path, by_epoch = workdir / 'metrics.jsonl', {}
  for text in path.read_text(encoding='utf8').splitlines() if path.exists() else ():
    try:
      line = json.loads(text)
    except ValueError:  # cut off by a kill
      continue
    if line['stage'] == stage:
      by_epoch[line['epoch']] = line['seconds']
  return sum(by_epoch.values())
