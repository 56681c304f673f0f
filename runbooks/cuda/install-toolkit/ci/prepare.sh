#!/bin/bash
# A host with Debian's toolkit, the driver's library of 550, cuda-needs, no card, and a service that was built with
# that toolkit; with g++ 14 beside the 13 that the toolkit takes. Big files are links into the fixtures.
# The last line is the parameters that the runbook is then given.
set -Eeuo pipefail

area=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
fixtures=$KB_FIXTURES/cuda-toolkits libraries=/usr/lib/$(uname --machine)-linux-gnu
for tree in compilers/usr distribution/usr distribution/etc; do
    cp --recursive --symbolic-link "$fixtures/$tree" /
    # A link of the package's leads to its neighbours on this host.
    (cd "$fixtures/${tree%/*}" && find "${tree#*/}" -type l -exec cp --no-dereference --remove-destination --parents --target-directory=/ {} +)
done
# gcc looks for its parts beside the file that it really is.
cp --remove-destination "$fixtures"/compilers/usr/bin/*-linux-gnu-{gcc,g++}-1[34] /usr/bin/
cp --recursive --symbolic-link "$fixtures/headers/." /usr/include/
ln -s libcudart.so.12 "$libraries/libcudart.so" # as nvidia-cuda-dev has it
ln -s g++-14 /usr/bin/g++
cp --archive "$(find "$KB_FIXTURES/cuda/driver" -name 'libcuda.so.550*')" "$libraries/"
ldconfig

# CI's image takes pip away, which a person's environment has.
cp --recursive "$fixtures"/pip/* "$(/opt/kb/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

# cuda-needs, as the runbook check-host leaves it. This runbook's metadata names each of its modules, so that an edit
# of one repeats it; a module that came later is to be named there and here.
modules="check-host/cuda_needs/__init__.py check-host/cuda_needs/__main__.py check-host/cuda_needs/elf.py
check-host/cuda_needs/fatbin.py check-host/cuda_needs/host.py check-host/cuda_needs/judge.py
check-host/cuda_needs/rules.py check-host/cuda_needs/subjects.py check-host/cuda_needs/tree.py"
unnamed=$(cd "$area" && find check-host/cuda_needs -name '*.py' | sort | comm -23 - <(xargs -n 1 <<<"$modules" | sort))
[ -z "$unnamed" ] || { echo "install-toolkit packs $unnamed without naming it: add it to \`uses\` and to prepare.sh" >&2; exit 1; }
export KB_HERE=$area KB_PYTHON=python3 pyelftools=$KB_FIXTURES/cuda-tools/readers
TMPDIR=$(mktemp --directory)
# shellcheck source=/dev/null
. "$area/check-host/lib.sh"
pack /usr/local/bin/cuda-needs
rm --recursive "$TMPDIR"

# What the broken cases point to: a directory that is taken, and wheels of which one was changed.
mkdir --parents /srv/taken/cuda-13.5/bin
ln -s /usr/bin/nvcc /srv/taken/cuda-13.5/bin/nvcc
cp --recursive --symbolic-link "$fixtures/wheels" /srv/changed
crt=$(echo /srv/changed/nvidia_cuda_crt-*.whl)
cp --remove-destination "$(readlink "$crt")" "$crt"
printf x >>"$crt"

mkdir /opt/app
nvcc -arch=sm_75 -cudart shared -cudadevrt none -o /opt/app/service "$area/install-toolkit/program.cu"
printf '{"wheels": "%s", "programs": "/opt/app/service"}\n' "$fixtures/wheels"
