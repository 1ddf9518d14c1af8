/*
 * json_text.h
 *	  Texts of any encoding in JSON, such as comments of postgresql.conf: a string,
 *	  or {"base64": ...} if the text is not UTF-8.
 */
#ifndef PS_JSON_TEXT_H
#define PS_JSON_TEXT_H

#include <jansson.h>

#include "common/base64.h"

static inline json_t *
json_text_encode(const char *text)
{
	json_t *value = json_string(text);
	int len = strlen(text);
	char *base64;
	int n;

	if (value != NULL)
		return value;
	base64 = pg_malloc(pg_b64_enc_len(len) + 1);
	n = pg_b64_encode(text, len, base64, pg_b64_enc_len(len));
	value = json_pack("{s:s#}", "base64", base64, n);
	free(base64);
	return value;
}

/* malloc'd; NULL if the value is not such a text. */
static inline char *
json_text_decode(const json_t *value)
{
	const char *base64 = json_string_value(json_object_get(value, "base64"));
	char *text;
	int n;

	if (json_is_string(value))
		return pg_strdup(json_string_value(value));
	if (base64 == NULL)
		return NULL;
	text = pg_malloc(pg_b64_dec_len(strlen(base64)) + 1);
	n = pg_b64_decode(base64, strlen(base64), text, pg_b64_dec_len(strlen(base64)));
	text[Max(n, 0)] = '\0';
	if (n >= 0 && strlen(text) == n)
		return text;
	free(text);
	return NULL;
}

#endif /* PS_JSON_TEXT_H */
