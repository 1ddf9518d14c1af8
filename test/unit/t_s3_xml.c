/*
 * t_s3_xml.c
 *	  The XML of S3: answers as services send them, damaged ones, and requests.
 */
#include "ps_fe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#include "remote/s3_xml.h"
#include "sqlstate.h"

#define XML "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
#define NS  " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

static const char list_page[] = XML
	"<ListBucketResult" NS ">\n"
	"  <Name>b</Name><Prefix>t/</Prefix><KeyCount>3</KeyCount><MaxKeys>3</MaxKeys><Delimiter>/</Delimiter>\n"
	"  <IsTruncated>true</IsTruncated>\n"
	"  <NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</NextContinuationToken>\n"
	"  <Contents><Key>t/a&amp;b</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
	"<ETag>&quot;fba9dede5f27731c9771645a39863328&quot;</ETag><Size>434234</Size><StorageClass>STANDARD</StorageClass>"
	"<Owner><ID>x</ID><DisplayName>y</DisplayName></Owner></Contents>\n"
	"  <Contents><Size>0</Size><Key>t/c</Key></Contents>\n"
	"  <CommonPrefixes><Prefix>t/d/</Prefix></CommonPrefixes>\n"
	"</ListBucketResult>\n";

/* "key=size " of each item. */
static PsError *
collect(void *arg, const char *key, int64 size)
{
	appendStringInfo(arg, "%s=%lld ", key, (long long) size);
	return NULL;
}

static PsError *
fail_item(void *arg, const char *key, int64 size)
{
	return ps_error(PS_SQLSTATE_DISK_FULL, "no more");
}

static void
assert_corrupted(PsError *err)
{
	assert_non_null(err);
	assert_string_equal(err->sqlstate, PS_SQLSTATE_CORRUPTED);
	ps_error_free(err);
}

static void
test_list(void **state)
{
	StringInfoData items;
	S3ListSink sink = {collect, &items};
	S3ListSink failing = {fail_item, NULL};
	S3Error error;
	char *token;
	const char *last = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
	const char *no_token = "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
	const char *no_size = "<ListBucketResult><Contents><Key>k</Key></Contents></ListBucketResult>";
	const char *bad_size = "<ListBucketResult><Contents><Key>k</Key><Size>-1</Size></Contents></ListBucketResult>";
	PsError *err;

	initStringInfo(&items);
	assert_null(s3_xml_list(list_page, strlen(list_page), &sink, &token, &error));
	assert_string_equal(error.code, "");
	assert_string_equal(items.data, "t/a&b=434234 t/c=0 t/d/=-1 ");
	assert_string_equal(token, "1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=");
	free(token);

	resetStringInfo(&items);
	assert_null(s3_xml_list(last, strlen(last), &sink, &token, &error));
	assert_null(token);
	assert_string_equal(items.data, "");

	assert_corrupted(s3_xml_list(no_token, strlen(no_token), &sink, &token, &error));
	assert_null(token);
	assert_corrupted(s3_xml_list(no_size, strlen(no_size), &sink, &token, &error));
	assert_corrupted(s3_xml_list(bad_size, strlen(bad_size), &sink, &token, &error));

	/* the sink's own error */
	err = s3_xml_list(list_page, strlen(list_page), &failing, &token, &error);
	assert_non_null(err);
	assert_string_equal(err->sqlstate, PS_SQLSTATE_DISK_FULL);
	ps_error_free(err);
	assert_null(token);
	pfree(items.data);
}

static void
test_errors(void **state)
{
	static const char skewed[] = XML "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference</Message>"
									 "<RequestId>x</RequestId></Error>";
	static const char moved[] = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-central-1</Region></Error>";
	static const char *const none[] = {"", "<html><body>Bad Gateway</body></html>", "<Error></Error>",
									   "<Error><Code>X</Code>",
									   "<Other><Code>X</Code></Other>",
									   "<Error><Other><Code>X</Code></Other></Error>"};
	StringInfoData big;
	S3Error error;

	assert_true(s3_xml_error(skewed, strlen(skewed), &error));
	assert_string_equal(error.code, "RequestTimeTooSkewed");
	assert_string_equal(error.message, "The difference");
	assert_true(s3_xml_error(moved, strlen(moved), &error));
	assert_string_equal(error.region, "eu-central-1");
	for (int i = 0; i < lengthof(none); i++)
	{
		assert_false(s3_xml_error(none[i], strlen(none[i]), &error));
		assert_string_equal(error.code, "");
	}

	/* a long message is cut; one beyond the limit makes it no error */
	initStringInfo(&big);
	appendStringInfoString(&big, "<Error><Code>Long</Code><Message>");
	for (int i = 0; i < 1000; i++)
		appendStringInfoChar(&big, 'x');
	appendStringInfoString(&big, "</Message></Error>");
	assert_true(s3_xml_error(big.data, big.len, &error));
	assert_int_equal(strlen(error.message), sizeof(error.message) - 1);
	pfree(big.data);
}

