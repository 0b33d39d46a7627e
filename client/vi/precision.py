"""The precision that ``ViModel`` is made with: a published variant, one that is built now, or a sentence why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tritonvision import machine
from tritonvision.client.publishing import run_command
from tritonvision.engine.facts import Facts
from tritonvision.publication import Manifest, Repository
from tritonvision.settings import Settings
from tritonvision.variants import OFFERED
from tritonvision.vi.errors import ViConfigurationError

_DTYPES = {
    "float32": "fp32", "fp32": "fp32", "float": "fp32", "float16": "fp16", "fp16": "fp16", "half": "fp16",
    "bfloat16": "bf16", "bf16": "bf16",
}  # fmt: skip


def wanted(dtype: Any, load_in_8bit: bool, load_in_4bit: bool) -> str:
    """The precision that is asked for, of :data:`tritonvision.variants.PRECISIONS`; empty: the model's own.

    Args:
        dtype: such as ``float16``, or torch's.

    Raises:
        ViConfigurationError: no such type, or more than one precision.
    """
    kind = "" if dtype is None else str(dtype).removeprefix("torch.").lower()
    if kind not in ("", "auto", *_DTYPES):
        raise ViConfigurationError(f"There is no dtype '{kind[:40]}'.", suggestion=f"There are: {', '.join(_DTYPES)}.")
    asked = [name for name, is_asked in (("int8", load_in_8bit), ("int4", load_in_4bit)) if is_asked]
    asked += [_DTYPES[kind]] if kind in _DTYPES else []
    if len(asked) > 1:
        raise ViConfigurationError(
            f"A model runs in one precision, not in {' and '.join(asked)}.",
            suggestion="Give one of dtype, load_in_8bit and load_in_4bit.",
        )
    return "".join(asked)


def let_serve(settings: Settings, name: str, precision: str, say: Callable[[str], None]) -> None:
    """Let the published model ``name`` of this machine's repository serve in ``precision``; it is built if need be.

    The choice stays in the repository, for everybody who asks that model there.

    Args:
        say: called with a sentence before something is built or changed.

    Raises:
        ViConfigurationError: nothing on this machine runs it so.
        ExportFailed, SetupError, InvalidParameter: with the message of the command that builds it.
    """
    manifest = Repository(settings.repository).resolve(name)
    if _served(manifest) == precision:
        return
    where = ("--repository", str(settings.repository))
    there = _published(manifest, precision)
    if there:
        say(f"'{manifest.id}' is served by {there} from now on.")
        run_command("variants", "use", manifest.id, there, *where)
        return
    offered = [engine for engine, precisions in OFFERED.items() if precision in precisions]
    engines = [engine for engine in offered if not machine.why_not(engine, precision)]
    if not engines:
        raise _refusal(f"Nothing on this machine runs '{manifest.id}' in {precision}.", Facts.of(manifest))
    say(f"'{manifest.id}' is built in {precision} now, which takes a while.")
    built = "--engine", engines[0], "--precision", precision, "--use"
    run_command("variants", "add", manifest.id, *built, *where)


def check_served(facts: Facts, precision: str) -> None:
    """Raise ViConfigurationError unless the server that was asked runs the model in ``precision``."""
    if facts.precision != precision:
        raise _refusal(f"The server runs '{facts.id}' in {facts.precision or 'a precision it does not tell'}.", facts)


def _served(manifest: Manifest) -> str:
    return Facts.of(manifest).precision


def _published(manifest: Manifest, precision: str) -> str:
    """Name of a variant that this machine runs in ``precision``; empty where there is none."""
    if manifest.precision == precision:
        return manifest.base_variant
    here = (v.name for v in manifest.variants if v.precision == precision and not machine.why_not(v.engine, precision))
    return next(here, "")


def _refusal(sentence: str, facts: Facts) -> ViConfigurationError:
    have = ", ".join(facts.precisions)
    return ViConfigurationError(
        sentence, "invalid_parameter", 400,
        f"It is published in {have}; 'tritonvision variants add' and 'use' build another where the server runs.",
    )  # fmt: skip
