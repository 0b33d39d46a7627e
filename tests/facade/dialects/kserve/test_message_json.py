"""Triton's messages as JSON: what its own HTTP server writes, which clients read without looking."""

from __future__ import annotations

from tritonclient.grpc import model_config_pb2
from tritonclient.grpc import service_pb2 as pb

from tritonvision.facade.dialects.kserve.message_json import told


def test_whole_numbers_of_64_bits_are_numbers_in_lists_messages_and_maps():
    model = pb.ModelStatistics(name="eyes", inference_count=2**60)
    model.inference_stats.success.count = 3
    model.batch_stats.add(batch_size=8).compute_infer.ns = 5
    model.response_stats["0"].success.ns = 7
    fields = told(pb.ModelStatisticsResponse(model_stats=[model]))["model_stats"][0]
    assert fields["inference_count"] == 2**60 and fields["inference_stats"]["success"]["count"] == 3
    assert fields["batch_stats"][0]["batch_size"] == 8 and fields["batch_stats"][0]["compute_infer"]["ns"] == 5
    assert fields["response_stats"]["0"]["success"]["ns"] == 7


def test_zeros_and_empty_lists_are_there_and_messages_that_are_not_set_are_not():
    config = model_config_pb2.ModelConfig(name="eyes", platform="ensemble")
    config.input.add(name="image", dims=[-1, 4])
    config.model_transaction_policy.SetInParent()
    config.ensemble_scheduling.SetInParent()
    fields = told(config)
    assert fields["max_batch_size"] == 0 and fields["ensemble_scheduling"]["step"] == []
    assert fields["model_transaction_policy"] == {"decoupled": False}
    assert fields["input"][0]["dims"] == [-1, 4] and fields["input"][0]["optional"] is False
    assert "dynamic_batching" not in fields and "sequence_batching" not in fields
