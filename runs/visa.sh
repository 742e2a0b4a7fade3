#!/usr/bin/env bash
# VisA with the paper's teacher at the paper's resolution, for whoever has the data and the weights.
#
#   runs/visa.sh DATA [OUT]      DATA holds visa/candle, …; OUT defaults to visa
#
# The data (CC BY 4.0) may lie raw or re-organised. Settings and how to go on after a stop: runs/paper.sh.
exec "$(dirname "$0")/paper.sh" visa "$@"
