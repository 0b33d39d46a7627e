"""``tritonvision keys``: make, list and revoke the API keys of a server."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tritonvision.cli import EXIT_CODES
from tritonvision.cli.options import print_json, settings_with
from tritonvision.errors import InvalidParameter

if TYPE_CHECKING:
    from tritonvision.api_keys import ApiKey

_EPILOG = f"""{EXIT_CODES}

\b
Examples:
  tritonvision keys new cameras --file keys.jsonl --models 'yolov8*'
  tritonvision keys list --file keys.jsonl
  tritonvision keys revoke cameras --file keys.jsonl"""

keys = typer.Typer(
    help="Make, list and revoke the API keys of a server. It reads them with: tritonvision serve --keys FILE",
    epilog=_EPILOG, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    no_args_is_help=True,
)  # fmt: skip

File = Annotated[
    Path | None, typer.Option("--file", metavar="FILE", help="File of keys. [TRITONVISION_KEYS_FILE]")
]  # fmt: skip
Name = Annotated[str, typer.Argument(metavar="NAME", help="Who has the key; it stands in logs and metrics.")]


@keys.command(epilog=EXIT_CODES)
def new(
    name: Name,
    file: File = None,
    models: Annotated[
        list[str] | None, typer.Option(
            metavar="GLOB", help="Models that it is for, e.g. 'yolov8*'; again for more. [*, all but private ones]"
        )
    ] = None,
    manage: Annotated[bool, typer.Option("--manage", help="It may load, unload and export as well.")] = False,
    rate: Annotated[
        float | None, typer.Option(metavar="N", help="Most requests a second, further pictures of one included.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", help="Most pictures being answered at once.")
    ] = None,
) -> None:
    """Make a key and print it, this once: the file keeps its SHA-256. A running server takes it within a second.

    \b
    Examples:
      tritonvision keys new cameras --file keys.jsonl --models 'yolov8*' --models 'rfdetr-*' --rate 50
      tritonvision keys new admin --file keys.jsonl --models '**' --manage
    """
    from pydantic import ValidationError

    from tritonvision import api_keys

    path, text = _path(file), api_keys.new_key()
    may = {api_keys.ASK, api_keys.MANAGE} if manage else {api_keys.ASK}
    try:
        key = api_keys.ApiKey.model_validate({
            "name": name, "sha256": api_keys.digest(text), "models": models or ["*"], "may": may, "rate": rate,
            "concurrency": concurrency, "created": datetime.date.today().isoformat(),
        })  # fmt: skip
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise InvalidParameter(f"'{problem['loc'][0]}' does not fit: {problem['msg']}.") from error
    with api_keys.changing(path):
        known = api_keys.read(path) if path.exists() else []
        if any(other.name == name for other in known):
            raise InvalidParameter(f"There is a key '{name}' in {path}.", hint=f"tritonvision keys revoke {name}")
        api_keys.write(path, [*known, key])
    typer.echo(text)
    typer.echo(f"This is the only time it is shown. It is in force where --keys {path} is served.", err=True)


@keys.command(name="list", epilog=EXIT_CODES)
def list_keys(
    file: File = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:  # fmt: skip
    """List the keys: names, models, rights and limits; never the keys themselves.

    \b
    Examples:
      tritonvision keys list --file keys.jsonl
    """
    from tritonvision import api_keys

    found = api_keys.read(_path(file))
    if json:
        print_json([key.model_dump(mode="json", exclude={"sha256"}) for key in found])
        return
    for key in found:
        typer.echo(_row(key))


@keys.command(epilog=EXIT_CODES)
def revoke(name: Name, file: File = None) -> None:
    """Take a key out of the file. A running server refuses it within a second, on open streams as well.

    \b
    Examples:
      tritonvision keys revoke cameras --file keys.jsonl
    """
    from tritonvision import api_keys

    path = _path(file)
    with api_keys.changing(path):
        known = api_keys.read(path)
        left = [key for key in known if key.name != name]
        if len(left) == len(known):
            names = ", ".join(key.name for key in known) or "none"
            raise InvalidParameter(f"There is no key '{name}' in {path}.", hint=f"There are: {names}.")
        api_keys.write(path, left)
    typer.echo(f"Revoked {name}.")


def _path(file: Path | None) -> Path:
    path = settings_with(keys_file=file).keys_file
    if path is None:
        raise InvalidParameter("Which file of keys?", hint="Name it with --file, or in TRITONVISION_KEYS_FILE.")
    return path


def _row(key: ApiKey) -> str:
    limits = [f"{key.rate:g} a second"] if key.rate is not None else []
    limits += [f"{key.concurrency} at once"] if key.concurrency is not None else []
    parts = [key.name, " ".join(key.models), "+".join(sorted(key.may)), ", ".join(limits) or "no limits", key.created]
    return "  ".join(part for part in parts if part)
