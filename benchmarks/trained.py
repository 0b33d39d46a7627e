"""A detector that was really trained, for gates that have to pass, or fail, for a real reason.

    .venv-export/bin/python benchmarks/trained.py --repository DIR --pictures FOLDER

Publishes the yolov8n of the tests, which finds drawn shapes (a minute on one core), as ``tests/shapes/1``. Labelled
scenes go to FOLDER, for ``--gate-data``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import drawn_shapes  # noqa: E402

from tritonvision.exporters import pipeline  # noqa: E402
from tritonvision.exporters.contract import Weights  # noqa: E402

SCENES = 16


def main() -> None:
    """Draw, train and publish."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    given = parser.parse_args()
    drawn_shapes.labelled(given.pictures, SCENES)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "shapes.pt"
        drawn_shapes.train(weights)
        user = Weights("user", path=weights)
        pipeline.export("yolov8n-640", user, given.repository, as_id="tests/shapes/1", force=True)


if __name__ == "__main__":
    main()
