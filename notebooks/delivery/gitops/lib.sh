# shellcheck shell=bash
# What the cells share. It brings them into the clone that is pushed from.
#   release TAG         commits and pushes another image
#   revert              takes the newest commit back by another one
#   image ENVIRONMENT   which image the deployment has there
#   waiting NAME        waits until that Kustomization waits for the newest commit's health
#   applied NAME        waits until it has applied the newest commit
cd "$FLEET" || exit

release() {
    sed --in-place "s|\(image: example.org/inferd\):.*|\1:$1|" base/deployment.yaml
    git commit --quiet --all --message="inferd:$1"
    git push --quiet
}
revert() {
    git revert --no-edit HEAD >/dev/null
    git push --quiet
}
image() {
    kubectl --namespace="$1" get deployment/inferd --output=jsonpath='{.spec.template.spec.containers[0].image}{"\n"}'
}
applied() {
    kubectl --namespace=flux-system wait "kustomization/$1" --timeout=120s \
        --for=jsonpath='{.status.lastAppliedRevision}'="main@sha1:$(git rev-parse HEAD)"
}
waiting() {
    kubectl --namespace=flux-system wait "kustomization/$1" --timeout=120s \
        --for=jsonpath='{.status.lastAttemptedRevision}'="main@sha1:$(git rev-parse HEAD)"
    kubectl --namespace=flux-system wait "kustomization/$1" --timeout=120s \
        --for=jsonpath='{.status.conditions[?(@.type=="Healthy")].status}'=Unknown
}
