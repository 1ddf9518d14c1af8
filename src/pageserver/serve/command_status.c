/*
 * command_status.c
 *	  The command "status": names and values that describe the daemon.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "catalog/pg_type_d.h"

#include "base/version.h"
#include "serve/commands.h"

/* Sends a row for each branch whose WAL waits; returns the number of rows.  Frees the list. */
static int
send_waits(Session *session, Branch **list, int nlist)
{
	int n = 0;

	for (int i = 0; i < nlist; i++)
	{
		char *wait = wal_waits_get(session->server, list[i]);
		TimelineInfo info;
		char *row[2];

		if (wait == NULL)
			continue;
		store_timeline_info(list[i], &info);
		row[0] = pg_strdup("waits");
		row[1] = psprintf("branch \"%s\": %s", info.name, wait);
		command_send_row(&session->conn, row, 2);
		free(wait);
		n++;
	}
	store_list_free(list, nlist);
	return n;
}

PsError *
command_status(Session *session, char **args, int nargs)
{
	static const Column columns[] = {{"name", TEXTOID}, {"value", TEXTOID}};
	Server *server = session->server;
	const Config *config = server->config;
	Conn *conn = &session->conn;
	Branch **list;
	int nbranches;
	int broken;
	int unknown;
	DeletedInfo *deleted;
	int ndeleted;
	uint64 deleted_bytes = 0;
	StoreReadStats reads;
	RemoteInfo remote;
	StreamCounts counts;
	char started[TIME_TEXT_SIZE];
	char tag[32];
	int n = 0;

	list = store_list(server->store, &nbranches);
	deleted = store_list_deleted(server->store, &ndeleted);
	for (int i = 0; i < ndeleted; i++)
		deleted_bytes += deleted[i].info.layer_bytes + deleted[i].info.wal_bytes;
	store_list_deleted_free(deleted, ndeleted);
	store_read_stats(server->store, &reads);
	store_remote_info(server->store, &remote);
	streams_count(server, &counts);
	timeline_time_text(server->started, started);
	store_count_broken(server->store, &broken, &unknown);
	{
		char *rows[][2] = {
			{pg_strdup("version"), pg_strdup(PS_VERSION)},
			{pg_strdup("postgresql"), pg_strdup(PG_VERSION)},
			{pg_strdup("store"), pg_strdup(config->store_dir)},
			{pg_strdup("pid"), psprintf("%d", (int) getpid())},
			{pg_strdup("started"), pg_strdup(started)},
			{pg_strdup("port"), psprintf("%d", config->port)},
			{pg_strdup("unix_socket_directory"), pg_strdup(config->unix_socket_directory)},
			{pg_strdup("listen_addresses"), pg_strdup(config->listen_addresses)},
			{pg_strdup("connections"), psprintf("%d", counts.pages + counts.wal + counts.others + counts.waiting)},
			{pg_strdup("page_streams"), psprintf("%d", counts.pages)},
			{pg_strdup("page_streams_awaited"), psprintf("%d", counts.waiting)},
			{pg_strdup("page_streams_recalled"), psprintf(UINT64_FORMAT, counts.recalls)},
			{pg_strdup("wal_streams"), psprintf("%d", counts.wal)},
			{pg_strdup("max_connections"), psprintf("%d", config->max_connections)},
			{pg_strdup("restart_needed"), pg_strdup(config->restart_needed)},
			{pg_strdup("branches"), psprintf("%d", nbranches - ndeleted)},
			{pg_strdup("branches_not_served"), psprintf("%d", broken)},
			{pg_strdup("branches_keeping_garbage"), psprintf("%d", unknown)},
			{pg_strdup("deleted_branches"), psprintf("%d", ndeleted)},
			{pg_strdup("deleted_bytes"), psprintf(UINT64_FORMAT, deleted_bytes)},
			{pg_strdup("reads"), psprintf(UINT64_FORMAT, reads.reads)},
			{pg_strdup("layers_searched"), psprintf(UINT64_FORMAT, reads.layers_searched)},
			{pg_strdup("page_cache_hits"), psprintf(UINT64_FORMAT, reads.page_cache_hits)},
			{pg_strdup("page_cache_misses"), psprintf(UINT64_FORMAT, reads.page_cache_misses)},
			{pg_strdup("object_storage"), pg_strdup(remote.url)},
			{pg_strdup("upload_files"), psprintf(UINT64_FORMAT, remote.upload_files)},
			{pg_strdup("upload_bytes"), psprintf(UINT64_FORMAT, remote.upload_bytes)},
			{pg_strdup("objects_to_delete"), psprintf(UINT64_FORMAT, remote.deleting)},
			{pg_strdup("object_storage_error"), pg_strdup(remote.error)},
		};

		conn_send_row_description(conn, columns, lengthof(columns));
		for (; n < lengthof(rows); n++)
			command_send_row(conn, rows[n], 2);
	}
	n += send_waits(session, list, nbranches);
	snprintf(tag, sizeof(tag), "SELECT %d", n);
	conn_send_complete(conn, tag);
	return NULL;
}
