/*
 * manifest_log.c
 *	  The file of a timeline's manifest: see manifest_log.h.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "port/pg_crc32c.h"
#include "sqlstate.h"
#include "timeline/manifest_log.h"

#define OLD_SUFFIX ".old"

/* "CRC " */
#define CRC_DIGITS  8
#define RECORD_HEAD (CRC_DIGITS + 1)

/* A disk writes a sector completely or not at all. */
#define SECTOR 512

/* The log is not written whole before the changes take this many bytes. */
#define CHANGES_MIN (64 * 1024)

static void
log_path(const char *dir, char path[MAXPGPATH])
{
	snprintf(path, MAXPGPATH, "%s/" MANIFEST_LOG_NAME, dir);
}

/* ---- records ---- */

/* The CRC-32C of what had the CRC "before", followed by data. */
static uint32
continue_crc(uint32 before, const char *data, size_t len)
{
	pg_crc32c crc = before ^ 0xFFFFFFFF;

	COMP_CRC32C(crc, data, len);
	FIN_CRC32C(crc);
	return crc;
}

static void
format_crc(uint32 crc, char head[RECORD_HEAD + 1])
{
	snprintf(head, RECORD_HEAD + 1, "%08x ", crc);
}

/* Is a line without its newline the record that follows one with this CRC?  Then *crc becomes its own. */
static bool
is_record(const char *line, size_t len, uint32 *crc)
{
	char head[RECORD_HEAD + 1];
	uint32 next;

	if (len <= RECORD_HEAD)
		return false;
	next = continue_crc(*crc, line + RECORD_HEAD, len - RECORD_HEAD);
	format_crc(next, head);
	if (memcmp(line, head, RECORD_HEAD) != 0)
		return false;
	*crc = next;
	return true;
}

/* Does a line begin with a whole record that is followed by something other than a newline? */
static bool
begins_with_record(const char *line, size_t len, uint32 before)
{
	char head[RECORD_HEAD + 1];
	uint32 crc = before;

	for (size_t i = RECORD_HEAD; i + 1 < len; i++)
	{
		crc = continue_crc(crc, line + i, 1);
		if (line[i] != '}')
			continue;
		format_crc(crc, head);
		if (memcmp(line, head, RECORD_HEAD) == 0)
			return true;
	}
	return false;
}

/* Is a sector all zeros, as far as the bytes from "begin" to "end" of the file are in it? */
static bool
has_empty_sector(const char *text, size_t begin, size_t end)
{
	while (begin < end)
	{
		size_t next = Min(end, (begin / SECTOR + 1) * SECTOR);
		size_t n = begin;

		while (n < next && text[n] == '\0')
			n++;
		if (n == next)
			return true;
		begin = next;
	}
	return false;
}

/*
 * Is the last line, which is not a record, what a crash left of one?  It goes from "begin" to
 * "end", with its newline if it has one; the record before it has the CRC "before".
 */
static bool
is_torn(const char *text, size_t begin, size_t end, uint32 before)
{
	if (begins_with_record(text + begin, end - begin, before))
		return false;
	return text[end - 1] != '\n' || has_empty_sector(text, begin, end);
}

/*
 * Appends a record to out, from an object that is released.  offset: where it will be in the
 * file.  *crc is that of the record before, and becomes its own.  False: a text is not UTF-8.
 */
static bool
put_record(StringInfo out, json_t *record, uint64 offset, uint32 *crc)
{
	char head[RECORD_HEAD + 1];
	char *text = record != NULL ? json_dumps(record, JSON_COMPACT) : NULL;
	size_t len;
	uint64 in_sector;

	json_decref(record);
	if (text == NULL)
		return false;
	len = strlen(text);

	/* neither its last byte nor the first byte of the next record may be alone in a sector: see manifest_log.h */
	in_sector = (offset + RECORD_HEAD + len + 1) % SECTOR;
	if (in_sector == 1 || in_sector == SECTOR - 1)
	{
		text = pg_realloc(text, len + 2);
		memcpy(text + len - 1, " }", 3);
		len++;
	}
	*crc = continue_crc(*crc, text, len);
	format_crc(*crc, head);
	appendBinaryStringInfo(out, head, RECORD_HEAD);
	appendBinaryStringInfo(out, text, (int) len);
	appendStringInfoChar(out, '\n');
	free(text);
	return true;
}

