# shellcheck shell=bash
# What the cells share. They work beside the chart.
cd "$WORK" || exit

# apart NAME: a namespace of its own, for kubectl and for helm
apart() {
    export HELM_NAMESPACE=$1
    kubectl get namespace "$1" >/dev/null 2>&1 || kubectl create namespace "$1" >/dev/null
    kubectl config set-context --current --namespace="$1" >/dev/null
}

# refused WORDS COMMAND...: it fails, and says that
refused() {
    local said
    if said=$("${@:2}" 2>&1); then
        echo "this did not fail: ${*:2}" >&2
        return 1
    fi
    printf '$ %s\n%s\n\n' "${*:2}" "$said"
    [[ $said == *"$1"* ]] || { echo "it does not say: $1" >&2; return 1; }
}

# killed STATUS COMMAND...: ends a command of helm in the middle, when the release has that status
killed() {
    local process tries=0
    "${@:2}" >/dev/null 2>&1 &
    process=$!
    until helm status inferd 2>/dev/null | grep --quiet "^STATUS: $1$"; do
        if ((tries++ >= 240)); then
            kill -KILL $process
            echo "the release did not become $1 within a minute" >&2
            return 1
        fi
        sleep 0.25
    done
    kill -KILL $process
    wait $process 2>/dev/null || true
}

image() { kubectl get deployment/inferd --output=jsonpath='{.spec.template.spec.containers[0].image}'; }
