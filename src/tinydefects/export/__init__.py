"""A fitted detector for ONNX Runtime, OpenVINO or torch, written with a check of its numbers."""
