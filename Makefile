# git, make and Python >= 3.10 with venv are enough. Everything is put into .venv, nothing outside this folder.
PYTHON ?= python3
PIP_CACHE_DIR ?= $(CURDIR)/.pip-cache
export PIP_CACHE_DIR
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# .venv/place names this folder once .venv is whole. Without it, half made or moved, everything is made anew.
WHOLE = [ "$$(cat .venv/place 2>/dev/null)" = "$(CURDIR)" ]
CHECKED := $(shell $(WHOLE) || rm -f .venv/ready-*)

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /make \1:  /p' Makefile

lab: .venv/ready-lab  ## open the lessons in JupyterLab; ARGS="--no-browser --port 8899" for a server
	@.venv/bin/vit-edu lab $(ARGS)

test: .venv/ready-test  ## test everything; ARGS="tests/unit -k attention" for a part
	@.venv/bin/pytest -n 2 --dist loadfile $(ARGS)

bench: .venv/ready-test  ## measure the models beside other libraries', on a GPU where there is one; ARGS="--quick" for a minute
	@.venv/bin/python -m bench.models $(ARGS)

build: .venv/ready-test  ## for authors: make notebooks/ and README's map from course/
	@.venv/bin/vit-edu build $(ARGS)

data: .venv/ready-data  ## for authors: make data/ anew, bit for bit
	@.venv/bin/python data/build.py $(ARGS)

doctor: .venv/ready-lab  ## see whether everything is in place
	@.venv/bin/vit-edu doctor

# Once, and again when pyproject.toml changes. pip takes a package that was cut off for a whole one, hence the care.
.venv/ready-%: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "vit-edu needs Python 3.10 or newer; $(PYTHON) is $$($(PYTHON) -V 2>/dev/null || echo missing): make PYTHON=python3.12 $(MAKECMDGOALS)"; \
	  exit 1; }
	@$(WHOLE) || $(PYTHON) -m venv --clear .venv || { \
	  echo "Python could not make .venv; on Debian and Ubuntu what it needs comes with: apt install python3-venv"; exit 1; }
	@echo "Setting up .venv for make $* (the first time it takes minutes, and on Linux about 6 GB) ..."
	@trap 'exit 130' INT TERM; rm -f .venv/place; .venv/bin/python -m pip install --editable ".[$*]"; status=$$?; \
	  echo "$(CURDIR)" > .venv/place; [ $$status = 0 ] || { \
	  echo "pip could not install what pyproject.toml lists; its reason is above. See to network and disk, then run the same again."; exit 1; }
	@rm -rf .pip-cache; touch $@ $(if $(filter test,$*),.venv/ready-lab)

.PHONY: help lab test bench build data doctor
