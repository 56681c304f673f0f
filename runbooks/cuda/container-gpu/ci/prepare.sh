#!/bin/bash
# A host with Podman, as its package leaves it, NVIDIA's container toolkit, and the library of a driver, but no
# card: a random number generator takes its part. The image is one program, busybox.
# The last line is the parameters that the runbook is then given.
set -Eeuo pipefail
cp --recursive --symbolic-link "$KB_FIXTURES"/podman/debian/{usr,etc} /
install --mode=755 "$KB_FIXTURES"/container-gpu/bin/nvidia-{ctk,cdi-hook} /usr/local/bin/
libraries=/usr/lib/$(uname --machine)-linux-gnu
library=$(find "$KB_FIXTURES/cuda/driver" -name 'libcuda.so.550*')
cp "$library" "$libraries/"
ldconfig
printf 'dev, /dev/hwrng\nlib, %s\n' "$libraries/${library##*/}" >/etc/devices.csv

# What the engine keeps goes where CI does not look: nothing of it is the runbook's.
cat >/etc/containers/storage.conf <<'END'
[storage]
driver = "overlay"
graphroot = "/var/lib/docker/podman"
runroot = "/run/containers/storage"
END
root=$(mktemp --directory)
mkdir "$root"/{bin,dev,etc,proc,tmp}
cp "$KB_FIXTURES/podman/debian/usr/bin/busybox" "$root/bin/"
for name in dd ls sh sleep true; do
    ln --symbolic busybox "$root/bin/$name"
done
tar --directory "$root" --create --file "$root.tar" .
podman import --quiet - localhost/box <"$root.tar"
rm --recursive "$root" "$root.tar"
cat <<END
{"kind": "example.com/random", "spec": "/etc/cdi/random.yaml", "csv": "/etc/devices.csv", "image": "localhost/box", "probe": "dd if=/dev/hwrng of=/dev/null bs=4 count=1 && ls /usr/lib/*", "demonstration": "$KB_FIXTURES"}
END
