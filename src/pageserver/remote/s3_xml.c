/*
 * s3_xml.c
 *	  The XML of S3: see s3_xml.h.
 *
 * Elements are known by their path, "ListBucketResult/Contents/Key", without
 * namespaces: services differ in these.
 */
#include "ps_fe.h"

#include <expat.h>
#include <limits.h>

#include "remote/s3_xml.h"
#include "sqlstate.h"

typedef struct Reader
{
	XML_Parser parser;
	/* called at the end of an element that has text, or has no elements in it */
	void (*element)(struct Reader *reader, const char *path, const char *text);
	/* called at the end of each element, after its elements; or NULL */
	void (*end)(struct Reader *reader, const char *path);
	void *arg;
	int depth;
	char path[256];                  /* of the current element */
	size_t starts[S3_XML_DEPTH_MAX]; /* where the path of its parent ends */
	char root[64];
	char text[S3_XML_TEXT_MAX + 1];
	size_t text_len;
	const char *problem; /* why parsing was stopped, or NULL */
	PsError *err;        /* of a sink, or NULL */
	S3Error *error;
} Reader;

static void
stop(Reader *reader, const char *problem)
{
	if (reader->problem == NULL)
		reader->problem = problem;
	XML_StopParser(reader->parser, XML_FALSE);
}

static void XMLCALL
start_element(void *arg, const XML_Char *name, const XML_Char **attributes)
{
	Reader *reader = arg;
	size_t len = strlen(reader->path);

	if (reader->depth == S3_XML_DEPTH_MAX || len + strlen(name) + 2 > sizeof(reader->path))
	{
		stop(reader, "elements are nested too deep");
		return;
	}
	if (reader->depth == 0)
		strlcpy(reader->root, name, sizeof(reader->root));
	reader->starts[reader->depth++] = len;
	if (len > 0)
		strlcat(reader->path, "/", sizeof(reader->path));
	strlcat(reader->path, name, sizeof(reader->path));
	reader->text_len = 0;
}

static void XMLCALL
add_text(void *arg, const XML_Char *text, int len)
{
	Reader *reader = arg;

	if (len > S3_XML_TEXT_MAX - reader->text_len)
	{
		stop(reader, "a text is too long");
		return;
	}
	memcpy(reader->text + reader->text_len, text, len);
	reader->text_len += len;
}

/* Elements of an <Error>, which is the whole answer. */
static void
error_element(S3Error *error, const char *name, const char *text)
{
	if (strcmp(name, "Code") == 0)
		strlcpy(error->code, text, sizeof(error->code));
	else if (strcmp(name, "Message") == 0)
		strlcpy(error->message, text, sizeof(error->message));
	else if (strcmp(name, "Region") == 0)
		strlcpy(error->region, text, sizeof(error->region));
}

static void XMLCALL
end_element(void *arg, const XML_Char *name)
{
	Reader *reader = arg;

	/* expat may report the ends of elements after it was told to stop */
	if (reader->problem != NULL || reader->err != NULL || reader->depth == 0)
		return;
	reader->text[reader->text_len] = '\0';
	if (strncmp(reader->path, "Error/", 6) == 0)
		error_element(reader->error, reader->path + 6, reader->text);
	else
	{
		if (reader->element != NULL)
			reader->element(reader, reader->path, reader->text);
		if (reader->end != NULL && reader->err == NULL)
			reader->end(reader, reader->path);
	}
	reader->path[reader->starts[--reader->depth]] = '\0';
	reader->text_len = 0;
	if (reader->err != NULL)
		stop(reader, NULL);
}

static void XMLCALL
reject_doctype(void *arg, const XML_Char *name, const XML_Char *sysid, const XML_Char *pubid, int has_internal_subset)
{
	stop(arg, "it has a document type");
}

/*
 * Reads an answer.  Sets reader->error if it is an <Error>.  False: it is not XML,
 * not all of it, or reading was stopped; *reason says why, unless reader->err does.
 */
static bool
read_xml(Reader *reader, const char *body, size_t len, const char **reason)
{
	enum XML_Status status;

	memset(reader->error, 0, sizeof(S3Error));
	/* the encoding that the answer names, or UTF-8 */
	reader->parser = XML_ParserCreate(NULL);
	if (reader->parser == NULL || len > INT_MAX)
	{
		XML_ParserFree(reader->parser);
		*reason = "there is no memory to read it";
		return false;
	}
	XML_SetUserData(reader->parser, reader);
	XML_SetElementHandler(reader->parser, start_element, end_element);
	XML_SetCharacterDataHandler(reader->parser, add_text);
	XML_SetStartDoctypeDeclHandler(reader->parser, reject_doctype);
	status = XML_Parse(reader->parser, body, (int) len, 1);
	*reason = reader->problem;
	if (status != XML_STATUS_OK && *reason == NULL)
		*reason = XML_ErrorString(XML_GetErrorCode(reader->parser));
	XML_ParserFree(reader->parser);
	return status == XML_STATUS_OK && reader->problem == NULL && reader->err == NULL;
}

