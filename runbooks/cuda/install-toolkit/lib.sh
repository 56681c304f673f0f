# What the cells of install-toolkit.ipynb share. The parameters come from the environment.
# shellcheck shell=bash
# shellcheck disable=SC2154 # cuda_version, prefix, host_compiler
# The wheels of the release, and whether they are pinned here.
pins() { echo "$KB_HERE/install-toolkit/$cuda_version.txt"; }
pinned() { [ -f "$(pins)" ]; }

# Where the release is or will be: from wheels, or as NVIDIA's packages have it. Nothing for the distribution's.
target() {
    if pinned; then
        echo "$prefix/cuda-$cuda_version"
    elif [ "$cuda_version" != distribution ]; then
        echo "/usr/local/cuda-$cuda_version"
    fi
}

# Its nvcc.
compiler() {
    local target
    target=$(target)
    echo "${target:-/usr}/bin/nvcc"
}

# ours DIRECTORY: it is what this runbook makes of the pinned wheels, and whole.
ours() { cmp --quiet "$(pins)" "$1/wheels.txt"; }

# Every nvcc of this host, a line each: its name here, and the file.
toolkits() {
    local file
    for file in /usr/bin/nvcc "$prefix"/cuda-*/bin/nvcc /usr/local/cuda-*/bin/nvcc; do
        [ -x "$file" ] || continue
        case $file in
            /usr/bin/nvcc) echo "distribution $file" ;;
            *) echo "$(basename "${file%/bin/nvcc}") $file" ;;
        esac
    done | sort --unique
}

# release NVCC: its release, such as 13.5.
release() { "$1" --version | sed --quiet 's/.* release \([0-9.]*\),.*/\1/p'; }

# libraries NVCC: the directory that has its libcudart; nothing for the distribution's, which the loader knows.
libraries() {
    local of=${1%/bin/nvcc} place
    for place in "$of/lib" "$of/lib64"; do
        if [ "$of" != "$1" ] && [ "$of" != /usr ] && [ -e "$place/libcudart.so" ]; then
            echo "$place"
            return
        fi
    done
}

# compile NVCC PROGRAM [OPTION]...: the program with machine code for two cards, and PTX. What the compiler
# says is in PROGRAM.said.
compile() {
    local cards=(-gencode "arch=compute_75,code=sm_75" -gencode "arch=compute_90,code=[sm_90,compute_90]")
    "$1" "${cards[@]}" -cudart shared -cudadevrt none "${@:3}" -o "$2" "$KB_HERE/install-toolkit/program.cu" >"$2.said" 2>&1
}

# why FILE: the line that counts of what a compiler said.
why() {
    { grep --max-count=1 --only-matching -E 'unsupported GNU version! gcc versions later than [0-9]+ are not supported!' "$1" ||
        grep --max-count=1 -E 'ERROR|error|fatal|cannot find' "$1" || tail --lines=1 "$1"; } | cut --characters=1-200
}

# cure FILE: what to do about it.
cure() {
    case $(why "$1") in
        *'cannot find -lcudart'*) echo "it has no libcudart.so, which a development package or a link to libcudart.so.N in its lib gives it" ;;
        *'unsupported GNU'* | *'host compiler'*) echo "install a g++ that it takes (see *Which toolkits are here*), and name it in host_compiler" ;;
        *) echo "see that it compiles a file by hand, then run this again" ;;
    esac
}

# chosen: options for the compiler that cuda_version names.
chosen() { [ -z "$host_compiler" ] || printf '%s\n' -ccbin "$host_compiler"; }

# loads PROGRAM: the libraries of CUDA that the loader gives it, with their files.
loads() { ldd "$1" 2>/dev/null | { grep -E 'lib(cu|nv)[a-zA-Z]*\.so' || true; } | sed --quiet 's/^\s*\(.* => \/.*\) (.*/\1/p' | sort; }

# loads_key PROGRAM: the name of the note about it.
loads_key() { printf 'loads-%s' "$(sha256sum <<<"$1" | cut --characters=1-12)"; }
