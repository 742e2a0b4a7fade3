#!/usr/bin/env bash
# All GPU figures of docs/benchmarks.md, in order of value, in at most four minutes on one data-centre GPU.
#
#   bash benchmarks/gpu.sh results/benchmarks                    # gpu_passes, inference_cuda, training_cuda, …_1036.json
#   bash benchmarks/gpu.sh --device cpu --small OUT              # the same parts at a small size, to see that they run
#
# Every part writes its file after each row, so that a cut at any moment leaves whole files. Needs no network, no data and
# no installed package: torch, torchvision, timm, safetensors, numpy, scipy, pillow, tifffile, pydantic.
set -uo pipefail

usage() {
    echo "usage: benchmarks/gpu.sh [--device cuda|cpu] [--small] OUT" >&2
    exit 2
}

device=cuda small= out=
while (($#)); do
    case $1 in
        --device) (($# > 1)) || usage; device=$2; shift ;;
        --small) small=yes ;;
        -*) usage ;;
        *) [[ -z $out ]] || usage; out=$1 ;;
    esac
    shift
done
[[ -n $out ]] || usage
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.." || exit 2

python=${PYTHON:-python3}
limit=${LIMIT_SECONDS:-235}
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
told=() failed=0

part() { # FILE SECONDS SCRIPT ARGUMENTS…: to its end, or cut after so many seconds
    local file=$out/$1.json seconds=$2 begin=$SECONDS left=$((limit - SECONDS)) status
    shift 2
    ((seconds < left)) || seconds=$left
    if ((seconds < 5)); then
        told+=("$(basename "$file"): no time left") failed=1
        return
    fi
    echo "== $* (at most $seconds s)"
    timeout --kill-after=5 "$seconds" "$python" "benchmarks/$1" "${@:2}" --device "$device" --out "$file"
    status=$?
    case $status in
        0) told+=("$(basename "$file"): $((SECONDS - begin)) s") ;;
        124 | 137) told+=("$(basename "$file"): cut after $((SECONDS - begin)) s") failed=1 ;;
        *) told+=("$(basename "$file"): failed with $status after $((SECONDS - begin)) s") failed=1 ;;
    esac
}

passes=(--ceiling-side 8192 --rounds 7)
inference=(--ceiling-side 8192 --rounds 3 --files 16 --resolutions 1036,518)
teachers=vit_base_patch14_reg4_dinov2,vit_small_patch14_dinov2
training=(--images 32)
training_1036=(--images 16 --resolution 1036)
if [[ -n $small ]]; then
    passes=(--ceiling-side 64 --rounds 2 --size 64x96 --resolutions 64 --batches 1,2 --no-compile)
    inference=(--ceiling-side 64 --rounds 2 --size 64x96 --files 2 --resolutions 64)
    teachers=test_vit
    training=(--teacher test_vit --images 4 --side 64 --resolution 32 --epochs 3 --timed-images 4)
    training_1036=(--teacher test_vit --images 4 --side 64 --resolution 64 --epochs 3 --timed-images 4)
fi
[[ $device == cpu ]] || passes+=(--cudnn)
suffix=_$device
ways="ours;ours, 2048 patches a step"

part "gpu_passes$suffix" 100 gpu_passes.py "${passes[@]}" --teachers "$teachers"
part "inference$suffix" 75 inference.py "${inference[@]}" --teachers "$teachers" --no-compile
part "training$suffix" 40 training.py "${training[@]}" --variants "$ways"
part "training_1036$suffix" 60 training.py "${training_1036[@]}" --variants "$ways"

printf '%s\n' "${told[@]}" "all: $SECONDS s"
exit $failed
