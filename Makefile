# `make run` starts the desk, `make test` checks it, `make help` lists the rest.

PORT ?= 8000
VENV ?= .venv
N ?= 10000
bin = $(VENV)/bin
desk = http://127.0.0.1:$(PORT)
trial = UNLOCK_DESK_TRIAL=1 PHONE_CONSENT=1 SHOW_CONSENT_LINK=1 PRODUCT=sandbox \
	DATABASE_URL=sqlite:///var/desk.sqlite3 PUBLIC_URL=$(desk)
# Made-up values in the shape of production's, so that the deployment checks judge the settings that production gets.
production = env -u UNLOCK_DESK_TRIAL -u DEBUG DATABASE_URL=sqlite:///var/check.sqlite3 ALLOWED_HOSTS=desk.example \
	PUBLIC_URL=https://desk.example EMAIL_URL=smtp+tls://mail.example:587 DEFAULT_FROM_EMAIL=support@desk.example \
	SUPPORT_CONTACT=support@desk.example \
	LEDGER_KEY=made-up-for-this-check-abcdefghijklmnopqrstuvwxyz-0123456789 \
	CERTIFICATE_KEYS=00112233445566778899aabbccddeeffffeeddccbbaa99887766554433221100 \
	SECRET_KEY=made-up-for-this-check-0123456789-abcdefghijklmnopqrstuvwxyz
# A database of its own beside this one, test_unlock_desk, is made and dropped.
test-postgres long: DATABASE_URL ?= postgres://postgres@127.0.0.1:5432/unlock_desk

# A process that may not write bytecode compiles every test anew, which takes two thirds of finding them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test units browser test-postgres lint mutants long bench permissions format clean

help: ## List these commands.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'

run: $(VENV)/run.stamp ## Start the desk and its worker with sample data on 127.0.0.1:8000 (PORT=8001 for another port).
	@$(bin)/python -c 'import socket; socket.create_server(("127.0.0.1", $(PORT))).close()' 2>/dev/null \
		|| { echo "Port $(PORT) is taken. Stop what runs there, or: make run PORT=8001"; exit 1; }
	@mkdir -p var static-collected
	@$(trial) $(bin)/python manage.py migrate --verbosity 0
	@$(trial) $(bin)/python manage.py load_sample
	@echo "Starting on $(desk) (Ctrl-C stops it)."
	@$(trial) $(bin)/gunicorn config.wsgi --bind 127.0.0.1:$(PORT) --workers 1 --threads 8 \
		--log-level warning --no-control-socket & desk=$$!; \
	$(trial) $(bin)/python manage.py work & worker=$$!; \
	trap 'kill $$desk 2>/dev/null' INT TERM HUP; \
	while kill -0 $$desk 2>/dev/null; do wait $$desk; ended=$$?; done; \
	kill $$worker 2>/dev/null; wait $$worker; exit $$ended

test: ## Run the linters, the checks and all tests on SQLite.
	@$(MAKE) --no-print-directory -j 3 lint browser units

units: $(VENV)/dev.stamp
	@$(call units,env -u DATABASE_URL)

browser: $(VENV)/dev.stamp
	@$(call walked,env -u DATABASE_URL,tests/browser)

test-postgres: $(VENV)/dev.stamp ## Run the tests on PostgreSQL, two of the browsers' walks too (DATABASE_URL=postgres://... for another server).
	@$(call on_postgres,$(call units,env DATABASE_URL="$(DATABASE_URL)") && \
		$(call walked,env DATABASE_URL="$(DATABASE_URL)",$(walks)))

define on_postgres
if answer=$$(DATABASE_URL="$(DATABASE_URL)" $(bin)/python -c 'import os, psycopg; \
	psycopg.connect(os.environ["DATABASE_URL"], dbname="postgres", connect_timeout=5).close()' 2>&1); \
then \
	$(1); \
