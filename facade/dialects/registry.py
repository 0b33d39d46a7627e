"""Every dialect of this server, and which one owns a path.

Several dialects share one address, and Roboflow's legacy route ``/{project}/{version}`` would take every path of two
segments. So the first segment decides: a reserved one is never a project, with any rest and any method; an unknown path
below it is a 404 with its owner's body. For paths without an owner see :mod:`unowned`. A new dialect needs a folder and
a line here.
"""

from __future__ import annotations

from tritonvision.facade.dialects.base import Dialect
from tritonvision.facade.dialects.huggingface.dialect import HUGGINGFACE
from tritonvision.facade.dialects.kserve.dialect import KSERVE
from tritonvision.facade.dialects.native.dialect import NATIVE
from tritonvision.facade.dialects.openai.dialect import OPENAI
from tritonvision.facade.dialects.roboflow.dialect import ROBOFLOW
from tritonvision.facade.dialects.unowned import UNOWNED
from tritonvision.facade.dialects.vi.dialect import VI
from tritonvision.facade.routing import first_segment

# Routes are matched one after the other, so those that are asked most come first.
DIALECTS: tuple[Dialect, ...] = (ROBOFLOW, HUGGINGFACE, OPENAI, VI, NATIVE, KSERVE)
OPEN_PATHS = frozenset(path for dialect in DIALECTS for path in dialect.open_paths)
HEALTH_PATHS = frozenset(path for dialect in DIALECTS for path in dialect.health_paths)
RESERVED = tuple(dict.fromkeys(first for dialect in DIALECTS for first in (*dialect.prefixes, *dialect.reserved)))
OPERATIONS = {key: told for dialect in DIALECTS for key, told in dialect.operations.items()}
_OWNERS = {first: dialect for dialect in DIALECTS for first in dialect.prefixes}


_ROUTES = OPEN_PATHS | {path for _, path in OPERATIONS if "{" not in path}


def dialect_of(path: str) -> Dialect:
    """The dialect whose clients call ``path``."""
    first = first_segment(path)
    if first in _OWNERS:
        return _OWNERS[first]
    return ROBOFLOW if first in RESERVED or path in _ROUTES else UNOWNED