static void
test_uploads(void **state)
{
	static const char begun[] = XML "<InitiateMultipartUploadResult" NS "><Bucket>b</Bucket><Key>k</Key>"
									"<UploadId>VXBsb2FkIElE</UploadId></InitiateMultipartUploadResult>";
	static const char no_id[] = "<InitiateMultipartUploadResult><UploadId></UploadId></InitiateMultipartUploadResult>";
	static const char done[] = "<CompleteMultipartUploadResult><ETag>\"x\"</ETag></CompleteMultipartUploadResult>";
	/* spaces keep the connection alive while the service works */
	static const char failed[] = XML "    \n\n  <Error><Code>InternalError</Code></Error>";
	static const char no_code[] = "<Error/>";
	S3Error error;
	char *id;

	assert_null(s3_xml_upload(begun, strlen(begun), &id, &error));
	assert_string_equal(id, "VXBsb2FkIElE");
	free(id);
	assert_corrupted(s3_xml_upload(no_id, strlen(no_id), &id, &error));
	assert_null(id);
	assert_null(s3_xml_upload(failed, strlen(failed), &id, &error));
	assert_null(id);
	assert_string_equal(error.code, "InternalError");

	assert_null(s3_xml_completed(done, strlen(done), &error));
	assert_string_equal(error.code, "");
	assert_null(s3_xml_completed(failed, strlen(failed), &error));
	assert_string_equal(error.code, "InternalError");
	assert_null(s3_xml_completed(no_code, strlen(no_code), &error));
	assert_string_equal(error.code, "UnknownError");
	assert_corrupted(s3_xml_completed("", 0, &error));
	assert_corrupted(s3_xml_completed(begun, strlen(begun), &error));
}

static void
test_deleted(void **state)
{
	static const char all[] = XML "<DeleteResult" NS "/>";
	static const char some[] =
		"<DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>b</Key><Code>AccessDenied</Code>"
		"<Message>Access Denied</Message></Error></DeleteResult>";
	static const char several[] =
		"<DeleteResult><Error><Key>a</Key><Code>NoSuchKey</Code></Error>"
		"<Error><Key>b</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
		"<Error><Key>c</Key></Error><Error><Key>d</Key><Code>NoSuchKey</Code></Error></DeleteResult>";
	static const char none[] = "<DeleteResult><Error><Key>a</Key><Code>NoSuchKey</Code></Error></DeleteResult>";
	S3Error error;
	int nfailed;

	assert_null(s3_xml_deleted(all, strlen(all), &nfailed, &error));
	assert_int_equal(nfailed, 0);
	assert_string_equal(error.code, "");
	assert_null(s3_xml_deleted(some, strlen(some), &nfailed, &error));
	assert_int_equal(nfailed, 1);
	assert_string_equal(error.code, "AccessDenied");
	assert_string_equal(error.message, "b: Access Denied");

	/* the first that counts; what did not exist does not */
	assert_null(s3_xml_deleted(several, strlen(several), &nfailed, &error));
	assert_int_equal(nfailed, 2);
	assert_string_equal(error.code, "AccessDenied");
	assert_string_equal(error.message, "b: Access Denied");
	assert_null(s3_xml_deleted(none, strlen(none), &nfailed, &error));
	assert_int_equal(nfailed, 0);
	assert_string_equal(error.code, "");
}

/* Entities are not expanded, depth and texts are bounded. */
static void
test_hostile(void **state)
{
	static const char laughs[] = "<!DOCTYPE l [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]>"
								 "<DeleteResult><Error><Code>&b;</Code></Error></DeleteResult>";
	StringInfoData body;
	S3Error error;
	int nfailed;

	assert_corrupted(s3_xml_deleted(laughs, strlen(laughs), &nfailed, &error));
	assert_int_equal(nfailed, 0);
	initStringInfo(&body);
	for (int i = 0; i < 100000; i++)
		appendStringInfoString(&body, "<a>");
	assert_corrupted(s3_xml_deleted(body.data, body.len, &nfailed, &error));
	resetStringInfo(&body);
	appendStringInfoString(&body, "<DeleteResult>");
	for (int i = 0; i < 100000; i++)
		appendStringInfoString(&body, "aaaaaaaaaa");
	appendStringInfoString(&body, "</DeleteResult>");
	assert_corrupted(s3_xml_deleted(body.data, body.len, &nfailed, &error));
	pfree(body.data);
}

/* Whatever bytes of an answer are changed, or missing: an answer or an error, and no token is lost. */
static void
test_damaged(void **state)
{
	unsigned seed = time(NULL);
	StringInfoData items;
	S3ListSink sink = {collect, &items};

	print_message("seed %u\n", seed);
	srandom(seed);
	initStringInfo(&items);
	for (int i = 0; i < 20000; i++)
	{
		char body[sizeof(list_page)];
		size_t len = random() % 4 == 0 ? random() % sizeof(list_page) : sizeof(list_page) - 1;
		S3Error error;
		char *token;
		int n;

		memcpy(body, list_page, sizeof(list_page));
		for (int changes = random() % 4; changes > 0; changes--)
			body[random() % (sizeof(list_page) - 1)] = random();
		resetStringInfo(&items);
		ps_error_free(s3_xml_list(body, len, &sink, &token, &error));
		free(token);
		ps_error_free(s3_xml_upload(body, len, &token, &error));
		free(token);
		ps_error_free(s3_xml_deleted(body, len, &n, &error));
		ps_error_free(s3_xml_completed(body, len, &error));
		s3_xml_error(body, len, &error);
	}
	pfree(items.data);
}

static void
test_requests(void **state)
{
	char *etags[] = {"\"a1\"", "b&<2>"};
	const char *keys[] = {"x", "y&z"};
	StringInfoData out;

	initStringInfo(&out);
	s3_xml_put_complete(&out, etags, 2);
	assert_string_equal(
		out.data, "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>&quot;a1&quot;</ETag></Part>"
				  "<Part><PartNumber>2</PartNumber><ETag>b&amp;&lt;2&gt;</ETag></Part></CompleteMultipartUpload>");
	resetStringInfo(&out);
	s3_xml_put_delete(&out, "p/", keys, 2);
	assert_string_equal(out.data, "<Delete><Quiet>true</Quiet><Object><Key>p/x</Key></Object>"
								  "<Object><Key>p/y&amp;z</Key></Object></Delete>");
	pfree(out.data);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_uploads),
		cmocka_unit_test(test_deleted),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_requests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
