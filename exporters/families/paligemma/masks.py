"""The decoder of PaliGemma's masks: sixteen codes of a learned codebook to a mask of 64 x 64 pixels.

It belongs to a VQ-VAE (Ning et al., *All in Tokens*) that was trained on its own; its weights are a file of their own,
``vae-oid.npz``, which big_vision's ``reconstruct_masks`` reads. A folder of weights may hold it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from tritonvision.ensembles.entry_points import Net
from tritonvision.ensembles.tensors import Tensor
from tritonvision.errors import ExportFailed
from tritonvision.exporters.libraries import transformers_weights
from tritonvision.python_backend.vlm.paligemma import CODES, CODES_OF_MASK

if TYPE_CHECKING:
    import torch

FILE = "vae-oid.npz"
ROLE = "masks"
SIDE = 64
NET = Net(ROLE, (Tensor("codes", "INT64", (CODES_OF_MASK,)),), (Tensor("masks", "FP32", (SIDE, SIDE)),), 1)
_CODEBOOK = "_vq_vae._embedding"
_WIDTH, _CHANNELS = 512, 128  # of a code, which the file tells; of the decoder's first layers
_CONTRAST = 3.0  # of random masks: standard deviation of their pixels


def build(width: int = _WIDTH) -> torch.nn.Module:
    """The decoder: ``codes`` int64 ``[B,16]`` to ``masks`` float32 ``[B,64,64]``, inside above 0, usually -1 to 1.

    Its parameters are named as in the released file.
    """
    import torch
    from torch import nn

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1), nn.ReLU(),
                nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1), nn.ReLU(), nn.Conv2d(_CHANNELS, _CHANNELS, 1),
            )  # fmt: skip

        def forward(self, hidden):
            return hidden + self.net(hidden)

    def doubled(channels, into):
        return nn.ConvTranspose2d(channels, into, 4, stride=2, padding=1), nn.ReLU()

    class Masks(nn.Module):
        def __init__(self):
            super().__init__()
            self._vq_vae = nn.Module()
            self._vq_vae._embedding = nn.Parameter(torch.zeros(len(CODES), width))
            self.decoder = nn.Sequential(
                nn.Conv2d(width, _CHANNELS, 1), nn.ReLU(), Residual(), Residual(), *doubled(128, 128),
                *doubled(128, 64), *doubled(64, 32), *doubled(32, 16), nn.Conv2d(16, 1, 1),
            )  # fmt: skip

        def forward(self, codes):
            grid = self._vq_vae._embedding[codes].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
            return self.decoder(grid)[:, 0]

    return Masks().eval()


def random(seed: int) -> torch.nn.Module:
    """Random weights whose masks are neither full nor empty, and depend on the codes."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build()
    transformers_weights.redraw(network, seed)
    codes = torch.randint(len(CODES), (16, CODES_OF_MASK), generator=torch.Generator().manual_seed(seed))
    last = network.decoder[-1]
    with torch.no_grad():
        masks = network(codes)
        last.weight.mul_(_CONTRAST / masks.std())
        last.bias.sub_(network(codes).mean())
    return network


def beside(folder: Path) -> torch.nn.Module | None:
    """The decoder whose weights lie in a folder of weights; None where there is none.

    Raises:
        ExportFailed: the file is of something else.
    """
    import torch

    path = folder / FILE
    if not path.is_file():
        return None
    wrong = ExportFailed(f"'{FILE}' does not hold the weights of PaliGemma's mask decoder.")
    try:
        with np.load(path, allow_pickle=False) as file:
            given = {name: torch.from_numpy(np.asarray(file[name], dtype=np.float32)) for name in file.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise wrong from error
    if given.get(_CODEBOOK, torch.zeros(())).ndim != 2:
        raise wrong
    network = build(given[_CODEBOOK].shape[1])
    needed = network.state_dict().keys()
    if not needed <= given.keys():
        raise wrong
    try:
        network.load_state_dict({name: given[name] for name in needed})
    except RuntimeError as error:
        raise wrong from error
    return network


def save(network: torch.nn.Module, folder: Path) -> None:
    """Write the file that :func:`beside` reads."""
    np.savez(folder / FILE, **{name: tensor.numpy() for name, tensor in network.state_dict().items()})


def examples() -> dict[str, dict[str, np.ndarray]]:
    """Inputs on which the graph is compared."""
    codes = np.arange(3 * CODES_OF_MASK).reshape(3, CODES_OF_MASK) * 37 % len(CODES)
    return {"one mask": {"codes": codes[:1]}, "three masks": {"codes": codes}}


def of_codes(network: torch.nn.Module, codes: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """``masks`` of ``codes``, computed in ``dtype``."""
    import copy

    import torch

    with torch.inference_mode():
        return copy.deepcopy(network).to(dtype)(torch.from_numpy(codes)).numpy()