static PsError *
not_utf8_error(const char *path)
{
	return ps_error(PS_SQLSTATE_INVALID, "could not write manifest \"%s\": a text in it is not UTF-8", path);
}

/* ---- reading ---- */

/* Reads a file from an offset on; *text is NULL if there is none, and free()d by the caller otherwise. */
static PsError *
read_file(const char *path, uint64 offset, char **text, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	size_t cap;
	ssize_t n = 0;
	PsError *err = NULL;

	*text = NULL;
	*len = 0;
	if (fd < 0)
		return errno == ENOENT ? NULL : ps_error(ps_errno_state(), "could not open file \"%s\": %m", path);
	cap = fstat(fd, &st) == 0 && st.st_size > (off_t) offset ? st.st_size - offset + 1 : 1;
	*text = pg_malloc(cap);
	if (offset > 0 && lseek(fd, (off_t) offset, SEEK_SET) < 0)
		n = -1;
	while (n >= 0 && ((n = read(fd, *text + *len, cap - *len)) > 0 || (n < 0 && errno == EINTR)))
	{
		n = Max(n, 0);
		*len += n;
		if (*len < cap)
			continue;
		cap = 2 * cap + SECTOR;
		*text = pg_realloc(*text, cap);
	}
	if (n < 0)
	{
		err = ps_error(ps_errno_state(), "could not read file \"%s\": %m", path);
		free(*text);
		*text = NULL;
	}
	close(fd);
	return err;
}

/* Parses the record in a line, and adds it to *m.  is_state: it must be the whole state, else a change. */
static PsError *
parse_record(const char *path, const char *line, size_t len, bool is_state, Manifest *m)
{
	json_error_t error;
	json_t *record = json_loadb(line + RECORD_HEAD, len - RECORD_HEAD, JSON_REJECT_DUPLICATES, &error);
	PsError *err = NULL;

	if (is_state)
		err = manifest_check_format(record, path);
	if (err == NULL && !(is_state ? manifest_parse_state(record, m) : manifest_apply_change(record, m)))
		err = ps_error(PS_SQLSTATE_CORRUPTED, "manifest \"%s\" has a missing or invalid member", path);
	json_decref(record);
	return err;
}

/* Parses the log; log may be NULL.  despite_damage: parses what is before the damage, if that is a record at least. */
static PsError *
parse_log(const char *path, const char *text, size_t len, bool despite_damage, Manifest *m, ManifestLog *log)
{
	ManifestLog found = {0};
	int n = 0;

	while (found.size < len)
	{
		const char *line = text + found.size;
		const char *newline = memchr(line, '\n', len - found.size);
		size_t line_len = newline != NULL ? (size_t) (newline - line) : len - found.size;
		uint32 before = found.crc;
		PsError *err;

		if (newline == NULL || !is_record(line, line_len, &found.crc))
		{
			bool is_last = newline == NULL || newline + 1 == text + len;

			found.write_whole = n > 0 && is_last && is_torn(text, found.size, len, found.crc);
			if (found.write_whole || (despite_damage && n > 0))
				break;
			return ps_error(PS_SQLSTATE_CORRUPTED, "manifest \"%s\" has a wrong checksum in line %d, at offset %llu",
							path, n + 1, (unsigned long long) found.size);
		}
		err = parse_record(path, line, line_len, n == 0, m);
		if (err != NULL && despite_damage && n > 0)
		{
			ps_error_free(err);
			break;
		}
		if (err != NULL)
			return err;
		found.last = found.size;
		found.before = before;
		found.size += line_len + 1;
		if (n++ == 0)
			found.state_size = found.size;
	}
	if (n == 0)
		return ps_error(PS_SQLSTATE_CORRUPTED, "manifest \"%s\" is empty", path);
	if (!manifest_finish(m) && !despite_damage)
		return ps_error(PS_SQLSTATE_CORRUPTED,
						"manifest \"%s\" drops a layer file that it does not have, or has another one with its number",
						path);
	if (found.write_whole && log != NULL)
		ps_log(PS_LOG, "ignoring what a crash left of the last record of manifest \"%s\", at offset %llu", path,
			   (unsigned long long) found.size);
	if (log != NULL)
		*log = found;
	return NULL;
}

