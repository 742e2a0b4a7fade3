"""The largest numbers that settings take: far beyond any use, so that a slip of the finger is told at once."""

MOST_PIXELS = 1_000_000  # along one side of anything
MOST_GB = 1e6
MOST_DRAWS = 1_000_000  # of the images behind an interval
MOST_SEED = 2**32 - 1  # NumPy's older generators take no more