else \
	echo "The PostgreSQL part was skipped:"; \
	echo "$$answer" | sed -n 's/^psycopg[^:]*: //p'; \
	test -z "$(REQUIRE_POSTGRES)"; \
fi
endef

# On PostgreSQL the browsers walk through the work once; how pages look depends on no database.
walks = $(patsubst %,tests/browser/test_%.py,walkthrough imports)

units = $(1) UNLOCK_DESK_TRIAL=1 $(bin)/pytest -n 3 --dist worksteal --ignore tests/browser
# One browser at a time: two browsers and two test servers on two cores time out.
walked = $(1) UNLOCK_DESK_TRIAL=1 $(bin)/pytest -rs --no-fold-skipped $(2)

lint: $(VENV)/dev.stamp ## Check style, settings and migrations.
	@$(bin)/ruff check --quiet .
	@$(bin)/ruff format --check --quiet . || { echo "Unformatted Python: run make format."; exit 1; }
	@$(bin)/djlint --lint --quiet templates
	@UNLOCK_DESK_TRIAL=1 $(bin)/mypy --no-error-summary
	@mkdir -p var && rm -f var/check.sqlite3*
	@$(production) $(bin)/python manage.py migrate --verbosity 0
	@$(production) $(bin)/python manage.py record_certificate_key >/dev/null
	@$(production) $(bin)/python manage.py check --deploy --fail-level WARNING
	@$(production) $(bin)/python manage.py makemigrations --check --dry-run

mutants: $(VENV)/dev.stamp ## Delete each clause of each guard and of the rule in turn, and list what no test notices.
	@env -u DATABASE_URL UNLOCK_DESK_TRIAL=1 $(bin)/python -m tests.mutants $(if $(SAMPLE),--sample $(SAMPLE))

long: mutants ## Run what takes too long for every change: the mutants, more random examples, every probe, kills at every step.
	@env -u DATABASE_URL UNLOCK_DESK_TRIAL=1 HYPOTHESIS_PROFILE=long $(bin)/pytest -n 2 -m "not browser" -k "stateful or fingerprint or hypothesis or words or word_diff or probing or faults or schemathesis" --ignore tests/browser
	@$(call on_postgres,env DATABASE_URL="$(DATABASE_URL)" UNLOCK_DESK_TRIAL=1 HYPOTHESIS_PROFILE=long $(bin)/pytest -n 2 -k faults --ignore tests/browser && \
		DATABASE_URL_PG="$(DATABASE_URL)" $(bin)/python -m bench.size 10_000 --audit)

permissions: $(VENV)/run.stamp ## Print who may do, see and send what; fails for what nobody listed.
	@UNLOCK_DESK_TRIAL=1 $(bin)/python manage.py show_permissions

bench: $(VENV)/run.stamp ## Measure unlocking and the pages with N batches (N=100000 for more).
	@UNLOCK_DESK_TRIAL=1 $(bin)/python -m bench --batches $(N)

format: $(VENV)/dev.stamp ## Format Python.
	@$(bin)/ruff check --fix --quiet .
	@$(bin)/ruff format --quiet .

clean: ## Remove the virtual environment and the trial's data.
	rm -rf $(VENV) var static-collected .pytest_cache .ruff_cache .hypothesis

$(VENV)/run.stamp: requirements.txt | $(bin)/python
	@echo "Installing requirements.txt into $(VENV) ..."
	@$(bin)/python -m pip install -qq --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(VENV)/run.stamp
	@echo "Installing requirements-dev.txt into $(VENV) ..."
	@$(bin)/python -m pip install -qq --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# PYTHON=python3.13 picks one; otherwise the first that is new enough.
$(bin)/python:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python; do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "Making $(VENV) with $$($$python --version) ..."; \
			$$python -m venv $(VENV) && exit 0; \
			rm -rf $(VENV); exit 1; \
		fi; \
	done; \
	echo "Unlock Desk needs Python 3.11 or newer, and none was found. Install one, or: make run PYTHON=/path/to/python"; \
	exit 1
