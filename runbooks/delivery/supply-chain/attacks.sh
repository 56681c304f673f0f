#!/bin/bash
# usage: attacks.sh PROGRAM
# Puts images into a registry of its own that somebody has meddled with, and asks image-gate about each.
# Every line that it prints is what the gate said.
set -Eeuo pipefail
program=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp --directory)
registry=
trap '[ -z "$registry" ] || kill "$registry"; rm --recursive "$work"' EXIT
cd "$work"
at=127.0.0.1:5010
export COSIGN_PASSWORD=demonstration HOME=$work

serve() {
    printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\n' "$work/data" "$at" >registry.yml
    docker-registry serve registry.yml >registry.log 2>&1 &
    registry=$!
    timeout 60 bash -c "until curl --silent --fail --output /dev/null http://$at/v2/; do sleep 0.1; done"
}
stop() {
    kill "$registry"
    wait "$registry" || true
    registry=
}
digest() { oras resolve --plain-http "$1"; }
copy() { oras copy --no-tty --from-plain-http --to-plain-http "$1" "$2" >/dev/null; }
attached() { echo "${1%:*}:$(digest "$1" | tr : -).$2"; } # IMAGE sig|att: the tag that cosign keeps it under
blob() { echo "data/docker/registry/v2/blobs/sha256/${1:7:2}/${1:7}/data"; }
ask() { # EXPECTED-STATUS WHAT IMAGE
    local status=0
    "$here/image-gate" --policy "$work/policy" "$3" >said 2>&1 || status=$?
    printf '%s\n    %s\n' "$2" "$(sed "s#$work/##g; s/\(sha256:[0-9a-f]\{12\}\)[0-9a-f]*/\1/g" said)"
    [ "$status" = "$1" ]
}

for key in build stranger; do cosign generate-key-pair --output-key-prefix "$key" 2>/dev/null; done
mkdir --mode=755 policy policy/keys
cp build.pub policy/keys/
echo "repositories = ['$at/']
denied = []" >policy/policy.toml
serve
publish() { "$here/publish.sh" "$program" "$@" >said 2>&1 || { cat said >&2; exit 1; }; }
publish "$at/app:good" build.key
publish "$at/app:unsigned" "" note=unsigned
publish "$at/app:labelled" "" security-scan.passed=true
publish "$at/app:stranger" stranger.key note=stranger
publish "$at/app:moved" "" note=other
copy "$(attached "$at/app:good" sig)" "$(attached "$at/app:moved" sig)"
publish "$at/app:borrowed" "" note=borrowed
cosign sign --yes --key build.key --tlog-upload=false "$at/app@$(digest "$at/app:borrowed")" 2>/dev/null

ask 1 "signed, and without an SBOM" "$at/app:borrowed"
copy "$(attached "$at/app:good" att)" "$(attached "$at/app:borrowed" att)"
copy "$at/app:good" "$at/other:good"
copy "$(attached "$at/app:good" sig)" "$(attached "$at/other:good" sig)"

ask 0 "signed, with its SBOM" "$at/app:good"
ask 1 "not signed" "$at/app:unsigned"
ask 1 "not signed, and labelled security-scan.passed=true by whoever pushed it" "$at/app:labelled"
ask 1 "signed with another key" "$at/app:stranger"
ask 1 "another program, with the signature of the good one put beside it" "$at/app:moved"
ask 1 "signed, with the SBOM of another image" "$at/app:borrowed"
ask 1 "signed, and copied to another name" "$at/other:good"
sed --in-place "s/denied.*/denied = ['google.golang.org\/grpc']/" policy/policy.toml
ask 1 "with a module that the policy denies" "$at/app:good"
sed --in-place "s/denied.*/denied = []/" policy/policy.toml
cp stranger.pub policy/keys/
ask 0 "signed with the other key, after that was added to keys/" "$at/app:stranger"
rm policy/keys/build.pub
ask 1 "signed with the key that was taken away" "$at/app:good"
cp build.pub policy/keys/
chmod o+w policy/keys/build.pub
ask 2 "a key that others can write" "$at/app:good"
chmod o-w policy/keys/build.pub
ask 1 "no such tag" "$at/app:never"

echo "What the gate does not read, the layers, whoever pulls them compares with their digest:"
manifest=$(oras manifest fetch --plain-http "$at/app:good")
layer=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["layers"][0]["digest"])' "$manifest")
cp "$(blob "$layer")" kept
printf X | dd of="$(blob "$layer")" conv=notrunc bs=1 seek=600 status=none
ask 0 "a layer that is damaged in the registry" "$at/app:good"
if oras pull --no-tty --plain-http --output pulled "$at/app:good" >said 2>&1; then exit 1; fi
echo "    and pulled: $(grep --only-matching 'mismatched digest' said)"
cp kept "$(blob "$layer")"
stop
ask 2 "a registry that is gone" "$at/app:good"
python3 "$here/answers_500.py" "$at" 2>/dev/null &
registry=$!
timeout 60 bash -c "until curl --silent --output /dev/null http://$at/; do sleep 0.1; done"
ask 2 "a registry that answers 500" "$at/app:good"
