/*
 * fuzz.h
 *	  What the fuzzers share.  Include after ps_fe.h.
 *
 * Checksums: while a fuzzer runs every CRC-32C is 0, of whatever bytes, so that
 * bytes that are changed at random still get past the checks.  Seeds have zeros
 * where checksums belong.  The bytes that a checksum is taken of are looked at
 * all the same: a length that leads outside is found.
 */
#ifndef PS_FUZZ_H
#define PS_FUZZ_H

#include "base/error.h"

extern int LLVMFuzzerTestOneInput(const uint8 *data, size_t size);
extern int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Ends the program with a report unless the condition holds. */
#define REQUIRE(cond)                                                                 \
	do                                                                                \
	{                                                                                 \
		if (!(cond))                                                                  \
		{                                                                             \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                                  \
		}                                                                             \
	} while (0)

/* A call that cannot fail here. */
#define MUST(expr)                                                                               \
	do                                                                                           \
	{                                                                                            \
		PsError *must_error_ = (expr);                                                           \
		if (must_error_ != NULL)                                                                 \
		{                                                                                        \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #expr, must_error_->message); \
			abort();                                                                             \
		}                                                                                        \
	} while (0)

/* To be called first: checksums are 0 from now on, only errors that end the program are logged. */
extern void fuzz_begin(void);

/* A new directory, in FUZZ_DIR or in memory; it goes when the program ends without a finding. */
extern const char *fuzz_dir(void);

extern void fuzz_write_file(const char *path, const void *data, size_t len);

/* An error must say something; frees it.  Returns whether there was none. */
extern bool fuzz_result(PsError *err);

/* Reads every byte, so that one that is not there is found. */
extern void fuzz_touch(const void *data, size_t len);

/* ---- an input that is taken apart; behind its end are zeros ---- */
typedef struct FuzzInput
{
	const uint8 *data;
	size_t size;
} FuzzInput;

static inline size_t
fuzz_take(FuzzInput *in, void *out, size_t n)
{
	size_t have = Min(n, in->size);

	memset(out, 0, n);
	memcpy(out, in->data, have);
	in->data += have;
	in->size -= have;
	return have;
}

static inline uint8
fuzz_u8(FuzzInput *in)
{
	uint8 v;

	fuzz_take(in, &v, sizeof(v));
	return v;
}

static inline uint16
fuzz_u16(FuzzInput *in)
{
	uint16 v;

	fuzz_take(in, &v, sizeof(v));
	return v;
}

static inline uint32
fuzz_u32(FuzzInput *in)
{
	uint32 v;

	fuzz_take(in, &v, sizeof(v));
	return v;
}

static inline uint64
fuzz_u64(FuzzInput *in)
{
	uint64 v;

	fuzz_take(in, &v, sizeof(v));
	return v;
}

/* The next n bytes, or those that are left, in memory of exactly that size (1 if there are none); free() it. */
extern char *fuzz_bytes(FuzzInput *in, size_t n, size_t *len);

#endif /* PS_FUZZ_H */
