"""The command ``tritonvision``: one module a command, loaded when it is asked for.

Exit codes, the same for every command: 0 done, 1 failed, 2 the command line is wrong (unknown options, settings and
models too), 3 this machine lacks something or a port is taken, 4 the server cannot answer now, 130 ended by Ctrl-C.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated

import typer
from typer.core import TyperCommand, TyperGroup

from tritonvision.errors import InvalidParameter, SetupError, TritonVisionError, UnknownModel

FAILED, USAGE, SETUP, UNAVAILABLE, INTERRUPTED = 1, 2, 3, 4, 130
EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 the command line is wrong, 3 this machine lacks something or a port is taken, "
    "4 the server cannot answer now, 130 ended by Ctrl-C."
)


@dataclass(frozen=True)
class Command:
    """One command, before its module is loaded.

    Attributes:
        summary: its line in ``tritonvision --help``.
        needs: a package that it requires.
        extra: the smallest extra that brings it.
        module: of its function, and the function's name; empty where they are called like the command.
    """

    summary: str
    needs: str = ""
    extra: str = ""
    module: str = ""

    def line(self) -> str:
        """The summary, and how to get what is missing. Looks for the package and does not import it."""
        if not self.needs or find_spec(self.needs) is not None:
            return self.summary
        return f"{self.summary} (needs: pip install 'tritonvision[{self.extra}]')"


COMMANDS = {
    "export": Command("Turn weights into a published, proven model.", needs="onnx", extra="mediapipe"),
    "import": Command("Publish an ONNX file of yours, or a package.", module="import_package"),
    "serve": Command("Serve the published models over HTTP."),
    "predict": Command("Ask a model about pictures."),
    "batch": Command("Ask a model about any number of pictures, into Parquet files.", needs="pyarrow", extra="batch"),
    "chat": Command("Talk with a model about pictures."),
    "models": Command("List every model id and what is published."),
    "info": Command("Tell all that is known of one model."),
    "variants": Command("Show, add and choose how a model's networks run: engine and precision."),
    "tune": Command("Measure how a model runs best on this machine, and let it run so."),
    "plan": Command("Show, build or remove TensorRT plans."),
    "verify": Command("Ask models what they answered when they were published."),
    "validate": Command("Measure a served model on labelled pictures, beside its reference."),
    "explain": Command("Tell where the milliseconds of a request go."),
    "keys": Command("Make, list and revoke the API keys of a server."),
    "pull": Command("Copy a model repository from a bucket or a registry."),
    "remove": Command("Take published models out of the repository."),
    "doctor": Command("Check what this machine has, and what to do about the rest."),
}


class LazyGroup(TyperGroup):
    """A group whose commands are imported when they run, so that ``--help`` is quick and works without any extra."""

    def __init__(self, **options):
        super().__init__(**options)
        # placeholders with their line in the help, in a newcomer's order
        self.commands = {name: TyperCommand(name=name, short_help=c.line()) for name, c in COMMANDS.items()}

    def resolve_command(self, ctx, args: list[str]):
        """The real command for the arguments that follow."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, None if command is None or name is None else _load(name), rest

    def invoke(self, ctx):
        """Run the command; every error ends as one line, a hint and an exit code."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except ModuleNotFoundError as error:
            missing = (error.name or "").split(".")[0]
            if missing in ("", "tritonvision") or ctx.params.get("debug"):
                raise
            complain(
                f"This needs the package '{missing}', which is not installed.", f"Get it with: pip install {missing}"
            )
            raise typer.Exit(SETUP) from None
        except TritonVisionError as error:
            if ctx.params.get("debug"):
                raise
            complain(error.message, error.hint)
            raise typer.Exit(exit_code(error)) from None


app = typer.Typer(
    cls=LazyGroup,
    help="Every vision model of the catalogue on one real Triton server.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from tritonvision import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """Options before the command's name."""


def main() -> None:
    """Run the command line of this process, and end the process."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # gRPC's messages about fork are for developers
    try:
        app(prog_name="tritonvision")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:  # the process boundary: a bug of ours still ends in a sentence
        if "--debug" in sys.argv[1:2]:
            raise
        complain(f"Something went wrong inside tritonvision: {type(error).__name__}: {error}".splitlines()[0],
                 "'tritonvision --debug COMMAND ...' shows where.")  # fmt: skip
        sys.exit(FAILED)


def complain(message: str, hint: str = "") -> None:
    """One line on standard error, and a hint line."""
    typer.secho(f"Error: {message}", err=True, fg="red")
    if hint:
        typer.echo(f"Hint: {hint}", err=True)


def exit_code(error: TritonVisionError) -> int:
    """The exit code that tells a script what kind of error this was."""
    if isinstance(error, InvalidParameter | UnknownModel):
        return USAGE
    if isinstance(error, SetupError):
        return SETUP
    return UNAVAILABLE if error.retryable or error.status == 502 else FAILED


def _load(name: str) -> TyperCommand | TyperGroup:
    module = COMMANDS[name].module or name
    callback: Callable | typer.Typer = getattr(importlib.import_module(f"tritonvision.cli.{module}"), module)
    if isinstance(callback, typer.Typer):
        group = typer.main.get_group(callback)
        group.name = name
        return group
    single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    single.command(name=name, epilog=EXIT_CODES)(callback)
    loaded = typer.main.get_command(single)
    assert isinstance(loaded, TyperCommand)  # a group is what several commands make
    loaded.name = name
    return loaded
