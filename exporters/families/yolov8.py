"""YOLOv8 detection, sizes n to x at 640 and 1280 pixels."""

from tritonvision.exporters.libraries.ultralytics.detect import UltralyticsDetector


class YOLOv8(UltralyticsDetector):
    """Fewer layers than its successors."""

    activation_memory = 0.14


FAMILY = YOLOv8(name="YOLOv8", stem="yolov8")
