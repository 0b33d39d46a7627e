"""``tritonvision`` as a process of its own: started so that it ends with us, and its failure as an error."""

from __future__ import annotations

import re
import sys

from tritonvision.errors import ExportFailed, InvalidParameter, SetupError, TritonVisionError

# Asks the kernel to kill this process with the thread that began it (prctl(2), PR_SET_PDEATHSIG = 1), then becomes the
# command. A process of its own, because code between fork and exec would run into gRPC's fork handlers.
END_WITH_US = (
    sys.executable, "-I", "-S", "-c",
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])",
)  # fmt: skip
# The command line's error output without colours, and the error class of each exit code.
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_ERROR, _HINT = re.compile(r"^Error: (.+?)\s*$", re.M), re.compile(r"^Hint: (.+?)\s*$", re.M)
_KINDS: dict[int, type[TritonVisionError]] = {2: InvalidParameter, 3: SetupError}


def command(*arguments: str) -> list[str]:
    """The command line that runs ``tritonvision`` with ``arguments``, and ends when we do.

    The current folder is not searched for modules (``-P``): a ``token.py`` there would be imported by libraries.
    """
    return [*END_WITH_US, sys.executable, "-P", "-m", "tritonvision", *arguments]


def failure(status: int, text: str) -> TritonVisionError:
    """The error of a command that ended with ``status`` and wrote ``text``, with its message and hint."""
    text = _COLOURS.sub("", text).replace("\r", "\n")
    said, hint = _ERROR.search(text), _HINT.search(text)
    sentence = said[1] if said else "The export ended early."
    return _KINDS.get(status, ExportFailed)(sentence, hint=hint[1] if hint else "")
