"""YOLOv9 detection, sizes c and e at 640 and 1280 pixels, as ultralytics has it."""

from tritonvision.exporters.libraries.ultralytics.detect import UltralyticsDetector


class YOLOv9(UltralyticsDetector):
    """More layers, and more that are kept, than in others."""

    activation_memory = 0.35


FAMILY = YOLOv9(name="YOLOv9", stem="yolov9")
