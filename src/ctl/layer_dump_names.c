/*
 * layer_dump_names.c
 *	  Names of the kinds of values, codecs and keys, for the output of layer dump.
 */
#include "ps_fe.h"

#include "layer_dump.h"

const char *const dump_kind_names[DUMP_KINDS] = {"tombstone", "image", "record"};
const char *const dump_codec_names[DUMP_CODECS + 1] = {"none", "lz4", "zstd", "dict", "?"};
const char *const dump_key_names[DUMP_KEY_KINDS] = {
	"unknown", "sizes of relations", "sizes of init forks", "blocks of relations",
	"databases", "relation maps", "SLRU segments", "SLRU pages", "two-phase states", "replication origins",
	"tablespaces", "control file", "states", "files"};
