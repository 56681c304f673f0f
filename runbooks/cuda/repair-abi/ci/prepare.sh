#!/bin/bash
# A host after a move: programs that were built elsewhere, libraries where the loader does not look, and
# older ones where it does. The last line is the parameters that the runbook is then given.
set -Eeuo pipefail

here=$(dirname "${BASH_SOURCE[0]}") faults=$KB_FIXTURES/cuda-faults cuda=$KB_FIXTURES/cuda-runtimes
packages=/opt/venv/lib/python3.13/site-packages/nvidia old=/opt/old/lib
mkdir -p /opt/app /opt/cuda-{12.9,13.5}/lib64 /usr/local/nvidia/lib64 "$packages/nvjitlink/lib" "$old" /srv/onnxruntime/lib
# What is right, where the loader does not look.
cp "$cuda/runtimes/12.9.79/libcudart.so.12" /opt/cuda-12.9/lib64/
cp "$cuda/runtimes/13.5.37/libcudart.so.13" /opt/cuda-13.5/lib64/
cp --archive "$(find "$cuda/535" -name 'libcuda.so.535*')" /usr/local/nvidia/lib64/
cp "$faults/wheels/nvidia/nvjitlink/lib/libnvJitLink.so.12" "$packages/nvjitlink/lib/"
cp "$KB_FIXTURES/onnx/runtime/libonnxruntime.so" /srv/onnxruntime/lib/libonnxruntime.so.1
# What is older, where it does.
cp "$cuda/nvjitlink/libnvJitLink.so.12" "$old/"
cp "$faults/wheels/onnxruntime/capi/libonnxruntime.so.1.21.1" "$old/"
echo "$old" >/etc/ld.so.conf.d/old.conf
# A toolkit's stubs, which an image was built with: for a directory that it is told, ldconfig makes the
# names that the loader asks for.
mkdir -p /opt/cuda-12.4/lib64/stubs
cp "$KB_FIXTURES"/cuda-stub/stubs/*.so /opt/cuda-12.4/lib64/stubs/
echo /opt/cuda-12.4/lib64/stubs >/etc/ld.so.conf.d/stubs.conf
ldconfig
[ "$(readlink /opt/cuda-12.4/lib64/stubs/libcuda.so.1)" = libcuda.so ]

cp "$here"/{devices,link,infer,opens,newer,newer-cxx}.c "$here/kernel.ptx" /opt/app/
cd /opt/app
gcc devices.c -o devices -L/opt/cuda-12.9/lib64 -l:libcudart.so.12
gcc link.c -o link "-L$packages/nvjitlink/lib" -l:libnvJitLink.so.12
gcc infer.c -o infer -L/srv/onnxruntime/lib -l:libonnxruntime.so.1
gcc opens.c -o opens
# What no library here cures: programs that are too new for the driver, for an older system, for ptxas.
gcc devices.c -o devices-13 -L/opt/cuda-13.5/lib64 -l:libcudart.so.13 -Wl,-rpath,/opt/cuda-13.5/lib64
gcc devices.c -o devices-12.1 "$cuda/runtimes/12.1.105/libcudart.so.12" -Wl,-rpath,/opt/cuda-12.1
install -D "$cuda/runtimes/12.1.105/libcudart.so.12" /opt/cuda-12.1/libcudart.so.12
mkdir /opt/driver
ln -s /usr/local/nvidia/lib64/libcuda.so.535* /opt/driver/libcuda.so.1
gcc link.c -o led "-L$packages/nvjitlink/lib" -l:libnvJitLink.so.12 "-Wl,-rpath,$old"
cp --recursive "$KB_FIXTURES/old-glibc/system" /opt/debian-11
cp --recursive "$faults/old-cxx/usr" /opt/debian-11/
gcc newer.c -o /opt/debian-11/newer
sysroot=$KB_FIXTURES/old-glibc/sysroot
gcc "--sysroot=$sysroot" -B "$sysroot/usr/lib/$(gcc -print-multiarch)" newer-cxx.c -o /opt/debian-11/newer-cxx \
    /usr/lib/*-linux-gnu/libstdc++.so.6 -Wl,--allow-shlib-undefined
cp "$cuda/ptxas/12.4.131/ptxas" "$faults/nvml/usr/lib/nvidia/current/nvidia-smi" /opt/app/
cp --archive "$faults"/nvml/usr/lib/*/nvidia/current/libnvidia-ml.so* /usr/local/nvidia/lib64/

cat <<'END'
{"command": "/opt/app/devices\n/opt/app/link\n/opt/app/opens\n/opt/app/infer\ngcc /opt/app/devices.c -o /dev/null -lcudart", "library_dir": "/srv/onnxruntime/lib", "user": "nobody"}
END
