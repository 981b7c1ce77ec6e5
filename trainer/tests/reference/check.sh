#!/usr/bin/env bash
# Recomputes recorded values with the Python code that made them, and compares: replays of the towers and the losses, and the
# few-shot samples. The tokens and pixels are left out: what made those takes gigabytes to install.
#
#     check.sh [FOLDER]    # the packages go to FOLDER, and stay there; otherwise to a temporary one
#
# Exit code 0: all the same; 1: a difference; 77: what it needs can't be had, the last line says why.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
packages=${1:-$scratch/packages}

skip() {
    echo "$1"
    exit 77
}

command -v python3 >/dev/null || skip "python3 is not installed"
python3 -m pip --version >/dev/null 2>&1 || skip "pip is not installed for python3"
requirements=$here/towers/requirements.txt
if ! cmp -s "$requirements" "$packages/requirements.txt"; then
    python3 -m pip install --quiet --disable-pip-version-check --target "$packages" --upgrade --requirement "$requirements" >&2 ||
        skip "pip could not install $(paste -sd ' ' "$requirements") for $(python3 --version)"
    cp "$requirements" "$packages/requirements.txt"
fi
export PYTHONPATH=$packages PYTHONDONTWRITEBYTECODE=1

failed=0
echo "towers: recomputed with JAX in 64-bit floats, against towers/golden"
(cd "$here/towers" && python3 make.py --check golden) || failed=1

# The script writes beside itself and reads the demo's split: give it a tree of its own.
tree=$scratch/tree/trainer/tests/reference
mkdir -p "$tree"
cp -r "$here/sampling" "$tree/sampling"
ln -s "$(cd "$here/../../../demo" && pwd)" "$scratch/tree/demo"
echo "sampling: drawn again with CPython's random, against sampling/golden.json"
python3 "$tree/sampling/make.py"
python3 - "$here/sampling/golden.json" "$tree/sampling/golden.json" <<'PYTHON' || failed=1
import json
import sys

recorded, again = (json.load(open(path)) for path in sys.argv[1:])
different = [key for key in recorded.keys() | again.keys() if key != "python" and recorded.get(key) != again.get(key)]
for key in sorted(recorded.keys() - {"python"}):
    print(f"golden.json: {key}, {len(recorded[key])} entries{'  DIFFERS' if key in different else ', the same'}")
sys.exit(bool(different))
PYTHON
exit "$failed"
