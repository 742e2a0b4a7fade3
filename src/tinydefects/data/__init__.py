"""What lies on disk: photographs, masks, maps, tables, and how they are read, paired and written whole."""
