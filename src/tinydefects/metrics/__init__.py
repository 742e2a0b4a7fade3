"""Pure functions of scores and masks; never torch, never files."""
