/*
 * wal_gen.h
 *	  For tests: generates a WAL stream as PostgreSQL writes it, and remembers
 *	  its records.
 */
#ifndef WAL_GEN_H
#define WAL_GEN_H

#include "ps_fe.h"

#include <limits.h>
#include <setjmp.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "port/pg_crc32c.h"

#include "catalog/pg_control.h"

#include "pg/decoder.h"
#include "wal/segments.h"

#define GEN_SYSID       UINT64CONST(0x1122334455667788)
#define GEN_MAX_RECORDS 100000

typedef struct Gen
{
	uint32 segment_size;
	XLogRecPtr start; /* LSN of bytes.data[0] */
	XLogRecPtr pos;   /* end of the bytes */
	XLogRecPtr prev;
	StringInfoData bytes;
	int n;
	WalRecord *records; /* data is malloc'd */
} Gen;

extern void gen_init(Gen *gen, XLogRecPtr start, uint32 segment_size);
extern void gen_free(Gen *gen);
extern void gen_page_header(Gen *gen, uint16 info, uint32 rem_len);
extern void gen_zeros(Gen *gen, size_t n);
extern char *gen_make_record(XLogRecPtr prev, RmgrId rmid, uint8 info, TransactionId xid, const void *body, uint32 len);
extern void gen_append(Gen *gen, const char *rec, uint32 len, uint32 keep);
extern void gen_record(Gen *gen, RmgrId rmid, uint8 info, TransactionId xid, const void *body, uint32 len);
extern char *gen_main_data(const void *data, uint32 len, uint32 *body_len);
extern void gen_random_record(Gen *gen, uint32 len);
extern void gen_seed(void);

#define assert_ok(expr)                                  \
	do                                                   \
	{                                                    \
		PsError *ok_err_ = (expr);                       \
		if (ok_err_ != NULL)                             \
			fail_msg("%s: %s", #expr, ok_err_->message); \
	} while (0)

/* Fails unless the error's message has the text in it. */
#define assert_error(expr, text)                                                   \
	do                                                                             \
	{                                                                              \
		PsError *error_ = (expr);                                                  \
		if (error_ == NULL)                                                        \
			fail_msg("%s: no error, expected one with \"%s\"", #expr, text);       \
		else if (strstr(error_->message, text) == NULL)                            \
			fail_msg("%s: \"%s\", expected \"%s\"", #expr, error_->message, text); \
		ps_error_free(error_);                                                     \
	} while (0)

#endif /* WAL_GEN_H */
