"""How Python models run their networks and other published models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

# call(role of a network, or public id of a model; inputs; names of outputs) -> outputs; all with a batch axis first.
# In Triton it is a BLS request, or a session of the model's own process; the parity gate passes one of its own.
Call = Callable[[str, Mapping[str, np.ndarray], Sequence[str]], dict[str, np.ndarray]]
