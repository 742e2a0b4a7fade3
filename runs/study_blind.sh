#!/usr/bin/env bash
# The blind part of docs/study.md: runs/study_blind.sh DATA OUT [PART]...
# DATA as for runs/study.py. Parts are tiles, boards, drawn, and each with the teacher of version 0.1: tiles_shipped,
# boards_shipped, drawn_shipped; all of them when none is named. Stop it and start it as you like.
set -euo pipefail
data=$1 out=$2
shift 2
candidates=$(dirname "$0")/../training/candidates

run() { # PART ROOT_OF_CATEGORIES RESOLUTION METHODS WEIGHTS [OPTION]...
    local part=$1 categories=$2 resolution=$3 methods=$4 weights=$5
    shift 5
    tinydefects benchmark --methods "$methods" --categories "$categories" --root "$data" --resolutions "$resolution" \
        --teacher builtin --teacher-weights "$candidates/$weights.safetensors" --seeds 0,1,2 --out "$out/blind/$part" "$@"
}

drawn=synthetic/blister,synthetic/brushed_metal,synthetic/machined_part,synthetic/wood_grain,synthetic/woven_fabric
scene=(--option synthetic.size=384 --option synthetic.seed=12 --option synthetic.n_train=24)
scene+=(--option synthetic.n_good=16 --option synthetic.n_defect=24)
all=fbft,fbft_v0.1,gaussian,anomalydino,patchcore:neighbourhood=1
few=fbft,fbft_v0.1,gaussian

[ $# -gt 0 ] || set -- tiles boards drawn tiles_shipped boards_shipped drawn_shipped
for part; do
    case $part in
    tiles) run "$part" folder/tiles_B 320 $all six_minutes ;;
    boards) run "$part" folder/boards_B 640 $all six_minutes ;;
    drawn) run "$part" $drawn 384 $all six_minutes "${scene[@]}" ;;
    tiles_shipped) run "$part" folder/tiles_B 320 $few v0.1 ;;
    boards_shipped) run "$part" folder/boards_B 640 fbft,gaussian v0.1 ;;
    drawn_shipped) run "$part" $drawn 384 fbft,gaussian v0.1 "${scene[@]}" ;;
    *) echo "study_blind: $part: no such part; see the head of this script" >&2; exit 2 ;;
    esac
done
