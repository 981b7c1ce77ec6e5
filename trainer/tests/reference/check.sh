#!/usr/bin/env bash
# Recomputes recorded values with the Python code that made them, and compares: replays of the towers and the losses,
# tokens, pixels and few-shot samples. Each make.py's docstring has the command for its part alone. The pixels were
# recorded by torchvision, which takes gigabytes to install: here numpy does its arithmetic. The command that compares
# with torchvision itself, once that is installed:
#
#     pixels/make.py --torchvision --check
#
#     check.sh [--all] [FOLDER]    # the packages go to FOLDER, and stay there; otherwise to a temporary one
#
# It takes some 2 minutes of processor time and 2 GB of memory; with --all, which adds the towers of ViT-B/16's sizes,
# 6 minutes and 4.5 GB.
# Exit code 0: all the same; 1: a difference; 77: what it needs can't be had, the last line says why.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
towers=(--only miniature --only asymmetric)
if [[ ${1:-} == --all ]]; then
    towers=()
    shift
fi
packages=${1:-$scratch/packages}

skip() {
    echo "$1"
    exit 77
}

install() {
    python3 -m pip install --quiet --disable-pip-version-check --target "$packages" --upgrade "$@" >&2 ||
        skip "pip could not install the packages of $here/*/requirements.txt for $(python3 --version)"
}

command -v python3 >/dev/null || skip "python3 is not installed"
python3 -m pip --version >/dev/null 2>&1 || skip "pip is not installed for python3"
cat "$here"/{towers,pixels,tokens}/requirements.txt >"$scratch/requirements.txt"
if ! cmp -s "$scratch/requirements.txt" "$packages/requirements.txt"; then
    install --requirement "$here/towers/requirements.txt" --requirement "$here/pixels/requirements.txt"
    install --no-deps --requirement "$here/tokens/requirements.txt"
    cp "$scratch/requirements.txt" "$packages/requirements.txt"
fi
export PYTHONPATH=$packages PYTHONDONTWRITEBYTECODE=1

failed=0
echo "sampling: drawn again with CPython's random"
python3 "$here/sampling/make.py" --check || failed=1
echo "tokens: encoded again by open_clip's copy of CLIP's tokenizer"
python3 "$here/tokens/make.py" --check || failed=1
echo "pixels: decoded and resampled again by Pillow"
python3 "$here/pixels/make.py" --check || failed=1
echo "towers: recomputed with JAX in 64-bit floats"
python3 "$here/towers/make.py" --check "${towers[@]}" "$here/towers/golden" || failed=1
exit "$failed"
