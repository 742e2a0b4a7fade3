#!/usr/bin/env bash
# VisA with the paper's teacher at the paper's resolution, for whoever has the data and the weights.
#
#   runs/visa.sh DATA [OUT]      DATA holds visa/candle, …; OUT defaults to visa
#
# The data (CC BY 4.0) may lie raw or re-organised. DINOv2's weights are fetched once from the hub, or give TEACHER_WEIGHTS.
# Stop it whenever you like: the same command goes on. DRY_RUN=1 says how long it takes and how much disk it needs.
# Settings: CATEGORIES ('visa/pcb1,visa/pcb2'), PEERS, SEEDS, RESOLUTIONS, TEACHER, WORKERS, THREADS, COST, DEVICE,
# FEATURES_LIMIT_GB.
set -euo pipefail
export PATH="$(dirname "$0")/../.venv/bin:$PATH"

data=${1:?usage: runs/visa.sh DATA [OUT]}
out=${2:-visa}
options=(--features-limit-gb "${FEATURES_LIMIT_GB:-300}" --workers "${WORKERS:-1}" --threads "${THREADS:-1}")
[ -z "${TEACHER_WEIGHTS:-}" ] || options+=(--teacher-weights "$TEACHER_WEIGHTS")
[ -z "${DEVICE:-}" ] || options+=(--device "$DEVICE")

tinydefects benchmark --categories "${CATEGORIES:-visa/*}" --root "$data" --out "$out/results" --features "$out/features" \
    --peers "${PEERS:-fbft,fbft_published,patchcore,anomalydino,subspace,gaussian,local_contrast}" \
    --teacher "${TEACHER:-vit_base_patch14_reg4_dinov2}" --resolutions "${RESOLUTIONS:-1036}" --seeds "${SEEDS:-0,1,2}" \
    --cost "${COST:-quick}" "${options[@]}" ${DRY_RUN:+--dry-run} || failed=$?

[ -z "${DRY_RUN:-}" ] || exit "${failed:-0}"
python "$(dirname "$0")/summary.py" "$out/results" "$out/summary.json"
tinydefects report "$out/results" --out "$out/report.html"
exit "${failed:-0}"
