/*
 * s3_xml.h
 *	  The XML of S3: answers read, requests written.
 *
 * A service's answer is not trusted: texts of it are at most S3_XML_TEXT_MAX bytes,
 * elements at most S3_XML_DEPTH_MAX deep, and an answer with a document type (where
 * entities are defined) is rejected.  An answer that is not what was expected
 * is PS_SQLSTATE_CORRUPTED, with its beginning as detail.  An <Error>, whatever was
 * expected, is none: see S3Error.
 *
 * No state; any thread may call these functions.
 */
#ifndef PS_S3_XML_H
#define PS_S3_XML_H

#include "lib/stringinfo.h"

#include "base/error.h"

#define S3_XML_TEXT_MAX  4096
#define S3_XML_DEPTH_MAX 16

/* What an <Error> says; code "" if the answer is not one.  Texts that are too long are cut. */
typedef struct S3Error
{
	char code[64];
	char message[256];
	char region[64]; /* where the bucket is, of some errors */
} S3Error;

/* Any body.  False: it is not an <Error>, perhaps no XML at all, and code is "". */
extern bool s3_xml_error(const char *body, size_t len, S3Error *error);

/* Called for each object, and for each folder, whose size is -1 and whose key ends in a slash. */
typedef struct S3ListSink
{
	PsError *(*item)(void *arg, const char *key, int64 size);
	void *arg;
} S3ListSink;

/*
 * ListBucketResult (ListObjectsV2).  *token is malloc'd: where the next page starts,
 * or NULL: there is none.  Objects first, then folders.
 */
extern PsError *s3_xml_list(const char *body, size_t len, const S3ListSink *sink, char **token, S3Error *error);

/* InitiateMultipartUploadResult: *id is malloc'd, or NULL if there is an S3Error. */
extern PsError *s3_xml_upload(const char *body, size_t len, char **id, S3Error *error);

/* CompleteMultipartUploadResult: the service has answered 200 also if it failed. */
extern PsError *s3_xml_completed(const char *body, size_t len, S3Error *error);

/*
 * DeleteResult: the number of keys that could not be deleted, and the first one's
 * error, which has the key in its message.  Keys that did not exist do not count.
 */
extern PsError *s3_xml_deleted(const char *body, size_t len, int *nfailed, S3Error *error);

/* Bodies of CompleteMultipartUpload (the parts' ETags as the service gave them) and of DeleteObjects. */
extern void s3_xml_put_complete(StringInfo out, char *const *etags, int nparts);
extern void s3_xml_put_delete(StringInfo out, const char *prefix, const char *const *keys, int nkeys);

#endif /* PS_S3_XML_H */
