# Makefile of pageserver_smgr
#
#	make            builds the four programs
#	make install    puts them where PG_CONFIG says, below DESTDIR if that is set (as root, or: sudo make install)
#	make deps       installs the Debian packages that are missing (root or sudo)
#	make demo       the whole in one go: store, compute, pgbench, loss, recovery
#	make check      unit tests, fuzzers for some seconds, pg_regress, TAP
#	make check-long	relations of more than 4 GB (041_large_relations, some minutes, 3 GB of disk); bytes of a store's
#				files changed one by one (t_flips); a million random operations against a model (t_model,
#				SEED=n repeats them), a fault at every file operation (t_faults)
#	make check-torture ROUNDS=500 SEED=n	what 050_torture does, for longer (test/torture/README.md)
#	make check-postgres	PostgreSQL's own suites, on a compute as on a stock server (test/postgres/README.md)
#	make bench      figures, in two hours (each program of test/bench says what can be made shorter)
#	make leaks      an hour of load on a store built with AddressSanitizer (MINUTES=60)
#	make clean
#
# PG_CONFIG chooses the major version.  SANITIZE=thread or SANITIZE=address,undefined
# builds the store and its unit tests with these sanitizers: given to check-unit,
# check-tap or check, their reports are failures (test/sanitizers).

PG_CONFIG ?= /usr/lib/postgresql/15/bin/pg_config
export PG_CONFIG

ifdef SANITIZE
export SANITIZE_FLAGS = -fsanitize=$(SANITIZE) -fno-sanitize-recover=undefined -fno-omit-frame-pointer
endif

SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)
PARTS = src/pageserver src/walredo src/compute src/ctl

.PHONY: all install install-here deps demo check check-unit check-fuzz check-tap check-long check-torture check-postgres bench leaks clean $(PARTS)

all: $(PARTS)

$(PARTS):
	@$(MAKE) --no-print-directory -C $@ all

# src/ctl is linked with a library of src/pageserver.
src/ctl: src/pageserver

install: all
	@for part in $(PARTS); do $(MAKE) --no-print-directory -s -C $$part install || exit 1; done

# For tests, which run what is installed.
install-here: all
	@$(SUDO) env PG_CONFIG='$(PG_CONFIG)' SANITIZE_FLAGS='$(SANITIZE_FLAGS)' $(MAKE) --no-print-directory -s install >/dev/null

deps:
	@test/install-deps

check: deps
	@$(MAKE) --no-print-directory all
	@$(MAKE) --no-print-directory check-unit
	@$(MAKE) --no-print-directory check-fuzz
	@$(MAKE) --no-print-directory check-tap

check-unit: all
	@$(MAKE) --no-print-directory -C test/unit check

# They have sanitizers of their own.
check-fuzz:
	@$(MAKE) --no-print-directory -s -j2 -C test/fuzz SANITIZE_FLAGS= all
	@$(MAKE) --no-print-directory -s -C test/fuzz SANITIZE_FLAGS= check

check-tap: install-here
	@test/run-tap $(PROVE_TESTS)

check-long: install-here
	@PAGESERVER_LONG=1 $(if $(SEED),TEST_SEED=$(SEED)) $(MAKE) --no-print-directory -C test/unit check TESTS="t_flips t_model t_faults"
	@PAGESERVER_LONG=1 test/run-tap 041_large_relations

check-torture: install-here
	@PROVE_FLAGS=-v TORTURE_ROUNDS=$(ROUNDS) TORTURE_SEED=$(SEED) TORTURE_ACTIONS='$(ACTIONS)' test/run-tap 050_torture

check-postgres: deps
	@$(MAKE) --no-print-directory install-here
	@test/postgres/run

demo: deps
	@$(MAKE) --no-print-directory -s install-here
	@test/demo

bench: install-here
	@test/bench/run
	@test/bench/ingest
	@test/bench/branches
	@test/bench/tpcb
	@test/bench/reads

leaks: install-here
	@test/bench/leaks

clean:
	@for part in $(PARTS) test/unit test/fuzz; do $(MAKE) --no-print-directory -C $$part clean; done
	rm -rf tmp_check
