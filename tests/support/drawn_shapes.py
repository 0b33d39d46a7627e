"""Scenes of drawn shapes, and a yolov8n trained to find them: discs, boxes and triangles, a minute on two cores."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import torch

from tritonvision.exporters.libraries.ultralytics import load

SHAPES = ("disc", "box", "triangle")


def scene(rng, height, width, count, smallest=18, largest=60):
    """RGB uint8 picture with up to ``count`` shapes that do not touch, their corners float32 and classes."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = rng.integers(60, 200, 3)
    picture = np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)
    boxes, classes = [], []
    for _ in range(count):
        size = int(rng.integers(smallest, largest))
        x, y = int(rng.integers(0, width - size)), int(rng.integers(0, height - size))
        if any(x < b[2] and b[0] < x + size and y < b[3] and b[1] < y + size for b in boxes):
            continue
        kind = int(rng.integers(len(SHAPES)))
        colour = tuple(int(v) for v in rng.integers(0, 2, 3) * 200 + rng.integers(0, 55, 3))
        if kind == 0:
            cv2.circle(picture, (x + size // 2, y + size // 2), size // 2, colour, -1)
        elif kind == 1:
            cv2.rectangle(picture, (x, y), (x + size, y + size), colour, -1)
        else:
            corners = np.array([[x, y + size], [x + size, y + size], [x + size // 2, y]])
            cv2.fillPoly(picture, [corners], colour)
        boxes.append((x, y, x + size, y + size))
        classes.append(kind)
    return picture, np.array(boxes, np.float32), np.array(classes)


def labelled(folder: Path, count: int, seed: int = 11) -> Path:
    """Scenes of 640 x 640 pixels, their shapes as large as the detector was trained on, with COCO's file of boxes."""
    rng, images, rows = np.random.default_rng(seed), [], []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture, boxes, classes = scene(rng, 640, 640, 12, 18, 60)
        cv2.imwrite(str(folder / f"{number}.png"), picture[..., ::-1])
        images.append({"id": number, "file_name": f"{number}.png", "width": 640, "height": 640})
        for (left, top, right, bottom), kind in zip(boxes.tolist(), classes.tolist(), strict=True):
            box = [left, top, right - left, bottom - top]
            rows.append({"image_id": number, "category_id": kind + 1, "bbox": box})
    categories = [{"id": i, "name": name} for i, name in enumerate(SHAPES, 1)]
    (folder / "labels.json").write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
    return folder


def train(path: Path) -> None:
    """Write the checkpoint of the detector to ``path``."""
    load.prepare()
    from ultralytics.cfg import get_cfg

    yolo = load.architecture("yolov8n", len(SHAPES), seed=0)
    _train(yolo.model, get_cfg(), steps=200, size=128, batch=16, rate=3e-3)
    yolo.model.names = dict(enumerate(SHAPES))
    yolo.save(path)


def _train(model, settings, steps, size, batch, rate):
    """Trains with AdamW, a one-cycle rate and ultralytics' own loss on new scenes in each step."""
    model.args = settings
    trained = [p.requires_grad_() for name, p in model.named_parameters() if ".dfl" not in name]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    rng = np.random.default_rng(0)
    model.train()
    for _ in range(steps):
        scenes = [scene(rng, size, size, int(rng.integers(2, 6))) for _ in range(batch)]
        loss, _ = model.loss(_batch(scenes, size))
        optimizer.zero_grad()
        loss.sum().backward()
        torch.nn.utils.clip_grad_norm_(trained, 10)
        optimizer.step()
        schedule.step()
    model.eval()


def _batch(scenes, size):
    pictures, boxes, classes = zip(*scenes, strict=True)
    corners = torch.from_numpy(np.concatenate(boxes)) / size
    return {
        "img": torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255,
        "batch_idx": torch.cat([torch.full((len(b),), float(i)) for i, b in enumerate(boxes)]),
        "cls": torch.from_numpy(np.concatenate(classes)).float()[:, None],
        "bboxes": torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1),
    }
