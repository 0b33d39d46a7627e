"""``tritonvision serve``: the HTTP facade in front of a tritonserver, its own or somebody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tritonvision.cli.options import settings_with
from tritonvision.errors import SetupError
