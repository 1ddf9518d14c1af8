/*
 * t_wal_upload.c
 *	  WAL of a branch that goes to a bucket in memory and comes back: what was
 *	  acknowledged is there, whatever happens to requests, to other owners of the tenant and to
 *	  the store's disk; and WAL files that are restored are those that were lost.
 *
 * TEST_SEED in the environment repeats a run.
 */
#include "timeline_util.h"

#include <fcntl.h>

#include "base/fs.h"
#include "base/json_file.h"
#include "fake_bucket.h"
#include "fault_fs.h"
#include "ingest/ingest_impl.h"
#include "store/store_impl.h"
#include "upload/wal_upload.h"

static uint64 rnd;

/* ---- the bucket ---- */

static FakeBucket *bucket;
static ObjectStore *remote;
static atomic_int delay;     /* us that a request takes */
static atomic_bool hold;     /* requests wait */
static atomic_bool is_held;  /* one waits */
static atomic_bool is_ended; /* fenced() was called */
static pthread_t test_thread;

/* The thread that uploads and the one of the test never send requests at the same time, except while one is held. */
static bool
turn(void *arg)
{
	if (atomic_load(&delay) > 0)
		pg_usleep(atomic_load(&delay));
	while (atomic_load(&hold) && !pthread_equal(pthread_self(), test_thread))
	{
		atomic_store(&is_held, true);
		pg_usleep(1000);
	}
	return true;
}

static void
bucket_begin(void)
{
	FakeTurn fake_turn = {turn, NULL};

	bucket = fake_bucket_create(next_random(&rnd, UINT32_MAX));
	remote = fake_bucket_open(bucket, &fake_turn);
	atomic_store(&delay, 0);
	atomic_store(&hold, false);
	atomic_store(&is_held, false);
	atomic_store(&is_ended, false);
}

static void
bucket_end(void)
{
	object_store_close(remote);
	fake_bucket_free(bucket);
}

static TenantOwner
claim(void)
{
	StoreIdentity who = {ps_id_random(), "host", "/store"};
	Claim newest;
	Claim mine;
	TenantOwner owner;
	bool found;

	OK(claim_newest(remote, &test_tenant, NULL, &newest, &found));
	claim_make(&mine, found ? &newest : NULL, &who);
	OK(claim_put(remote, &test_tenant, &mine, NULL, &owner));
	return owner;
}

/* ---- a store with a branch, whose WAL is uploaded ---- */

static History h;
static TestStore s;
static TenantOwner owner;
static WalReceiver *receiver;

static void
fenced(void *arg, PsError *err)
{
	CHECK(ps_error_is(err, PS_SQLSTATE_FENCED));
	ps_error_free(err);
	atomic_store(&is_ended, true);
}

static XLogRecPtr
disk_consistent(void)
{
	TimelineInfo info;

	timeline_info(s.tl, &info);
	return info.disk_consistent_lsn;
}

static WalPlace
place_of(const char *dir, XLogRecPtr lsn)
{
	return (WalPlace) {.dir = dir, .segment_size = SEGMENT_SIZE, .system_identifier = GEN_SYSID, .lsn = lsn};
}

/* Uploads the WAL of the branch from now on, as the tenant's owner. */
static void
start_upload(void)
{
	Branch *branch = branch_of(s.tl);
	WalUploadFenced on_fenced = {fenced, NULL};
	WalPlace place = place_of(branch->spec.dir, disk_consistent());

	place.segs = s.tl->wal;
	if (branch->upload == NULL)
		OK(wal_upload_open(&owner, &test_timeline, &place, 0, place.lsn, &on_fenced, NULL, &branch->upload));
	OK(wal_upload_start(branch->upload, s.tl, NULL));
}

static XLogRecPtr
connect_compute(void)
{
	TimelineInfo info;
	XLogRecPtr start;

	timeline_info(s.tl, &info);
	OK(wal_receiver_open(s.tl, info.generation, &receiver, &start));
	return start;
}

