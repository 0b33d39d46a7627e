"""YOLOv11 instance segmentation, sizes n to x at 640 and 1280 pixels; ultralytics spells its files without the v."""

from tritonvision.exporters.libraries.ultralytics.segment import UltralyticsSegmenter

FAMILY = UltralyticsSegmenter(name="YOLOv11 Seg", stem="yolo11")
