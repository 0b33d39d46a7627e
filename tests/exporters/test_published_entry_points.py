"""Entry points that are read from a repository equal those that the family declares, for every kind of model."""

import torch  # noqa: F401  # isort: skip  # these tests belong to the exporters' environment

from tritonvision import catalog
from tritonvision.ensembles import published
from tritonvision.exporters import registry
from tritonvision.exporters.families import qwen2_5_vl, qwen3_vl, smolvlm, trocr
from tritonvision.publication import Repository


def test_entry_points_read_back_equal_those_of_the_family(served_repository):
    compared = {}
    for manifest in Repository(served_repository):
        entry = catalog.entries().get(manifest.id)
        if entry is not None:
            declared = registry.find(entry.family).entry_points(entry)
            read = published.entry_points_of(served_repository, manifest)
            compared[manifest.id] = read == declared
    assert len(compared) >= 9
    assert all(compared.values()), compared


def test_networks_within_a_models_process_are_read_from_their_graphs(served_repository):
    """Models whose networks have no config of their own: the reduced ones that tests/small_models.py publishes."""
    repository = Repository(served_repository)
    text = trocr._DECODER | {
        "vocab_size": 600, "d_model": 64, "decoder_layers": 3, "decoder_attention_heads": 4,
        "max_position_embeddings": 50,
    }  # fmt: skip
    line = published.entry_points_of(served_repository, repository.get("tests/small-line/1"))
    assert line == (trocr.point(64, text),)
    (vlm,) = published.entry_points_of(served_repository, repository.get("tests/small-vlm/1"))
    declared = smolvlm._point(smolvlm.config("reduced"))
    assert vlm.nets == declared.nets
    assert (vlm.module, vlm.size) == (declared.module, declared.size)
    for name, family in (("tests/small-qwen/1", qwen2_5_vl.FAMILY), ("tests/small-qwen3/1", qwen3_vl.FAMILY)):
        (vlm,) = published.entry_points_of(served_repository, repository.get(name))
        options = dict(vlm.options)
        bounds = options["min_pixels"], options["max_pixels"]
        assert vlm == family.point(family.sizes["reduced"], bounds, options["end_ids"])
