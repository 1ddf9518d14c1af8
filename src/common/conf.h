/*
 * conf.h
 *	  Reading postgresql.conf as text: what the store and pageserver_ctl must
 *	  know of a cluster's settings without a running server.
 *
 * One file at a time: include directives are not followed.
 */
#ifndef PS_CONF_H
#define PS_CONF_H

#include "lib/stringinfo.h"

/* File that a base backup makes and that postgresql.conf includes at its end. */
#define PS_CONF_FILE "pageserver_smgr.conf"
#define PS_LIBRARY   "pageserver_smgr"

/* What postgresql.conf ends with in a base backup. */
#define PS_CONF_LAST_LINES                                                             \
	"\n# Settings of the compute, made by the page server. Must stay the last line.\n" \
	"include '" PS_CONF_FILE "'\n"

/* One that the start of a compute makes, and that postgresql.conf includes at its beginning: what the owner sets wins. */
#define PS_DEFAULTS_FILE "pageserver_smgr.defaults.conf"

/* Does the setting say which compute this is, of which store?  The start of a compute sets these, nobody else may. */
extern bool conf_is_of_compute(const char *name);

/*
 * PG_VERSION of a compute's directory, except while pageserver_ctl starts it: a
 * server that is started by other means shows the first word, at most 63
 * bytes, and ends (ValidatePgVersion()).
 */
#define PS_NO_VERSION                                             \
	"0-of-a-compute;start-it-with:pageserver_ctl-compute-start\n" \
	"This is the directory of a compute. It can be started by \"pageserver_ctl compute start\" only.\n"

/* The value that counts (the last), without quotes, malloc'd; NULL if the name is not set. */
extern char *conf_value(const char *text, const char *name);

/* How many lines set the name. */
extern int conf_count(const char *text, const char *name);

/* Copies text; lines that set one of the names (NULL ends the list) become comments that say why. */
extern void conf_disable(StringInfo out, const char *text, const char *const *names, const char *why);

/*
 * Copies the text of an imported cluster's postgresql.conf.  What names other
 * files of its machine would make a compute read them, or fail: such lines
 * become comments.  pageserver_smgr goes from the libraries: a base backup adds
 * it, and an export must start without it.
 */
extern void conf_adopt(StringInfo out, const char *text);

/*
 * Copies text; in the place of each line with include, include_dir or
 * include_if_exists stands what the callback appends for it.
 */
extern void conf_resolve(StringInfo out, const char *text,
						 void (*callback)(void *arg, StringInfo out, const char *directive, const char *value), void *arg);

/* Is the library in the list, as shared_preload_libraries has it? */
extern bool conf_list_has(const char *list, const char *library);

/* The list without the library; malloc'd. */
extern char *conf_list_remove(const char *list, const char *library);

/* The list of shared_preload_libraries with pageserver_smgr in it, last if it was not there; malloc'd. */
extern char *conf_preload_with_ours(const char *list);

/*
 * The value of shared_preload_libraries that loads what the cluster's files
 * ask for and pageserver_smgr last; malloc'd.  auto_conf is the text of
 * postgresql.auto.conf, which wins.
 */
extern char *conf_preload_libraries(const char *conf, const char *auto_conf);

/* Copies text without the lines that set the name; a last line without a newline gets one. */
extern void conf_remove(StringInfo out, const char *text, const char *name);

/* Calls back for each line that sets something, in their order. */
extern void conf_each(const char *text, void (*callback)(void *arg, const char *name, const char *value), void *arg);

/* Does the text include the file, by a line of its own? */
extern bool conf_includes(const char *text, const char *file);

/* name = 'value', quoted, and a newline */
extern void conf_put(StringInfo out, const char *name, const char *value);

#endif /* PS_CONF_H */