static XLogRecPtr
begin(int nrecords, const char *mode)
{
	uint64 generation;
	WalState state;
	XLogRecPtr checkpoint;

	bucket_begin();
	history_begin(&h, rnd);
	for (int i = 0; i < nrecords; i++)
		add_random_record(&h);
	store_make(&s, &h);
	s.config.wal_upload_interval = 20;
	s.config.wal_acknowledge = pg_strdup(mode);
	owner = claim();
	start_upload();
	OK(timeline_new_generation(s.tl, "test", NULL, &generation, &state, &checkpoint));
	return connect_compute();
}

static void
end(void)
{
	remove_tree(s.dir);
	history_end(&h);
	bucket_end();
}

static XLogRecPtr
end_of_record(XLogRecPtr from)
{
	return h.gen.records[history_find(&h, from) + h.first + 1].end;
}

static XLogRecPtr
send_record(XLogRecPtr from)
{
	XLogRecPtr flushed;
	XLogRecPtr to = end_of_record(from);

	OK(push(receiver, &h, from, to, &rnd, &flushed));
	return to;
}

static void
wait_acknowledged(XLogRecPtr lsn)
{
	while (wal_receiver_acknowledged(receiver) < lsn)
		pg_usleep(500);
}

static void
wait_uploaded(XLogRecPtr lsn)
{
	OK(wal_remote_wait(s.tl, lsn, 60000, NULL));
}

/* ---- what is restored ---- */

/* The bytes of a WAL directory are those of the history, from one LSN to another. */
static void
check_wal(const char *dir, XLogRecPtr from, XLogRecPtr to)
{
	char path[512];
	char *bytes = pg_malloc(to - from);
	WalSegments *segs;

	snprintf(path, sizeof(path), "%s/wal", dir);
	OK(wal_segments_open(path, SEGMENT_SIZE, &segs));
	OK(wal_segments_read(segs, from, bytes, to - from));
	CHECK(memcmp(bytes, h.gen.bytes.data + (from - h.gen.start), to - from) == 0);
	wal_segments_close(segs);
	free(bytes);
}

/* Restores the branch's WAL in a directory of its own; returns the marker, which must not be before "least". */
static XLogRecPtr
restore_elsewhere(const TenantOwner *as, XLogRecPtr lsn, XLogRecPtr least)
{
	char dir[] = "/tmp/t_wal_upload.restored.XXXXXX";
	WalPlace place;
	Chain *chain;
	XLogRecPtr marker;

	CHECK(mkdtemp(dir) != NULL);
	place = place_of(dir, lsn);
	OK(wal_restore(as, &test_timeline, &place, 0, lsn, NULL, &chain));
	marker = receiver_read_marker(dir);
	CHECK(marker >= least && history_find(&h, marker) >= 0);
	check_wal(dir, lsn - lsn % XLOG_BLCKSZ, chain_end(chain));
	chain_close(chain);
	remove_tree(dir);
	return marker;
}

/* The store's machine is lost with its WAL: a new owner has the branch as it was acknowledged. */
static void
lose_and_restore(XLogRecPtr acknowledged)
{
	char path[512];
	char wal[600];
	XLogRecPtr lsn = disk_consistent();
	WalPlace place;
	Chain *chain;
	TimelineInfo info;

	wal_receiver_close(receiver);
	store_close(s.store);
	store_path(&s, "", path);
	path[strlen(path) - 1] = '\0';
	snprintf(wal, sizeof(wal), "%s/wal", path);
	remove_tree(wal);
	snprintf(wal, sizeof(wal), "%s/flushed", path);
	CHECK(unlink(wal) == 0);
	owner = claim();
	place = place_of(path, lsn);
	OK(wal_restore(&owner, &test_timeline, &place, 0, lsn, NULL, &chain));
	chain_close(chain);
	OK(store_try_open(&s));
	timeline_info(s.tl, &info);
	CHECK(info.flushed_lsn >= acknowledged);
	compare(s.tl, &h, info.flushed_lsn, 3, &rnd);
}

/* ---- tests ---- */

