# What the cells of repair-abi.ipynb share. The parameters come from the environment.
# shellcheck shell=bash
# shellcheck disable=SC2154

# faults WHAT [--of loader|linker]: tell, refuse, apply or verify, of the commands of the parameters.
faults() {
    "$KB_PYTHON" "$KB_HERE/repair-abi/faults.py" "$@" --command "$command" \
        --library-dir "$library_dir" --user "$user" --within "$within"
}
