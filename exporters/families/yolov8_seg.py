"""YOLOv8 instance segmentation, sizes n to x at 640 and 1280 pixels."""

from tritonvision.exporters.libraries.ultralytics.segment import UltralyticsSegmenter


class YOLOv8Seg(UltralyticsSegmenter):
    """Fewer layers than its successors."""

    activation_memory = 0.14


FAMILY = YOLOv8Seg(name="YOLOv8 Seg", stem="yolov8")