/* All that arrives during a request goes with the next one. */
static void
test_group_commit(void **state)
{
	XLogRecPtr lsn = begin(600, "bucket");
	XLogRecPtr acknowledged = lsn;
	int commits = 0;
	int groups = 0;
	int puts;

	wait_acknowledged(lsn);
	puts = bucket->counts.puts;
	atomic_store(&delay, 20000);
	while (lsn < h.gen.records[h.gen.n - 1].end)
	{
		XLogRecPtr now;

		lsn = send_record(lsn);
		commits++;
		now = wal_receiver_acknowledged(receiver);
		CHECK(now >= acknowledged && now <= lsn);
		groups += now > acknowledged;
		acknowledged = now;
	}
	wait_acknowledged(lsn);
	atomic_store(&delay, 0);
	puts = bucket->counts.puts - puts;
	print_message("%d commits, %d requests\n", commits, puts);
	/* each request took as long as at least some commits, on any machine: it did not wait for one of them */
	CHECK(puts < commits / 3 && groups <= puts + 1);
	lose_and_restore(lsn);
	store_close(s.store);
	end();
}

/* In mode local, too, all is uploaded in the end. */
static void
test_local(void **state)
{
	XLogRecPtr lsn = begin(400, "local");
	TimelineInfo info;

	while (lsn < h.gen.records[h.gen.n - 1].end)
	{
		lsn = send_record(lsn);
		CHECK(wal_receiver_acknowledged(receiver) == lsn);
	}
	do
	{
		pg_usleep(1000);
		timeline_info(s.tl, &info);
	} while (info.bucket_lsn < lsn);
	CHECK(info.bucket_lag == 0 && info.bucket_lsn == info.flushed_lsn);
	lose_and_restore(lsn);
	store_close(s.store);
	end();
}

/* Requests get lost, are late or doubled, have no answer: what is acknowledged is there. */
static void
test_faults(void **state)
{
	XLogRecPtr lsn = begin(300, "bucket");

	bucket->faults = (FakeFaults) {.lost = 100, .late = 100, .doubled = 100, .answer_lost = 100, .give_up = 500};
	while (lsn < h.gen.records[h.gen.n - 1].end)
	{
		lsn = send_record(lsn);
		if (next_random(&rnd, 10) == 0)
			wait_acknowledged(lsn);
	}
	wait_acknowledged(lsn);
	wal_receiver_close(receiver);
	store_close(s.store);
	bucket->faults = (FakeFaults) {0};
	while (fake_bucket_run_late(bucket))
		;
	owner = claim();
	OK(store_try_open(&s));
	CHECK(restore_elsewhere(&owner, disk_consistent(), lsn) == lsn);
	store_close(s.store);
	end();
}

/* The service refuses: commits wait, that is shown, and all goes up when it works again. */
static void
test_outage(void **state)
{
	XLogRecPtr lsn = begin(50, "bucket");
	XLogRecPtr before = lsn;
	char text[256] = "";

	wait_acknowledged(lsn);
	bucket->denied = "put";
	for (int i = 0; i < 20; i++)
		lsn = send_record(lsn);
	while (strstr(text, "access denied") == NULL)
	{
		wal_receiver_unacknowledged_text(receiver, text, sizeof(text));
		pg_usleep(1000);
	}
	CHECK(wal_receiver_acknowledged(receiver) == before);
	FAILS(wal_remote_wait(s.tl, lsn, 10, NULL), PS_SQLSTATE_TRY_AGAIN, "access denied");
	bucket->denied = NULL;
	wait_acknowledged(lsn);
	wal_receiver_unacknowledged_text(receiver, text, sizeof(text));
	CHECK(strstr(text, "access denied") == NULL);

	/* a store that stops meanwhile continues with the chain as it is */
	bucket->denied = "put";
	for (int i = 0; i < 5; i++)
		lsn = send_record(lsn);
	wal_receiver_close(receiver);
	store_close(s.store);
	bucket->denied = NULL;
	OK(store_try_open(&s));
	owner = claim();
	start_upload();
	wait_uploaded(lsn);
	CHECK(connect_compute() == lsn);
	wait_acknowledged(lsn);
	lose_and_restore(lsn);
	store_close(s.store);
	end();
}

/*
 * A branch that is closed and opened again continues its chain without reading it, also after a
 * chunk with no outcome.
 */
