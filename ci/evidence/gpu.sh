#!/bin/bash
# What a machine with an NVIDIA GPU says, for docs/evidence: on any Ubuntu 24.04, within 8 minutes.
#
#   ci/evidence/gpu.sh pack KIT      where there is a network: puts together what is carried, 60 MiB
#   ci/evidence/gpu.sh run KIT OUT   on the machine, which needs none, in a checkout of this repository:
#                                    OUT/machine.txt, OUT/programs.txt, a record of each notebook
#   .venv/bin/python -m kb.proof.evidence add --host NAME OUT/*.ipynb     here again
#
#   run ends with status 3 where there is no card
#
# There the programs are run all the same, and say it themselves; no notebook is, so there is no record, and
# those that would be are named. The one about systemd's sandbox needs root, and systemd as process 1.
# Nothing of a GPU is ever simulated.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

LIMIT=470     # seconds for all of `run`
MOST=60       # MiB that may be carried
PYTHON=3.12   # Ubuntu 24.04's
NO_CARD=3     # status of `run`
STAGE=${STAGE:-/srv} # where every unit of systemd looks
PROGRAMS=(all-cards ptx-only other-card)
NOTEBOOKS=(notebooks/cuda/runtime-driver-matrix runbooks/cuda/check-host notebooks/systemd/cuda-in-a-sandbox)

usage() {
    sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

# --- pack ---

pack() {
    local kit=$1 fixtures=build/fixtures
    mkdir -p "$kit"/{readers,runtimes,programs}
    ci/fixtures/cuda-tools "$fixtures/cuda-tools"
    ci/fixtures/cuda-runtimes "$fixtures/cuda-runtimes"
    cp -r "$fixtures/cuda-tools/readers/." "$kit/readers/"
    newest_runtimes "$fixtures/cuda-runtimes/runtimes" "$kit/runtimes"
    compile "$fixtures/cuda-tools/toolkit" "$kit/programs"
    ci/fixtures/strace "$fixtures/strace"
    cp --recursive --no-dereference "$fixtures/strace/strace" "$kit/"
    . ci/setup/lib.sh
    . ci/setup/python.sh
    find_uv
    local site=$kit/site
    "$uv" pip install --quiet --target "$site" --python-version "$PYTHON" \
        --python-platform x86_64-manylinux_2_28 --require-hashes --only-binary :all: --no-deps \
        --requirement requirements-host.txt
    "$uv" pip install --quiet --target "$site" --python "$(find_python)" --no-deps .
    tar --create --gzip --file "$kit/site.tar.gz" --directory "$site" .
    rm --recursive "$site"
    local size
    size=$(du --summarize --block-size=1M "$kit" | cut -f 1)
    echo "$kit: $size MiB"
    [ "$size" -le "$MOST" ] || { echo "gpu.sh: $kit may have $MOST MiB: leave runtimes out" >&2; exit 1; }
}

# The last runtime of each minor release.
newest_runtimes() {
    local minor
    for minor in $(find "$1" -mindepth 1 -maxdepth 1 -printf '%f\n' | cut -d . -f 1,2 | sort -uV); do
        cp -r "$(find "$1" -mindepth 1 -maxdepth 1 -name "$minor.*" | sort -V | tail -n 1)" "$2/"
    done
}

# One kernel in three forms: code for the card or PTX that it can take, PTX alone, code for no card of today.
compile() {
    local toolkit=$1 into=$2
    local link=(-cudart none "-L$toolkit/lib" -Xlinker -l:libcudart.so.13 -Xlinker "-rpath=\$ORIGIN")
    cp "$toolkit/lib/libcudart.so.13" "$into/"
    build() {
        "$toolkit/bin/nvcc" ci/evidence/kernel.cu -o "$into/$1" "${link[@]}" "${@:2}"
    }
    build all-cards -arch=all
    build ptx-only -gencode arch=compute_75,code=compute_75
    build other-card -gencode arch=compute_75,code=sm_75
}

# --- run ---

# Runs a command in what is left of the time; its status, and its last word, on standard output.
within() {
    local left=$((LIMIT - SECONDS)) status=0
    [ "$left" -gt 0 ] || { echo "not run, the time is over: $*"; return 0; }
    timeout "$left" "$@" || status=$?
    echo "status $status: $*"
}

machine() {
    cat /etc/os-release
    uname -srm
    python3 --version
    cat /proc/driver/nvidia/version 2>/dev/null || echo "the driver is not loaded"
    nvidia-smi 2>&1 || echo "nvidia-smi: status $?"
    nvidia-smi --query-gpu=name,compute_cap,driver_version --format=csv 2>/dev/null || true
    ls -l /dev/nvidia* 2>/dev/null || echo "there are no device nodes"
    ldconfig -p | grep --extended-regexp 'libcuda|libnvidia-(ml|ptxjit)' || echo "no driver's library"
    nvcc --version 2>/dev/null || echo "no nvcc"
}

# Why a notebook that needs more than a card is not for this machine; nothing if it is.
lacks() {
    [ "$1" = notebooks/systemd/cuda-in-a-sandbox ] || return 0
    [ "$(id --user)" = 0 ] || { echo "it needs root"; return; }
    systemctl show --property=Version >/dev/null 2>&1 || echo "it needs systemd, which does not answer"
}

# What the notebooks are given here, one by one, and how each is started.
notebook() {
    local name=$1 kit=$2 out=$3 why library
    why=$(lacks "$name")
    [ -z "$why" ] || { echo "not run here, $why: $name"; return; }
    library=$(ldconfig -p | sed -n 's/.*libcuda\.so\.1 .*=> //p' | head --lines=1)
    case $name in
        */runtime-driver-matrix) papermill_on "$name" "$out" -p runtimes "$kit/runtimes" -p drivers "$(dirname "$library")" ;;
        */check-host) papermill_on "$name" "$out" -p mode plan \
            -p pyelftools "$kit/readers" -p subjects "$(printf "$kit/programs/%s " "${PROGRAMS[@]}")" ;;
        */cuda-in-a-sandbox) sandboxed "$name" "$kit" "$out" -p libcuda "$library" ;;
    esac
}

