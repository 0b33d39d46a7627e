# The HTTP server alone, in front of a tritonserver that runs elsewhere: TRITONVISION_TRITON_URL=HOST:8001.
#
#     docker build -f docker/facade.Dockerfile -t tritonvision-facade .
#
# It reads the manifests of the repository that the tritonserver serves, mounted read-only at /models. Every instruction
# is that of cpu.Dockerfile; what differs are these four arguments.
ARG BASE=debian:bookworm-slim
ARG SYSTEM="python3 tini"
ARG EXTRAS=heic,telemetry,redis,sources
ARG TITLE=tritonvision-facade

FROM ${BASE} AS system
ARG SYSTEM
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ${SYSTEM} \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

FROM system AS build
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY . /src
ARG EXTRAS
# pip stays in an environment of its own: what serves has no installer and no compiler
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /opt/pip \
    && python3 -m venv --without-pip /opt/tritonvision \
    && /opt/pip/bin/pip --python /opt/tritonvision/bin/python install -c /src/constraints.txt "/src[${EXTRAS}]"

FROM system
ARG TITLE
LABEL org.opencontainers.image.title="${TITLE}" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/tritonvision /opt/tritonvision
# a new volume has the owner of the folder that it is mounted over
RUN install -d -o 10001 -g 10001 /models
# HOME: a folder that every user can write, also where the root file system is read-only
ENV PATH=/opt/tritonvision/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    TRITONVISION_HOST=0.0.0.0 \
    TRITONVISION_REPOSITORY=/models \
    TRITONVISION_LOG_DIR=/tmp/log
# a number, so that Kubernetes can see that it is not root
USER 10001:10001
EXPOSE 9001
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", \
    "import http.client as h; c = h.HTTPConnection('127.0.0.1', 9001, timeout=4); c.request('GET', '/healthz'); exit(c.getresponse().status != 200)"]
# tini hands signals on from the first moment, and collects what tritonserver leaves behind
ENTRYPOINT ["tini", "--", "tritonvision"]
CMD ["serve"]
