# make demo | test | bench | lint | lock; everything happens in .venv, made on first use.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: demo test bench lint lock clean
.DEFAULT_GOAL := demo

demo: $(STAMP)
	$(RUN) launch.py --config=configs/synthetic.py

test: $(STAMP)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pytest

bench: $(STAMP)
	$(RUN) -m benchmarks.synthetic
	$(RUN) -m benchmarks.images
	$(RUN) -m benchmarks.methods
	$(RUN) -m benchmarks.gaps

lint: $(STAMP)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

# The lock is universal: one file for Python 3.11 (jax 0.10) and 3.12+ (jax 0.12)
lock: $(STAMP)
	$(RUN) -m pip install --quiet uv
	$(RUN) -m uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
	  requirements.in -o requirements.txt

$(STAMP): requirements.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; ok = v >= (3, 11); ok or sys.exit("error: iavae needs Python 3.11 or newer, this is %d.%d; try make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

clean:
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache
