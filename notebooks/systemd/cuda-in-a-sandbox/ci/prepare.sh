#!/bin/bash
# A host with CUDA's libraries and no driver.
set -Eeuo pipefail
libcuda=$(find "$KB_FIXTURES/cuda/driver" -name libcuda.so.1)
libnvrtc=$(find "$KB_FIXTURES/cuda/nvrtc" -name 'libnvrtc.so.*')
printf '{"libcuda": "%s", "libnvrtc": "%s", "stand_in": true}\n' "$libcuda" "$libnvrtc"
