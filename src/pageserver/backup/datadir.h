/*
 * datadir.h
 *	  What a data directory contains, by PostgreSQL's own rules.
 */
#ifndef PS_DATADIR_H
#define PS_DATADIR_H

#include "lib/stringinfo.h"

#include "base/error.h"
#include "key.h"
#include "rel.h"

/* One fork of a relation and its length. */
typedef struct ForkSize
{
	PsRel rel;
	ForkNumber fork;
	BlockNumber nblocks;
} ForkSize;

typedef struct DataDirDatabase
{
	Oid spc;
	Oid db; /* 0: the shared relations */
} DataDirDatabase;

typedef struct DataDirTablespace
{
	Oid oid;
	char *location; /* "" for a directory in pg_tblspc itself */
} DataDirTablespace;

typedef struct DataDirSlru
{
	PsSlru slru;
	uint32 segno;
	uint32 pages;
} DataDirSlru;

/* The contents of a data directory.  Each array is in the order of its keys (key.h). */
typedef struct DataDir
{
	char *path;
	ForkSize *forks; /* all forks of permanent relations, the init forks of unlogged ones */
	size_t nforks;
	uint64 nblocks;             /* sum over forks */
	size_t nunlogged;           /* unlogged relations, whose contents are left out */
	DataDirDatabase *databases; /* directories that hold a pg_filenode.map */
	size_t ndatabases;
	DataDirTablespace *tablespaces;
	size_t ntablespaces;
	DataDirSlru *slrus;
	size_t nslrus;
	TransactionId *twophase; /* transactions that have a state file */
	size_t ntwophase;
} DataDir;

/* Lists a data directory, without reading its files.  datadir_free() must follow, also after an error. */
extern PsError *datadir_read(const char *pgdata, DataDir *dir);
extern void datadir_free(DataDir *dir);

/*
 * Appends the contents of a small file to out.  *found is false if there is no
 * such file; if found is NULL, that is an error.
 */
extern PsError *datadir_read_file(const char *pgdata, const char *name, StringInfo out, bool *found);

/* The key of a settings file: the CRC-32C of its name. */
extern PsKey datadir_aux_key(const char *name);

#endif /* PS_DATADIR_H */
