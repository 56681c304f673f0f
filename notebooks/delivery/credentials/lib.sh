# shellcheck shell=bash
# What the cells share. They work in this directory.
install --directory --mode=700 /run/credentials-page
cd /run/credentials-page || exit

# main NAME: the first process of a unit of this page
main() { systemctl show --value --property=MainPID "credentials-$1.service"; }

# as USER COMMAND...: as that user, in no other group
as() { setpriv --reuid="$1" --regid="$(id --group "$1")" --clear-groups "${@:2}"; }

# encrypt NAME FILE [ARGUMENT...]: what standard input has, for this host
encrypt() { systemd-creds --with-key=host --name="$1" "${@:3}" encrypt - "$2" 2>&1 | { grep --invert-match "not located on encrypted media" || true; }; }

# fault NAME LINE...: starts a service of these lines, and shows what the journal has of it
fault() {
    local cursor unit=credentials-fault.service
    printf '%s\n' '[Unit]' StartLimitIntervalSec=0 '[Service]' Type=oneshot "${@:2}" 'ExecStart=cat %d/token' >/run/systemd/system/$unit
    systemctl daemon-reload
    cursor=$(journalctl --quiet --lines=0 --show-cursor | sed --quiet 's/^-- cursor: //p')
    systemctl start $unit 2>/dev/null || true
    journalctl --sync
    echo "== $1"
    printf '    %s\n' "${@:2}"
    journalctl --quiet --output=cat --after-cursor="$cursor" |
        { grep --invert-match --extended-regexp '^Starting |^Failed to (start|create|attach) |Failed with result' || true; }
    echo
}