static void
test_reopen(void **state)
{
	XLogRecPtr lsn = begin(100, "local");
	WalUpload *upload;
	int gets;

	for (int round = 0; round < 10; round++)
	{
		if (round % 4 == 1)
			bucket->faults = (FakeFaults) {.lost = 1000, .give_up = 1000};
		else if (round % 4 == 3)
			bucket->faults = (FakeFaults) {.answer_lost = 1000, .give_up = 1000};
		lsn = send_record(lsn);
		if (round % 2 == 0)
			wait_uploaded(lsn);
		else
		{
			while (s.tl->remote.error[0] == '\0')
				pg_usleep(1000);
			FAILS(wal_remote_wait(s.tl, lsn, 10, NULL), PS_SQLSTATE_TRY_AGAIN, "no answer");
			/* this record is not in the chunk whose outcome is unknown */
			lsn = send_record(lsn);
		}
		wal_receiver_close(receiver);
		/* as store_close() does it, but the chain is kept */
		upload = branch_of(s.tl)->upload;
		timeline_stop(s.tl, CANCEL_STORE_STOPPING);
		wal_upload_stop(upload);
		branch_of(s.tl)->upload = NULL;
		bucket->faults = (FakeFaults) {0};
		gets = bucket->counts.gets;
		store_reopen(&s);
		branch_of(s.tl)->upload = upload;
		start_upload();
		wait_uploaded(lsn);
		CHECK(bucket->counts.gets <= gets + 1);
		CHECK(connect_compute() == lsn);
	}
	wait_uploaded(lsn);
	lose_and_restore(lsn);
	store_close(s.store);
	end();
}

/* Another store takes the tenant over while a request is under way: nothing is acknowledged any more. */
static void
test_fenced(void **state)
{
	for (int round = 0; round < 2; round++)
	{
		XLogRecPtr lsn = begin(100, "bucket");
		XLogRecPtr acknowledged;
		TenantOwner other;

		for (int i = 0; i < 20; i++)
			lsn = send_record(lsn);
		wait_acknowledged(lsn);
		acknowledged = lsn;
		atomic_store(&hold, true);
		for (int i = 0; i < 5; i++)
			lsn = send_record(lsn);
		while (!atomic_load(&is_held))
			pg_usleep(1000);
		other = claim();
		/* its fence comes before the request, or does not */
		if (round == 0)
			CHECK(restore_elsewhere(&other, disk_consistent(), acknowledged) == acknowledged);
		atomic_store(&hold, false);
		while (round == 0 && !atomic_load(&is_ended))
			pg_usleep(1000);
		if (round == 1)
		{
			wait_acknowledged(lsn);
			acknowledged = lsn;
			CHECK(restore_elsewhere(&other, disk_consistent(), lsn) == lsn);
			lsn = send_record(lsn);
			while (!atomic_load(&is_ended))
				pg_usleep(1000);
		}
		CHECK(wal_receiver_acknowledged(receiver) == acknowledged);
		wal_receiver_close(receiver);
		store_close(s.store);
		end();
	}
}

/* A new branch has its first page in the bucket at once, although nothing has been written to it. */
static void
test_first_page(void **state)
{
	char dir[] = "/tmp/t_wal_upload.first.XXXXXX";
	XLogRecPtr start = begin(1, "local");
	XLogRecPtr page = start - start % XLOG_BLCKSZ;
	WalPlace place;
	Chain *chain;

	CHECK(start % XLOG_BLCKSZ != 0);
	while (fake_bucket_count(bucket, "t/") < 3) /* a claim, a fence and the page */
		pg_usleep(1000);
	/* is not uploaded again */
	wal_receiver_close(receiver);
	store_close(s.store);
	OK(store_try_open(&s));
	start_upload();
	send_record(connect_compute());
	wait_uploaded(h.gen.pos);
	CHECK(fake_bucket_count(bucket, "t/") == 5);
	CHECK(wal_upload_first_needed(branch_of(s.tl)->upload, start) == 3); /* which replaces 1 */
	wal_receiver_close(receiver);
	store_close(s.store);

	/* and if there is nothing in the chain, what PostgreSQL needs of the page is written */
	CHECK(mkdtemp(dir) != NULL);
	place = place_of(dir, start);
	owner = claim();
	OK(wal_restore(&owner, &(PsId) {{1}}, &place, 0, start, NULL, &chain));
	CHECK(chain_end(chain) == start && receiver_read_marker(dir) == start);
	chain_close(chain);
	{
		char path[512];
		XLogPageHeaderData header;
		WalSegments *segs;

		snprintf(path, sizeof(path), "%s/wal", dir);
		OK(wal_segments_open(path, SEGMENT_SIZE, &segs));
		OK(wal_segments_read(segs, page, (char *) &header, sizeof(header)));
		CHECK(header.xlp_magic == XLOG_PAGE_MAGIC && header.xlp_pageaddr == page);
		wal_segments_close(segs);
	}
	remove_tree(dir);
	end();
}

