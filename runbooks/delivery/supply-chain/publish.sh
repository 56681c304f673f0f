#!/bin/bash
# usage: publish.sh PROGRAM IMAGE KEY [NOTE]
# What a build host does, with oras, cyclonedx-gomod and cosign on PATH and the key's passphrase in COSIGN_PASSWORD:
# packs a Go program into an image that holds nothing else, pushes it, and attaches a signature and the program's SBOM.
# NOTE is an annotation that makes it another image.
set -Eeuo pipefail
program=$1 image=$2 key=${3:+$(realpath "$3")} note=${4:-}
work=$(mktemp --directory)
trap 'rm --recursive "$work"' EXIT
mkdir "$work/root"
cp "$program" "$work/root/program"
tar --create --directory "$work/root" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --file "$work/layer.tar" .
layer=$(sha256sum <"$work/layer.tar")
printf '{"architecture": "%s", "os": "linux", "config": {"Entrypoint": ["/program"]}, "rootfs": {"type": "layers", "diff_ids": ["sha256:%s"]}}' \
    "$(dpkg --print-architecture)" "${layer%% *}" >"$work/config.json"
cd "$work"
oras push --no-tty --plain-http ${note:+--annotation "$note"} --config config.json:application/vnd.oci.image.config.v1+json \
    "$image" layer.tar:application/vnd.oci.image.layer.v1.tar | tee pushed
[ -n "$key" ] || exit 0 # not signed
pinned=${image%:*}@$(sed -n 's/^Digest: //p' pushed)
cyclonedx-gomod bin -json -output sbom.json root/program
cosign sign --yes --key "$key" --tlog-upload=false "$pinned"
cosign attest --yes --key "$key" --tlog-upload=false --type cyclonedx --predicate sbom.json "$pinned"
