"""Which steps run in the processes of their network, and the configs by which Triton loads them so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import json_format, text_format
from manifests import manifest_of
from tritonclient.grpc import model_config_pb2 as pb

from tritonvision.server.fusion import Fusion, fusion

PRE, OTHER_PRE, NET, POST, FEATURES_POST = "pre--crop", "pre--whole", "net--m", "post--classes", "post--embeddings"


def write(root: Path, config: pb.ModelConfig, name: str = "config") -> None:
    folder = root / config.name / ("" if name == "config" else "configs")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.pbtxt").write_text(text_format.MessageToString(config))


def step(name: str) -> pb.ModelConfig:
    made = pb.ModelConfig(name=name, backend="python", max_batch_size=8)
    made.parameters["of"].string_value = name
    return made


def network(backend: str = "onnxruntime", threads: str = "2", kind: int = pb.ModelInstanceGroup.KIND_CPU):
    made = pb.ModelConfig(name=NET, backend=backend, max_batch_size=8)
    made.input.add(name="pixels", data_type=pb.TYPE_UINT8, dims=[4, 4, 3])
    for output in ("scores", "embeddings"):
        made.output.add(name=output, data_type=pb.TYPE_FP32, dims=[-1])
    made.instance_group.add(count=2, kind=kind)
    if threads:
        made.parameters["intra_op_thread_count"].string_value = threads
    return made


def ensemble(name: str, steps: list[tuple[str, dict, dict]], outputs: list[str]) -> pb.ModelConfig:
    made = pb.ModelConfig(name=name, platform="ensemble", max_batch_size=8)
    made.input.add(name="image", data_type=pb.TYPE_STRING, dims=[1])
    made.input.add(name="parameters", data_type=pb.TYPE_STRING, dims=[1], optional=True)
    for output in outputs:
        made.output.add(name=output, data_type=pb.TYPE_FP32, dims=[-1])
    for model, inputs, given in steps:
        one = made.ensemble_scheduling.step.add(model_name=model, model_version=-1)
        one.input_map.update(inputs)
        one.output_map.update(given)
    return made


def chain(name: str, post: str, output: str, pre: str = PRE) -> pb.ModelConfig:
    steps = [
        (pre, {"image": "image", "parameters": "parameters"}, {"pixels": "pixels", "geometry": "geometry"}),
        (NET, {"pixels": "pixels"}, {output: f"net_{output}"}),
        (post, {output: f"net_{output}", "geometry": "geometry"}, {output: output, "image_size": "image_size"}),
    ]
    return ensemble(name, steps, [output, "image_size"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A classifier with its features, as publishing writes them."""
    for config in (
        step(PRE), step(OTHER_PRE), step(POST), step(FEATURES_POST), network(), chain("m", POST, "scores"),
        chain("m--features", FEATURES_POST, "embeddings"),
    ):  # fmt: skip
        write(tmp_path, config)
    return tmp_path


def found(root: Path, cores: int = 2, config_name: str = "") -> Fusion:
    manifest = manifest_of("m", "classification", roles=("", "features"), steps=(PRE, POST, NET, FEATURES_POST))
    return fusion(root, manifest, config_name, cores)


def parsed(fused: Fusion, name: str) -> pb.ModelConfig:
    return json_format.Parse(fused.configs[name], pb.ModelConfig())


def test_the_network_answers_what_its_ensembles_do_and_what_it_did(root):
    fused = found(root)
    assert set(fused.configs) == {NET, "m", "m--features"}
    assert fused.left_out == {PRE, POST, FEATURES_POST}
    config = parsed(fused, NET)
    assert config.backend == "chain" and config.max_batch_size == 8 and config.instance_group[0].count == 2
    assert {tensor.name: tensor.optional for tensor in config.input} == dict.fromkeys(
        ("pixels", "image", "parameters"), True
    )
    assert [tensor.name for tensor in config.output] == [
        "scores", "embeddings", "m--scores", "m--image_size", "m--features--embeddings", "m--features--image_size",
    ]  # fmt: skip
    told = json.loads(config.parameters["chain"].string_value)
    assert (told["engine"], told["inputs"], told["outputs"]) == ("onnxruntime", ["pixels"], ["scores", "embeddings"])
    assert told["steps"][POST]["parameters"] == {"of": {"string_value": POST}}
    assert [one["model"] for one in told["ensembles"]["m--features"]["steps"]] == [PRE, NET, FEATURES_POST]
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 16, "bounded as any network's"


def test_an_ensemble_keeps_its_inputs_and_outputs_and_has_one_step(root):
    before, after = chain("m--features", FEATURES_POST, "embeddings"), parsed(found(root), "m--features")
    assert (list(after.input), list(after.output)) == (list(before.input), list(before.output))
    (one,) = after.ensemble_scheduling.step
    assert one.model_name == NET and dict(one.input_map) == {"image": "image", "parameters": "parameters"}
    assert dict(one.output_map) == {
        "m--features--embeddings": "embeddings", "m--features--image_size": "image_size",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("made", "cores", "together"),
    [
        (network(), 4, True),
        (network(), 5, False),  # a core would be idle while the network's processes do other work
        (network(threads=""), 2, True),  # one thread each
        (network(threads=""), 3, False),
        (network(threads="0"), 16, True),  # the engine takes all
        (network("openvino", threads=""), 16, True),
        (network("tensorrt"), 2, False),
        (network("python"), 2, False),
        (network(kind=pb.ModelInstanceGroup.KIND_GPU), 2, False),
    ],
)
def test_steps_stay_apart_where_a_core_would_be_idle_or_the_backend_is_not_ours(root, made, cores, together):
    write(root, made)
    assert bool(found(root, cores).configs) == together


def test_the_config_of_the_variant_that_serves_counts(root):
    write(root, network("openvino", threads=""), "openvino-bf16")
    assert (
        json.loads(parsed(found(root, config_name="openvino-bf16"), NET).parameters["chain"].string_value)["engine"]
        == "openvino"
    )


def test_a_step_of_an_ensemble_that_stays_apart_is_loaded(root):
    apart = chain("m--features", FEATURES_POST, "embeddings", OTHER_PRE)
    apart.ensemble_scheduling.step.add(model_name="another-model")
    write(root, apart)
    fused = found(root)
    assert set(fused.configs) == {NET, "m"} and fused.left_out == {PRE, POST}


def test_other_files_of_a_step_make_another_config_so_that_triton_loads_the_network_anew(root):
    (root / PRE / "1").mkdir()
    (root / PRE / "1" / "model.py").write_text("first")
    before = found(root)
    assert found(root) == before
    (root / PRE / "1" / "model.py").write_text("the second")
    assert found(root).configs[NET] != before.configs[NET]


@pytest.mark.parametrize("missing", [PRE, NET, POST])
def test_what_cannot_be_read_is_left_to_triton_which_says_what_is_wrong_with_it(root, missing):
    (root / missing / "config.pbtxt").write_text("nothing {")
    assert found(root) == Fusion({})
