"""How far a long run is: a bar on a terminal, and nothing but the rows of the table elsewhere."""

from __future__ import annotations

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar(Progress):
    """A bar whose description says what is being done."""

    def __init__(self) -> None:
        columns = (
            BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )  # fmt: skip
        super().__init__(*columns, transient=True)
        self.disable = not self.console.is_terminal

    def say(self, line: str) -> None:
        """Print a line above the bar, however long it is."""
        self.console.out(line, highlight=False)
