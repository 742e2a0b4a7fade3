"""Results of one method or of many, to one page: pictures, leaderboard, curves, costs, defects by size."""
