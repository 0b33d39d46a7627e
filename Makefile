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

SERVING   := onnx-cpu,openvino,mediapipe,client,heic
EXPORTING := $(SERVING),torch-cpu,export
PINNED    := pyproject.toml constraints.txt
PYTEST    := -m pytest
# A process for each core; the tests of a file stay together, since they share what its fixtures build.
SIDE_BY_SIDE  := -n auto --dist loadfile
SERVING_TESTS := tests --ignore=tests/exporters --ignore=tests/reference_pipelines --ignore=tests/clients/inference_sdk \
	--ignore=tests/tensorrt --ignore=tests/gpu

.PHONY: help demo environments test test-fast test-serving test-export test-sdk test-mediapipe test-tensorrt lint bench parity-all pages steps clean

help:
	@echo "make demo    a real photo through a real tritonserver; ONCE=1 ends after the answer, PORT=9001"
	echo "make test-fast   the tests that need no server and no torch"
	echo "make test    every test, each in the environment it needs (five are built)"
	echo "make lint    the linter and the type checker"
	echo "make steps   write the shared steps of model_repository/ anew"
	echo "make bench   the figures of benchmarks/RESULTS.md"
	echo "make parity-all  every id through the parity gate into benchmarks/PARITY.md (hours); MODELS='ID \"FAMILY\"', MAX=MB"
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
	.venv-export/bin/python -m pip install -qq --no-deps -c constraints.txt python-doctr
	# NVIDIA's Model Optimizer for ONNX files; with its own dependencies it would bring CUDA builds of torch
	.venv-export/bin/python -m pip install -qq --no-deps -c constraints.txt nvidia-modelopt onnx-graphsurgeon \
		onnxconverter-common onnxscript onnx-ir lief pulp nvidia-ml-py polygraphy
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

# ---- models that tests and benchmarks ask ----------------------------------------------------------------------------
# The real face model, and true architectures with seeded random weights: no hub is needed. Some have fewer layers.

TEST_MODELS   := .cache/test_repository
RANDOM_MODELS := yolov8n-640 yolov8n-seg-640 rfdetr-nano resnet18 clip/RN50 depth-anything-v2-small l2cs-gaze \
	doctr-db_mobilenet_v3
EXPORTERS   := $(shell find exporters ensembles python_backend -name '*.py' 2>/dev/null)

# as they were exported: the tests that want variants add them
EXPORT      := .venv-export/bin/python -m tritonvision export --engine onnxruntime --force --repository $(TEST_MODELS)

$(TEST_MODELS)/.ready: .venv-export/.ready $(EXPORTERS) tests/small_models.py
	@echo "Exporting the models that the tests ask ..."
	$(EXPORT) mediapipe-face-detection
	# side by side: tracing a graph keeps one core busy
	.venv-export/bin/python -P tests/small_models.py $(TEST_MODELS) & small=$$!
	$(EXPORT) $(RANDOM_MODELS) --weights random
	wait $$small
	touch $@

TENSORRT_GRAPHS := .cache/tensorrt_graphs
$(TENSORRT_GRAPHS)/.ready: $(TEST_MODELS)/.ready tests/tensorrt/further_graphs.py
	@echo "Writing further graphs for TensorRT's parser ..."
	.venv-export/bin/python -P tests/tensorrt/further_graphs.py $(TEST_MODELS) $(TENSORRT_GRAPHS)
	touch $@

# ---- what a person does ---------------------------------------------------------------------------------------------

demo: .venv/.serving
	@exec .venv/bin/python -m tritonvision.cli.demo $(if $(ONCE),--once) $(if $(PORT),--port $(PORT))

environments: .venv/.testing .venv-export/.ready .venv-sdk/.ready .venv-mediapipe/.ready .venv-tensorrt/.ready \
	$(TEST_MODELS)/.ready $(TENSORRT_GRAPHS)/.ready

# Every suite runs even when one before it failed; the status says whether one did.
test: environments
	@status=0
	for suite in test-fast test-serving test-export test-sdk test-mediapipe test-tensorrt; do $(MAKE) $$suite || status=1; done
	exit $$status

test-fast: .venv/.testing
	@echo "== fast: everything that needs no server and no torch"
	.venv/bin/python $(PYTEST) $(SERVING_TESTS) -m "not server" $(SIDE_BY_SIDE)

# Those that watch how a server heals or fares under load run one after another, each with the machine to itself.
ALONE := tests/server tests/engine tests/served/test_tune.py tests/served/test_many_models.py
test-serving: .venv/.testing $(TEST_MODELS)/.ready
	@echo "== serving: a real tritonserver, the clients and the browser that ask it"
	status=0
	.venv/bin/python $(PYTEST) $(SERVING_TESTS) $(ALONE:%=--ignore=%) -m server $(SIDE_BY_SIDE) || status=1
	.venv/bin/python $(PYTEST) $(ALONE) -m server || status=1
	exit $$status

test-export: .venv-export/.ready
	@echo "== export: weights to published models, against the authors' own networks"
	.venv-export/bin/python $(PYTEST) tests/exporters $(SIDE_BY_SIDE)

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

# mypy finds the rooms as the package has them: below one folder. Their names alone would be modules of their own.
TYPES := .cache/types
lint: .venv/.testing
	@.venv/bin/ruff check .
	rm -rf $(TYPES) && mkdir -p $(TYPES)/tritonvision
	ln -s $(CURDIR)/tritonvision/* $(TYPES)/tritonvision/
	for room in exporters ensembles python_backend engine drawing client facade; do
		ln -s $(CURDIR)/$$room $(TYPES)/tritonvision/$$room
	done
	cd $(TYPES) && $(CURDIR)/.venv/bin/python -m mypy --config-file $(CURDIR)/pyproject.toml -p tritonvision

bench: .venv/.serving $(TEST_MODELS)/.ready
	@for script in faces detection_speed facade_cpu start_and_memory healing; do
		.venv/bin/python benchmarks/$$script.py --repository $(TEST_MODELS)
	done

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
	@rm -rf .venv .venv-export .venv-sdk .venv-mediapipe .venv-tensorrt .cache build dist out *.egg-info
	rm -rf .pytest_cache .ruff_cache .hypothesis
