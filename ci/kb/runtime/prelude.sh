# Read by bash (through BASH_ENV) before a cell's own text, so that line numbers stay the cell's.
# shellcheck shell=bash
unset BASH_ENV # scripts that the cell starts are not ours

# Puts back every file that this runbook's steps kept, newest first, exactly as it was.
kb-restore() {
  "$KB_PYTHON" -m kb.runtime.undo restore "$KB_STATE" || return # so that the cell's line is reported
}

# Ends the cell and the run, because nothing more can be done before the host has been started anew.
# The same run is then repeated; so the cell asks only while it has not what it needs.
kb-reboot() {
  echo "$1" >"$KB_REBOOT"
  exit 75 # EX_TEMPFAIL: try again later
}

# The last report counts: one of a command substitution may come before, and be of no consequence.
trap 'echo "$LINENO" >>"$KB_FAILED"' ERR
