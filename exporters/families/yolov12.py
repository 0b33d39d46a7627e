"""YOLOv12 detection, sizes n to x at 640 and 1280 pixels; ultralytics spells its files without the v."""

from tritonvision.exporters.libraries.ultralytics.detect import UltralyticsDetector

FAMILY = UltralyticsDetector(name="YOLOv12", stem="yolo12")
