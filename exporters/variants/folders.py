"""The folders of a published model with its variants: built beside the published ones, and put in their place at once.

A folder holds ``configs/<variant>.pbtxt`` for each variant, for what is always there, and ``configs/tuned.pbtxt`` where
its network was tuned; ``config.pbtxt`` equals the one that serves. ``configs`` is Triton's own name: its
``--model-config-name`` picks from it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tritonvision import tuning
from tritonvision.ensembles import model_configs, published
from tritonvision.ensembles.entry_points import Chat, Composition, EntryPoint, Net
from tritonvision.ensembles.published import CONFIGS
from tritonvision.exporters.publish import put_in_place
from tritonvision.publication import MANIFEST, MANIFEST_PARAMETER, VARIANT_PARAMETER, Manifest
from tritonvision.variants import Variant

_PYTHON = "__pycache__"
_THREADS = "2"


def put(repository: Path, folder: Path, before: Manifest, manifest: Manifest, files: Mapping[str, Path]) -> None:
    """Put ``manifest``, which differs from the published one, ``before``, in its variants alone, in place of it.

    The caller holds :func:`tritonvision.publication.locked`. Graphs are linked, not copied.

    Args:
        folder: of :func:`~tritonvision.exporters.publish.staging`.
        files: what the variants add, by place below the repository; they are moved.

    Raises:
        OSError: something cannot be written; the repository is then as it was.
    """
    points = published.entry_points_of(repository, manifest)
    built = folder / "models"
    gone = _files(before) - _files(manifest)
    folders = dict(_folders(manifest, points))
    for name in folders:
        link(repository / name, built / name, {path.partition("/")[2] for path in gone if path.startswith(f"{name}/")})
    for place, path in files.items():
        path.replace(built / place)
    for name, (point, net) in folders.items():
        configs = _configs(repository, manifest, name, point, net)
        _write_configs(built / name, configs, manifest)
    public = built / manifest.triton_name
    write(public / MANIFEST, manifest.to_json())
    put_in_place([(built / name, repository / name) for name in folders], folder)


def place(manifest: Manifest, points: Collection[EntryPoint], variant: Variant, role: str) -> str | None:
    """Where the file of its own of the network ``role`` lies below the repository; None where it needs none."""
    for point in points:
        for net in published.as_variant(point, variant).nets:
            if net.role == role and variant.file():
                return model_configs.graph_path(manifest.triton_name, point, net)
    return None


def _folders(
    manifest: Manifest, points: Collection[EntryPoint]
) -> Iterator[tuple[str, tuple[EntryPoint, Net | None]]]:
    """The folders that variants and the manifest change: networks, then entry points, the model itself last."""
    for point in points:
        for net in () if model_configs.embedded(point) else point.nets:
            yield model_configs.net_name(manifest.triton_name, net.role), (point, net)
    for point in reversed(tuple(points)):
        if not point.role or model_configs.embedded(point):
            yield model_configs.entry_point_name(manifest.triton_name, point.role), (point, None)


def _configs(
    repository: Path, manifest: Manifest, name: str, point: EntryPoint, net: Net | None
) -> dict[str, str]:
    """The configs of one folder by name of the variant; that of the model as it was exported is the first."""
    config = published.read_config(repository / name, manifest)
    configs = {manifest.base_variant: _told(config, manifest, "", point if net is None else None)}
    for variant in manifest.variants:
        changed = published.as_variant(point, variant)
        if changed == point:
            continue
        if net is not None:
            (own,) = (other for other in changed.nets if other.role == net.role)
            if own != net:
                threads = config.parameters["intra_op_thread_count"].string_value or _THREADS
                configs[variant.name] = model_configs.net_config(manifest.triton_name, own, int(threads))
        elif isinstance(changed, Composition | Chat):
            other = type(config).FromString(config.SerializeToString())
            other.parameters[VARIANT_PARAMETER].string_value = variant.name
            if changed.embedded:
                other.parameters["sessions"].string_value = model_configs.sessions(changed)
            configs[variant.name] = _told(other, manifest, variant.name, point)
    if manifest.tuning is not None and net is not None and net.role in manifest.tuning.networks:
        serving = configs.get(manifest.serving, configs[manifest.base_variant])
        found = manifest.tuning
        configs[tuning.CONFIG] = tuned_config(serving, found.instances, found.threads, found.delay)
    return configs


def tuned_config(config: str, instances: int, threads: int, delay: float) -> str:
    """The config of a network with other processes, threads and delay, see :class:`~tritonvision.tuning.Tuning`."""
    parsed = text_format.Parse(config, model_config_pb2.ModelConfig())
    model_configs.tune_config(parsed, instances, threads, delay)
    return text_format.MessageToString(parsed)


def _told(config: Any, manifest: Manifest, serving: str, point: EntryPoint | None) -> str:
    """A config as text; that of the model itself tells what the model is."""
    if point is not None and not point.role:
        if model_configs.embedded(point):
            manifest = replace(manifest, serving=serving)
        config.parameters[MANIFEST_PARAMETER].string_value = manifest.to_json()
    return text_format.MessageToString(config)


def _write_configs(folder: Path, configs: Mapping[str, str], manifest: Manifest) -> None:
    serving = configs.get(manifest.serving, configs[manifest.base_variant])
    write(folder / "config.pbtxt", configs.get(tuning.CONFIG, serving))
    shutil.rmtree(folder / CONFIGS, ignore_errors=True)
    if len(configs) > 1:
        for name, text in configs.items():
            write(folder / CONFIGS / f"{name}.pbtxt", text)


def _files(manifest: Manifest) -> set[str]:
    return {path for variant in manifest.variants for path in variant.files}


def link(source: Path, target: Path, gone: Collection[str]) -> None:
    """A second name for every file of a folder, but for those that belonged to a variant that is no more."""
    for path in source.rglob("*"):
        inside = path.relative_to(source)
        other = target / inside
        if _PYTHON in inside.parts or inside.as_posix() in gone:
            continue
        if path.is_dir():
            other.mkdir(parents=True, exist_ok=True)
            continue
        other.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, other)
        except OSError:  # a file system without hard links, or somebody else's file
            shutil.copy2(path, other)


def write(path: Path, text: str) -> None:
    """A new file: one that stands there may have a second name in the repository."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")
