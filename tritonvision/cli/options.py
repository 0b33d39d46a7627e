"""What several commands share: options, settings laid under them, JSON on standard output."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.variants import HARDWARE, PlanOptions


def highest(name: str) -> int:
    """The upper bound of a whole number that is a setting of models that write."""
    (bound,) = (p.high for p in tasks.VLM.parameters if p.name == name and p.high is not None)
    return int(bound)


Url = Annotated[
    str | None,
    typer.Option(
        metavar="[http://]HOST:PORT",
        help="Ask this server. Default: the one on this machine, or one started for the duration.",
    ),
]
ApiKey = Annotated[str | None, typer.Option(metavar="K", help="The server's API key.")]
OwnRepository = Annotated[Path | None, typer.Option(metavar="DIR", help="Model repository, when no server runs.")]
Repository = Annotated[Path | None, typer.Option(metavar="DIR", help="Model repository to look into.")]
Calibrate = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Pictures of the kind that the model is for: int8 is set by them.")
]
GateData = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Labelled pictures, on which accuracy must not fall; see docs.")
]
MaxBatch = Annotated[int, typer.Option(min=0, metavar="N", help="TensorRT: samples of one execution.")]
OptimalBatch = Annotated[int, typer.Option(min=0, metavar="M", help="TensorRT: the batch that a plan is tuned for.")]
HardwareCompatible = Annotated[
    str,
    typer.Option(metavar="|".join(HARDWARE), help="TensorRT: GPUs that a plan runs on; the more, the slower."),
]
VersionCompatible = Annotated[
    bool, typer.Option("--version-compatible", help="TensorRT: other versions of the same major one load the plan.")
]
Workspace = Annotated[
    int, typer.Option(min=0, metavar="MIB", help="TensorRT: GPU memory that an operator of a plan may use. [all]")
]
MaxTokens = Annotated[
    int | None,
    typer.Option(min=1, max=highest("max_new_tokens"), metavar="N", help="Most tokens of an answer that is written."),
]
SchemaFile = Annotated[
    Path | None,
    typer.Option("--schema", metavar="FILE", help="A JSON schema that an answer that is written follows."),
]


def read_schema(path: Path | None) -> dict[str, Any] | None:
    """The schema in a file, None without one. Raises InvalidParameter for what is no JSON object."""
    if path is None:
        return None
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidParameter(f"The --schema {path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise InvalidParameter(f"The --schema {path} is no JSON.") from error
    (setting,) = (p for p in tasks.VLM.parameters if p.name == "schema")
    return setting.check(found)


def settings_with(**options: Any):
    """Settings of the environment with the options that were given laid over them.

    Raises InvalidParameter, which names the setting, when one does not fit.
    """
    from tritonvision.settings import read_settings

    return read_settings(**options)


def plan_options(optimal_batch: int, hardware: str, version_compatible: bool, workspace: int) -> PlanOptions | None:
    """How TensorRT plans are to be built, None where nothing was said about it."""
    asked = PlanOptions(optimal_batch, hardware, version_compatible, workspace)
    return None if asked == PlanOptions() else asked


def print_json(value: Any) -> None:
    """``value`` as indented JSON with a final newline."""
    import orjson

    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
    sys.stdout.write(text.decode())
