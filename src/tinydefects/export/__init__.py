"""A fitted detector for ONNX Runtime or OpenVINO, written with a check of its numbers."""
