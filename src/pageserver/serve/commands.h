/*
 * commands.h
 *	  The commands of a connection, and what they share: parsing their
 *	  arguments and sending their results.
 */
#ifndef PS_COMMANDS_H
#define PS_COMMANDS_H

#include "base/store_clock.h"
#include "serve/serve_impl.h"

/* ---- command_parser.c ---- */

/*
 * Splits a command at blanks, in place.  'Single quotes' hold a word together
 * ('' is a quote inside); a semicolon at the end is ignored.  Returns the number
 * of words; -1 if a quote is not closed; max + 1 if there are more words.
 */
extern int command_split(char *text, char **words, int max);

/* ---- command_table.c ---- */

/*
 * Runs one command and sends its results.  An error is returned; the caller
 * sends it.
 */
extern PsError *command_execute(Session *session, const char *text, uint32 len);

/* ---- command_args.c ---- */

/* Finds a branch by name.  The session holds it until the command ends. */
extern PsError *command_find_branch(Session *session, const char *name, Timeline **tl);

/*
 * Finds the timeline of the arguments TENANT TIMELINE GENERATION.  The session
 * holds it until the command ends.
 */
extern PsError *command_find_timeline(Session *session, char **args, Timeline **tl, uint64 *generation);

/* Parses a decimal number; "what" names it in the error. */
extern PsError *command_parse_number(const char *what, const char *text, uint64 *value);

extern PsError *command_parse_lsn(const char *text, XLogRecPtr *lsn);

/*
 * Parses a point in the history of a branch: "LSN lsn" or "TIME microseconds".
 * *at and *lsn are where a branch can begin, *around are the commits around it.
 */
extern PsError *command_parse_point(Session *session, const char *what, const char *value, Timeline *tl, Timeline **at,
									XLogRecPtr *lsn, CommitsAround *around);

/* The point that "what" and "value" name, as text for the log.  The caller frees it. */
extern char *command_point_text(const char *what, const char *value);

/*
 * Parses the options after the first "first" arguments: "force" and, unless
 * purge is NULL, "purge", in any order.
 */
extern PsError *command_parse_options(char **args, int nargs, int first, bool *force, bool *purge);

/* ---- command_rows.c ---- */

/* Sends a row of n malloc'd texts (NULL: null), which it frees. */
extern void command_send_row(Conn *conn, char **values, int n);

/* Values for command_send_row(). */
extern char *command_lsn_text(XLogRecPtr lsn);                /* NULL for InvalidXLogRecPtr */
extern char *command_time_text(bool known, TimestampTz when); /* NULL unless known */
extern char *command_id_text(const PsId *id);

/*
 * The commands themselves: nargs arguments, without the name of the command.
 * They send their results; an error is returned.
 */

/* ---- command_backup.c ---- */
extern PsError *command_basebackup(Session *session, char **args, int nargs);
extern PsError *command_basebackup_rehearsal(Session *session, char **args, int nargs);
extern PsError *command_fullbackup(Session *session, char **args, int nargs);

/* ---- command_branch.c ---- */
extern PsError *command_branch_compact(Session *session, char **args, int nargs);
extern PsError *command_branch_create(Session *session, char **args, int nargs);
extern PsError *command_branch_delete(Session *session, char **args, int nargs);
extern PsError *command_branch_protect(Session *session, char **args, int nargs);
extern PsError *command_branch_rename(Session *session, char **args, int nargs);
extern PsError *command_branch_reset(Session *session, char **args, int nargs);
extern PsError *command_branch_restore(Session *session, char **args, int nargs);
extern PsError *command_branch_undelete(Session *session, char **args, int nargs);
extern PsError *command_branch_unprotect(Session *session, char **args, int nargs);
extern PsError *command_import(Session *session, char **args, int nargs);
extern PsError *command_import_stream(Session *session, char **args, int nargs);

/* ---- command_branch_list.c ---- */
extern PsError *command_branch_list(Session *session, char **args, int nargs);

/* ---- command_save_files.c ---- */
extern PsError *command_save_files(Session *session, char **args, int nargs);

/* ---- command_remote.c ---- */
extern PsError *command_remote_check(Session *session, char **args, int nargs);

/* ---- command_settings.c ---- */
extern PsError *command_settings_list(Session *session, char **args, int nargs);
extern PsError *command_settings_read(Session *session, char **args, int nargs);
extern PsError *command_settings_write(Session *session, char **args, int nargs);

/* ---- command_status.c ---- */
extern PsError *command_status(Session *session, char **args, int nargs);

/* ---- command_tenant.c ---- */
extern PsError *command_tenant_attach(Session *session, char **args, int nargs);
extern PsError *command_tenant_delete(Session *session, char **args, int nargs);
extern PsError *command_tenant_detach(Session *session, char **args, int nargs);
extern PsError *command_tenant_list(Session *session, char **args, int nargs);
extern PsError *command_tenant_undelete(Session *session, char **args, int nargs);

/* ---- command_verify.c ---- */
extern PsError *command_verify(Session *session, char **args, int nargs);

/* ---- pagestream.c, wal_push.c ---- */
extern PsError *pagestream_run(Session *session, char **args, int nargs);
extern PsError *wal_push_run(Session *session, char **args, int nargs);

#endif /* PS_COMMANDS_H */
