"""YOLOv10 detection, sizes n to x at 640 pixels: end to end, without non-maximum suppression."""

from tritonvision.exporters.libraries.ultralytics.one_to_one import OneToOneDetector

FAMILY = OneToOneDetector(name="YOLOv10", stem="yolov10")
