"""Methods that can be compared: ours, its ablations, peers on the same teacher, and what others made."""
