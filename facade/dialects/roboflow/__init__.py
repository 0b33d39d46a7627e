"""The dialect of Roboflow Inference."""