/* The beginning of a body, printable, for messages. */
static PsError *
unexpected(const char *body, size_t len, const char *what, const char *reason)
{
	char start[128];
	size_t n = Min(len, sizeof(start) - 1);

	for (size_t i = 0; i < n; i++)
		start[i] = body[i] >= ' ' && body[i] <= '~' ? body[i] : '.';
	start[n] = '\0';
	return ps_error_detail(ps_error(PS_SQLSTATE_CORRUPTED, "the answer of object storage is no %s: %s", what, reason),
						   "It has %zu bytes and starts with \"%s\".", len, start);
}

/* Reads an answer whose root is expected to be this. */
static PsError *
read_answer(Reader *reader, const char *body, size_t len, const char *root)
{
	const char *reason;

	if (!read_xml(reader, body, len, &reason))
		return reader->err != NULL ? reader->err : unexpected(body, len, root, reason);
	if (strcmp(reader->root, "Error") == 0)
	{
		/* a code is what callers go by */
		if (reader->error->code[0] == '\0')
			strlcpy(reader->error->code, "UnknownError", sizeof(reader->error->code));
		return NULL;
	}
	if (strcmp(reader->root, root) != 0)
		return unexpected(body, len, root, "it has another root element");
	return NULL;
}

bool
s3_xml_error(const char *body, size_t len, S3Error *error)
{
	Reader reader = {.error = error};
	const char *reason;

	if (read_xml(&reader, body, len, &reason) && strcmp(reader.root, "Error") == 0 && error->code[0] != '\0')
		return true;
	memset(error, 0, sizeof(S3Error));
	return false;
}

/* ---- ListBucketResult ---- */

typedef struct List
{
	const S3ListSink *sink;
	char key[S3_XML_TEXT_MAX + 1];
	int64 size; /* -1: not seen yet */
	bool truncated;
	char *token;
} List;

/* A number of bytes; -1 if the text is not one. */
static int64
parse_size(const char *text)
{
	char *end;
	long long size;

	errno = 0;
	size = strtoll(text, &end, 10);
	return errno == 0 && end != text && *end == '\0' && size >= 0 ? size : -1;
}

static void
list_element(Reader *reader, const char *path, const char *text)
{
	List *list = reader->arg;

	if (strncmp(path, "ListBucketResult/", 17) != 0)
		return;
	path += 17;
	if (strcmp(path, "Contents/Key") == 0)
		strlcpy(list->key, text, sizeof(list->key));
	else if (strcmp(path, "Contents/Size") == 0)
		list->size = parse_size(text);
	else if (strcmp(path, "CommonPrefixes/Prefix") == 0)
		reader->err = list->sink->item(list->sink->arg, text, -1);
	else if (strcmp(path, "IsTruncated") == 0)
		list->truncated = strcmp(text, "true") == 0;
	else if (strcmp(path, "NextContinuationToken") == 0 && list->token == NULL)
		list->token = pg_strdup(text);
}

static void
list_end(Reader *reader, const char *path)
{
	List *list = reader->arg;

	if (strcmp(path, "ListBucketResult/Contents") != 0)
		return;
	if (list->key[0] == '\0' || list->size < 0)
		reader->err = ps_error(PS_SQLSTATE_CORRUPTED, "object storage listed an object without %s",
							   list->key[0] == '\0' ? "a key" : "a size");
	else
		reader->err = list->sink->item(list->sink->arg, list->key, list->size);
	list->key[0] = '\0';
	list->size = -1;
}

PsError *
s3_xml_list(const char *body, size_t len, const S3ListSink *sink, char **token, S3Error *error)
{
	List list = {.sink = sink, .size = -1};
	Reader reader = {.element = list_element, .end = list_end, .arg = &list, .error = error};
	PsError *err = read_answer(&reader, body, len, "ListBucketResult");

	*token = NULL;
	if (err == NULL && error->code[0] == '\0' && list.truncated)
	{
		if (list.token != NULL && list.token[0] != '\0')
		{
			*token = list.token;
			return NULL;
		}
		err = unexpected(body, len, "ListBucketResult", "it is truncated, and does not say where to continue");
	}
	free(list.token);
	return err;
}

