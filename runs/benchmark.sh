#!/usr/bin/env bash
# All methods on drawn parts with defects from one pixel on, and on magnetic tiles: the numbers of docs/results.md.
#
#   runs/benchmark.sh DATA [OUT]      DATA holds magnetic_tile/MT_Free, …; parts are drawn beside it; OUT defaults to benchmark
#   DRY_RUN=1 runs/benchmark.sh DATA  only says what would be done and about how long it takes
#
# Stop it whenever you like: the same command goes on. About an hour on two processor cores.
# Settings: PEERS, SEEDS, TEACHER, WORKERS, THREADS, COST; RESOLUTIONS and TILE_RESOLUTIONS (long side of the teacher's
# input, px; scores are at full size); SIZE of the drawn parts, px; N_TRAIN, N_GOOD, N_DEFECT images of each family.
set -euo pipefail
export PATH="$(dirname "$0")/../.venv/bin:$PATH"

data=${1:?usage: runs/benchmark.sh DATA [OUT]}
out=${2:-benchmark}
peers=fbft,fbft_published,fbft_forward,fbft_backward,fbft_sum,patchcore,patchcore_hnsw,anomalydino,subspace,gaussian,local_contrast
shared=(
    --peers "${PEERS:-$peers}" --seeds "${SEEDS:-0,1,2}" --teacher "${TEACHER:-builtin}"
    --root "$data" --out "$out/results" --features "$out/features"
    --workers "${WORKERS:-2}" --threads "${THREADS:-1}" --cost "${COST:-quick}" ${DRY_RUN:+--dry-run}
)

# defects of 1 px to a tenth of the image, areas spread evenly in ratio
tinydefects benchmark "${shared[@]}" --categories 'synthetic/*' --resolutions "${RESOLUTIONS:-384,256}" \
    --option "synthetic.size=${SIZE:-384}" --option "synthetic.n_train=${N_TRAIN:-16}" \
    --option "synthetic.n_good=${N_GOOD:-16}" --option "synthetic.n_defect=${N_DEFECT:-24}" || failed=$?

# blowholes, cracks and breaks on about 250 photographs; 100 free ones to learn from and 150 to test on, whole tiles
tinydefects benchmark "${shared[@]}" --categories magnetic_tile/tiny --resolutions "${TILE_RESOLUTIONS:-320,208}" \
    --option "magnetic_tile.n_train=${N_TILES_TRAIN:-100}" --option "magnetic_tile.n_good=${N_TILES_GOOD:-150}" || failed=$?

[ -z "${DRY_RUN:-}" ] || exit "${failed:-0}"
python "$(dirname "$0")/summary.py" "$out/results" "$out/summary.json"
tinydefects report "$out/results" --out "$out/report.html"
exit "${failed:-0}"
