/*
 * conf.h
 *	  Reading postgresql.conf as text: what the store and pageserver_ctl must know
 *	  about a cluster's settings without a running server.
 *
 * Each function reads one file: include directives are not followed.
 */
#ifndef PS_CONF_H
#define PS_CONF_H

#include "lib/stringinfo.h"

/* File that a base backup creates and that postgresql.conf includes at its end. */
#define PS_CONF_FILE "pageserver_smgr.conf"
#define PS_LIBRARY   "pageserver_smgr"

/* The end of postgresql.conf in a base backup. */
#define PS_CONF_LAST_LINES                                                             \
	"\n# Settings of the compute, made by the page server. Must stay the last line.\n" \
	"include '" PS_CONF_FILE "'\n"

/*
 * File that the start of a compute creates; postgresql.conf includes it at its beginning, so that the owner's settings
 * take precedence.
 */
#define PS_DEFAULTS_FILE "pageserver_smgr.defaults.conf"

/* Does the setting say which compute this is, and of which store?  Only the start of a compute may set it. */
extern bool conf_is_of_compute(const char *name);

/*
 * Contents of PG_VERSION in a compute's directory, except while pageserver_ctl starts
 * it: a server that is started by other means prints the first word, at most 63 bytes,
 * and ends (ValidatePgVersion()).
 */
#define PS_NO_VERSION                                             \
	"0-of-a-compute;start-it-with:pageserver_ctl-compute-start\n" \
	"This is the directory of a compute. It can be started by \"pageserver_ctl compute start\" only.\n"

/* The effective (last) value, without quotes, malloc'd; NULL if the name is not set. */
extern char *conf_value(const char *text, const char *name);

/* The number of lines that set the name. */
extern int conf_count(const char *text, const char *name);

/* Copies text; lines that set one of the names (the list ends with NULL) become comments that give the reason. */
extern void conf_disable(StringInfo out, const char *text, const char *const *names, const char *why);

/*
 * Copies the text of an imported cluster's postgresql.conf.  Lines that name other files
 * of its machine become comments: a compute would read these, or fail.  pageserver_smgr
 * is removed from the libraries: a base backup adds it, and an export must start
 * without it.
 */
extern void conf_adopt(StringInfo out, const char *text);

/*
 * Copies text; each line with include, include_dir or include_if_exists is replaced by
 * what the callback appends for it.
 */
extern void conf_resolve(StringInfo out, const char *text,
						 void (*callback)(void *arg, StringInfo out, const char *directive, const char *value),
						 void *arg);

/* Is the library in the list, which is a value of shared_preload_libraries? */
extern bool conf_list_has(const char *list, const char *library);

/* The list without the library; malloc'd. */
extern char *conf_list_remove(const char *list, const char *library);

/* The list with pageserver_smgr, added at the end if it is not in it; malloc'd. */
extern char *conf_preload_with_ours(const char *list);

/*
 * The value of shared_preload_libraries that loads the libraries of the cluster's files,
 * and pageserver_smgr last; malloc'd.  auto_conf is the text of postgresql.auto.conf,
 * which wins over conf.
 */
extern char *conf_preload_libraries(const char *conf, const char *auto_conf);

/* Copies text without the lines that set the name; adds a newline at its end if that is missing. */
extern void conf_remove(StringInfo out, const char *text, const char *name);

/* Calls back for each line that sets something, in order. */
extern void conf_each(const char *text, void (*callback)(void *arg, const char *name, const char *value), void *arg);

/* Does a line of the text include the file? */
extern bool conf_includes(const char *text, const char *file);

/* Appends name = 'value', quoted, and a newline. */
extern void conf_put(StringInfo out, const char *name, const char *value);

#endif /* PS_CONF_H */
