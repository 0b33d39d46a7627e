"""YOLOv9 detection, sizes c and e at 640 and 1280 pixels, as ultralytics has it."""

from tritonvision.exporters.libraries.ultralytics.detect import UltralyticsDetector

# more layers, and more that are kept, than in others
FAMILY = UltralyticsDetector(name="YOLOv9", stem="yolov9", activation_memory=0.45)
