#!/bin/bash
# differ.sh GO ZIG: builds a program of its own twice for each habit that makes builds differ, in two directories,
# and says whether the two are one file. Ends with 1 if one comes out otherwise than its line expects.
set -euo pipefail
go=$1 zig=$2 status=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GOFLAGS=-modcacherw GOMODCACHE=$work/modules GOENV=off GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0 XDG_CONFIG_HOME=$work HOME=${HOME:-/}
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_COMMITTER_DATE="2026-01-01T00:00:00Z"
git() { command git -c user.name=me -c user.email=me@example.com -c init.defaultBranch=main "$@"; }

mkdir "$work/one"
cd "$work/one"
printf 'module example.com/hello\n\ngo 1.21\n' >go.mod
printf 'package main\n\nvar built string\n\nfunc main() { println("hello", built) }\n' >main.go
git init --quiet
git add .
git commit --quiet --message=first --date=2026-01-01T00:00:00Z
git tag v1.0.0
git clone --quiet . "$work/two"

# twice EXPECTED HABIT: builds what is in one and two with the commands one and two; EXPECTED is same or differ.
twice() {
    local seen=differ where=""
    (cd "$work/one" && one) && (cd "$work/two" && two)
    if cmp --silent "$work/1" "$work/2"; then seen=same; fi
    if [ "$seen" = differ ] && [ "$(stat --format=%s "$work/1")" = "$(stat --format=%s "$work/2")" ]; then
        where="; $(cmp --verbose "$work/1" "$work/2" | wc --lines) bytes of $(stat --format=%s "$work/1") do"
    fi
    echo "$seen: $2$where"
    [ "$seen" = "$1" ] || { echo "expected: $1" >&2; status=1; }
}

one() { "$go" build -trimpath -buildvcs=false -o ../1 .; }
two() { "$go" build -trimpath -buildvcs=false -o ../2 .; }
twice same "with -trimpath -buildvcs=false, in two directories"

one() { "$go" build -buildvcs=false -o ../1 .; }
two() { "$go" build -buildvcs=false -o ../2 .; }
twice differ "without -trimpath: $work/one is in the first"
grep --text --quiet "$work/one/main.go" "$work/1"

one() { "$go" build -trimpath -buildvcs=false -ldflags="-X main.built=$(date +%s%N)" -o ../1 .; }
two() { "$go" build -trimpath -buildvcs=false -ldflags="-X main.built=$(date +%s%N)" -o ../2 .; }
twice differ "with the time of the build in -ldflags"

one() { "$go" build -trimpath -buildvcs=true -o ../1 .; }
two() { "$go" build -trimpath -buildvcs=true -o ../2 .; }
twice same "with -buildvcs=true, in two clean clones of one commit"

touch "$work/two/notes.txt" # no source: git does not know it, and the build does not read it
twice differ "with -buildvcs=true, and a file that git does not know in the second"
"$go" version -m "$work/2" | grep vcs.modified=true

rm "$work/two/notes.txt"
git -C "$work/two" tag --delete v1.0.0 >/dev/null
if [[ $("$go" env GOVERSION) =~ ^go1\.2[0-3] ]]; then expected=same; else expected=differ; fi # tags are read since 1.24
twice $expected "with -buildvcs=true, and a clone without the tag, as a shallow one is"
"$go" version -m "$work/1" "$work/2" | grep -P '^\tmod'

command -v "$zig" >/dev/null || exit "$status"
printf 'package main\n\n// static int two(void) { return 2; }\nimport "C"\n\nvar built = C.two()\n\nfunc main() { println("hello", built) }\n' |
    tee "$work/one/main.go" >"$work/two/main.go"
export CGO_ENABLED=1
mkdir "$work/path"
ln -s "$(realpath "$(type -P "$zig")")" "$work/path/zig"
named() { PATH=$work/path:$PATH CC="zig cc -target $(uname --machine)-linux-gnu.2.31" "$go" build -trimpath -buildvcs=false "$@" .; }
one() { named -ldflags="-s -extldflags=-s" -o ../1; }
two() { named -ldflags="-s -extldflags=-s" -o ../2; }
twice same "with cgo, and the compiler called by its name"

two() { CC="$work/path/zig cc -target $(uname --machine)-linux-gnu.2.31" "$go" build -trimpath -buildvcs=false -ldflags="-s -extldflags=-s" -o ../2 .; }
twice differ "with cgo, and the compiler called by its path in the second"

one() { named -ldflags="-s -buildid= -extldflags=-s" -o ../1; }
two() { CC="$work/path/zig cc -target $(uname --machine)-linux-gnu.2.31" "$go" build -trimpath -buildvcs=false -ldflags="-s -buildid= -extldflags=-s" -o ../2 .; }
twice same "the same, with -buildid="

two() { named -ldflags="-s -buildid=" -o ../2; }
twice differ "with cgo, and without -extldflags=-s: Zig's start files say where they were compiled"
grep --text --quiet 'zig/lib/libc/glibc/csu' "$work/2"
exit "$status"
