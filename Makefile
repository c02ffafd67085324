# Every target installs what it needs. `make demo` and `make test` want root: they build network namespaces.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
# The tests start Markway thousands of times: compiled once, it starts in two thirds of the time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-fullkernel fullkernel-shell check bench bench-datapath lock format clean need-lab need-test need-bench

demo: need-lab $(VENV)/.run
	@$(RUN)/python -m markway.lab.demo $(if $(KEEP),--keep)

# The kernel tests in this machine's kernel and, beside them, what that cannot do in the full one; with an account of
# what ran where. ALL=1 runs everything in both.
test: need-test $(VENV)/.dev
	@$(MAKE) --no-print-directory check
	@$(RUN)/python -m fullkernel both $(if $(ALL),--all)

# T=tests/kernel/test_x.py::test_y runs one; KERNEL=debian takes Debian's kernel in qemu.
test-fullkernel: need-test $(VENV)/.dev
	@$(RUN)/python -m fullkernel test --kernel $(or $(KERNEL),auto) $(T)

fullkernel-shell: need-test $(VENV)/.dev
	@$(RUN)/python -m fullkernel shell --kernel $(or $(KERNEL),auto)

check: $(VENV)/.dev
	@$(RUN)/ruff check .
	@$(RUN)/ruff format --check .
	@$(RUN)/mypy
	@$(RUN)/lint-imports --no-cache > .import-linter.log || { cat .import-linter.log; exit 1; }
	@$(RUN)/python -m pytest -n2 tests/unit tests/property

bench: need-bench $(VENV)/.dev
	@$(RUN)/python -m bench $(ARGS)

# Counted instead of timed: in qemu, the same on every machine. ARGS=--quick leaves 10,000 services out.
bench-datapath: need-lab $(VENV)/.dev
	@$(RUN)/python -m bench.datapath $(ARGS)

need-lab:
	@scripts/need lab

need-test:
	@scripts/need lab test

need-bench:
	@scripts/need lab bench

lock: $(VENV)/.dev
	@$(RUN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 \
	    --group build pyproject.toml -o requirements/run.lock
	@$(RUN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 \
	    --group dev pyproject.toml -o requirements/dev.lock

format: $(VENV)/.dev
	@$(RUN)/ruff check --fix .
	@$(RUN)/ruff format .

clean:
	rm -rf $(VENV)

$(VENV)/.run: requirements/run.lock pyproject.toml
	@scripts/setup $(PYTHON) $(VENV) run

$(VENV)/.dev: requirements/dev.lock pyproject.toml
	@scripts/setup $(PYTHON) $(VENV) dev
