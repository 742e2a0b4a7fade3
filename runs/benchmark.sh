#!/usr/bin/env bash
# All methods on drawn parts with defects from one pixel on, and on magnetic tiles: the numbers of docs/results.md.
#
#   runs/benchmark.sh DATA [OUT]      DATA holds magnetic_tile/MT_Free, …; parts are drawn beside it; OUT defaults to benchmark
#   DRY_RUN=1 runs/benchmark.sh DATA  only says what would be done and about how long it takes
#
# Stop it whenever you like: the same command goes on. Hours on two processor cores; METHODS takes fewer.
# Settings: METHODS, SEEDS, TEACHER, WORKERS, THREADS, COST; RESOLUTIONS and TILE_RESOLUTIONS (long side of the teacher's
# input, px; scores are at full size); SIZE of the drawn parts, px; N_TRAIN, N_GOOD, N_DEFECT images of each family;
# N_TILES_TRAIN, N_TILES_GOOD free tiles.
set -euo pipefail
export PATH="$(dirname "$0")/../.venv/bin:$PATH"

data=${1:?usage: runs/benchmark.sh DATA [OUT]}
out=${2:-benchmark}
methods=fbft,fbft_published,fbft_forward,fbft_backward,fbft_sum,fbft_v0.1
methods+=,patchcore,patchcore_hnsw,anomalydino,mh_patchcore,procon,rad
methods+=,subspace,gaussian,noise_discriminator,local_contrast
shared=(
    --methods "${METHODS:-$methods}" --seeds "${SEEDS:-0,1,2}" --teacher "${TEACHER:-builtin}" --threads "${THREADS:-1}"
    --root "$data" --out "$out/results" --features "$out/features" ${DRY_RUN:+--dry-run}
)
# defects of 1 px to a tenth of the image, areas spread evenly in ratio
drawn=(
    --resolutions "${RESOLUTIONS:-384,256}" --option "synthetic.size=${SIZE:-384}"
    --option "synthetic.n_train=${N_TRAIN:-16}" --option "synthetic.n_good=${N_GOOD:-16}"
    --option "synthetic.n_defect=${N_DEFECT:-24}"
)
# blowholes, cracks and breaks on about 250 photographs; as many free ones as fit, whole tiles only
tiles=(
    --resolutions "${TILE_RESOLUTIONS:-320,208}" --option "magnetic_tile.n_train=${N_TILES_TRAIN:-100}"
    --option "magnetic_tile.n_good=${N_TILES_GOOD:-150}"
)

benchmark() { # failed jobs are tried once more
    tinydefects benchmark "${shared[@]}" "$@" || tinydefects benchmark "${shared[@]}" "$@" || failed=$?
}

# times are taken on one family, with no other job beside
benchmark "${drawn[@]}" --categories synthetic/brushed_metal --cost "${COST:-quick}"
shared+=(--cost off --workers "${WORKERS:-2}")
benchmark "${drawn[@]}" --categories 'synthetic/*'
benchmark "${tiles[@]}" --categories magnetic_tile/tiny

[ -z "${DRY_RUN:-}" ] || exit "${failed:-0}"
python "$(dirname "$0")/summary.py" "$out/results" "$out/summary.json"
tinydefects report "$out/results" --out "$out/report.html"
exit "${failed:-0}"
