"""The queue that Triton keeps in front of a model: its length is bounded, and cancelled requests leave it."""

from __future__ import annotations

import json
from pathlib import Path

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2 as pb

# Requests that may wait for one process. Steps that many models share are quick.
_PER_PROCESS = 8
_PER_SHARED_PROCESS = 32
_SHARED = ("pre--", "post--", "tokens--")


def bound_queue(config: pb.ModelConfig) -> bool:
    """Bound the queue of ``config``; whether that changed it.

    Triton bounds a queue, and looks for cancelled requests in it, only where it batches. The preferred batch of one
    keeps every request a run of its own, so answers stay the same. Ensembles have no queue, and models without a batch
    axis or with a scheduler of their own are left alone.
    """
    if config.platform == "ensemble" or config.max_batch_size < 1 or config.WhichOneof("scheduling_choice"):
        return False
    processes = sum(group.count for group in config.instance_group) or 1
    each = _PER_SHARED_PROCESS if config.name.startswith(_SHARED) else _PER_PROCESS
    config.dynamic_batching.preferred_batch_size.append(1)
    config.dynamic_batching.default_queue_policy.max_queue_size = each * processes
    return True


def bounded_config(folder: Path, name: str = "", always: bool = False) -> str | None:
    """The config to load the Triton model in ``folder`` with, as JSON, where that is not its ``config.pbtxt``.

    Args:
        name: see :func:`read_config`.
        always: whether it is wanted where it is that, too: Triton would go on with the config of an earlier load as
            long as the files stay the same.
    """
    config = read_config(folder, name)
    if config is None:
        return None  # Triton says what is wrong with it
    changed = name and config != read_config(folder)
    return to_json(config) if bound_queue(config) or changed or always else None


def read_config(folder: Path, name: str = "") -> pb.ModelConfig | None:
    """The config in the folder of a Triton model; None of what is none.

    Args:
        name: of a file in its folder ``configs``; where there is none, ``config.pbtxt`` is meant.
    """
    file, chosen = folder / "config.pbtxt", folder / "configs" / f"{name}.pbtxt"
    try:
        return text_format.Parse((chosen if chosen.is_file() else file).read_text(), pb.ModelConfig())
    except (OSError, ValueError, text_format.ParseError):
        return None


def to_json(config: pb.ModelConfig) -> str:
    """A config as a load request takes it."""
    return json.dumps(json_format.MessageToDict(config, preserving_proto_field_name=True))
