/*
 * version.h
 *	  Version of pageserver_smgr: default_version in pageserver_smgr.control (test/check-install compares them).
 */
#ifndef PS_VERSION_H
#define PS_VERSION_H

#define PS_VERSION "1.1"

#endif /* PS_VERSION_H */
