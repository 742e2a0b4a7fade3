"""Good or defect, and where: thresholds from good parts alone, each with what it guarantees."""
