#!/bin/bash
# A host with the driver's library of 535 and no card: a program for CUDA 13, and a Python environment
# with the runtime of 12.4. The last line is the parameters that the runbook is then given.
set -Eeuo pipefail

libraries=/usr/lib/$(uname --machine)-linux-gnu
cp --archive "$(find "$KB_FIXTURES/cuda-runtimes/535" -name 'libcuda.so.535*')" "$libraries/"
ldconfig

tools=$KB_FIXTURES/cuda-tools/toolkit build=/tmp/build
mkdir -p /opt/app "$build"
cp "$tools/lib/libcudart.so.13" /opt/app/
cp "$(dirname "${BASH_SOURCE[0]}")"/{kernel.ptx,program.c} "$build/"
cd "$build"
"$tools/bin/ptxas" -arch=sm_80 kernel.ptx -o kernel.cubin # it is PTX of this compiler
"$tools/bin/fatbinary" --create=kernel.fatbin -64 --image3=kind=ptx,sm=80,file=kernel.ptx
# shellcheck disable=SC2016 # the loader expands $ORIGIN
gcc program.c -o /opt/app/seven "-L$tools/lib" -l:libcudart.so.13 '-Wl,-rpath,$ORIGIN'
rm -r "$build"

packages=/opt/venv/lib/python3.13/site-packages
mkdir -p "$packages/nvidia/cuda_runtime/lib" "$packages/nvidia_cuda_runtime_cu12-12.4.127.dist-info"
cp "$KB_FIXTURES/cuda-runtimes/runtimes/12.4.127/libcudart.so.12" "$packages/nvidia/cuda_runtime/lib/"

printf '{"subjects": "/opt/app/seven /opt/venv", "card": "sm_90", "pyelftools": "%s"}\n' \
    "$KB_FIXTURES/cuda-tools/readers"
