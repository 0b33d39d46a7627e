"""YOLOv9 detection, sizes c and e at 640 and 1280 pixels, as ultralytics has it."""

from tritonvision.exporters.libraries.ultralytics.detect import UltralyticsDetector

FAMILY = UltralyticsDetector(name="YOLOv9", stem="yolov9")
