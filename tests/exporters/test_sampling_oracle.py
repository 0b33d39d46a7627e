"""Tokens are sampled from the same probabilities as in ``transformers``."""

import numpy as np
import pytest

from tritonvision.exporters.libraries import torch_env
from tritonvision.python_backend.generation.sampling import Sampler

VOCABULARY = 700


@pytest.fixture(scope="module")
def reference():
    torch_env.import_torchvision()
    import torch
    from transformers import (
        LogitsProcessorList,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    def probabilities(logits, prompt, settings):
        steps = [RepetitionPenaltyLogitsProcessor(settings["repetition_penalty"])]
        steps.append(TemperatureLogitsWarper(settings["temperature"]))
        if settings["top_k"]:
            steps.append(TopKLogitsWarper(settings["top_k"]))
        if settings["top_p"] < 1:
            steps.append(TopPLogitsWarper(settings["top_p"]))
        scores = LogitsProcessorList(steps)(torch.from_numpy(prompt)[None], torch.from_numpy(logits)[None])
        return scores[0].softmax(-1).numpy()

    return probabilities


@pytest.mark.parametrize("seed", range(200))
def test_the_probabilities_are_those_of_transformers(reference, seed):
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=VOCABULARY) * rng.uniform(0.5, 6)).astype(np.float32)
    prompt = rng.integers(0, VOCABULARY, 30)
    settings = {
        "temperature": float(rng.uniform(0.2, 2)), "top_k": int(rng.choice([0, 1, 5, 50, 5000])),
        "top_p": float(rng.choice([0.1, 0.5, 0.9, 0.99, 1.0])), "repetition_penalty": float(rng.uniform(0.8, 1.5)),
        "seed": 0,
    }  # fmt: skip
    tokens, found = Sampler(settings, prompt, VOCABULARY).distribution(logits)
    ours = np.zeros(VOCABULARY)
    ours[tokens] = found
    wanted = reference(logits, prompt, settings)
    assert np.array_equal(ours > 0, wanted > 0)
    assert np.abs(ours - wanted).max() <= 5e-7
