#!/bin/bash
# elsewhere.sh DIRECTORY: builds the targets of the parameter elsewhere into DIRECTORY/out, from a copy of the source there,
# with caches there, and as the user nobody where that can be. It reads the runbook's parameters from the environment.
# shellcheck disable=SC2154 # the parameters: elsewhere, go, source
set -euo pipefail
other=$1
# shellcheck source=/dev/null
. "$KB_HERE/binaries/lib.sh"

mkdir "$other"/{out,tmp}
inside=$(realpath "$source")
if top=$(git -C "$source" rev-parse --show-toplevel 2>/dev/null); then
    git clone --quiet --no-hardlinks "$top" "$other/source"
else
    top=$(cd "$source" && dirname "$(go env GOMOD)")
    cp --recursive "$top" "$other/source"
fi
package=$other/source${inside#"$(realpath "$top")"}

# Modules come from what this user has fetched, through a copy of what the program takes: nobody may not read the rest.
modules=$(sed -n 's/^GOMODCACHE=//p' "$TMPDIR/settings")
sed --in-place --regexp-extended \
    --expression="s#^GOCACHE=.*#GOCACHE=$other/cache#" \
    --expression="s#^GOMODCACHE=.*#GOMODCACHE=$other/modules#" \
    --expression="s#^GOPROXY=.*#GOPROXY=file://$modules/cache/download#" \
    --expression="s#^GO(PRIVATE|NOPROXY)=.*#GO\1=#" \
    --expression="s#^GOSUMDB=.*#GOSUMDB=off#" "$TMPDIR/settings" # go.sum has the sums
cp "$TMPDIR/settings" "$other/tmp/settings"
for target in $elsewhere; do
    set_target "$target"
    (cd "$package" && go build -n -o /dev/null .) 2>"$other/tmp/said" || { cat "$other/tmp/said" >&2; exit 1; }
done

as=()
if [ "$(id --user)" = 0 ]; then
    chown --recursive nobody: "$other"
    if setpriv --reuid=nobody --regid=nogroup --clear-groups test -x "$(type -P "$go")" -a -r "$KB_HERE/binaries/lib.sh"; then
        as=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
    else
        echo "not as another user: nobody may not run $go, or not read this runbook"
    fi
fi
export source=$package TMPDIR=$other/tmp HOME=$other ZIG_GLOBAL_CACHE_DIR=$other/zig ZIG_LOCAL_CACHE_DIR=$other/zig other
# shellcheck disable=SC2016 # for the shell that is started
"${as[@]}" bash -euc '. "$KB_HERE/binaries/lib.sh"
for target in $elsewhere; do build "$source" "$target" "$other/out/$(file_of "$target")"; done
echo "built in $source by $(id --user --name)"'