/* ---- other answers ---- */

static void
upload_element(Reader *reader, const char *path, const char *text)
{
	char **id = reader->arg;

	if (strcmp(path, "InitiateMultipartUploadResult/UploadId") == 0 && *id == NULL)
		*id = pg_strdup(text);
}

PsError *
s3_xml_upload(const char *body, size_t len, char **id, S3Error *error)
{
	Reader reader = {.element = upload_element, .arg = id, .error = error};
	PsError *err;

	*id = NULL;
	err = read_answer(&reader, body, len, "InitiateMultipartUploadResult");
	if (err == NULL && error->code[0] == '\0' && (*id == NULL || (*id)[0] == '\0'))
		err = unexpected(body, len, "InitiateMultipartUploadResult", "it has no UploadId");
	if (err != NULL)
	{
		free(*id);
		*id = NULL;
	}
	return err;
}

PsError *
s3_xml_completed(const char *body, size_t len, S3Error *error)
{
	Reader reader = {.error = error};

	return read_answer(&reader, body, len, "CompleteMultipartUploadResult");
}

typedef struct Deleted
{
	int nfailed;
	char key[128]; /* of the current <Error>, as is current */
	S3Error current;
	S3Error first;
} Deleted;

static void
deleted_element(Reader *reader, const char *path, const char *text)
{
	Deleted *deleted = reader->arg;

	if (strncmp(path, "DeleteResult/Error/", 19) != 0)
		return;
	path += 19;
	if (strcmp(path, "Key") == 0)
		strlcpy(deleted->key, text, sizeof(deleted->key));
	else
		error_element(&deleted->current, path, text);
}

static void
deleted_end(Reader *reader, const char *path)
{
	Deleted *deleted = reader->arg;
	S3Error *first = &deleted->first;

	if (strcmp(path, "DeleteResult/Error") != 0)
		return;
	/* some services report what did not exist */
	if (strcmp(deleted->current.code, "NoSuchKey") != 0 && deleted->nfailed++ == 0)
	{
		*first = deleted->current;
		snprintf(first->message, sizeof(first->message), "%.100s: %.120s", deleted->key, deleted->current.message);
		if (first->code[0] == '\0')
			strlcpy(first->code, "UnknownError", sizeof(first->code));
	}
	memset(&deleted->current, 0, sizeof(S3Error));
	deleted->key[0] = '\0';
}

PsError *
s3_xml_deleted(const char *body, size_t len, int *nfailed, S3Error *error)
{
	Deleted deleted = {0};
	Reader reader = {.element = deleted_element, .end = deleted_end, .arg = &deleted, .error = error};
	PsError *err = read_answer(&reader, body, len, "DeleteResult");

	*nfailed = deleted.nfailed;
	if (err == NULL && deleted.nfailed > 0)
		*error = deleted.first;
	return err;
}

/* ---- requests ---- */

/* Adds a text with the characters escaped that mean something in XML. */
static void
put_text(StringInfo out, const char *text)
{
	for (; *text != '\0'; text++)
	{
		switch (*text)
		{
			case '&':
				appendStringInfoString(out, "&amp;");
				break;
			case '<':
				appendStringInfoString(out, "&lt;");
				break;
			case '>':
				appendStringInfoString(out, "&gt;");
				break;
			case '"':
				appendStringInfoString(out, "&quot;");
				break;
			default:
				appendStringInfoChar(out, *text);
		}
	}
}

void
s3_xml_put_complete(StringInfo out, char *const *etags, int nparts)
{
	appendStringInfoString(out, "<CompleteMultipartUpload>");
	for (int i = 0; i < nparts; i++)
	{
		appendStringInfo(out, "<Part><PartNumber>%d</PartNumber><ETag>", i + 1);
		put_text(out, etags[i]);
		appendStringInfoString(out, "</ETag></Part>");
	}
	appendStringInfoString(out, "</CompleteMultipartUpload>");
}

void
s3_xml_put_delete(StringInfo out, const char *prefix, const char *const *keys, int nkeys)
{
	appendStringInfoString(out, "<Delete><Quiet>true</Quiet>");
	for (int i = 0; i < nkeys; i++)
	{
		appendStringInfoString(out, "<Object><Key>");
		put_text(out, prefix);
		put_text(out, keys[i]);
		appendStringInfoString(out, "</Key></Object>");
	}
	appendStringInfoString(out, "</Delete>");
}
