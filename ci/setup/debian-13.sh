#!/bin/bash
# Makes the image noble-runbooks/base:debian-13 out of the distribution's own packages, so that it
# takes no image registry. Does nothing when the engine has it. DEBIAN_MIRROR names another mirror
# than debootstrap's default.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Where debootstrap is, and not on the path of every user.
PATH=$PATH:/usr/sbin

readonly image=noble-runbooks/base:debian-13
readonly work=build/bootstrap
readonly keyring=/usr/share/keyrings/debian-archive-keyring.gpg

have_image() { docker image inspect "$image" >/dev/null 2>&1; }

# An interrupted debootstrap leaves its tree, and in it /proc and /sys still mounted.
clear_work() {
    local mountpoint
    while read -r mountpoint; do
        as_root umount --lazy "$mountpoint"
    done < <(awk -v tree="$PWD/$work/" 'index($2, tree) == 1 {print $2}' /proc/self/mounts | tac)
    as_root rm -rf --one-file-system "$work"
}

bootstrap() {
    if have_image; then return; fi
    if ! command -v debootstrap >/dev/null || [[ ! -e $keyring ]]; then
        apt_install "debootstrap (it makes the debian-13 host)" debootstrap debian-archive-keyring
    fi
    may_be_root || die "Making the debian-13 image takes root (debootstrap): run make as root, or install sudo."
    if [[ -d $work ]]; then clear_work; fi
    mkdir -p "$work/tree" build/cache/debs
    say "bootstrapping the debian-13 image (about a minute)"
    as_root debootstrap --variant=minbase --keyring="$keyring" --force-check-gpg \
        --cache-dir="$PWD/build/cache/debs" trixie "$PWD/$work/tree" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} \
        >build/debootstrap.log 2>&1 ||
        die "debootstrap could not make the debian-13 image: $(tail -n1 build/debootstrap.log) (all of it: build/debootstrap.log)."
    # A file, not a pipe: the engine would take a tar that breaks off for a whole one.
    as_root tar --create --numeric-owner --one-file-system --file "$work/tree.tar" --directory "$work/tree" \
        --exclude './dev/*' --exclude './proc/*' --exclude './sys/*' \
        --exclude './var/cache/apt/*.bin' --exclude './var/cache/apt/archives/*.deb' \
        --exclude './var/lib/apt/lists/*' --exclude './var/log/*.log' .
    docker import --change 'CMD ["/bin/bash"]' "$work/tree.tar" "$image" >/dev/null
    clear_work
}

if ! have_image; then locked debian-13 bootstrap; fi