/* The chain ends within a record: that is cut off, and what is written there later counts. */
static void
test_partial_record(void **state)
{
	for (int round = 0; round < 20; round++)
	{
		XLogRecPtr lsn = begin(60, "local");
		XLogRecPtr to;
		XLogRecPtr cut;
		char path[512];
		Chain *chain;
		WalPlace place;
		WalUpload *upload;
		WalUploadFenced on_fenced = {fenced, NULL};

		for (int i = 0; i < 20; i++)
			lsn = send_record(lsn);
		wait_uploaded(lsn);
		wal_receiver_close(receiver);
		store_close(s.store);
		/* the beginning of records that the store has not got: as if they had been uploaded by an owner that is lost */
		to = h.gen.records[h.first + 20 + 1 + next_random(&rnd, 5)].end;
		cut = lsn + 1 + next_random(&rnd, to - lsn - 1);
		owner = claim();
		OK(store_try_open(&s));
		place = place_of(store_path(&s, "", path), disk_consistent());
		store_close(s.store);
		OK(wal_restore(&owner, &test_timeline, &place, 0, place.lsn, NULL, &chain));
		OK(chain_append(chain, lsn, h.gen.bytes.data + (lsn - h.gen.start), cut - lsn, 1, NULL));
		chain_close(chain);

		/* the files, or what is left of them, get it */
		if (round % 2 == 0)
		{
			char wal[600];

			snprintf(wal, sizeof(wal), "%s/wal", path);
			remove_tree(wal);
		}
		OK(wal_upload_open(&owner, &test_timeline, &place, 0, place.lsn, &on_fenced, NULL, &upload));
		OK(store_try_open(&s));
		branch_of(s.tl)->upload = upload;
		OK(wal_upload_start(upload, s.tl, NULL));
		lsn = connect_compute();
		/* a record is complete if what is missing are zeros */
		CHECK(h.gen.records[h.first + history_find(&h, lsn)].start < cut && cut < end_of_record(lsn));
		CHECK(s.tl->remote.lsn <= lsn);

		/* other WAL follows there, which is not harmed by the remains of the record, whether it is uploaded or not */
		s.config.wal_upload_interval = INT_MAX;
		if (round % 4 < 2)
		{
			uint64 generation;
			WalState wal_state;
			XLogRecPtr checkpoint;

			OK(timeline_new_generation(s.tl, "next", NULL, &generation, &wal_state, &checkpoint));
			lsn = wal_state.end;
		}
		else
			lsn = send_record(lsn);
		wal_receiver_close(receiver);
		store_close(s.store);
		OK(wal_restore(&owner, &test_timeline, &place, 0, place.lsn, NULL, &chain));
		CHECK(round % 4 >= 2 || chain_end(chain) == lsn);
		chain_close(chain);
		OK(store_try_open(&s));
		CHECK(s.tl->flushed_lsn == lsn);
		store_close(s.store);
		end();
	}
}

/* The disk has lost WAL that was synced, and its files have the size that they should have. */
static void
test_lying_disk(void **state)
{
	XLogRecPtr lsn = begin(300, "bucket");
	char path[512];
	WalPlace place;
	Chain *chain;
	WalSegments *segs;

	while (lsn < h.gen.records[h.gen.n - 1].end)
		lsn = send_record(lsn);
	wait_acknowledged(lsn);
	place = place_of(store_path(&s, "", path), disk_consistent());
	wal_receiver_close(receiver);
	store_close(s.store);
	strlcat(path, "/wal", sizeof(path));
	OK(wal_segments_open(path, SEGMENT_SIZE, &segs));
	OK(wal_segments_cut(segs, place.lsn + (lsn - place.lsn) / 2));
	wal_segments_close(segs);
	path[strlen(path) - 4] = '\0';
	FAILS(store_try_open(&s), PS_SQLSTATE_CORRUPTED, "acknowledged");
	owner = claim();
	OK(wal_restore(&owner, &test_timeline, &place, 0, place.lsn, NULL, &chain));
	chain_close(chain);
	OK(store_try_open(&s));
	compare(s.tl, &h, lsn, 3, &rnd);
	store_close(s.store);
	end();
}

