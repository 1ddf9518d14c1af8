/*
 * stop_files.h
 *	  Statistics files, sent to the store when the server stops.
 */
#ifndef PS_STOP_FILES_H
#define PS_STOP_FILES_H

/* From shmem_startup_hook, in the postmaster: registers exit callbacks. */
extern void stop_files_init(void);

#endif /* PS_STOP_FILES_H */
