"""The bound of Triton's own queues."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from tritonvision.queue_policy import bound_queue, bounded_config


def config(name: str = "net--m", **more) -> pb.ModelConfig:
    made = pb.ModelConfig(name=name, max_batch_size=8, **more)
    made.instance_group.add(count=2)
    return made


@pytest.mark.parametrize(("name", "length"), [("net--m", 16), ("m", 16), ("pre--x", 64), ("post--x", 64)])
def test_the_length_follows_the_processes_and_a_request_stays_a_run_of_its_own(name, length):
    made = config(name)
    assert bound_queue(made)
    assert made.dynamic_batching.default_queue_policy.max_queue_size == length
    assert list(made.dynamic_batching.preferred_batch_size) == [1]
    assert not bound_queue(made), "it is bound already"


def test_what_has_no_queue_or_one_of_its_own_is_left_alone():
    ensemble, unbatched, stateful = config(platform="ensemble"), config(), config()
    unbatched.max_batch_size = 0
    stateful.sequence_batching.max_sequence_idle_microseconds = 1
    for made in (ensemble, unbatched, stateful):
        before = made.SerializeToString()
        assert not bound_queue(made) and made.SerializeToString() == before


def test_a_repository_of_before_is_given_the_bound_when_it_is_loaded(tmp_path: Path):
    (tmp_path / "config.pbtxt").write_text(text_format.MessageToString(config()))
    assert json.loads(bounded_config(tmp_path))["dynamic_batching"]["default_queue_policy"] == {"max_queue_size": 16}
    made = config()
    bound_queue(made)
    (tmp_path / "config.pbtxt").write_text(text_format.MessageToString(made))
    assert bounded_config(tmp_path) is None
    (tmp_path / "config.pbtxt").write_text("nothing {")
    assert bounded_config(tmp_path) is None and bounded_config(tmp_path / "absent") is None


def test_a_config_of_another_name_is_given_where_it_is_another_one(tmp_path: Path):
    made = config()
    bound_queue(made)
    (tmp_path / "configs").mkdir()
    (tmp_path / "config.pbtxt").write_text(text_format.MessageToString(made))
    (tmp_path / "configs" / "same.pbtxt").write_text(text_format.MessageToString(made))
    made.backend = "openvino"
    (tmp_path / "configs" / "openvino-bf16.pbtxt").write_text(text_format.MessageToString(made))
    assert json.loads(bounded_config(tmp_path, "openvino-bf16"))["backend"] == "openvino"
    assert bounded_config(tmp_path, "same") is None and bounded_config(tmp_path, "absent") is None
