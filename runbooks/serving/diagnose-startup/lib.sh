# What the cells of diagnose-startup.ipynb share. The parameters come from the environment.
# shellcheck shell=bash
# shellcheck disable=SC2154

startup() { "$KB_PYTHON" "$KB_HERE/diagnose-startup/startup.py" "$@"; }

# tell ARGUMENT...: starts the command as the parameters say, and prints what is wrong.
tell() {
    startup tell --command "$command" --user "$user" --within "$within" --ready "$ready" "$@"
}

# mended HOW FILE: the file's text as it should be, where its lines are wrong.
mended() {
    case $1 in
        lines) sed 's/\r$//' "$2" ;;
        *) cat "$2" ;;
    esac
}
