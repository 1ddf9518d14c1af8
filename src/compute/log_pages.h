/*
 * log_pages.h
 *	  Logging of pages that WAL does not describe completely.
 */
#ifndef PS_LOG_PAGES_H
#define PS_LOG_PAGES_H

/*
 * For the WAL worker, when the server shuts down and no backend is left that
 * writes WAL: performs a checkpoint and logs all sequences.  Errors are logged,
 * not raised.
 */
extern void log_pages_before_shutdown(void);

/* Logs the pages of those sequences of a database (InvalidOid: of all) that are behind their WAL records. */
extern void log_pages_of_sequences(Oid db);

#endif /* PS_LOG_PAGES_H */
