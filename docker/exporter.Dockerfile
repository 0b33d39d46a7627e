# Weights to published models, into the repository at /models that a server reads: torch on the CPU, and no server.
#
#     docker build -f docker/exporter.Dockerfile -t tritonvision-exporter .
#     docker run --rm -v models:/models tritonvision-exporter export yolov8n-640
#
# Plain pip would bring torch with several GB of CUDA: let --secret id=pip,src=pip.conf name PyTorch's CPU index. pip is in
# the image: MediaPipe's weights lie in a wheel, which an export fetches by it.
ARG BASE=debian:bookworm-slim
ARG SYSTEM="python3 tini"
ARG EXTRAS=export,torch-cpu,mediapipe,openvino,schema,heic
ARG TITLE=tritonvision-exporter

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
# docTR, EasyOCR and the Model Optimizer name versions of others that they do without. ultralytics brings opencv-python,
# which needs libGL and lies in the folder of the headless build: the headless build goes last, so that it is in place.
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /opt/tritonvision \
    && /opt/tritonvision/bin/pip install -c /src/constraints.txt "/src[${EXTRAS}]" \
    && /opt/tritonvision/bin/pip install --no-deps -c /src/constraints.txt python-doctr easyocr python-bidi scikit-image \
        lazy-loader imageio tifffile nvidia-modelopt onnx-graphsurgeon onnxconverter-common onnxscript onnx-ir lief \
        pulp nvidia-ml-py polygraphy \
    && /opt/tritonvision/bin/pip install --force-reinstall --no-deps -c /src/constraints.txt opencv-python-headless

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
    TRITONVISION_REPOSITORY=/models
# a number, so that Kubernetes can see that it is not root
USER 10001:10001
HEALTHCHECK NONE
# tini hands signals on from the first moment
ENTRYPOINT ["tini", "--", "tritonvision"]
CMD ["export", "--help"]
