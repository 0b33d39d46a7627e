"""``tritonvision export``: weights in, a published and proven model out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tritonvision import catalog
from tritonvision.cli import behind_vllm, weights_option
from tritonvision.cli.options import (
    Calibrate,
    GateData,
    HardwareCompatible,
    MaxBatch,
    OptimalBatch,
    VersionCompatible,
    Workspace,
    plan_options,
    print_json,
    settings_with,
)
from tritonvision.cli.publishing import How, Job, accepting, read_size, shown, summary
from tritonvision.cli.variants import sentence

if TYPE_CHECKING:
    from tritonvision.publication import Manifest
    from tritonvision.settings import Settings



def export(
    model_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL_ID]...", help="Ids or aliases of the catalogue.")
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            metavar="official|random|PATH|hf:...|roboflow",
            help="The released weights, random ones, a file or a package of yours, hf:OWNER/NAME[@REVISION][:FILE], or "
            "those of a Roboflow project, whose id is then MODEL_ID.",
        ),
    ] = "official",
    family: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of weights of yours, instead of MODEL_ID: they tell the size.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random weights.")] = 0,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Class names, one a line, in the order of the class ids.")
    ] = None,
    as_id: Annotated[
        str | None, typer.Option("--as", metavar="PROJECT/VERSION", help="Publish under an id of your own.")
    ] = None,
    repository: Annotated[Path | None, typer.Option(metavar="DIR", help="Model repository to publish into.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is published under that id.")] = False,
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="Classifiers: labels that do not exclude each other (sigmoid).")
    ] = False,
    size: Annotated[
        str | None,
        typer.Option(metavar="SIDE|HxW", help="YOLO: pixels of the pictures; else those of the training."),
    ] = None,
    head: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="DINOv3: a linear probe, which makes a classifier of the features."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="DIR|hf:...", help="Of a LoRA adapter: what it was trained on, where it does not tell."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="vqa|phrase-grounding", help="Of a model that writes: what ViModel asks of its run."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="DocTR, EasyOCR: an option of the authors' own pipeline; docs/models names them. May be repeated.",
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            metavar="auto|onnxruntime|openvino|tensorrt|vllm",
            help="What runs the networks: ONNX Runtime in fp32 always can; auto takes what is faster here, if the "
            "precision gate lets it; vllm publishes a model that writes for Triton's container with vLLM.",
        ),
    ] = "auto",
    precision: Annotated[
        str | None, typer.Option(metavar="fp32|bf16|fp16|int8|int4|fp8", help="Of the arithmetic on that engine.")
    ] = None,
    calibrate: Calibrate = None,
    gate_data: GateData = None,
    max_batch: MaxBatch = 0,
    optimal_batch: OptimalBatch = 0,
    hardware_compatible: HardwareCompatible = "this",
    version_compatible: VersionCompatible = False,
    workspace: Workspace = 0,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Accept the licence of the weights where one has to; remembered.")
    ] = False,
    api_key: Annotated[
        str | None, typer.Option(metavar="K", help="Roboflow's; by default that of ROBOFLOW_API_KEY.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the manifests as a JSON list.")] = False,
) -> None:
    """Publish models: build the network, write its graph, prove it against the reference, put it into the repository.

    A model that differs from its reference is not published, and the repository stays as it was. What is published
    already stays, unless --force is given. With --engine and --precision a variant joins it and serves, if it passes
    the precision gate; 'tritonvision variants' shows and changes that.

    \b
    Examples:
      tritonvision export mediapipe-face-detection
      tritonvision export yolov8n-640 yolov11n-640
      tritonvision export yolov8n-640 --weights best.pt --as helmets/3
      tritonvision export --family yolov8 --weights hf:somebody/helmets:best.pt --as helmets/4
      tritonvision export my-project/3 --weights roboflow
      tritonvision export resnet18 --weights tags.safetensors --labels tags.txt --multi-label --as tags/1
      tritonvision export --family smolvlm --weights finetuned --as my-run --task vqa
      tritonvision export --family smolvlm --weights lora-folder --base smolvlm-folder --as my-run/2
      tritonvision export dinov3-small --head probe.safetensors --labels birds.txt --as birds/1
      tritonvision export easyocr-multi --option recog_network=cyrillic_g2 --as easy_ocr/cyrillic_g2
      tritonvision export yolov8n-640 --weights random --seed 7 --as trial/1
      tritonvision export yolov8n-640 --engine openvino --precision int8 --calibrate pictures
      tritonvision export smolvlm-256m --engine vllm --weights /models/SmolVLM2-256M
    """
    settings = settings_with(repository=repository, roboflow_api_key=api_key)
    if engine == "vllm":
        unused = {
            "--family": family, "--seed": seed, "--labels": labels, "--multi-label": multi_label, "--size": size,
            "--head": head, "--base": base, "--task": task, "--option": option, "--precision": precision,
            "--calibrate": calibrate, "--gate-data": gate_data, "--max-batch": max_batch,
        }  # fmt: skip
        model_id = behind_vllm.the_model(model_ids or [], [name for name, value in unused.items() if value])
        manifest = behind_vllm.publish(model_id, Path(weights), settings.repository, as_id, force)
        print_json([{"fresh": True, **asdict(manifest)}]) if json else typer.echo(_told(manifest))
        return
    wanted = weights_option.read(weights, seed, labels, multi_label, read_size(size), head, base, task, option or ())
    asked = weights_option.targets(model_ids or [], weights, wanted, family, as_id)
    plan = plan_options(optimal_batch, hardware_compatible, version_compatible, workspace)
    how = How.read(engine, precision, calibrate=calibrate, gate_data=gate_data, max_batch=max_batch, plan=plan)
    job = Job(wanted, settings.repository, as_id, force, json, accept_license, how)
    if weights == weights_option.ROBOFLOW or weights_option.is_package(wanted):
        outcomes = [_package(target, job, settings) for target in asked]
    else:
        outcomes = [_export(target, job, family) for target in asked]
    if json:
        print_json([{"fresh": fresh, **asdict(manifest)} for manifest, fresh in outcomes])


def _told(manifest: Manifest) -> str:
    return f"{manifest.id} is published behind the engine {manifest.steps[0]}. Note: {manifest.notes[0]}"


def _export(model_id: str, job: Job, family: str | None = None) -> tuple[Manifest, bool]:
    from tritonvision.exporters import pipeline

    existing = None if job.force else pipeline.published(model_id, job.root, job.as_id)
    if existing is not None:
        weights_option.check_of_these(job.weights, existing, family or catalog.find(model_id).family)
        if not job.quiet:
            of = f"{existing.weights} weights: {existing.source}"
            typer.echo(f"{existing.id} is published already ({of}); --force replaces it.")
        return _served(existing, job.root, job.how, job.quiet, fresh=False), False
    public_id = job.as_id or catalog.find(model_id).id

    def publish(accept_license: bool) -> tuple[Manifest, list[str]]:
        with shown(public_id, job.quiet) as progress:
            if family is None:
                manifest = pipeline.export(
                    model_id, job.weights, job.root, job.as_id, job.force, progress, accept_license
                )
            else:
                manifest = pipeline.export_of_family(
                    family, job.weights, job.root, public_id, job.force, progress, accept_license
                )
        return manifest, progress.notices

    manifest, notices = accepting(publish, job.accept_license)
    if not job.quiet:
        for sentence in (*notices, *manifest.notes):
            typer.echo(f"Note: {sentence}")
        typer.echo(summary(manifest))
    return _served(manifest, job.root, job.how, job.quiet, fresh=True), True


def _package(target: str, job: Job, settings: Settings) -> tuple[Manifest, bool]:
    """A package, with the variant that is asked for by name; as 'tritonvision import' does, none is tried unasked."""
    manifest, fresh = weights_option.publish_package(target, job, settings)
    if job.how.engine != "auto":
        manifest = _served(manifest, job.root, job.how, job.quiet, fresh)
    return manifest, fresh


def _served(manifest: Manifest, root: Path, how: How, quiet: bool, fresh: bool) -> Manifest:
    """The model with the variant that is asked for; of one that was there already ``auto`` changes nothing."""
    from tritonvision.exporters import variants

    if how.engine == "onnxruntime" or (how.engine == "auto" and not fresh):
        return manifest
    with shown(manifest.id, quiet) as progress:
        if how.engine == "auto":
            after = variants.auto(root, manifest, progress)
        else:
            after = variants.add(
                root, manifest.id, how.engine, how.precision, serve=True, progress=progress, **how.options
            )
    if not quiet and after is not manifest:
        new = [f"Note: {note}" for note in (*progress.notices, *after.notes[len(manifest.notes) :])]
        typer.echo("\n".join([*new, sentence(after, after.serving)] if after.serving else new))
    return after
