"""Records what the authors' own code of YOLACT answers, with drawn weights, into ``tests/exporters/yolact.json``.

    python -P tests/exporters/record_yolact.py CLONE      (the export environment; CLONE is a clone of dbolya/yolact)

Their code asks for CUDA where it is imported; that is answered here, and its network is reduced by its configuration.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["PYTORCH_JIT"] = "0"  # their boxes would be compiled
import numpy as np  # noqa: E402
import torch  # noqa: E402

from tritonvision.exporters.libraries import torch_env  # noqa: E402

torch_env.import_torchvision()
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "support"), sys.argv[1]]
torch.cuda.current_device, torch.cuda.device_count = lambda: 0, lambda: 2  # two: then it compiles nothing
torch.Tensor.cuda = lambda self, *_: self

import yolact_weights as made  # noqa: E402
from data import cfg, set_cfg  # noqa: E402
from layers.output_utils import postprocess  # noqa: E402
from utils.augmentations import FastBaseTransform  # noqa: E402
from yolact import Yolact  # noqa: E402

from tritonvision.exporters.parity import sample_pictures  # noqa: E402


def main() -> None:
    """Write the file."""
    set_cfg("yolact_resnet50_config")
    cfg.backbone.args, cfg.mask_proto_debug = (list(made.BLOCKS),), False
    network = Yolact()
    network.load_state_dict(made.drawn(network.state_dict()), strict=False)
    network.eval()
    network.detect.use_fast_nms, network.detect.conf_thresh = True, made.CONFIDENCE
    photo = sample_pictures.photo()[:360]
    height, width = photo.shape[:2]
    bgr = torch.from_numpy(np.ascontiguousarray(photo[..., ::-1])).float()[None]
    side, cfg.max_size = cfg.max_size, made.SIDE
    images = FastBaseTransform()(bgr)
    cfg.max_size = side
    cfg._tmp_img_w = cfg._tmp_img_h = made.SIDE
    with torch.no_grad():
        network.training = True  # only of the whole: it then gives what it says before suppression
        raw = network(images)
        network.training = False
        class_ids, scores, boxes, masks = postprocess(network(images), width, height, score_threshold=made.CONFIDENCE)
    told = {name: made.some(raw[name].numpy()) for name in ("loc", "conf", "mask", "priors", "proto")}
    found = {
        "class_ids": class_ids.tolist(), "scores": scores.tolist(), "boxes": boxes.tolist(),
        "areas": masks.sum((1, 2)).int().tolist(),
    }  # fmt: skip
    (HERE / "yolact.json").write_text(json.dumps({"raw": told, "found": found}) + "\n")
    print(len(scores), "instances", sorted(set(class_ids.tolist())), scores[:5].tolist(), found["areas"][:9])


if __name__ == "__main__":
    main()
