#!/usr/bin/env bash
# The blind part of docs/study.md: runs/study_blind.sh DATA OUT [PART]...
# DATA as for runs/study.py. Parts are tiles, boards, drawn, drawn_peers, and tiles_shipped and boards_shipped with the
# teacher that ships; all of them when none is named. Stop it and start it as you like.
set -euo pipefail
data=$1 out=$2
shift 2
taught=(--teacher-weights "$(dirname "$0")/../training/candidates/six_minutes.safetensors")

run() { # PART CATEGORIES RESOLUTION METHODS SEEDS [OPTION]...
    tinydefects benchmark --methods "$4" --categories "$2" --root "$data" --resolutions "$3" --teacher builtin \
        --seeds "$5" --out "$out/blind/$1" "${@:6}"
}

drawn=synthetic/blister,synthetic/brushed_metal,synthetic/machined_part,synthetic/wood_grain,synthetic/woven_fabric
scene=(--option synthetic.size=384 --option synthetic.seed=12 --option synthetic.n_train=24)
scene+=(--option synthetic.n_good=16 --option synthetic.n_defect=24)
ours=fbft,fbft_v0.1,gaussian
neighbours=anomalydino,patchcore:neighbourhood=1

[ $# -gt 0 ] || set -- tiles boards drawn drawn_peers tiles_shipped boards_shipped
for part; do
    case $part in
    tiles) run "$part" folder/tiles_B 320 $ours,$neighbours 0,1,2 "${taught[@]}" ;;
    boards) run "$part" folder/boards_B 640 $ours 0,1,2 "${taught[@]}" ;;
    drawn) run "$part" $drawn 384 $ours 0,1,2 "${scene[@]}" "${taught[@]}" ;;
    drawn_peers) run "$part" $drawn 384 $neighbours 0 "${scene[@]}" "${taught[@]}" ;;
    tiles_shipped) run "$part" folder/tiles_B 320 $ours 0,1,2 ;;
    boards_shipped) run "$part" folder/boards_B 640 $ours 0,1,2 ;;
    *) echo "study_blind: $part: no such part; see the head of this script" >&2; exit 2 ;;
    esac
done
