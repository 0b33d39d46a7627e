"""YOLOv8 instance segmentation, sizes n to x at 640 and 1280 pixels."""

from tritonvision.exporters.libraries.ultralytics.segment import UltralyticsSegmenter

FAMILY = UltralyticsSegmenter(name="YOLOv8 Seg", stem="yolov8")
