# Each target first makes a virtual environment of its own. PYTHON chooses the interpreter, VENV the place:
#   make test PYTHON=python3.12 VENV=/tmp/paddlevid
PYTHON ?= python3
VENV ?= .venv

INSTALLED := $(VENV)/.installed
RUN := $(VENV)/bin/python

.PHONY: quickstart two-stream test test-all parity lint
.DELETE_ON_ERROR:

quickstart: $(INSTALLED)
	@echo "== 1/5 making 5400 videos of moving shapes in data/motion"
	@$(RUN) -m paddlevid.data.motion data/motion --train 4800 --valid 200 --test 400 --size 80
	@echo "== 2/5 training a small TimeSformer on them (some minutes)"
	@rm -rf output/quickstart
	@$(RUN) main.py -c configs/quickstart.yaml --validate
	@echo "== 3/5 testing it on 400 other videos, three crops each"
	@$(RUN) main.py --test -c configs/quickstart.yaml -w output/quickstart/best.pdparams
	@echo "== 4/5 exporting it to inference/quickstart"
	@$(RUN) tools/export_model.py -c configs/quickstart.yaml -p output/quickstart/best.pdparams -o inference/quickstart --explain
	@echo "== 5/5 labelling new videos with the exported folder"
	@$(RUN) -m paddlevid.data.motion data/new --train 0 --valid 0 --test 3 --size 80 --seed 1
	@$(RUN) tools/predict.py -m inference/quickstart -i data/new
	@echo "== done"
	@echo "curves: output/quickstart/curves.png, and $(VENV)/bin/visualdl --logdir output/quickstart/visualdl"
	@echo "model:  inference/quickstart"
	@echo "a page: $(VENV)/bin/paddlevid-demo inference/quickstart --examples data/new"

STREAMS := rgb rgb_diff flow

two-stream: $(INSTALLED)
	@echo "== 1/6 making 2200 videos of moving shapes in data/motion"
	@$(RUN) -m paddlevid.data.motion data/motion --train 1600 --valid 200 --test 400 --size 80
	@echo "== 2/6 their optical flow, into data/motion_flow (some minutes)"
	@set -e; for list in train valid test; do \
		$(RUN) tools/extract_flow.py data/motion/$$list.txt -o data/motion_flow --algorithm dis --bound 2.5; done
	@echo "== 3/6 training a TSN on each of $(STREAMS) (some minutes each)"
	@set -e; for stream in $(STREAMS); do rm -rf output/motion_$$stream; echo "-- $$stream"; \
		$(RUN) main.py -c configs/motion_$$stream.yaml --validate; done
	@echo "== 4/6 scoring 200 videos to weight the streams by, and 400 others to test them on"
	@set -e; for stream in $(STREAMS); do echo "-- $$stream"; \
		lists=data/motion; if [ $$stream = flow ]; then lists=data/motion_flow; fi; \
		test="$(RUN) main.py --test -c configs/motion_$$stream.yaml -w output/motion_$$stream/best.pdparams"; \
		$$test -o test.list=$$lists/valid.txt -o output_dir=output/motion_$$stream/valid; \
		$$test; done
	@echo "== 5/6 fusing the streams"
	@$(RUN) tools/fuse_scores.py $(STREAMS:%=output/motion_%/test_scores.npz) \
		--search $(STREAMS:%=output/motion_%/valid/test_scores.npz) -o output/motion_fused
	@echo "== 6/6 exporting the stream of flow, and labelling new videos with it"
	@$(RUN) tools/export_model.py -c configs/motion_flow.yaml -p output/motion_flow/best.pdparams -o inference/motion_flow
	@$(RUN) -m paddlevid.data.motion data/new --train 0 --valid 0 --test 3 --size 80 --seed 1
	@$(RUN) tools/predict.py -m inference/motion_flow -i data/new
	@echo "== done: output/motion_fused/fused.png shows what each stream and the fusion are worth"

# The tests of deployment run in a process of their own: Paddle, ONNX Runtime, OpenVINO, decord and FFmpeg all together
# in one long process have crashed it.
test: $(INSTALLED)
	$(RUN) -m pytest -m "not slow" --ignore tests/deploy
	$(RUN) -m pytest -m "not slow" tests/deploy

test-all: $(INSTALLED)
	$(RUN) -m pytest --ignore tests/deploy
	$(RUN) -m pytest tests/deploy

# Compares loaded weights with PyTorch's own answers. A build of torch that is there already is kept.
parity: $(INSTALLED)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-input -e ".[cpu,dev,parity]"
	$(RUN) -m pytest -m "parity and not slow"

lint: $(INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# The stamp is older than setup.py or pyproject.toml when what they ask for may have changed.
$(INSTALLED): setup.py pyproject.toml
	@echo "== installing paddlevid and what it needs into $(VENV) (some minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --quiet --disable-pip-version-check --no-input -e ".[cpu,dev]"
	@touch $@
