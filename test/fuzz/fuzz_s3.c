/*
 * fuzz_s3.c
 *	  Fuzzes what reads answers of object storage.  An input is the body of an answer,
 *	  which is read as each kind.
 */
#include "ps_fe.h"

#include "fuzz.h"
#include "remote/s3_xml.h"
#include "sqlstate.h"

static PsError *
check_item(void *arg, const char *key, int64 size)
{
	REQUIRE(strlen(key) <= S3_XML_TEXT_MAX && size >= -1);
	return NULL;
}

/* An answer that is no such answer is damage, and nothing else. */
static void
check_error(PsError *err, const S3Error *error)
{
	REQUIRE(err == NULL || ps_error_is(err, PS_SQLSTATE_CORRUPTED));
	REQUIRE(strlen(error->code) < sizeof(error->code) && strlen(error->message) < sizeof(error->message));
	ps_error_free(err);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	fuzz_begin();
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	FuzzInput in = {data, size};
	size_t len;
	char *body = fuzz_bytes(&in, size, &len);
	S3ListSink sink = {check_item, NULL};
	S3Error error;
	PsError *err;
	char *text;
	int nfailed;

	err = s3_xml_list(body, len, &sink, &text, &error);
	REQUIRE(text == NULL || (err == NULL && text[0] != '\0'));
	free(text);
	check_error(err, &error);

	err = s3_xml_upload(body, len, &text, &error);
	REQUIRE(text == NULL || (err == NULL && text[0] != '\0'));
	REQUIRE(err != NULL || text != NULL || error.code[0] != '\0');
	free(text);
	check_error(err, &error);

	err = s3_xml_deleted(body, len, &nfailed, &error);
	REQUIRE(err != NULL || nfailed == 0 || error.code[0] != '\0');
	check_error(err, &error);

	err = s3_xml_completed(body, len, &error);
	check_error(err, &error);

	REQUIRE(s3_xml_error(body, len, &error) == (error.code[0] != '\0'));
	free(body);
	return 0;
}
