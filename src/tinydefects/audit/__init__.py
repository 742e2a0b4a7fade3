"""How much the rules of scoring, not the methods, decide."""
