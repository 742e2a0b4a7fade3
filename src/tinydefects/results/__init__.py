"""A number with where it came from: results, the protocol they follow, and the scoring of maps on disk."""
