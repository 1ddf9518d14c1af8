# Makefile of pageserver_smgr
#
#	make               builds everything
#	make install       installs it into the PostgreSQL of PG_CONFIG, below DESTDIR if that is set
#	make uninstall     removes it from there
#	make installcheck  pg_regress on a running compute; PGHOST, PGPORT and PGUSER name it
#	make deps          installs the Debian packages that building and testing need, as root or with sudo
#	make demo          a store, a compute, pgbench, a crash and what is left after it
#	make check         all tests; installs nothing, needs no server
#	make clean
#
# Parts of "make check":
#	make check-format  clang-format, and lines of 120 columns at most
#	make check-house   includes between folders, private headers, names in comments and READMEs
#	make check-install "make install" and "make uninstall" below a temporary DESTDIR
#	make check-unit    TESTS="t_wal_decoder t_layer" runs these only
#	make check-fuzz    fuzzers, for some seconds each
#	make check-tap     PROVE_TESTS="020_life 060_oracle" runs these only
#
# Longer tests, and benchmarks (test/README.md):
#	make check-long    relations of more than 4 GB; a store damaged byte by byte; a million operations against a model;
#	                   20,000 schedules of owners of a tenant in object storage
#	make check-torture ROUNDS=500 SEED=n
#	make check-postgres    PostgreSQL's own suites ("make deps-postgres" installs more packages for it)
#	make bench
#	make leaks         MINUTES=60
#
# PG_CONFIG names the PostgreSQL to build for.  SANITIZE=thread or SANITIZE=address,undefined builds the store and its
# unit tests with sanitizers, whose reports are failures of check, check-unit and check-tap.

PG_CONFIG ?= /usr/lib/postgresql/15/bin/pg_config
export PG_CONFIG

ifdef SANITIZE
export SANITIZE_FLAGS = -fsanitize=$(SANITIZE) -fno-sanitize-recover=undefined -fno-omit-frame-pointer
endif

PARTS = src/pageserver src/walredo src/compute src/ctl
MAKEFLAGS += --no-print-directory

.PHONY: all install uninstall installcheck deps deps-postgres demo check check-format check-house check-install check-unit \
	check-fuzz check-tap check-long check-torture check-postgres bench leaks clean $(PARTS)

all: $(PARTS)

# "make deps check": packages first, however many jobs
$(PARTS) check: | $(filter deps,$(MAKECMDGOALS))

$(PARTS):
	@$(MAKE) -C $@ all

# src/ctl is linked with a library of src/pageserver.
src/ctl: src/pageserver

install: all

install uninstall:
	@for part in $(PARTS); do $(MAKE) -C $$part $@ || exit 1; done
	@$(MAKE) -f extension.mk $@

installcheck:
	@$(MAKE) -f extension.mk $@

deps:
	@test/install-deps

deps-postgres:
	@test/install-deps $$(test/postgres/packages)

check:
	@test/install-deps --check
	@$(MAKE) all
	@$(MAKE) check-format
	@$(MAKE) check-house
	@$(MAKE) check-install
	@$(MAKE) check-unit
	@$(MAKE) check-fuzz
	@$(MAKE) check-tap

check-format:
	@test/check-format

check-house:
	@test/check-house

check-install: all
	@test/check-install

check-unit: all
	@test/check-pg-includes
	@$(MAKE) -C test/unit check

# They have sanitizers of their own.
check-fuzz:
	@$(MAKE) -s -j2 -C test/fuzz SANITIZE_FLAGS= all
	@$(MAKE) -s -C test/fuzz SANITIZE_FLAGS= check

check-tap: all
	@test/run-tap $(PROVE_TESTS)

check-long: all
	@PAGESERVER_LONG=1 $(if $(SEED),TEST_SEED=$(SEED)) $(MAKE) -C test/unit check TESTS="t_flips t_model t_faults t_bucket_protocol"
	@PAGESERVER_LONG=1 test/run-tap 041_large_relations

check-torture: all
	@PROVE_FLAGS=-v TORTURE_ROUNDS=$(ROUNDS) TORTURE_SEED=$(SEED) TORTURE_ACTIONS='$(ACTIONS)' test/run-tap 050_torture

check-postgres: all
	@test/postgres/run

demo: all
	@test/demo

bench: all
	@test/bench/run
	@test/bench/ingest
	@test/bench/branches
	@test/bench/tpcb
	@test/bench/reads

leaks: all
	@test/bench/leaks

clean:
	@for part in $(PARTS) test/unit test/fuzz test/load test/modules test/bench; do $(MAKE) -C $$part clean || exit 1; done
	@$(MAKE) -f extension.mk clean
	rm -rf tmp_check
