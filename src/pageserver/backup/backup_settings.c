/*
 * backup_settings.c
 *	  The settings files of a backup: those kept with the branch
 *	  (branch_settings.h) or, if there are none, those of its import.
 */
#include "ps_fe.h"

#include "backup/basebackup.h"
#include "backup/datadir.h"

/* Reads a settings file of the import.  *text is unchanged if there was none. */
static PsError *
read_imported(Timeline *tl, XLogRecPtr lsn, const char *name, char **text)
{
	PsKey key = datadir_aux_key(name);
	size_t skip = strlen(name) + 1;
	StringInfoData value;
	bool found;
	PsError *err;

	initStringInfo(&value);
	err = timeline_read_value(tl, &key, lsn, &value, &found);
	if (err == NULL && found && value.len >= skip && memcmp(value.data, name, skip) == 0)
		*text = pnstrdup(value.data + skip, value.len - skip);
	pfree(value.data);
	return err;
}

PsError *
backup_read_settings(Timeline *tl, XLogRecPtr lsn, BranchSettings *settings)
{
	PsError *err;

	PS_TRY(timeline_read_settings(tl, 0, settings));
	if (settings->version > 0)
		return NULL;
	for (int i = 0; i < SETTINGS_FILES; i++)
	{
		err = read_imported(tl, lsn, settings_file_names[i], &settings->files[i]);
		if (err != NULL)
		{
			branch_settings_free(settings);
			return err;
		}
	}
	return NULL;
}
