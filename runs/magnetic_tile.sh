#!/usr/bin/env bash
# Magnetic tiles at full resolution: learn from free tiles, score the other free ones and all defective ones.
#
#   runs/magnetic_tile.sh DATA [OUT]      DATA holds magnetic_tile/MT_Free, MT_Blowhole, … ; OUT defaults to magnetic_tile
#
# Stop it whenever you like: teacher features and maps are kept, the same command goes on.
# Settings: RESOLUTION (long side of the teacher's input, px; maps and scores are at full size), TEACHER, TEACHER_WEIGHTS,
# CROPS (0 keeps the tiles' pixels out of the results, as in those that are kept here).
set -euo pipefail
export PATH="$(dirname "$0")/../.venv/bin:$PATH"

data=${1:?usage: runs/magnetic_tile.sh DATA [OUT]}
out=${2:-magnetic_tile}
teacher=(--teacher "${TEACHER:-builtin}" --resolution "${RESOLUTION:-320}")
[ -z "${TEACHER_WEIGHTS:-}" ] || teacher+=(--teacher-weights "$TEACHER_WEIGHTS")

tinydefects inspect magnetic_tile/all --root "$data" --patch-size 8
[ -d "$out/model" ] || tinydefects fit magnetic_tile/all --root "$data" "${teacher[@]}" --cache-dir "$out/features" --out "$out/model"
tinydefects predict "$out/model" magnetic_tile/all --root "$data" --out "$out/maps"

# all five defect types, then the three whose defects are small
scored=(--root "$data" --crops "${CROPS:-48}" --out "$out/results")
tinydefects evaluate "$out/maps" magnetic_tile/all "${scored[@]}"
tinydefects evaluate "$out/maps/all" magnetic_tile/tiny "${scored[@]}"
tinydefects report "$out/results" --out "$out/report.html"