/* *found false: there is no such file. */
static PsError *
read_log(const char *path, bool despite_damage, Manifest *m, ManifestLog *log, bool *found)
{
	char *text;
	size_t len;
	PsError *err;

	memset(m, 0, sizeof(*m));
	*found = true;
	err = read_file(path, 0, &text, &len);
	if (err != NULL)
		return ps_error_context(err, "could not read manifest \"%s\"", path);
	*found = text != NULL;
	if (text == NULL)
		return NULL;
	err = parse_log(path, text, len, despite_damage, m, log);
	free(text);
	if (err != NULL)
		manifest_free(m);
	return err;
}

static PsError *
missing_error(const char *path)
{
	return ps_error(PS_SQLSTATE_CORRUPTED, "could not read manifest \"%s\": %s", path, strerror(ENOENT));
}

PsError *
manifest_read(const char *dir, Manifest *m, ManifestLog *log)
{
	char path[MAXPGPATH];
	char json[MAXPGPATH];
	bool found;

	log_path(dir, path);
	PS_TRY(read_log(path, false, m, log, &found));
	if (found)
		return NULL;
	snprintf(json, sizeof(json), "%s/" MANIFEST_JSON_NAME, dir);
	if (access(json, F_OK) != 0)
		return missing_error(path);
	if (log != NULL)
		*log = (ManifestLog) {.write_whole = true};
	return manifest_read_json(json, m);
}

PsError *
manifest_read_damaged(const char *dir, Manifest *m)
{
	char path[MAXPGPATH];
	char old[MAXPGPATH + 8];
	bool found;
	PsError *err;

	log_path(dir, path);
	err = read_log(path, true, m, NULL, &found);
	if (err == NULL && found)
		return NULL;
	if (err != NULL && ps_error_is_transient(err))
		return err;
	ps_error_free(err);
	snprintf(old, sizeof(old), "%s" OLD_SUFFIX, path);
	PS_TRY(read_log(old, true, m, NULL, &found));
	if (found)
		return NULL;
	snprintf(path, sizeof(path), "%s/" MANIFEST_JSON_NAME OLD_SUFFIX, dir);
	return access(path, F_OK) == 0 ? manifest_read_json(path, m) : missing_error(old);
}

/* ---- writing ---- */

/*
 * Writes data at an offset of the log, and syncs it.  OUTCOME_UNKNOWN: it was written but not
 * synced.
 */
static PsError *
write_synced(const char *path, const void *data, size_t len, uint64 offset, Outcome *outcome)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	PsError *err;

	*outcome = OUTCOME_NOT_DONE;
	if (fd < 0)
		return ps_error(ps_errno_state(), "could not open file \"%s\": %m", path);
	err = fs_write_at(fd, path, data, len, (off_t) offset);
	if (err == NULL)
	{
		*outcome = OUTCOME_DONE;
		if (fdatasync(fd) != 0)
		{
			*outcome = OUTCOME_UNKNOWN;
			err = ps_error(PS_SQLSTATE_UNKNOWN, "could not sync file \"%s\": %m", path);
		}
	}
	close(fd);
	return err;
}

PsError *
manifest_log_confirm(const char *dir, const ManifestLog *log)
{
	char path[MAXPGPATH];
	size_t record_len = log->size - log->last;
	uint32 crc = log->before;
	char *text;
	size_t len;
	Outcome outcome;
	PsError *err;

	/* the first record was synced before the file got its name */
	if (log->last == 0)
		return NULL;
	log_path(dir, path);
	err = read_file(path, log->last, &text, &len);
	/* pages that could not be written may have been dropped and read from the disk since manifest_read() */
	if (err == NULL && (len < record_len || text[record_len - 1] != '\n' || !is_record(text, record_len - 1, &crc)))
		err = ps_error(PS_SQLSTATE_CORRUPTED, "the record at offset %llu of manifest \"%s\" is not there any more",
					   (unsigned long long) log->last, path);
	if (err == NULL)
		err = write_synced(path, text, record_len, log->last, &outcome);
	free(text);
	if (err == NULL)
		return NULL;
	/* nothing has changed, so that the caller may try again */
	if (ps_error_is(err, PS_SQLSTATE_UNKNOWN))
		ps_error_set_state(err, PS_SQLSTATE_IO);
	return ps_error_context(err, "could not write the last record of manifest \"%s\" again", path);
}

