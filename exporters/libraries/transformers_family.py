"""Base of families of ``transformers``: the sources of weights, and the files that belong to them.

A family gives the library's class, the repository of the released weights and the configuration, and makes its
:class:`Network` from what was loaded.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tritonvision.catalog import Entry
from tritonvision.errors import ExportFailed
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import Network, Weights
from tritonvision.exporters.libraries import transformers_weights
from tritonvision.exporters.libraries.torch_network import TorchFamily
from tritonvision.exporters.libraries.transformers_weights import Loaded

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel


class TransformersFamily(TorchFamily):
    """A family whose reference is a class of ``transformers``.

    Attributes:
        class_name: of the library's class.
        beside: names of files that are needed besides ``config.json`` and ``model.safetensors``: they are downloaded
            with released weights, and the user's weights must be a folder then.
        sometimes_beside: names of files that a repository may lack.
    """

    class_name: str
    beside: tuple[str, ...] = ()
    sometimes_beside: tuple[str, ...] = ()

    def model_class(self) -> type[PreTrainedModel]:
        """The class that loads weights."""
        import transformers

        return getattr(transformers, self.class_name)

    @abstractmethod
    def repository(self, entry: Entry) -> str:
        """Hub id of the released weights of one catalogue id."""

    def config_of(self, entry: Entry, tensors: Mapping[str, torch.Tensor]) -> PretrainedConfig:
        """The configuration of one catalogue id, for a bare file of weights; its tensors give the class count.

        A family with files :attr:`beside` its weights is not asked: they are a folder, which holds a configuration.
        """
        raise NotImplementedError

    @abstractmethod
    def network(self, entry: Entry, weights: Weights, loaded: Loaded) -> Network:
        """The network around what was loaded. Raises ExportFailed where that is of another architecture."""

    def official_network(self, entry: Entry, weights: Weights) -> Network:
        """See :meth:`Family.official_network`."""
        repository = self.repository(entry)
        for name in ("config.json", *self.beside):
            files.hub_file(repository, name)
        for name in self.sometimes_beside:
            with contextlib.suppress(ExportFailed):
                files.hub_file(repository, name)
        return self.network(entry, weights, transformers_weights.official(self.model_class(), repository))

    def network_from_file(self, entry: Entry, weights: Weights) -> Network:
        """See :meth:`Family.network_from_file`."""
        if self.beside and (weights.path is None or not weights.path.is_dir()):
            raise ExportFailed(
                f"The weights of {entry.id} are a folder: files of their processor belong to them.",
                hint="Write it with model.save_pretrained(folder) and processor.save_pretrained(folder).",
            )
        loaded = transformers_weights.of_user(
            self.model_class(), self.repository(entry), weights, lambda tensors: self.config_of(entry, tensors)
        )
        return self.network(entry, weights, loaded)
