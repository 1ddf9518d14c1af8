/*
 * sqlstate.h
 *	  The SQLSTATEs of the store's errors.
 */
#ifndef PS_SQLSTATE_H
#define PS_SQLSTATE_H

#define PS_SQLSTATE_SUPERSEDED           "PS001" /* a newer compute runs this timeline: stop */
#define PS_SQLSTATE_NOT_FOUND            "PS002" /* no such tenant or timeline */
#define PS_SQLSTATE_TRY_AGAIN            "PS003" /* the store is stopping or starting: reconnect */
#define PS_SQLSTATE_ELSEWHERE            "PS004" /* a path that the client named means something else to the store */
#define PS_SQLSTATE_RECALLED             "57P05" /* an idle page stream whose place is needed: reconnect when there is something to ask */
#define PS_SQLSTATE_TOO_MANY_CONNECTIONS "53300" /* no page stream for this backend */
#define PS_SQLSTATE_PROTOCOL             "08P01"
#define PS_SQLSTATE_CORRUPTED            "XX001"
#define PS_SQLSTATE_NO_RESOURCES         "53000" /* file descriptors */
#define PS_SQLSTATE_DISK_FULL            "53100"
#define PS_SQLSTATE_OUT_OF_MEMORY        "53200"
#define PS_SQLSTATE_IO                   "58030"
#define PS_SQLSTATE_INVALID              "22023"
#define PS_SQLSTATE_STATE                "55000"
#define PS_SQLSTATE_EXISTS               "42710" /* a branch or tenant of that name, or with that id */
#define PS_SQLSTATE_UNKNOWN              "40003" /* done or not: only the next start of the store will tell */
#define PS_SQLSTATE_CANCELED             "57014"
#define PS_SQLSTATE_INTERNAL             "XX000"
#define PS_SQLSTATE_CONNECTION           "08006"
#define PS_SQLSTATE_SYNTAX               "42601"
#define PS_SQLSTATE_UNSUPPORTED          "0A000"

#endif /* PS_SQLSTATE_H */
