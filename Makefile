# Everything on a fresh machine: each target makes .venv first, with what it needs.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
BROWSER := chromium chromium-driver

.PHONY: ci demo fashion reproduce validate terminal targets ablation picture docs dist test test-slow bench lint types browser chromedriver clean

# What must hold before a change lands.
ci: lint types chromedriver
	$(MAKE) demo ARGS="--max-steps 40"
	$(MAKE) docs
	$(MAKE) dist
	$(MAKE) test
	$(MAKE) test-slow

# Half of the configured run: long enough to see the collapse.
demo: $(STAMP)
	$(RUN) -m recipes.demo --max-steps 1500 $(ARGS)

fashion: $(STAMP)
	$(RUN) -m recipes.demo --config recipes/configs/simclr_fashion.yaml $(ARGS)

# Every method on both small data sets; writes docs/reproduction.md.
reproduce: $(STAMP)
	$(RUN) -m recipes.reproduce $(ARGS)

# Which number predicts what, over checkpoints and over encoders; writes docs/validation.md.
validate: $(STAMP)
	$(RUN) -m recipes.validate $(ARGS)

# Classifiers far beyond their last mistake; writes docs/terminal_phase.md.
terminal: $(STAMP)
	$(RUN) -m recipes.terminal_phase $(ARGS)

# Regression, ordered and cyclic classes, a text; writes docs/other_targets.md.
targets: $(STAMP)
	$(RUN) -m recipes.other_targets $(ARGS)

# Directional collapse as a loss, and a fixed head; writes docs/training.md.
ablation: $(STAMP)
	$(RUN) -m recipes.ablation $(ARGS)

# The picture in README: the page that `make demo` made last.
picture: browser
	chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1440,2320 \
	  --virtual-time-budget=8000 --screenshot=docs/report.png \
	  "file://$$(ls -td $(CURDIR)/runs/simclr_factors/csv/*/dnc/probe | head -n 1)/report.html"

# A file of tests stays in one process: its fixtures train models.
test: $(STAMP) browser
	$(RUN) -m pytest -q -n 2 --dist loadfile -m "not slow and not bench" $(ARGS)

test-slow: $(STAMP)
	$(RUN) -m pytest -q -m "slow and not bench" $(ARGS)

bench: $(STAMP)
	$(RUN) -m pytest tests/benchmarks -q --benchmark-only -m bench $(ARGS)

# The site, with the tutorials run: site/index.html opens without a network.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet

# Wheel and source archive, tried in empty environments: the core alone, and with its page.
dist: $(STAMP)
	rm -rf dist
	$(RUN) -m build --outdir dist .
	$(RUN) -m tests.packaging.try_wheel dist/*.whl --extras "" report

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(STAMP)
	$(VENV)/bin/mypy

# The page is tested in a real browser where the machine lets us install one.
browser:
	@command -v chromedriver >/dev/null 2>&1 || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 && \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends $(BROWSER); } || \
	  echo "no chromedriver: tests marked browser are skipped (Debian: apt-get install $(BROWSER))"

chromedriver: browser
	@command -v chromedriver >/dev/null || { echo "make ci needs chromedriver"; exit 1; }

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -e ".[all]"
	@touch $@

clean:
	rm -rf $(VENV) runs
