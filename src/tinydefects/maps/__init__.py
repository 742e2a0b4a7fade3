"""Anomaly maps of any method: their files, their manifests, and which image each belongs to."""
