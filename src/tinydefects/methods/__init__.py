"""Methods that can be compared: ours, its ablations, others on the same teacher, and what others made."""