papermill_on() {
    within python3 -m papermill "$1.ipynb" "$2/${1##*/}.ipynb" "${@:3}"
}

# Units of this notebook have a /tmp and homes of their own: what runs in them stands where they look.
sandboxed() (
    name=$1 kit=$2 out=$3
    here=$(mktemp --directory --tmpdir="$STAGE")
    trap 'rm --recursive "$here"' EXIT
    chmod 755 "$here"
    mkdir -p "$here/${name%/*}"
    cp --recursive "$name" "$name.ipynb" "$here/${name%/*}/"
    cp --recursive --no-dereference "$kit/strace" "$here/"
    cd "$here"
    PATH=$PATH:$here/strace papermill_on "$name" "$out" "${@:4}"
)

run() {
    local kit=$1 out=$2 name
    mkdir -p "$out"
    machine >"$out/machine.txt"
    if ! nvidia-smi --list-gpus 2>/dev/null | grep --quiet '^GPU 0'; then
        for name in "${PROGRAMS[@]}"; do
            within "$kit/programs/$name"
        done >"$out/programs.txt" 2>&1
        echo "there is no NVIDIA GPU here: no notebook was run." \
            "In $out, machine.txt says what this machine is, programs.txt what a program for CUDA says:" >&2
        head --lines 2 "$out/programs.txt" >&2
        echo "with a card, these are run:" >&2
        for name in "${NOTEBOOKS[@]}"; do
            echo "  $name$(lacks "$name" | sed 's/^/, but not here: /')" >&2
        done
        return "$NO_CARD"
    fi
    local site=$out/.site
    mkdir "$site"
    tar --extract --gzip --file "$kit/site.tar.gz" --directory "$site"
    export PYTHONPATH=$site PYTHONDONTWRITEBYTECODE=1
    for name in "${PROGRAMS[@]}"; do
        within "$kit/programs/$name"
        PYTHONPATH=$kit/readers:runbooks/cuda/check-host within python3 -m cuda_needs "$kit/programs/$name"
        within python3 runbooks/cuda/repair-abi/faults.py tell --command "$kit/programs/$name"
    done >"$out/programs.txt" 2>&1
    for name in "${NOTEBOOKS[@]}"; do
        notebook "$name" "$kit" "$out"
    done
    rm --recursive "$site"
    echo "in $out, after $SECONDS seconds: $(find "$out" -maxdepth 1 -type f -printf '%f ')"
}

case "${1:-} $#" in
"pack 2") pack "$2" ;;
"run 3") run "$(realpath "$2")" "$(realpath --canonicalize-missing "$3")" ;;
*) usage ;;
esac
