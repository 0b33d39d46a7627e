"""What is asked of every vision-language family at a reduced size: graphs, prompts and answers beside the library's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from tritonvision.ensembles.in_process import LocalChat, LocalNet
from tritonvision.exporters.contract import Network
from tritonvision.exporters.libraries.chat_network import ChatNetwork
from tritonvision.exporters.modules import causal_decoder
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.parity.checks.chat import Chat

PICTURE = {"type": "image"}
VIEWS = sample_pictures.views()
LIMIT = 2e-5  # of logits that spread by 3


def says(*parts: str | Mapping[str, str], role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": p} if isinstance(p, str) else dict(p) for p in parts]}


# messages, and how many pictures they have
CONVERSATIONS = {
    "text": ([says("Who are you?")], 0),
    "system": ([says("Brief. ", role="system"), says(" Hi  ", "\n\nyou")], 0),
    "a picture": ([says(PICTURE, "What is it?")], 1),
    "a picture before a line": ([says(PICTURE, "\nWhat is it?")], 1),
    "two pictures": ([says("One: ", PICTURE, "\ntwo:", PICTURE, " Which?")], 2),
    "pictures alone": ([says(PICTURE, PICTURE, PICTURE)], 3),
    "conversation": (
        [
            says(PICTURE, "What is it?"), says("A cat, 12 years old.", role="assistant"),
            says("Grüße 😀 \t and 2026?", PICTURE),
        ],
        2,
    ),
}  # fmt: skip


def sample(messages: Sequence[Mapping[str, Any]], count: int) -> dict[str, Any]:
    """That conversation with so many pictures."""
    views = [VIEWS[name] for name in ("tiny-91x77", "wide-512x260", "tall-300x512")]
    return {"messages": list(messages), "pictures": views[:count]}


def export(network: Network, folder: Path) -> dict[str, Path]:
    """Its graphs, by role."""
    found = {net.role: folder / f"{net.role}.onnx" for net in network.entry_points[0].nets}
    for role, path in found.items():
        network.export(path, role)
    return found


def open_nets(network: Network, graphs: Mapping[str, Path]) -> dict[str, LocalNet]:
    return {net.role: LocalNet(graphs[net.role], net) for net in network.entry_points[0].nets}


def reader(network: ChatNetwork, reader_class: type) -> Any:
    tokenizer = tokenizers.Tokenizer.from_str(network.assets("")["tokenizer.json"].decode())
    return reader_class(dict(network.entry_points[0].options), tokenizer)


def check_graph(network: ChatNetwork, nets: Mapping[str, LocalNet], role: str) -> None:
    """The graph computes what the model computes, on every example."""
    for what, inputs in network.examples(role).items():
        got, want = nets[role].tensors(inputs), network.tensors(inputs, role=role)
        for name, value in want.items():
            assert got[name].shape == value.shape, (what, name)
            assert np.abs(got[name] - value).max() <= LIMIT, (what, name)
    assert want[nets[role].net.outputs[0].name].std() > 0.1


def check_padding(network: ChatNetwork, decoder: LocalNet) -> None:
    """A padded row of a batch gives the logits that it gives alone."""
    config = network.parts(network._model).text.config
    both = causal_decoder.example(config, batch=2, past=13, new=1, padding=4)
    alone = {n: value[:1, :, 4:] if n.startswith("past") else value[:1] for n, value in both.items()}
    alone["attention_mask"] = alone["attention_mask"][:, 4:]
    got, want = decoder.tensors(both)["logits"], decoder.tensors(alone)["logits"]
    np.testing.assert_allclose(got[:1], want, rtol=0, atol=1e-5)


def check_answers(network: ChatNetwork, graphs: Mapping[str, Path], family: Any) -> None:
    """24 greedy tokens about a picture, two, none and in a conversation are the library's: alone, and all at once."""
    point = network.entry_points[0]
    check = Chat(point, network, family.tolerance, "random")
    cases, chat = check.cases(), LocalChat(graphs, point, network.assets(""))
    try:
        check.demand_signal(chat, cases)
        with ThreadPoolExecutor(len(cases)) as callers:
            together = list(callers.map(lambda case: chat(case.sample, case.given), cases))
        for case, answer in zip(cases, together, strict=True):
            for got in (answer, chat(case.sample, case.given)):
                assert check.compare(got, case) == (24, 0, {"tokens": 0, "words": 0})
            assert len(set(case.wanted["token_ids"].tolist())) >= 8
    finally:
        chat.close()
