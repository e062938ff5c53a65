# Shortcuts for the commands that people use most. PYTHON=... runs them with another environment's Python.
PYTHON ?= .venv/bin/python
RUNS ?= outputs/demo

.PHONY: help install demo compare test lint docs pictures

help:  ## list these commands
	@sed -n 's/^\([a-z]*\):  *## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

install:  ## create .venv and install the project with all its tools
	python3 -m venv .venv && .venv/bin/pip install -e '.[dev]'

demo:  ## train a small network with Ranger21 on images that the project draws
	$(PYTHON) train.py experiment=demo

compare:  ## compare the runs in RUNS (default: outputs/demo); make compare RUNS=outputs/paper
	$(PYTHON) scripts/compare.py $(RUNS)

test:  ## run the tests; make test T=tests/test_optim.py runs one file
	$(PYTHON) -m pytest $(T)

lint:  ## check style, format and types
	$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy

docs:  ## recompute the numbers that README, docs/ and results/ quote
	$(PYTHON) scripts/check_numbers.py

PAGE = --view "tab=resnet10t-on-fashion-mnist-trainer.epochs%3D4" outputs/pictures/page/index.html docs/page
DEMO = -- $(PYTHON) train.py experiment=demo outputs=outputs/pictures
pictures:  ## take the pictures of docs/page and docs/terminal again
	rm -rf outputs/pictures
	$(PYTHON) scripts/compare.py results/fashion_mnist --out outputs/pictures/page
	$(PYTHON) scripts/screenshot_page.py $(PAGE)/comparison.png --height 640
	$(PYTHON) scripts/screenshot_page.py $(PAGE)/light.png
	$(PYTHON) scripts/screenshot_page.py $(PAGE)/dark.png --dark
	$(PYTHON) scripts/screenshot_page.py $(PAGE)/phone.png --width 390 --height 844
	$(PYTHON) scripts/screenshot_page.py $(PAGE)/print.png --paper A4
	$(PYTHON) scripts/screenshot_terminal.py docs/terminal/running.png --height 24 --until 62/90 $(DEMO)
	$(PYTHON) scripts/screenshot_terminal.py docs/terminal/end.png --height 36 $(DEMO)
