#!/usr/bin/env bash
# MVTec AD with the paper's teacher at the paper's resolution, for whoever has the data and the weights.
#
#   runs/mvtec_ad.sh DATA [OUT]      DATA holds mvtec_ad/bottle, …; OUT defaults to mvtec_ad
#
# The data are CC BY-NC-SA 4.0 (no commercial use). Settings and how to go on after a stop: runs/paper.sh.
exec "$(dirname "$0")/paper.sh" mvtec_ad "$@"
