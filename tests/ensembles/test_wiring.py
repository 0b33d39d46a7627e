"""Generated configs: Triton's own protobuf reads them, the tree holds what the generator writes, nothing dangles."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tritonvision.ensembles import wiring
from tritonvision.ensembles.heads import HEADS
from tritonvision.ensembles.resize import Resize

ROOT = Path(__file__).parents[2] / "model_repository"
LETTERBOX = Resize("letterbox", 640, 640)


def parse(text: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_every_tensor_of_an_ensemble_comes_from_somewhere(head):
    config = parse(wiring.public_config("m", LETTERBOX, head))
    made = {tensor.name for tensor in config.input}
    for step in config.ensemble_scheduling.step:
        assert set(step.input_map.values()) <= made
        made |= set(step.output_map.values())
    assert {tensor.name for tensor in config.output} <= made
    models = [step.model_name for step in config.ensemble_scheduling.step]
    assert sorted(models) == sorted(wiring.step_names("m", LETTERBOX, head))


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_the_steps_of_an_ensemble_agree_on_tensors(head):
    pre, post = parse(wiring.step_config(LETTERBOX)), parse(wiring.step_config(head))
    net = parse(wiring.net_config("m", LETTERBOX, head))
    public = parse(wiring.public_config("m", LETTERBOX, head))
    shapes = {t.name: (t.data_type, list(t.dims)) for t in (*pre.output, *net.output)}
    assert shapes["pixels"] == (net.input[0].data_type, list(net.input[0].dims))
    assert all(shapes[t.name] == (t.data_type, list(t.dims)) for t in post.input if not t.optional)
    assert list(public.output) == list(post.output)
    assert {c.max_batch_size for c in (pre, net, post, public)} == {wiring.MAX_BATCH}


def test_the_letterbox_step_is_written_as_it_always_was():
    config = parse(wiring.step_config(LETTERBOX))
    assert (config.name, config.backend) == ("pre--letterbox-640", "python")
    assert [(t.name, list(t.dims), t.optional) for t in config.input] == [
        ("image", [1], False), ("parameters", [1], True),
    ]  # fmt: skip
    assert config.parameters["resize"].string_value == '{"rule": "letterbox", "height": 640, "width": 640}'
    assert [(g.count, g.kind) for g in config.instance_group] == [(2, model_config_pb2.ModelInstanceGroup.KIND_CPU)]


def test_the_steps_in_the_tree_are_what_the_generator_writes(tmp_path: Path):
    from tritonvision.exporters import families

    steps = families.shared_steps()
    names = [wiring.ensure_step(tmp_path, step) for step in steps]
    assert sorted(names) == sorted(p.name for p in ROOT.iterdir() if p.name.startswith(("pre--", "post--")))
    for name in names:
        for path in (tmp_path / name).rglob("*.*"):
            if path.is_file():
                assert (ROOT / path.relative_to(tmp_path)).read_text() == path.read_text(), "run: make steps"


def test_a_step_model_is_at_most_ten_lines():
    for path in ROOT.glob("*/1/model.py"):
        assert len(path.read_text().splitlines()) <= 10