/* A restore that a crash ends at any file operation is repeated. */
static void
test_restore_crashes(void **state)
{
	XLogRecPtr lsn = begin(400, "bucket");
	XLogRecPtr from = disk_consistent();
	char dir[] = "/tmp/t_wal_upload.crash.XXXXXX";
	long n = 1;

	while (lsn < h.gen.records[h.gen.n - 1].end)
		lsn = send_record(lsn);
	wait_acknowledged(lsn);
	wal_receiver_close(receiver);
	store_close(s.store);
	CHECK(mkdtemp(dir) != NULL);
	for (bool crashed = true; crashed; n += 1 + n / 10)
	{
		char path[600];
		WalPlace place = place_of(path, from);
		Chain *chain;
		PsError *err;

		snprintf(path, sizeof(path), "%s/%ld", dir, n);
		CHECK(mkdir(path, 0700) == 0);
		owner = claim();
		fault_begin(dir, rnd + n);
		fault_arm_crash(n);
		err = wal_restore(&owner, &test_timeline, &place, 0, from, NULL, &chain);
		chain_close(chain);
		crashed = fault_has_crashed();
		CHECK(crashed == (err != NULL));
		ps_error_free(err);
		fault_restart(next_random(&rnd, 3));
		OK(wal_restore(&owner, &test_timeline, &place, 0, from, NULL, &chain));
		chain_close(chain);
		fault_restart(LOSE_ALL);
		fault_end();
		CHECK(receiver_read_marker(path) == lsn);
		check_wal(path, from - from % XLOG_BLCKSZ, lsn);
	}
	print_message("%ld operations\n", n);
	remove_tree(dir);
	end();
}

/* ---- mode directory ---- */

static char copies[] = "/tmp/t_wal_upload.copies.XXXXXX";

static XLogRecPtr
begin_directory(int nrecords)
{
	strcpy(copies + strlen(copies) - 6, "XXXXXX");
	CHECK(mkdtemp(copies) != NULL);
	begin(nrecords, "local");
	wal_receiver_close(receiver);
	store_close(s.store);
	s.config.wal_acknowledge = "directory";
	s.config.wal_copy_directory = copies;
	s.config.wal_upload_interval = INT_MAX;
	OK(store_try_open(&s));
	start_upload();
	return connect_compute();
}

static void
end_directory(void)
{
	store_close(s.store);
	remove_tree(copies);
	end();
}

/* WAL is acknowledged when it is in the copy, and comes from there when the machine is lost. */
static void
test_directory(void **state)
{
	for (int round = 0; round < 8; round++)
	{
		XLogRecPtr lsn = begin_directory(300);
		XLogRecPtr acknowledged;
		char path[512];
		char wal[600];
		int n = 1 + next_random(&rnd, 250);
		WalPlace place;
		WalUpload *upload;
		WalUploadFenced on_fenced = {fenced, NULL};
		TimelineInfo info;

		wait_acknowledged(lsn);
		while (n-- > 0)
		{
			lsn = send_record(lsn);
			if (next_random(&rnd, 100) == 0)
				wait_uploaded(lsn);
		}
		while (round % 2 == 0 && wal_receiver_acknowledged(receiver) < lsn)
			pg_usleep(1000);
		acknowledged = wal_receiver_acknowledged(receiver);
		place = place_of(store_path(&s, "", path), disk_consistent());
		wal_receiver_close(receiver);
		store_close(s.store);

		/* the disk is lost, or not */
		if (round % 4 < 3)
		{
			snprintf(wal, sizeof(wal), "%s/wal", path);
			remove_tree(wal);
			snprintf(wal, sizeof(wal), "%s/flushed", path);
			CHECK(unlink(wal) == 0);
		}
		owner = claim();
		OK(wal_upload_open(&owner, &test_timeline, &place, 0, place.lsn, &on_fenced, NULL, &upload));
		OK(store_try_open(&s));
		branch_of(s.tl)->upload = upload;
		OK(wal_upload_start(upload, s.tl, NULL));
		timeline_info(s.tl, &info);
		CHECK(info.flushed_lsn >= acknowledged && info.flushed_lsn <= lsn);
		compare(s.tl, &h, info.flushed_lsn, 2, &rnd);

		/* and it goes on */
		lsn = connect_compute();
		for (int i = 0; i < 10; i++)
			lsn = send_record(lsn);
		wait_acknowledged(lsn);
		wal_receiver_close(receiver);
		end_directory();
	}
}

