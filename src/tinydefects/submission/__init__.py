"""Files for MVTec AD 2's evaluation server: written, thresholded and checked."""
