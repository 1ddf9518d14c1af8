/*
 * commands.h
 *	  What the files with commands share: the commands, as the table in
 *	  commands.c has them; their arguments; rows of their results.
 */
#ifndef PS_COMMANDS_H
#define PS_COMMANDS_H

#include "base/bytesink.h"
#include "serve/session.h"
#include "base/store_clock.h"

/* ---- commands.c ---- */

/* The branch, held by the session, and used until the command ends. */
extern PsError *command_find_branch(Session *session, const char *name, Timeline **tl);

/*
 * "LSN lsn" or "TIME microseconds" of a branch: *at and *lsn are where a branch
 * can begin, *around what that is between.
 */
extern PsError *command_parse_moment(Session *session, const char *what, const char *value, Timeline *tl, Timeline **at,
									 XLogRecPtr *lsn, CommitsAround *around);

extern PsError *command_parse_generation(const char *text, uint64 *generation);

/* Sends a row of n psprintf'd texts, which it frees. */
extern void command_send_row(Conn *conn, char **values, int n);
extern char *command_lsn_text(XLogRecPtr lsn);                /* NULL: it is not known */
extern char *command_time_text(bool known, TimestampTz when); /* the same */
extern char *command_id_text(const PsId *id);

/* What the client sends in a copy, after conn_send_copy_response(). */
extern ByteSource command_copy_source(Session *session);

/* ---- settings_commands.c ---- */
extern PsError *run_settings_list(Session *session, char **args, int nargs);
extern PsError *run_settings_read(Session *session, char **args, int nargs);
extern PsError *run_settings_write(Session *session, char **args, int nargs);

/* ---- branch_commands.c ---- */
extern PsError *run_branch_list(Session *session, char **args, int nargs);
extern PsError *run_branch_create(Session *session, char **args, int nargs);
extern PsError *run_branch_compact(Session *session, char **args, int nargs);
extern PsError *run_verify(Session *session, char **args, int nargs);
extern PsError *run_branch_delete(Session *session, char **args, int nargs);
extern PsError *run_branch_undelete(Session *session, char **args, int nargs);
extern PsError *run_branch_protect(Session *session, char **args, int nargs);
extern PsError *run_branch_unprotect(Session *session, char **args, int nargs);
extern PsError *run_branch_rename(Session *session, char **args, int nargs);
extern PsError *run_branch_reset(Session *session, char **args, int nargs);
extern PsError *run_branch_restore(Session *session, char **args, int nargs);
extern PsError *run_import(Session *session, char **args, int nargs);
extern PsError *run_import_stream(Session *session, char **args, int nargs);

/* ---- backup_commands.c ---- */
extern PsError *run_basebackup(Session *session, char **args, int nargs);
extern PsError *run_basebackup_rehearsal(Session *session, char **args, int nargs);
extern PsError *run_fullbackup(Session *session, char **args, int nargs);

/* "save_files": what a stopped compute leaves to the next (stop_files.h). */
extern PsError *stop_files_run(Session *session, Timeline *tl, uint64 generation, XLogRecPtr lsn);

/* ---- tenant_commands.c ---- */
extern PsError *run_tenant_detach(Session *session, char **args, int nargs);
extern PsError *run_tenant_attach(Session *session, char **args, int nargs);
extern PsError *run_tenant_delete(Session *session, char **args, int nargs);
extern PsError *run_tenant_undelete(Session *session, char **args, int nargs);
extern PsError *run_tenant_list(Session *session, char **args, int nargs);

#endif /* PS_COMMANDS_H */
