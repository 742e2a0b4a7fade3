"""Methods under one protocol: jobs, runner, what they cost, leaderboards."""
