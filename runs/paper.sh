#!/usr/bin/env bash
# One dataset with the paper's teacher at the paper's resolution: what runs/mvtec_ad.sh and runs/visa.sh have in common.
#
#   runs/paper.sh DATASET DATA [OUT]      DATA holds DATASET's folder; OUT defaults to DATASET
#
# DINOv2's weights are fetched once from the hub, or give TEACHER_WEIGHTS.
# Stop it whenever you like: the same command goes on. DRY_RUN=1 says how long it takes and how much disk it needs.
# Settings: CATEGORIES ('mvtec_ad/screw,mvtec_ad/pill'), METHODS, SEEDS, RESOLUTIONS, TEACHER, WORKERS, THREADS, COST, DEVICE,
# FEATURES_LIMIT_GB, SHARD (3/8 of a job array; the page follows when the script is run without).
set -euo pipefail
export PATH="$(dirname "$0")/../.venv/bin:$PATH"

dataset=${1:?usage: runs/paper.sh DATASET DATA [OUT]}
data=${2:?usage: runs/$dataset.sh DATA [OUT]}
out=${3:-$dataset}
methods=fbft,fbft_published,fbft_v0.1,patchcore,anomalydino,mh_patchcore,procon,rad
methods+=,subspace,gaussian,noise_discriminator,local_contrast
options=(--features-limit-gb "${FEATURES_LIMIT_GB:-300}" --workers "${WORKERS:-1}" --threads "${THREADS:-1}")
[ -z "${TEACHER_WEIGHTS:-}" ] || options+=(--teacher-weights "$TEACHER_WEIGHTS")
[ -z "${DEVICE:-}" ] || options+=(--device "$DEVICE")
[ -z "${SHARD:-}" ] || options+=(--shard "$SHARD")

tinydefects benchmark --categories "${CATEGORIES:-$dataset/*}" --root "$data" --out "$out/results" --features "$out/features" \
    --methods "${METHODS:-$methods}" \
    --teacher "${TEACHER:-vit_base_patch14_reg4_dinov2}" --resolutions "${RESOLUTIONS:-1036,own}" --seeds "${SEEDS:-0,1,2}" \
    --cost "${COST:-quick}" "${options[@]}" ${DRY_RUN:+--dry-run} || failed=$?

[ -z "${DRY_RUN:-}${SHARD:-}" ] || exit "${failed:-0}"
python "$(dirname "$0")/summary.py" "$out/results" "$out/summary.json"
tinydefects report "$out/results" --out "$out/report.html"
exit "${failed:-0}"
