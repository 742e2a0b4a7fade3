#!/usr/bin/env bash
# The numbers of docs/results.md: the suite "offline" on drawn parts and on magnetic tiles, and some of it at a smaller
# input of the teacher.
#
#   runs/benchmark.sh DATA [OUT [OPTION ...]]   DATA holds magnetic_tile/MT_Free, …; parts are drawn beside it; OUT
#                                               defaults to benchmark
#   runs/benchmark.sh DATA OUT --dry-run        only says what would be done and about how long it takes
#
# Stop it whenever you like: the same command goes on. About two hours on two processor cores.
set -euo pipefail
export PATH="$(dirname "$0")/../.venv/bin:$PATH"

data=${1:?usage: runs/benchmark.sh DATA [OUT [OPTION ...]]}
out=${2:-benchmark}
shared=(--root "$data" --out "$out/results" "${@:3}") # never empty, which older versions of bash refuse
failed=0

offline() { # failed jobs are tried once more
    local command=(tinydefects benchmark --suite offline "$@" "${shared[@]}")
    "${command[@]}" || "${command[@]}" || failed=$?
}

# blowholes, cracks and breaks on about 250 photographs, 100 free ones to learn from and 150 others, whole tiles only
tiles=(
    --categories magnetic_tile/tiny --option magnetic_tile.n_train=100 --option magnetic_tile.n_good=150
)
fast=fbft,gaussian,subspace,patchcore,patchcore:neighbourhood=1,anomalydino,local_contrast
# times are taken on one family, with no other job beside
offline --categories synthetic/brushed_metal --seeds 0
offline --cost off --workers 2
offline --cost off --workers 2 "${tiles[@]}" --resolutions 320
offline --cost off --workers 2 --methods $fast --resolutions 256
offline --cost off --workers 2 --methods $fast "${tiles[@]}" --resolutions 208

case " ${shared[*]} " in *" --dry-run "*) exit "$failed" ;; esac
python "$(dirname "$0")/summary.py" "$out/results" "$out/summary.json"
tinydefects report "$out/results" --out "$out/report.html"
exit "$failed"
