# extension.mk: control file, SQL scripts and regression tests of the extension, as PGXS has them
#
# The top Makefile runs this.  It cannot include PGXS itself, because "make deps" must work before PGXS is installed
# and "make check" has another meaning there.

EXTENSION = pageserver_smgr
DATA = $(wildcard sql/pageserver_smgr--*.sql)
REGRESS = extension table sizes errors
REGRESS_PREP = check-server

PG_CONFIG ?= /usr/lib/postgresql/15/bin/pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# Every test would fail on any other server, without a word of why.
.PHONY: check-server
check-server:
	@timeline=$$('$(bindir)/psql' -X -A -t -q -d postgres -c "SELECT current_setting('pageserver_smgr.timeline', true)") || { \
		echo 'installcheck: could not connect to a server.  Start a compute; PGHOST, PGPORT and PGUSER name it.' >&2; exit 1; }; \
	[ -n "$$timeline" ] || { \
		echo 'installcheck: the server is not a compute: its data is not in a page store.' >&2; \
		echo 'Start one with "pageserver_ctl compute start"; PGHOST, PGPORT and PGUSER name it.' >&2; exit 1; }
