"""OWLv2 with random weights whose answers differ from patch to patch and from text to text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonvision.exporters.families.owlv2 import graphs
from tritonvision.exporters.libraries import torch_env, transformers_weights
from tritonvision.exporters.modules import query_networks
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.parity.checks.open_vocabulary import SEVERAL
from tritonvision.exporters.synthetic import calibrate
from tritonvision.python_backend.compositions import open_vocabulary
from tritonvision.python_backend.images import padded_square

if TYPE_CHECKING:
    import torch
    from transformers import Owlv2Config, Owlv2ForObjectDetection

_ATTENTION = 4.0  # gain of the texts' attention, which averages over all tokens: less would make texts too similar
_SCALE = 40.0, 4.0  # mean and standard deviation of the logits' scale; that of cosines is only 1 / 22
_SHIFT = 0.02  # standard deviation of the logits' shift
_MEAN = 0.1  # of embeddings with std 1; not 0, because examples are compared with the mean of their picture
_SIZE = 1.5  # mean of how much larger than a patch boxes are, in logits; _SPREAD is the standard deviation
_SPREAD = 0.5
_TEXTS = (
    "a cat", "two dogs playing", "a red car on the street", "the sky", "a person", "wood", "7 small green apples",
    "text on a sign", "an old house by the sea", "shoes", "bright light", "the moon over mountains",
)  # fmt: skip


def random(config: Owlv2Config, seed: int) -> Owlv2ForObjectDetection:
    """The true architecture with random weights that find some thirty things on the photo, not all of one class.

    Without training the embeddings of all patches are nearly equal, and so are those of all texts: the last layers are
    standardised on the patches of the photo and on texts, see :mod:`tritonvision.exporters.synthetic.calibrate`. No
    other picture takes part: otherwise the patches of the photo would keep a common component and get one class.
    """
    import torch

    torch_env.import_torchvision()
    from transformers import Owlv2ForObjectDetection

    model = transformers_weights.random(Owlv2ForObjectDetection, config, seed)
    graphs.attend_fast(model)
    side = config.vision_config.image_size
    with torch.no_grad():
        for name, layer in model.owlv2.text_model.named_modules():
            if name.endswith("self_attn.out_proj"):
                layer.weight.mul_(_ATTENTION)
        rows = model.owlv2.text_model(torch.from_numpy(graphs.ids([*_TEXTS, *SEVERAL]))).pooler_output
        _centre(model.owlv2.text_projection, rows.double())

        photo = torch.from_numpy(padded_square.resize(sample_pictures.photo(), side)[None])
        features = model.image_embedder(graphs.normalised(photo))[0].flatten(1, 2)
        head, box, objectness = model.class_head, model.box_head, model.objectness_head
        rows = features[0].double()

        def like(layer: torch.nn.Linear, *values: float) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float64).expand(layer.out_features)

        calibrate.standardise(head.dense0, rows, 1.0, like(head.dense0, _MEAN))
        calibrate.standardise(head.logit_shift, rows, _SHIFT, like(head.logit_shift, 0.0))
        calibrate.standardise(head.logit_scale, rows, _SCALE[1], like(head.logit_scale, _SCALE[0]))
        for layers, bias in ((box, (0.0, 0.0, _SIZE, _SIZE)), (objectness, (0.0,))):
            hidden = layers.gelu(layers.dense1(layers.gelu(layers.dense0(features[0])))).double()
            calibrate.standardise(layers.dense2, hidden, _SPREAD, like(layers.dense2, *bias))
        head.logit_shift.bias += _cut(model, features)
    return model


def _centre(layer: torch.nn.Linear, rows: torch.Tensor) -> None:
    """Project the mean of ``rows``, float64 ``[n,C_in]``, out of a layer without bias."""
    mean = rows.mean(0)
    kernel = layer.weight.double()
    layer.weight.copy_(kernel - (kernel @ mean).outer(mean) / mean.square().sum())


def _cut(model: Owlv2ForObjectDetection, features: torch.Tensor) -> float:
    """What to add to the logits' shift so that some thirty of the photo's boxes are over the task's threshold."""
    import torch

    head, asked = model.class_head, list(SEVERAL)
    queries = model.owlv2.get_text_features(torch.from_numpy(graphs.ids(asked))).pooler_output
    scale = (head.elu(head.logit_scale(features)) + 1).double()
    logits = model.class_predictor(features, queries[None])[0].double()
    threshold = {setting.name: setting.default for setting in open_vocabulary.TASK.parameters}["confidence"]
    needed = (query_networks.logit(threshold) - logits) / scale  # of each patch and class
    best = needed[0].min(1)
    return -query_networks.cut(-best.values.numpy(), best.indices.numpy(), len(asked))
