"""Forward-backward feature transfer (FBFT): teacher, students, and the way from pixels to patches and back."""
