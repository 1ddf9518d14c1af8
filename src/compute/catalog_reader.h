/*
 * catalog_reader.h
 *	  Reads catalogs ahead of need, for the time that the store is down.
 */
#ifndef PS_CATALOG_READER_H
#define PS_CATALOG_READER_H

/*
 * For the WAL worker, to be called often.  The first function starts a background
 * worker that reads catalogs if that is due; the second returns the ms until then.
 */
extern void catalog_reader_start(void);
extern long catalog_reader_due(void);

#endif /* PS_CATALOG_READER_H */
