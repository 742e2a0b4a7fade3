"""Results of several methods under one protocol, to one page: leaderboard, curves, costs, defects by size."""
