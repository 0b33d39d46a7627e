"""Variants of published models: built and proven beside what serves, put in place by renames, chosen, taken away.

Whatever goes wrong, the model and the variant that serves stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tritonvision import catalog, machine, plans
from tritonvision.errors import ExportFailed, InvalidParameter, NotSupported, SetupError, TritonVisionError
from tritonvision.exporters import publish
from tritonvision.exporters.pipeline import Progress, Quiet, naming_what_is_missing
from tritonvision.exporters.variants import folders
from tritonvision.publication import Manifest, Repository, locked
from tritonvision.tuning import Tuning
from tritonvision.variants import ENGINES, HARDWARE, OFFERED, PlanOptions, Variant, variant_name

AUTO = ("openvino", "bf16")  # what an export tries by itself
_GAIN = 0.1  # share of the time that it must save to be kept


def add(
    repository: Path, model_id: str, engine: str, precision: str, *, calibrate: Path | None = None,
    gate_data: Path | None = None, max_batch: int = 0, plan: PlanOptions | None = None, serve: bool = False,
    force: bool = False, progress: Progress | None = None, least_gain: float | None = None,
) -> Manifest:  # fmt: skip
    """Build a variant of a published model, let it pass the precision gate, and publish it beside what serves.

    Args:
        model_id: of the published model, or an alias.
        calibrate: folder of pictures of the kind that the model is for; None takes drawn ones.
        gate_data: folder of labelled pictures; None shows agreement with the fp32 graphs instead.
        max_batch: samples of one execution that an engine is built for; 0 leaves it open.
        plan: how TensorRT plans are built; None as usual.
        serve: whether it serves from now on.
        force: build it anew where it is there already; without it, that one stays.
        least_gain: share of ONNX Runtime's time that it must save; None takes any.

    Returns:
        The manifest as it is published now.

    Raises:
        UnknownModel: nothing of that name is published.
        InvalidParameter: no such engine or precision, ``plan`` does not fit it, or it is what is always there.
        SetupError: this machine lacks the engine, the precision or a package, or the repository cannot be written.
        ExportFailed: it misses a bar of the gate, or the pictures prove nothing.
    """
    published = Repository(repository)
    manifest = published.resolve(model_id)
    check_offered(engine, precision)
    check_plan(engine, max_batch, plan)
    name = variant_name(engine, precision, max_batch)
    if name == manifest.base_variant:
        raise InvalidParameter(f"'{name}' is how '{manifest.id}' was exported: it is always there.")
    require(engine, precision)
    if not force and any(variant.name == name for variant in manifest.variants):
        return use(repository, manifest.id, name) if serve else manifest
    with naming_what_is_missing(manifest.id):
        from tritonvision.ensembles.published import decoders, entry_points_of, replaceable
        from tritonvision.exporters.variants.building import Job

        points = entry_points_of(repository, manifest)
        which = decoders if engine == "onnxruntime" else replaceable
        roles = tuple(role for point in points for role in which(point))
        if engine == "onnxruntime" and not roles:
            raise NotSupported(
                f"'{manifest.id}' has no decoder; in {precision} ONNX Runtime runs the weights of decoders alone."
            )
        variant = Variant(engine, precision, roles, max_batch, plan=plan or PlanOptions())
        with publish.staging(repository) as folder:
            job = Job(
                repository, folder, manifest, variant, progress or Quiet(), calibrate, gate_data, least_gain
            )
            built = job.run()

            def added(now: Manifest) -> Manifest:
                others = tuple(other for other in now.variants if other.name != name)
                return _serving(replace(now, variants=(*others, built.variant)), name if serve else now.serving)

            return _put(repository, folder, manifest, added, built.files)


def use(repository: Path, model_id: str, name: str) -> Manifest:
    """Let the variant ``name`` of a published model serve from now on; a running server changes over by itself.

    Raises:
        UnknownModel: nothing of that name is published.
        InvalidParameter: it has no such variant.
        SetupError: this machine cannot run it, or the repository cannot be written.
    """
    manifest = Repository(repository).resolve(model_id)
    variant = find(manifest, name)
    if variant is not None:
        require(variant.engine, variant.precision)
    serving = "" if variant is None else variant.name
    if manifest.serving == serving:
        return manifest

    def used(now: Manifest) -> Manifest:
        find(now, name)
        return _serving(now, serving)

    with publish.staging(repository) as folder:
        return _put(repository, folder, manifest, used, {})


def tune(repository: Path, model_id: str, serving: str, tuning: Tuning) -> Manifest:
    """Let the variant ``serving`` (empty: as exported) serve from now on, tuned for this machine.

    Raises:
        UnknownModel: nothing of that name is published.
        InvalidParameter: it has no such variant.
        SetupError: the repository cannot be written.
    """
    manifest = Repository(repository).resolve(model_id)

    def changed(now: Manifest) -> Manifest:
        find(now, serving or now.base_variant)
        before = now.serving if now.tuning is None else now.tuning.before  # what untune goes back to
        return replace(now, serving=serving, tuning=replace(tuning, before=before))

    with publish.staging(repository) as folder:
        return _put(repository, folder, manifest, changed, {})


def build_plans(
    repository: Path, model_id: str, name: str, progress: Callable[[str, float], bool] | None = None
) -> Manifest:
    """Build the TensorRT plans of the variant ``name`` again, for the GPU of this machine, and put them in place.

    Args:
        progress: told the phase and the part of it that is done; answers whether to go on.

    Raises:
        UnknownModel: nothing of that name is published.
        InvalidParameter: it has no such variant, or that has no plans.
        SetupError: there is no GPU here, TensorRT is not installed, or the repository cannot be written.
        ExportFailed: a plan cannot be built.
    """
    from tritonvision.exporters.tensorrt import variant as tensorrt

    manifest = Repository(repository).resolve(model_id)
    variant = find(manifest, name)
    if variant is None or variant.engine != "tensorrt":
        raise InvalidParameter(f"'{name}' has no plans.", hint="'tritonvision plan list' shows those that have.")
    with publish.staging(repository) as folder:
        renewed, files = tensorrt.rebuilt(repository, folder, manifest, variant, progress)

        def changed(now: Manifest) -> Manifest:
            return replace(now, variants=tuple(renewed if v.name == name else v for v in now.variants))

        return _put(repository, folder, manifest, changed, files)


def drop_plans(repository: Path, model_id: str, name: str) -> Manifest:
    """Remove the plans of a variant and keep what they are built from; the next load builds them again.

    Raises:
        UnknownModel, InvalidParameter, SetupError: as :func:`build_plans`, but for the GPU.
    """
    manifest = Repository(repository).resolve(model_id)
    gone = {place for plan in plans.places(manifest, name) for place in (plan, str(Path(plan).with_suffix(".json")))}

    def changed(now: Manifest) -> Manifest:
        return replace(now, variants=tuple(
            replace(v, files={place: sha for place, sha in v.files.items() if place not in gone}) if v.name == name
            else v for v in now.variants
        ))  # fmt: skip

    with publish.staging(repository) as folder:
        return _put(repository, folder, manifest, changed, {})


def untune(repository: Path, model_id: str) -> Manifest:
    """Let what served before :func:`tune` serve again, by default. A model that is not tuned stays as it is.

    Raises:
        UnknownModel: nothing of that name is published.
        SetupError: the repository cannot be written.
    """
    manifest = Repository(repository).resolve(model_id)
    if manifest.tuning is None:
        return manifest

    def changed(now: Manifest) -> Manifest:
        before = now.tuning.before if now.tuning else now.serving
        known = {variant.name for variant in now.variants}
        return replace(now, tuning=None, serving=before if before in known else "")

    with publish.staging(repository) as folder:
        return _put(repository, folder, manifest, changed, {})


def _serving(manifest: Manifest, name: str) -> Manifest:
    """The manifest with the variant ``name`` to serve; what was measured of another one does not hold for it."""
    return replace(manifest, serving=name, tuning=manifest.tuning if name == manifest.serving else None)


def remove(repository: Path, model_id: str, name: str) -> Manifest:
    """Take the variant ``name`` of a published model away, with its files.

    Raises:
        UnknownModel: nothing of that name is published.
        InvalidParameter: it has no such variant, or that is what serves or what is always there.
        SetupError: the repository cannot be written.
    """
    manifest = Repository(repository).resolve(model_id)

    def removed(now: Manifest) -> Manifest:
        variant = find(now, name)
        if variant is None:
            raise InvalidParameter(
                f"'{name}' is how '{now.id}' was exported, so it stays.",
                hint=f"All of the model goes with: tritonvision remove {now.id}",
            )
        if now.serving == variant.name:
            raise InvalidParameter(
                f"'{name}' serves '{now.id}', so it stays.",
                hint=f"Let another one serve first: tritonvision variants use {now.id} {now.base_variant}",
            )
        return replace(now, variants=tuple(other for other in now.variants if other.name != name))

    removed(manifest)
    with publish.staging(repository) as folder:
        return _put(repository, folder, manifest, removed, {})


def auto(repository: Path, manifest: Manifest, progress: Progress | None = None) -> Manifest:
    """What an export does by itself: where this machine computes in bf16 and that is worth it, it serves from now on.

    Where it was tried and is not, a note in the manifest says why.
    """
    from tritonvision.ensembles.published import entry_points_of, replaceable

    if machine.why_not(*AUTO) or not any(map(replaceable, entry_points_of(repository, manifest))):
        return manifest
    try:
        return add(repository, manifest.id, *AUTO, serve=True, progress=progress, least_gain=_GAIN)
    except TritonVisionError as error:  # the model is published, and serves as it was exported
        note = f"It is served as it was exported: {error.message}"
    with publish.staging(repository) as folder:
        return _put(repository, folder, manifest, lambda now: replace(now, notes=(*now.notes, note)), {})


def find(manifest: Manifest, name: str) -> Variant | None:
    """The variant ``name`` of a model, None for what is always there. Raises InvalidParameter where there is none."""
    if name == manifest.base_variant:
        return None
    known = {variant.name: variant for variant in manifest.variants}
    if name in known:
        return known[name]
    names = (manifest.base_variant, *known)
    near = catalog.similar(name, names)
    lead = f"Did you mean '{near[0]}'? " if near else ""
    raise InvalidParameter(
        f"'{manifest.id}' has no variant '{name[:60]}'.", hint=f"{lead}There are: {', '.join(names)}."
    )


def check_offered(engine: str, precision: str) -> None:
    """Raises InvalidParameter unless there are variants of that engine and precision on some machine."""
    if engine not in ENGINES:
        near = catalog.similar(engine, ENGINES)
        lead = f"Did you mean '{near[0]}'? " if near else ""
        raise InvalidParameter(f"No engine is called '{engine[:40]}'.", hint=f"{lead}There are: {', '.join(ENGINES)}.")
    if precision not in OFFERED[engine]:
        raise InvalidParameter(
            f"There are no variants of {engine} in '{precision[:40]}'.",
            hint=f"There are: {', '.join(OFFERED[engine])}.",
        )


def check_plan(engine: str, max_batch: int, plan: PlanOptions | None) -> None:
    """Raises InvalidParameter where ``plan`` is for another engine, or asks for what there is not."""
    if plan is None:
        return
    if engine != "tensorrt":
        raise InvalidParameter(
            "--optimal-batch, --hardware-compatible, --version-compatible and --workspace are for TensorRT.",
            hint="Name it: --engine tensorrt.",
        )
    if plan.hardware not in HARDWARE:
        raise InvalidParameter(
            f"No GPUs are called '{plan.hardware[:40]}'.",
            hint=f"--hardware-compatible is one of {', '.join(HARDWARE)}.",
        )
    if max_batch and plan.optimal_batch > max_batch:
        raise InvalidParameter(
            f"A plan for batches of up to {max_batch} cannot be tuned for {plan.optimal_batch}.",
            hint="Give --optimal-batch a number from 1 to --max-batch.",
        )


def require(engine: str, precision: str) -> None:
    """Raises SetupError where this machine cannot run variants of that engine and precision."""
    missing = machine.why_not(engine, precision)
    if missing:
        raise SetupError(missing, hint="'tritonvision doctor' shows which variants this machine can use.")


def _put(
    repository: Path, folder: Path, before: Manifest, change: Callable[[Manifest], Manifest], files: Mapping[str, Path]
) -> Manifest:
    """Publish what ``change`` makes of the manifest as it is now: others may have added variants meanwhile."""
    try:
        with locked(repository):
            now = Repository(repository).get(before.id)
            if now is None or now.without_variants() != before.without_variants():
                raise ExportFailed(
                    f"'{before.id}' was published again or removed meanwhile, so its variants stay as they are.",
                    hint="Try once more.",
                )
            after = change(now)
            folders.put(repository, folder, now, after, files)
    except OSError as error:
        raise SetupError(
            "The variant could not be written into the repository, which is as it was.",
            hint="Look at its free space and its rights.",
        ) from error
    return Repository(repository).resolve(before.id)
