"""YOLOv8 instance segmentation, sizes n to x at 640 and 1280 pixels."""

from tritonvision.exporters.libraries.ultralytics.segment import UltralyticsSegmenter

# fewer layers than its successors
FAMILY = UltralyticsSegmenter(name="YOLOv8 Seg", stem="yolov8", activation_memory=0.17)
