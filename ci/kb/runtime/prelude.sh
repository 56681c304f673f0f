# Read by bash (through BASH_ENV) before a cell's own text, so that line numbers stay the cell's.
# shellcheck shell=bash
unset BASH_ENV # scripts that the cell starts are not ours

# Puts back every file that this runbook's steps kept, newest first, exactly as it was.
kb-restore() {
  "$KB_PYTHON" -P -m kb.runtime.undo restore "$KB_STATE" || return # so that the cell's line is reported
}

# Ends the cell and the run, because nothing more can be done before the host has been started anew.
# The same run is then repeated; so the cell asks only while it has not what it needs.
kb-reboot() {
  echo "$1" >"$KB_REBOOT"
  exit 75 # EX_TEMPFAIL: try again later
}

# kb-refuse MESSAGE: ends the cell and the run with one sentence: what is wrong, where, what to do.
kb-refuse() {
  echo "$*" >&2
  # So that it counts in a subshell, too, where an exit may go unnoticed.
  { echo "${*//$'\n'/ }" >"$KB_REFUSED"; } 2>/dev/null || true
  exit 1
}

# kb-need TOOL[=PACKAGE]... [-- ADVICE]: each tool is on PATH. The advice is to install the packages
# of those that are not; a package that is not named is called as its tool.
kb-need() {
  local advice="" missing=() packages=() are=is
  while [ "$#" -gt 0 ]; do
    if [ "$1" = -- ]; then
      advice=${*:2}
      break
    fi
    if ! type -P "${1%%=*}" >/dev/null; then
      missing+=("${1%%=*}")
      packages+=("${1#*=}")
    fi
    shift
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  [ "${#missing[@]}" -eq 1 ] || are=are
  printf -v missing ', %s' "${missing[@]}"
  : "${advice:="apt-get install $(printf '%s\n' "${packages[@]}" | sort --unique | xargs)"}"
  kb-refuse "${missing:2} $are not here: $advice"
}

# kb-room PATH SIZE [ADVICE]: so much (64K, 400M) is free where PATH is, or would be made. A rollback
# is not stopped by a full disk: what it puts back is kept on one already.
kb-room() {
  [ "$KB_MODE" != rollback ] || return 0
  local place=$1 needed free sizes
  until [ -e "$place" ]; do
    place=$(dirname "$place")
  done
  needed=$(numfmt --from=iec "$2") || return
  free=$(stat --file-system --format='%a * %S' "$place") || return
  free=$((free))
  sizes=$(numfmt --to=iec-i --suffix=B --round=down "$free" "$needed" | sed 's/[A-Z]/ &/')
  sizes="${sizes/$'\n'/ are free and } are needed"
  [ "$free" -ge "$needed" ] || kb-refuse "$place has no room: $sizes: make room${3:+, $3}"
  echo "$place: $sizes"
}

# kb-note [--latest] KEY VALUE: remembers for the rollback what was found before a change. The first
# value stays, since a second apply finds what the first one made; with --latest the last one does.
# Notes are kept until a rollback has passed: one that fails can be repeated, and knows as much.
kb-note() {
  local latest=""
  if [ "$1" = --latest ]; then
    latest=yes
    shift
  fi
  [ -n "$KB_STATE" ] ||
    kb-refuse "the note '$1' cannot be taken here: kb-note is for cells that change the host"
  [[ $1 =~ ^[a-z][a-z0-9-]*$ ]] ||
    kb-refuse "'$1' is not a name for a note: use lower-case letters, digits and -"
  if [ -e "$KB_NOTES/$1" ]; then
    [ -n "$latest" ] && ! printf %s "$2" | cmp --quiet - "$KB_NOTES/$1" || return 0
  fi
  # In one chain, so that a write that fails is never renamed.
  mkdir -p "$KB_NOTES" && printf %s "$2" >"$KB_NOTES/.$1" && sync "$KB_NOTES/.$1" &&
    mv "$KB_NOTES/.$1" "$KB_NOTES/$1" && sync "$KB_NOTES"
}

# kb-noted KEY: prints what was noted, to the byte; fails if nothing was.
kb-noted() {
  [ -e "$KB_NOTES/$1" ] && cat "$KB_NOTES/$1"
}

# CI asks on its own hosts which lines of a cell run, and not what they are: bash's own trace, in a file.
if [ -n "${KB_TRACE:-}" ]; then
  exec {BASH_XTRACEFD}>>"$KB_TRACE"
  echo "cell $(sha256sum <"$0")" >&"$BASH_XTRACEFD"
  unset KB_TRACE
  PS4='+ ${BASH_SOURCE[0]##*/}:$LINENO '
  set -x
fi

# kb-failed LINE: reports where a command failed: the line of the cell that has it, or has called or
# sourced what has it.
kb-failed() {
  local line=$1 depth
  for ((depth = 1; depth < ${#BASH_SOURCE[@]}; depth++)); do
    [ "${BASH_SOURCE[depth]}" != "$0" ] || break
    line=${BASH_LINENO[depth]}
  done
  { echo "$line" >>"$KB_FAILED"; } 2>/dev/null || true # a full disk must not hide what failed
}

# The last report counts: one of a command substitution may come before, and be of no consequence.
trap 'kb-failed "$LINENO"' ERR
