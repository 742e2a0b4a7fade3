"""Drawn textures and parts with planted defects of exactly known size; needs no download."""
