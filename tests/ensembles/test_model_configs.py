"""Generated configs: Triton's own protobuf reads them, the tree holds what the generator writes, nothing dangles."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tritonvision.ensembles import model_configs
from tritonvision.ensembles.entry_points import (
    Chain,
    Chat,
    Composition,
    LocalCode,
    Net,
    SequenceBatching,
    TextPreprocess,
)
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import EMBEDDINGS, HEADS
from tritonvision.ensembles.tensors import Tensor
from tritonvision.publication import MANIFEST_PARAMETER, Manifest
from tritonvision.tasks import GAZE

ROOT = Path(__file__).parents[2] / "model_repository"
LETTERBOX = Resize("letterbox", 640, 640)
CHAINS = {name: Chain(LETTERBOX, head) for name, head in HEADS.items()} | {
    "padded for the network": Chain(Resize("shortest", 800, 1333), HEADS["query-boxes"]),
    "a text": Chain(TextPreprocess("clip", 77), EMBEDDINGS, role="text"),
}


def parse(text: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_every_tensor_of_an_ensemble_comes_from_somewhere(chain):
    config = parse(model_configs.public_config("m", chain))
    made = {tensor.name for tensor in config.input}
    for step in config.ensemble_scheduling.step:
        assert set(step.input_map.values()) <= made
        made |= set(step.output_map.values())
    assert {tensor.name for tensor in config.output} <= made
    models = [step.model_name for step in config.ensemble_scheduling.step]
    assert sorted(models) == sorted(model_configs.step_names("m", [chain]))


def test_the_config_of_a_public_model_tells_what_the_model_is():
    manifest = Manifest(
        id="mine/tags/1", family="f", task="classification", head="classes", weights="user", source="s", sha256="0",
        license='as "the owner" says', precision="fp32", labels=("Katze – chat", "dog\n"), input_size=None, steps=(),
    )  # fmt: skip
    config = parse(model_configs.public_config("m", CHAINS["classes"], manifest=manifest))
    assert Manifest.from_json(config.parameters[MANIFEST_PARAMETER].string_value) == manifest
    assert not parse(model_configs.public_config("m", CHAINS["classes"])).parameters


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_the_steps_of_an_ensemble_agree_on_tensors(chain):
    net = parse(model_configs.net_config("m", chain.nets[0]))
    pre, *post = (parse(model_configs.step_config(step)) for step in model_configs.shared_steps(chain))
    public = parse(model_configs.public_config("m", chain))
    shapes = {t.name: (t.data_type, list(t.dims)) for t in (*pre.output, *net.output)}
    for step in (net, *post):
        assert all(shapes[t.name] == (t.data_type, list(t.dims)) for t in step.input if not t.optional)
    assert list(public.output) == list((post[0] if post else net).output)
    assert {c.max_batch_size for c in (pre, net, *post, public)} == {model_configs.MAX_BATCH}


def test_a_composition_names_its_networks_and_its_picture_can_be_optional():
    net = Net("encoder", LETTERBOX.tensors, (Tensor("embeddings", "FP32", (4,)),), instances=1)
    extra = (Tensor("embeddings", "FP32", (4,), True),)
    point = Composition("gaze", 1, GAZE, (net,), net.outputs, extra_inputs=extra, image_optional=True)
    config = parse(model_configs.public_config("m", point))
    assert config.backend == "python" and model_configs.step_names("m", [point]) == ("net--m--encoder",)
    assert config.parameters["nets"].string_value == '{"encoder": "net--m--encoder"}'
    assert {t.name: t.optional for t in config.input} == {"image": True, "parameters": True, "embeddings": True}
    assert parse(model_configs.net_config("m", net)).instance_group[0].count == 1


def test_networks_of_a_models_own_process_are_files_beside_it_and_no_steps():
    net = Net("decoder", LETTERBOX.tensors, (Tensor("embeddings", "FP32", (4,)),))
    point = Composition("gaze", 1, GAZE, (net,), net.outputs, embedded=True)
    config = parse(model_configs.public_config("m", point, ("tokenizer.json",)))
    assert model_configs.step_names("m", [point]) == ()
    assert config.parameters["sessions"].string_value == '{"decoder": "decoder.onnx"}'
    assert config.parameters["assets"].string_value == '["tokenizer.json"]'
    assert {t.name: t.optional for t in config.input} == {"image": False, "parameters": True}


def test_an_embedded_network_says_how_it_runs_where_that_is_not_as_it_was_exported():
    nets = (
        Net("decoder", (), ()), Net("vision", (), (), engine="openvino", precision="bf16"),
        Net("embed", (), (), engine="openvino", precision="int8", file="openvino-int8--embed.xml"),
    )  # fmt: skip
    expected = {
        "decoder": "decoder.onnx",
        "vision": {"file": "vision.onnx", "engine": "openvino", "precision": "bf16"},
        "embed": {"file": "openvino-int8--embed.xml", "engine": "openvino", "precision": "int8"},
    }
    for point in (Chat("smolvlm", nets), Composition("gaze", 1, GAZE, nets, (), embedded=True)):
        config = parse(model_configs.public_config("m", point))
        assert json.loads(config.parameters["sessions"].string_value) == expected


def test_a_model_that_writes_is_decoupled_and_takes_pictures_a_prompt_or_messages():
    nets = tuple(Net(role, (), ()) for role in ("vision", "embed", "decoder"))
    point = Chat("smolvlm", nets, (("context", 8192),))
    config = parse(model_configs.public_config("m", point, ("tokenizer.json",)))
    assert config.model_transaction_policy.decoupled and config.max_batch_size == 0
    assert model_configs.step_names("m", [point]) == ()
    assert all(tensor.optional for tensor in config.input)
    assert {t.name: list(t.dims) for t in config.output} == {
        "text": [1], "token_ids": [-1], "finish_reason": [1], "usage": [2], "details": [1],
    }  # fmt: skip
    assert "chat import TritonPythonModel" in model_configs.entry_point_py(point)


@pytest.mark.parametrize("environment", ["", "environment"])
def test_a_package_of_code_is_one_python_model_with_its_own_environment(environment):
    point = LocalCode(GAZE, EMBEDDINGS.outputs, (("directory", "/somewhere"),), environment)
    config = parse(model_configs.public_config("m", point))
    assert config.backend == "python" and model_configs.step_names("m", [point]) == ()
    assert config.parameters["options"].string_value == '{"directory": "/somewhere"}'
    assert [group.count for group in config.instance_group] == [1]
    path = "$$TRITON_MODEL_DIRECTORY/1/environment" if environment else None
    given = dict(config.parameters)
    assert (given["EXECUTION_ENV_PATH"].string_value if environment else given.get("EXECUTION_ENV_PATH")) == path
    assert "local_code import TritonPythonModel" in model_configs.entry_point_py(point)


def test_the_letterbox_step_is_written_as_it_always_was():
    config = parse(model_configs.step_config(LETTERBOX))
    assert (config.name, config.backend) == ("pre--letterbox-640", "python")
    assert [(t.name, list(t.dims), t.optional) for t in config.input] == [
        ("image", [1], False), ("parameters", [1], True),
    ]  # fmt: skip
    assert config.parameters["resize"].string_value == '{"rule": "letterbox", "height": 640, "width": 640}'
    assert [(g.count, g.kind) for g in config.instance_group] == [(2, model_config_pb2.ModelInstanceGroup.KIND_CPU)]


def test_the_steps_in_the_tree_are_what_the_generator_writes(tmp_path: Path):
    from tritonvision.exporters import registry

    steps = registry.shared_steps()
    names = [model_configs.ensure_step(tmp_path, step) for step in steps]
    assert sorted(names) == sorted(p.name for p in ROOT.iterdir() if p.name.startswith(("pre--", "post--")))
    for name in names:
        for path in (tmp_path / name).rglob("*.*"):
            if path.is_file():
                assert (ROOT / path.relative_to(tmp_path)).read_text() == path.read_text(), "run: make steps"


def test_a_step_model_is_at_most_ten_lines():
    for path in ROOT.glob("*/1/model.py"):
        assert len(path.read_text().splitlines()) <= 10


def net_parameters(net: Net, **more) -> dict[str, str]:
    config = parse(model_configs.net_config("m", net, **more))
    return {name: value.string_value for name, value in config.parameters.items()}


def test_the_threads_of_a_network_are_counted_and_do_not_spin():
    net = Net("", LETTERBOX.tensors, (Tensor("embeddings", "FP32", (4,)),))
    assert net_parameters(net, threads=3) == {
        "intra_op_thread_count": "3", "inter_op_thread_count": "1", "session.intra_op.allow_spinning": "0",
    }  # fmt: skip


@pytest.mark.parametrize(("precision", "file", "more"), [
    ("fp32", "model.onnx", {}), ("bf16", "model.onnx", {"HINT_BF16": "YES"}), ("int8", "openvino-int8.xml", {}),
])  # fmt: skip
def test_a_network_on_openvino_has_the_parameters_of_its_native_backend(precision, file, more):
    net = Net("", LETTERBOX.tensors, (), engine="openvino", precision=precision, file=file)
    config = parse(model_configs.net_config("m", net, threads=2))
    assert (config.backend, config.default_model_filename) == ("openvino", file)
    assert net_parameters(net) == {"NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": "2", **more}


def test_a_network_as_it_was_exported_names_no_file():
    config = parse(model_configs.net_config("m", Net("", LETTERBOX.tensors, ())))
    assert (config.backend, config.default_model_filename) == ("onnxruntime", "")


@pytest.mark.parametrize(("net", "shrinks"), [
    (Net("", LETTERBOX.tensors, ()), False),
    (Net("", LETTERBOX.tensors, (), instances=1), True),
    (Net("", Resize("shortest", 800, 1333).tensors, ()), True),
    (Net("", (Tensor("input_ids", "INT64", (-1,)),), ()), False),
])  # fmt: skip
def test_a_network_whose_memory_follows_the_picture_or_that_is_alone_hands_it_back(net, shrinks):
    found = net_parameters(net).get("memory.enable_memory_arena_shrinkage")
    assert found == ("cpu:0" if shrinks else None)
    on_openvino = net_parameters(replace(net, engine="openvino")).get("RELEASE_MEMORY")
    assert on_openvino == ("YES" if shrinks else None)


def test_every_schema_has_its_version_in_the_config():
    nets = tuple(Net(role, (), ()) for role in ("vision", "embed", "decoder"))
    code = LocalCode(GAZE, EMBEDDINGS.outputs, ())
    points = (Composition("gaze", 5, GAZE, nets[:1], nets[0].outputs), Chat("smolvlm", nets, version=6), code)
    configs = [parse(model_configs.public_config("m", point)) for point in points]
    head = replace(EMBEDDINGS, schema=replace(EMBEDDINGS.schema, version=8))
    configs.append(parse(model_configs.step_config(head)))
    versions = [config.parameters["schema_version"].string_value for config in configs]
    assert versions == ["5", "6", str(code.version), "8"]


def test_an_entry_point_with_state_has_the_scheduler_of_sequences_and_no_other_has():
    video = Composition("video", 1, GAZE, (), (), sequence=SequenceBatching(most=3, idle_seconds=30))
    config = parse(model_configs.public_config("m", video))
    assert config.WhichOneof("scheduling_choice") == "sequence_batching"
    assert config.sequence_batching.max_sequence_idle_microseconds == 30_000_000
    assert config.sequence_batching.oldest.max_candidate_sequences == 3
    still = parse(model_configs.public_config("m", replace(video, sequence=None)))
    assert still.WhichOneof("scheduling_choice") == "dynamic_batching" and "sequence" not in still.parameters


def test_a_plan_runs_on_a_gpu_in_whole_batches_and_from_a_cuda_graph_where_its_shapes_are_fixed():
    plan = Net(
        "", LETTERBOX.tensors, (), engine="tensorrt", device="gpu", max_batch=8, precision="fp16",
        file="tensorrt-fp16-b8.plan",
    )  # fmt: skip
    config = parse(model_configs.net_config("m", plan))
    assert (config.backend, config.default_model_filename) == ("tensorrt", "tensorrt-fp16-b8.plan")
    assert [group.kind for group in config.instance_group] == [model_config_pb2.ModelInstanceGroup.KIND_GPU]
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    assert config.dynamic_batching.default_queue_policy.max_queue_size > 0
    assert config.optimization.cuda.graphs and [warm.batch_size for warm in config.model_warmup] == [1, 8]
    free_plan = replace(plan, inputs=Resize("shortest", 800, 1333).tensors, max_batch=1)
    free = parse(model_configs.net_config("m", free_plan))
    assert not free.optimization.cuda.graphs and not free.model_warmup
    assert not free.dynamic_batching.max_queue_delay_microseconds
