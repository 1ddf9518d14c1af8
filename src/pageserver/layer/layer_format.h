/*
 * layer_format.h
 *	  Layer files on disk, byte for byte.
 *
 * All integers are big-endian.  Keys are encoded by ps_key_encode() (18 bytes).
 * Every CRC is CRC-32C as port/pg_crc32c.h computes it: initialized with all
 * ones and inverted at the end.
 *
 * A file is
 *
 *		block 0			the summary
 *		dictionary		optional: see below
 *		values			one after the other, not aligned, up to values_end
 *		zeros			up to the next multiple of 8192
 *		index pages		8192 bytes each, up to the end of the file
 *
 *
 * The summary (8192 bytes)
 *
 *	  offset  size  field
 *	       0     8  magic: "PSMDELTA" or "PSMIMAGE"
 *	       8     4  format version: LAYER_FORMAT_VERSION
 *	      12     4  block size: 8192
 *	      16    16  tenant
 *	      32    16  timeline
 *	      48    18  key_min: smallest key inside (zeros: the file has no entries)
 *	      66    18  key_max: greatest key inside
 *	      84     1  default codec of images (LayerCodec)
 *	      85     1  default codec of records
 *	      86     1  level of a delta file; 0: written by a flush, n: merged from level n - 1
 *	      87     1  zero
 *	      88     8  lsn_start: every version has lsn_start <= LSN < lsn_end
 *	      96     8  lsn_end; in an image file lsn_start + 1
 *	     104     8  values_end: offset of the first byte after the last value
 *	     112     8  index_start: offset of index page 0; values_end rounded up to 8192
 *	     120     4  number of index pages
 *	     124     4  number of leaf pages; these come first in the index, in key order
 *	     128     4  root: index page number
 *	     132     4  levels of the index; 1: the root is a leaf; 0: no entries, no pages
 *	     136     8  number of entries
 *	     144     8  file length; index_start + 8192 * index pages
 *	     152     8  number: unique among the files of a timeline
 *	     160     4  length of the dictionary; 0: none, the values begin at 8192
 *	     164     4  CRC of the dictionary
 *	     168  8020  zeros
 *	    8188     4  CRC of the bytes before
 *
 *
 * A value
 *
 *	  size  field
 *	     1  bits 0-1: ValueKind; bits 2-3: LayerCodec; bits 4-7: zero
 *	     4  stored length: of the payload as it is in the file
 *	     4  CRC of the header without this field, then of the payload
 *	     8  only for records: where the record starts in the WAL
 *	     4  only if the codec is lz4 or zstd: length of the decompressed payload
 *	   ...  payload: a record's xl_tot_len bytes, an image's bytes, nothing for a tombstone
 *
 * Records up to LAYER_DICT_VALUE_MAX bytes may be compressed by zstd with the
 * file's dictionary, which ZDICT (part of zstd) trained on such records.  The
 * payload is then a zstd frame that includes its content's size, but without
 * the 4 bytes of its magic number.
 *
 * A WAL record that changes several pages is stored once and has several
 * entries in the index.
 *
 *
 * An index page (8192 bytes)
 *
 *	  offset  size     field
 *	       0  4        CRC of the rest of the page
 *	       4  4        number of this page
 *	       8  1        level: 0 leaf
 *	       9  1        K: size of a key of this index; delta 26 (key, LSN), image 18 (key)
 *	      10  1        P: length of the prefix that all keys of the page share
 *	      11  1        zero
 *	      12  2        n: number of entries, at least 1
 *	      14  2        zero
 *	      16  P        the prefix
 *	      +P  n*(K-P)  the rest of each key, ascending
 *	      ..  n*6      values, in the same order
 *	      ..           zeros
 *
 * A value in a leaf is 48 bits: offset of the value in the file << 4 | shared
 * << 3 | ValueKind << 1 | will_init.  shared: other entries may refer to the
 * same value.  In an inner page it is the page number of a child, whose first key is
 * the key next to it.  The tree is built from sorted input: every page is as
 * full as possible, each level is a run of pages in key order, the root is the
 * last page.
 */
#ifndef PS_LAYER_FORMAT_H
#define PS_LAYER_FORMAT_H

#define LAYER_FORMAT_VERSION 3

#define LAYER_BLOCK_SIZE  8192
#define LAYER_DELTA_MAGIC "PSMDELTA"
#define LAYER_IMAGE_MAGIC "PSMIMAGE"
#define LAYER_MAGIC_SIZE  8

typedef enum LayerCodec
{
	LAYER_CODEC_NONE = 0,
	LAYER_CODEC_LZ4 = 1,
	LAYER_CODEC_ZSTD = 2,
	LAYER_CODEC_DICT = 3 /* zstd with the file's dictionary */
} LayerCodec;

/* The summary's fields. */
#define SUMMARY_MAGIC        0
#define SUMMARY_VERSION      8
#define SUMMARY_BLOCK_SIZE   12
#define SUMMARY_TENANT       16
#define SUMMARY_TIMELINE     32
#define SUMMARY_KEY_MIN      48
#define SUMMARY_KEY_MAX      66
#define SUMMARY_IMAGE_CODEC  84
#define SUMMARY_RECORD_CODEC 85
#define SUMMARY_LEVEL        86
#define SUMMARY_LSN_START    88
#define SUMMARY_LSN_END      96
#define SUMMARY_VALUES_END   104
#define SUMMARY_INDEX_START  112
#define SUMMARY_INDEX_PAGES  120
#define SUMMARY_LEAF_PAGES   124
#define SUMMARY_ROOT         128
#define SUMMARY_LEVELS       132
#define SUMMARY_ENTRIES      136
#define SUMMARY_FILE_SIZE    144
#define SUMMARY_NUMBER       152
#define SUMMARY_DICT_SIZE    160
#define SUMMARY_DICT_CRC     164
#define SUMMARY_USED         168
#define SUMMARY_CRC          (LAYER_BLOCK_SIZE - 4)

/* A value's header. */
#define BLOB_FLAGS         0
#define BLOB_STORED_LENGTH 1
#define BLOB_CRC           5
#define BLOB_HEADER_MIN    9
#define BLOB_HEADER_MAX    (BLOB_HEADER_MIN + 8 + 4)

/* Longest value, raw or stored: the longest WAL record (WAL_MAX_RECORD of pg/record.h), which a StringInfo can hold. */
#define LAYER_VALUE_MAX ((uint32) 0x3fffdfff)

/* Longest dictionary, and longest record that is compressed with it. */
#define LAYER_DICT_MAX       (64 * 1024)
#define LAYER_DICT_VALUE_MAX 1024

/* An index page. */
#define INDEX_CRC           0
#define INDEX_PAGE_NUMBER   4
#define INDEX_LEVEL         8
#define INDEX_KEY_SIZE      9
#define INDEX_PREFIX_LENGTH 10
#define INDEX_COUNT         12
#define INDEX_PREFIX        16
#define INDEX_VALUE_SIZE    6

#define IMAGE_KEY_SIZE 18
#define DELTA_KEY_SIZE 26

/* An entry's value: bits below the offset. */
#define ENTRY_WILL_INIT    0x1
#define ENTRY_KIND_SHIFT   1
#define ENTRY_SHARED       0x8
#define ENTRY_OFFSET_SHIFT 4

/* Offsets of values are less than this: 44 bits are left for them. */
#define LAYER_OFFSET_LIMIT (UINT64CONST(1) << 44)

#define LAYER_LEVEL_MAX 15

#endif /* PS_LAYER_FORMAT_H */
