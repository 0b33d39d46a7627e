"""YOLOv8 detection, sizes n to x at 640 and 1280 pixels."""

from tritonvision.exporters.libraries.ultralytics.detect import UltralyticsDetector

# fewer layers than its successors
FAMILY = UltralyticsDetector(name="YOLOv8", stem="yolov8", activation_memory=0.14)
