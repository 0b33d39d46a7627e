"""Chains of steps that run in the processes of their network: the configs by which the embedded server loads them.

A published model is an ensemble of a pre step, a network and a post step, each with processes of its own, so that they
work on different requests at once. Where the network's processes have a thread for every core nothing is gained by
that, and each step costs a way through the server, copies of its tensors, and memory for its processes. There the
network's processes run the steps before and after it, too (``python_backend/chain_backend.py``), and the ensemble has
one step. The files of the repository stay as they are, and so do the public model's name, inputs and outputs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2 as pb

from tritonvision.publication import Manifest
from tritonvision.queue_policy import bound_queue, read_config, to_json
from tritonvision.stages import kind_of
from tritonvision.tuning import THREADS

BACKEND, PARAMETER = "chain", "chain"
_SHARED = ("pre", "post")  # kinds of steps
# Threads of a process whose config names none, 0 for all. Only these backends are Python of ours.
_UNNAMED = {"onnxruntime": "1", "openvino": "0"}


@dataclass(frozen=True)
class Fusion:
    """How the Triton models of one published model are loaded.

    Attributes:
        configs: of its networks and ensembles that are not loaded as their files say, as JSON, by Triton name.
        left_out: its steps that need no processes of their own.
    """

    configs: Mapping[str, str]
    left_out: frozenset[str] = frozenset()


def fusion(repository: Path, manifest: Manifest, config_name: str, cores: int) -> Fusion:
    """Which steps of a model run in the processes of its networks.

    Args:
        config_name: of the configs that its networks run with, see :func:`tritonvision.queue_policy.read_config`.
        cores: that the server may use.
    """
    ensembles = [config for name in manifest.triton_names if (config := read_config(repository / name))]
    chains: dict[str, list[pb.ModelConfig]] = {}
    for ensemble in ensembles:
        chains.setdefault(_network_of(ensemble), []).append(ensemble)
    configs: dict[str, str] = {}
    for name, together in chains.items():
        network, shared = read_config(repository / name, config_name) if name else None, _shared_steps(together)
        steps = {step: config for step in shared if (config := read_config(repository / step))}
        if network is None or len(steps) < len(shared) or not _takes_every_core(network, cores):
            continue
        configs[name] = to_json(_joined(repository, network, together, steps))
        configs |= {ensemble.name: to_json(_of_one_step(ensemble, name)) for ensemble in together}
    fused = _shared_steps(ensemble for ensemble in ensembles if ensemble.name in configs)
    apart = _shared_steps(ensemble for ensemble in ensembles if ensemble.name not in configs)
    return Fusion(configs, fused - apart)


def is_fused(config: str | None) -> bool:
    """Whether a config that a model was loaded with is one of an ensemble out of :class:`Fusion`."""
    steps = json.loads(config or "{}").get("ensemble_scheduling", {}).get("step", [])
    return len(steps) == 1


def _shared_steps(ensembles: Iterable[pb.ModelConfig]) -> frozenset[str]:
    names = (step.model_name for ensemble in ensembles for step in ensemble.ensemble_scheduling.step)
    return frozenset(name for name in names if kind_of(name) in _SHARED)


def _network_of(config: pb.ModelConfig) -> str:
    """The only network among the steps of an ensemble whose other steps are shared ones; empty where it is no such."""
    names = [step.model_name for step in config.ensemble_scheduling.step]
    networks = [name for name in names if kind_of(name) == "network"]
    shared = [name for name in names if kind_of(name) in _SHARED]
    return networks[0] if len(networks) == 1 and len(shared) == len(names) - 1 > 0 else ""


def _takes_every_core(network: pb.ModelConfig, cores: int) -> bool:
    """Whether the processes of a network have a thread for each core, so that no core is idle while they run it."""
    if network.backend not in _UNNAMED or any(g.kind == pb.ModelInstanceGroup.KIND_GPU for g in network.instance_group):
        return False
    name = THREADS[network.backend]
    given = network.parameters[name].string_value if name in network.parameters else _UNNAMED[network.backend]
    threads = int(given) if given.isdecimal() else 1  # the engine says what is wrong with it
    return (threads or cores) * sum(group.count for group in network.instance_group) >= cores


def _joined(
    repository: Path, network: pb.ModelConfig, ensembles: Iterable[pb.ModelConfig], steps: Mapping[str, pb.ModelConfig]
) -> pb.ModelConfig:
    """The network with what it does as the only step of ``ensembles``: their inputs, and their outputs by
    :func:`output_name`. Its own inputs and outputs stay, for whoever asks it alone.
    """
    config = pb.ModelConfig()
    config.CopyFrom(network)
    told: dict[str, Any] = {
        "engine": network.backend, "ensembles": {},
        "inputs": [tensor.name for tensor in network.input], "outputs": [tensor.name for tensor in network.output],
        "steps": {name: json_format.MessageToDict(step, preserving_proto_field_name=True)
                  for name, step in steps.items()},
        "files": {name: _files_of(repository / name) for name in steps},  # Triton loads anew what has another config
    }  # fmt: skip
    for tensor in config.input:
        tensor.optional = True
    for ensemble in ensembles:
        known = {tensor.name for tensor in config.input}
        for tensor in ensemble.input:
            if tensor.name not in known:
                config.input.add().CopyFrom(tensor)
                config.input[-1].optional = True
        for tensor in ensemble.output:
            config.output.add().CopyFrom(tensor)
            config.output[-1].name = output_name(ensemble.name, tensor.name)
        told["ensembles"][ensemble.name] = {
            "outputs": {output_name(ensemble.name, tensor.name): tensor.name for tensor in ensemble.output},
            "steps": [
                {"model": step.model_name, "inputs": dict(step.input_map), "outputs": dict(step.output_map)}
                for step in ensemble.ensemble_scheduling.step
            ],
        }  # fmt: skip
    config.backend = BACKEND
    config.parameters[PARAMETER].string_value = json.dumps(told)
    bound_queue(config)
    return config


def _files_of(step: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of the files of a step's version, without the bytecode that Python leaves there."""
    found = ((path.name, path.stat()) for path in sorted(step.glob("*/*")) if path.is_file())
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]


def _of_one_step(ensemble: pb.ModelConfig, network: str) -> pb.ModelConfig:
    config = pb.ModelConfig()
    config.CopyFrom(ensemble)
    config.ClearField("ensemble_scheduling")
    step = config.ensemble_scheduling.step.add(model_name=network, model_version=-1)
    for tensor in ensemble.input:
        step.input_map[tensor.name] = tensor.name
    for tensor in ensemble.output:
        step.output_map[output_name(ensemble.name, tensor.name)] = tensor.name
    return config


def output_name(ensemble: str, output: str) -> str:
    """Name at the network of what the ensemble ``ensemble`` answers as ``output``."""
    return f"{ensemble}--{output}"
