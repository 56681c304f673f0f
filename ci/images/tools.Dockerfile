# Where `make` itself runs on a machine without Python 3.12 or later: Debian 13, which has 3.13.
# Context-free: docker build - < tools.Dockerfile

FROM noble-runbooks/base:debian-13
# EXTRA names what one target needs and the others do not, such as the browser of `make test`.
ARG EXTRA=""
# The distribution picks the versions; EXTRA is a list of words, so it is not quoted.
# hadolint ignore=DL3008,SC2086
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        ca-certificates docker-cli git make procps python3 python3-venv ${EXTRA} \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/*
