/*
 * config_table.h
 *	  The table of settings, for config.c; see config.h.
 */
#ifndef PS_CONFIG_TABLE_H
#define PS_CONFIG_TABLE_H

#include "base/config.h"

typedef enum SettingType
{
	SETTING_INT,
	SETTING_BOOL,
	SETTING_STRING
} SettingType;

typedef enum SettingUnit
{
	UNIT_NONE,
	UNIT_MB,
	UNIT_MS,
	UNIT_S
} SettingUnit;

/* NULL, or what is wrong with the value; *hint may be set. */
typedef const char *(*CheckString)(const char *value, const char **hint);

typedef struct Setting
{
	const char *section; /* heading, where one begins */
	const char *name;
	SettingType type;
	SettingUnit unit; /* of the number in Config; a number without a unit in the file */
	int min;
	int max;
	const char *default_value; /* as the file would have it */
	size_t offset;             /* in Config */
	CheckString check;
	bool reloads;     /* SIGHUP changes it; else a restart does */
	const char *text; /* for the generated file; "\n" begins a new line */
} Setting;

extern const Setting config_settings[];
extern const int config_nsettings;

/* Settings that do not fit each other, though each is within its limits.  path: the file, for messages. */
extern PsError *config_check_together(const Config *config, const char *path);

#endif /* PS_CONFIG_TABLE_H */
