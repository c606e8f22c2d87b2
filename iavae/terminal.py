"""The terminal: how far is the run, how good is it, and how long will it take?"""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Report = Callable[[int, float, str], None]  # (epoch, ELBO in nats, what else there is to say)


@contextlib.contextmanager
def stage_progress(console: Console, label: str, total: int) -> Iterator[Report]:
  """A progress bar of one stage; without a terminal, one line when the stage is over.

  Yields:
    report(epoch, elbo, more), to be called as often as there is news.
  """
  progress = Progress(
    TextColumn(f'[bold]{label}[/]'),
    BarColumn(bar_width=24),
    TextColumn('{task.fields[state]}'),
    TimeElapsedColumn(),
    TextColumn('at most'),
    TimeRemainingColumn(),
    TextColumn('left'),
    console=console,
    transient=True,
    disable=not console.is_terminal,
  )
  last = 'compiling'
  with progress:
    task = progress.add_task(label, total=total, state=last)

    def report(epoch: int, elbo: float, more: str) -> None:
      nonlocal last
      if epoch == 0:  # nothing has been trained yet
        return
      last = f'epoch {epoch}/{total}  ELBO {elbo:8.3f}  {more}'
      progress.update(task, completed=epoch, state=last)

    yield report
  console.print(f'[bold]{label}[/]  {last}', highlight=False)
