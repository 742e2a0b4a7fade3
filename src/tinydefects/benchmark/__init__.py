"""Results with their provenance."""
