"""Pictures that a network is calibrated with and judged by: a folder of the user's, or drawn ones."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tritonvision.errors import ExportFailed, InvalidPicture, PictureTooLarge
from tritonvision.exporters.parity import sample_pictures
from tritonvision.pictures import ENDINGS, decode


class PictureFiles(Sequence[np.ndarray]):
    """Picture files, each decoded when it is asked for: many large ones would not fit into memory."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = tuple(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index):
        """RGB uint8 ``[h,w,3]``, or some of the files for a slice. Raises ExportFailed of one that cannot be read."""
        if isinstance(index, slice):
            return PictureFiles(self.paths[index])
        return read(self.paths[index])


def read(path: Path) -> np.ndarray:
    """The picture in a file, turned as its EXIF says: RGB uint8 ``[h,w,3]``. Raises ExportFailed."""
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise ExportFailed(f"The picture '{path.name}' cannot be read: {error.strerror}.") from error
    except (InvalidPicture, PictureTooLarge) as error:
        raise ExportFailed(f"The picture '{path.name}' cannot be read: {error.message}", hint=error.hint) from error


def files(folder: Path) -> list[Path]:
    """The picture files in a folder and the folders in it, by name.

    Raises:
        ExportFailed: it is no folder, or holds no picture.
    """
    if not folder.is_dir():
        raise ExportFailed(f"'{folder.name}' is not a folder.", hint="Name a folder of pictures.")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    if not found:
        raise ExportFailed(
            f"The folder '{folder.name}' holds no pictures.", hint=f"Pictures end in {', '.join(sorted(ENDINGS))}."
        )
    return found


def of_folder(folder: Path) -> PictureFiles:
    """The pictures of :func:`files`, which raises ExportFailed where there are none."""
    return PictureFiles(files(folder))


def halves(given: Sequence[np.ndarray]) -> tuple[Sequence[np.ndarray], Sequence[np.ndarray]]:
    """Every other picture to calibrate with, and the rest to judge by; one picture alone is both."""
    return given[::2], given[1::2] or given


def some(given: Sequence[np.ndarray], most: int) -> list[np.ndarray]:
    """At most ``most`` of the pictures, evenly spread."""
    count = min(most, len(given))
    return [given[i * len(given) // count] for i in range(count)]


@functools.cache
def structured() -> tuple[np.ndarray, ...]:
    """Forty pictures with structure: those of the parity gate, and parts of the photo, some mirrored, turned or with
    their channels exchanged.
    """
    photo, rng = sample_pictures.photo(), np.random.default_rng(0)
    found = list(sample_pictures.views().values())
    while len(found) < 40:
        height, width = (int(v) for v in rng.integers(120, 500, 2))
        top, left = int(rng.integers(0, 513 - height)), int(rng.integers(0, 513 - width))
        part = photo[top : top + height, left : left + width]
        part = np.rot90(part, int(rng.integers(4)))[:, :: int(rng.choice([-1, 1]))]
        found.append(np.ascontiguousarray(part[..., rng.permutation(3)]))
    rng.shuffle(order := list(range(len(found))))
    return tuple(found[i] for i in order)