bool
manifest_log_is_long(const ManifestLog *log)
{
	return log->size - log->state_size > Max(CHANGES_MIN, log->state_size);
}

PsError *
manifest_log_append(const char *dir, ManifestLog *log, json_t *change, Outcome *outcome)
{
	char path[MAXPGPATH];
	StringInfoData record;
	uint32 crc = log->crc;
	PsError *err;

	Assert(!log->write_whole);
	*outcome = OUTCOME_NOT_DONE;
	log_path(dir, path);
	initStringInfo(&record);
	if (!put_record(&record, change, log->size, &crc))
	{
		pfree(record.data);
		return not_utf8_error(path);
	}
	err = write_synced(path, record.data, record.len, log->size, outcome);
	if (err == NULL)
	{
		log->last = log->size;
		log->size += record.len;
		log->before = log->crc;
		log->crc = crc;
	}
	else
		log->write_whole = true;
	pfree(record.data);
	if (err == NULL)
		return NULL;
	if (*outcome == OUTCOME_UNKNOWN)
		err = ps_error_detail(err, "The change of \"%s\" is visible now, but may be lost in a power failure.", path);
	return ps_error_context(err, "could not write manifest \"%s\"", path);
}

/* Formats the whole log; the caller frees text->data. */
static PsError *
state_text(const char *path, const Manifest *m, StringInfo text, uint32 *crc)
{
	*crc = 0;
	initStringInfo(text);
	if (put_record(text, manifest_state_json(m), 0, crc))
		return NULL;
	pfree(text->data);
	return not_utf8_error(path);
}

/* Writes the old log of a directory that has no log yet; the caller syncs the directory. */
static PsError *
write_old(const char *path, const StringInfoData *text, bool sync)
{
	char old[MAXPGPATH + 8];

	snprintf(old, sizeof(old), "%s" OLD_SUFFIX, path);
	return fs_write_new_file(old, text->data, text->len, sync);
}

PsError *
manifest_write(const char *dir, const Manifest *m, ManifestLog *log, Outcome *outcome)
{
	char path[MAXPGPATH];
	StringInfoData text;
	bool is_first;
	uint32 crc;
	PsError *err = NULL;

	*outcome = OUTCOME_NOT_DONE;
	log_path(dir, path);
	PS_TRY(state_text(path, m, &text, &crc));

	/* in the place of timeline.json: there is no log before this one to be kept */
	is_first = access(path, F_OK) != 0;
	if (is_first)
		err = write_old(path, &text, true);
	if (err == NULL)
		err = fs_replace_file(path, text.data, text.len, is_first ? 0 : FS_KEEP_OLD, outcome);
	if (log != NULL && *outcome != OUTCOME_NOT_DONE)
		*log = (ManifestLog) {.size = text.len,
							  .state_size = text.len,
							  .crc = crc,
							  .write_whole = *outcome == OUTCOME_UNKNOWN};
	pfree(text.data);
	if (err != NULL)
		return ps_error_context(err, "could not write manifest \"%s\"", path);
	manifest_remove_json(dir);
	return NULL;
}

PsError *
manifest_write_new(const char *dir, const Manifest *m, bool sync)
{
	char path[MAXPGPATH];
	StringInfoData text;
	uint32 crc;
	PsError *err;

	log_path(dir, path);
	PS_TRY(state_text(path, m, &text, &crc));
	err = write_old(path, &text, sync);
	if (err == NULL)
		err = fs_write_new_file(path, text.data, text.len, sync);
	pfree(text.data);
	return err;
}

void
manifest_remove_stray(const char *dir)
{
	char path[MAXPGPATH];

	log_path(dir, path);
	fs_remove_stray(path);
	/* a crash came before manifest_write() had removed them */
	if (access(path, F_OK) == 0)
		manifest_remove_json(dir);
}
