/*
 * version.h
 *	  Version of pageserver_smgr: that of the extension in its control file.
 */
#ifndef PS_VERSION_H
#define PS_VERSION_H

#define PS_VERSION "1.0"

#endif /* PS_VERSION_H */
