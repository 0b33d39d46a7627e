"""``python record_yolo_nas.py``, where super-gradients 3.7.1 can be imported: write what its YOLO-NAS answers.

Its networks get numbered weights. Recorded are their tensors for noise of 64 x 64 pixels, and what ``predict`` of the
smallest says about a picture, with pictures of 160 x 224 pixels inside.
"""

import json
from pathlib import Path

import numpy as np
import torch
from numbered_weights import numbered
from super_gradients.training import models
from super_gradients.training.datasets.datasets_conf import COCO_DETECTION_CLASSES_LIST
from super_gradients.training.processing import processing

from tritonvision.exporters.parity import sample_pictures

RECORDED = Path(__file__).parents[1] / "exporters" / "yolo_nas.recorded.json"
SIZE, GAINS = (160, 224), np.geomspace(0.05, 1.5, 12)
ASKED = {"conf": 0.4, "iou": 0.5, "nms_top_k": 3000, "max_predictions": 300}


def main():
    whole = {"size": SIZE, "asked": ASKED, "networks": {}}
    images = torch.from_numpy(sample_pictures.noise(64, 64)).permute(2, 0, 1)[None].float() / 255
    for letter in "sml":
        model = models.get(f"yolo_nas_{letter}", num_classes=80).eval()
        spreads = {}
        for gain in GAINS:
            model.load_state_dict(numbered(model.state_dict(), gain), strict=False)
            with torch.no_grad():
                (boxes, scores), (logits, *_) = model(images)
            spreads[abs(np.log(float(logits.std()) + 1e-9))] = gain
        gain = spreads[min(spreads)]
        model.load_state_dict(numbered(model.state_dict(), gain), strict=False)
        with torch.no_grad():
            (boxes, scores), _ = model(images)
        names = sorted(n for n in model.state_dict() if "rbr_reparam" not in n and "num_batches" not in n)
        whole["networks"][letter] = {
            "gain": gain, "tensors": len(names), "parameters": sum(model.state_dict()[n].numel() for n in names),
            "boxes": boxes[0, ::4].numpy().round(4).tolist(),
            "scores": scores[0, ::4].amax(1).numpy().round(6).tolist(),
            "class_ids": scores[0, ::4].argmax(1).tolist(),
        }  # fmt: skip
        if letter == "s":
            whole["answers"] = predicted(model)
    RECORDED.write_text(json.dumps(whole) + "\n")


def predicted(model):
    steps = processing.ComposeProcessing([
        processing.DetectionLongestMaxSizeRescale(output_shape=tuple(side - 4 for side in SIZE)),
        processing.DetectionCenterPadding(output_shape=SIZE, pad_value=114),
        processing.StandardizeImage(max_value=255.0), processing.ImagePermute(permutation=(2, 0, 1)),
    ])  # fmt: skip
    model.set_dataset_processing_params(class_names=COCO_DETECTION_CLASSES_LIST, image_processor=steps)
    answers = {}
    for name in ("photo", "odd-220x316"):
        picture = sample_pictures.views()[name]
        found = model.predict(picture, multi_label_per_box=False, fp16=False, fuse_model=False, **ASKED).prediction
        answers[name] = {
            "boxes": found.bboxes_xyxy.round(3).tolist(), "scores": found.confidence.round(6).tolist(),
            "class_ids": found.labels.astype(int).tolist(),
        }  # fmt: skip
    return answers


if __name__ == "__main__":
    main()
