# For files, before anything is sent: conftest test --policy=conftest pod.yaml
package main

template := input.spec if input.kind == "Pod"

template := input.spec.template.spec if input.kind in {"Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "Job"}

template := input.spec.jobTemplate.spec.template.spec if input.kind == "CronJob"

lasting contains c if some c in template.containers

lasting contains c if some c in template.initContainers

all contains c if some c in lasting

all contains c if some c in template.ephemeralContainers

deny contains sprintf("no memory limit: %s", [c.name]) if {
	some c in lasting
	not c.resources.limits.memory
}

deny contains sprintf("image without a digest: %s", [c.name]) if {
	some c in all
	not regex.match(`@sha256:[0-9a-f]{64}$`, c.image)
}

deny contains sprintf("privileged: %s", [c.name]) if {
	some c in all
	c.securityContext.privileged
}
