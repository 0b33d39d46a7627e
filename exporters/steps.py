"""``python -m tritonvision.exporters.steps``: write the shared steps into the model repository of the checkout."""

from __future__ import annotations

from tritonvision.ensembles import model_configs
from tritonvision.exporters import registry
from tritonvision.settings import Settings


def main() -> None:
    """Every pre and post step that an exported model may need, as the generator writes it."""
    root = Settings().repository
    for step in registry.shared_steps():
        model_configs.ensure_step(root, step)


if __name__ == "__main__":
    main()
