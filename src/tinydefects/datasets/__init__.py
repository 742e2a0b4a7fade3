"""Loaders: one small file a dataset, each a function from a folder to a Category."""
