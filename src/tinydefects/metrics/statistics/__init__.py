"""How sure numbers of an evaluation are: resampling, intervals, comparisons, and who cannot be told from the best."""
