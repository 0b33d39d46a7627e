"""``tritonvision doctor``: what this machine has, line by line, and what to do about the rest."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from tritonvision.cli.options import Repository, print_json, settings_with

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of the table.")] = False,
    repository: Repository = None,
) -> None:
    """Check what this machine has for serving and exporting, and say what to do about the rest.

    Ends with 1 when something that serving needs is missing; warnings do not count.

    \b
    Examples:
      tritonvision doctor
      tritonvision doctor --repository /models --json
    """
    from tritonvision.cli.checks import examine

    findings = examine(settings_with(repository=repository))
    if json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(1)


def _print(findings) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        said = Text(finding.found)
        if finding.advice:
            said.append(f"\n-> {finding.advice}", style="italic")
        table.add_row(Text(finding.status, style=_STYLES[finding.status]), finding.what, said)
    Console(highlight=False).print(table)