/* A copy that belongs to a newer owner is refused, and so is one with other WAL; what cannot be copied waits. */
static void
test_directory_errors(void **state)
{
	XLogRecPtr lsn = begin_directory(100);
	char id[PS_ID_TEXT];
	char path[512];
	char away[512];
	char text[256] = "";
	XLogRecPtr before;
	uint64 generation;
	WalState wal_state;
	XLogRecPtr checkpoint;
	int fd;

	for (int i = 0; i < 10; i++)
		lsn = send_record(lsn);
	wait_acknowledged(lsn);

	/* the directory cannot be written */
	wal_receiver_close(receiver);
	store_close(s.store);
	snprintf(path, sizeof(path), "%s/%s", copies, ps_id_format(&test_tenant, id));
	snprintf(away, sizeof(away), "%s/away", copies);
	CHECK(rename(path, away) == 0);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	CHECK(fd >= 0 && close(fd) == 0);
	OK(store_try_open(&s));
	start_upload();
	CHECK(connect_compute() == lsn);
	before = lsn;
	lsn = send_record(lsn);
	while (strstr(text, copies) == NULL)
	{
		wal_receiver_unacknowledged_text(receiver, text, sizeof(text));
		pg_usleep(1000);
	}
	CHECK(strstr(text, "wal_acknowledge is directory") != NULL && wal_receiver_acknowledged(receiver) < before);
	/* a compute is not started either */
	s.config.wait_timeout = 100;
	wait_uploaded(lsn);
	FAILS(timeline_new_generation(s.tl, "next", NULL, &generation, &wal_state, &checkpoint), PS_SQLSTATE_TRY_AGAIN,
		  "wal_copy_directory");
	s.config.wait_timeout = 60000;
	CHECK(unlink(path) == 0 && rename(away, path) == 0);
	OK(timeline_new_generation(s.tl, "next", NULL, &generation, &wal_state, &checkpoint));
	wal_receiver_close(receiver);
	lsn = connect_compute();
	wait_acknowledged(lsn);
	wal_receiver_close(receiver);
	store_close(s.store);

	/* it belongs to a newer owner */
	snprintf(path, sizeof(path), "%s/%s/", copies, ps_id_format(&test_tenant, id));
	strlcat(path, ps_id_format(&test_timeline, id), sizeof(path));
	strlcat(path, "/owner.json", sizeof(path));
	CHECK(unlink(path) == 0);
	{
		static const JsonFormat format = {"owner", "pageserver wal copy", "version", 1, 1, NULL};
		char *json;

		OK(json_file_text(&format, 1, json_pack("{s:s}", "generation", "7"), path, &json));
		OK(fs_write_new_file(path, json, strlen(json), true));
		free(json);
	}
	FAILS(store_try_open(&s), PS_SQLSTATE_STATE, "belongs to generation 7");
	CHECK(unlink(path) == 0);
	OK(store_try_open(&s));
	end_directory();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_group_commit),
		cmocka_unit_test(test_local),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_outage),
		cmocka_unit_test(test_reopen),
		cmocka_unit_test(test_fenced),
		cmocka_unit_test(test_first_page),
		cmocka_unit_test(test_partial_record),
		cmocka_unit_test(test_lying_disk),
		cmocka_unit_test(test_restore_crashes),
		cmocka_unit_test(test_directory),
		cmocka_unit_test(test_directory_errors),
	};
	const char *seed = getenv("TEST_SEED");

	test_thread = pthread_self();
	rnd = seed != NULL ? strtoul(seed, NULL, 10) : (uint64) time(NULL) ^ (uint64) getpid() << 16;
	print_message("TEST_SEED=%llu\n", (unsigned long long) rnd);
	ps_log_level = PS_FATAL;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
