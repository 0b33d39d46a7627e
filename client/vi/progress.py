"""What a person sees while pictures are asked about: a bar on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tick = Callable[[], None]


@contextmanager
def shown(count: int, first: str, wanted: bool) -> Iterator[Tick]:
    """A function to call after each picture; the bar says how many of ``count`` are done.

    Args:
        first: name of the first picture, which is said where it is the only one.
    """
    if not wanted:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    told = TextColumn("{task.description}")
    columns = (told, BarColumn(), MofNCompleteColumn()) if count > 1 else (told,)
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bars:
        task = bars.add_task("Pictures" if count > 1 else first, total=count)
        yield lambda: bars.advance(task)
