/*
 * s3_upload.c
 *	  Files put into S3, in parts if they are large; see object.h.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "remote/s3_impl.h"
#include "sqlstate.h"

#define MAX_PARTS 10000
#define ABORT_MS  5000 /* for removing the parts of an upload that failed */

/* An upload in parts. */
typedef struct Upload
{
	S3Store *store;
	const char *key;
	int fd;
	int64 size;
	int64 part_size;
	char *id;
	char **etags;
	int nparts;
} Upload;

static PsError *
parse_upload(void *arg, const HttpAnswer *answer, S3Error *error)
{
	Upload *upload = arg;

	free(upload->id);
	return s3_xml_upload(answer->body.data, answer->body.len, &upload->id, error);
}

static PsError *
begin_upload(Upload *upload, const ObjectWait *wait)
{
	S3Request request = {
		.method = "POST",
		.key = upload->key,
		.has_body = true,
		.body = "",
		.parse = parse_upload,
		.arg = upload,
	};
	PsError *err;

	s3_add_query(&request, "uploads", "");
	s3_add_write_headers(upload->store, &request);
	s3_add_customer_headers(upload->store, &request);
	err = s3_send(upload->store, &request, wait);
	if (err == NULL)
		err = s3_expect_success(upload->store, &request);
	s3_request_free(&request);
	return err;
}

static PsError *
put_part(Upload *upload, int part, const ObjectWait *wait)
{
	int64 offset = part * upload->part_size;
	S3Request request = {
		.method = "PUT",
		.key = upload->key,
		.has_body = true,
		.body_fd = upload->fd,
		.body_offset = offset,
		.body_len = Min(upload->part_size, upload->size - offset),
		.parse = s3_parse_put,
	};
	char number[16];
	PsError *err;

	snprintf(number, sizeof(number), "%d", part + 1);
	s3_add_query(&request, "partNumber", number);
	s3_add_query(&request, "uploadId", upload->id);
	s3_add_customer_headers(upload->store, &request);
	err = s3_send(upload->store, &request, wait);
	if (err == NULL)
		err = s3_expect_success(upload->store, &request);
	if (err == NULL)
		upload->etags[part] = pg_strdup(request.answer.etag);
	s3_request_free(&request);
	return err;
}

static PsError *
parse_completed(void *arg, const HttpAnswer *answer, S3Error *error)
{
	return s3_xml_completed(answer->body.data, answer->body.len, error);
}

/* Size of an object; -1: there is none. */
static PsError *
object_size(S3Store *store, const char *key, const ObjectWait *wait, int64 *size)
{
	S3Request request = {.method = "GET", .key = key};
	PsError *err;

	*size = -1;
	s3_add_header(&request, "range", "bytes=0-0");
	s3_add_customer_headers(store, &request);
	err = s3_send(store, &request, wait);
	if (err == NULL && request.answer.status == 206)
		*size = request.answer.content_total;
	s3_request_free(&request);
	return err;
}

static PsError *
complete_upload(Upload *upload, const ObjectWait *wait)
{
	S3Request request = {.method = "POST", .key = upload->key, .has_body = true, .parse = parse_completed};
	StringInfoData body;
	PsError *err;

	initStringInfo(&body);
	s3_xml_put_complete(&body, upload->etags, upload->nparts);
	request.body = body.data;
	request.body_len = body.len;
	s3_add_query(&request, "uploadId", upload->id);
	s3_add_customer_headers(upload->store, &request);
	err = s3_send(upload->store, &request, wait);
	if (err == NULL)
		err = s3_expect_success(upload->store, &request);
	if (err != NULL && request.in_doubt && strcmp(request.error.code, "NoSuchUpload") == 0)
	{
		/* an attempt whose answer was lost may have completed it */
		int64 size;
		PsError *size_err = object_size(upload->store, upload->key, wait, &size);

		if (size_err == NULL && size == upload->size)
		{
			ps_error_free(err);
			err = NULL;
		}
		ps_error_free(size_err);
	}
	s3_request_free(&request);
	pfree(body.data);
	return err;
}

/* Removes the parts; what cannot be removed costs space only. */
static void
abort_upload(Upload *upload)
{
	S3Request request = {.method = "DELETE", .key = upload->key};
	ObjectWait wait = {.deadline = clock_now_ms() + ABORT_MS};

	s3_add_query(&request, "uploadId", upload->id);
	ps_error_free(s3_send(upload->store, &request, &wait));
	s3_request_free(&request);
}

static PsError *
put_parts(Upload *upload, const ObjectWait *wait)
{
	PsError *err;

	/* parts are larger than asked for if there would be too many; a multiple of 1 MB */
	upload->part_size = upload->store->part_size;
	if (upload->size / upload->part_size >= MAX_PARTS)
		upload->part_size = (upload->size / MAX_PARTS / (1024 * 1024) + 1) * 1024 * 1024;
	upload->nparts = (upload->size + upload->part_size - 1) / upload->part_size;
	upload->etags = pg_malloc0(upload->nparts * sizeof(char *));
	err = begin_upload(upload, wait);
	for (int i = 0; err == NULL && i < upload->nparts; i++)
		err = put_part(upload, i, wait);
	if (err == NULL)
		err = complete_upload(upload, wait);
	if (err != NULL && upload->id != NULL)
		abort_upload(upload);
	/* a rule of the bucket has removed the upload, say: the next call begins another one */
	if (object_is_missing(err))
		ps_error_set_state(err, PS_SQLSTATE_TRY_AGAIN);
	for (int i = 0; i < upload->nparts; i++)
		free(upload->etags[i]);
	free(upload->etags);
	free(upload->id);
	return err;
}

PsError *
s3_put_file(ObjectStore *base, const char *key, const char *path, const ObjectWait *wait)
{
	S3Store *store = (S3Store *) base;
	Upload upload = {.store = store, .key = key};
	struct stat st;
	PsError *err;

	upload.fd = open(path, O_RDONLY | O_CLOEXEC);
	if (upload.fd < 0)
		return ps_error(ps_errno_state(), "could not open file \"%s\": %m", path);
	if (fstat(upload.fd, &st) != 0)
		err = ps_error(ps_errno_state(), "could not stat file \"%s\": %m", path);
	else if (st.st_size > store->part_size)
	{
		upload.size = st.st_size;
		err = put_parts(&upload, wait);
	}
	else
	{
		S3Request request = {
			.method = "PUT",
			.key = key,
			.has_body = true,
			.body_fd = upload.fd,
			.body_len = st.st_size,
			.parse = s3_parse_put,
		};

		s3_add_write_headers(store, &request);
		s3_add_customer_headers(store, &request);
		err = s3_send(store, &request, wait);
		if (err == NULL)
			err = s3_expect_success(store, &request);
		s3_request_free(&request);
	}
	close(upload.fd);
	return err;
}
