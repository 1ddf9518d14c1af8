/*
 * command_parser.c
 *	  Splitting a command into words, as psql would type it.
 */
#include "ps_fe.h"

#include <ctype.h>

#include "serve/commands.h"

int
command_split(char *text, char **words, int max)
{
	char *end = text + strlen(text);
	int n = 0;

	while (end > text && (isspace((unsigned char) end[-1]) || end[-1] == ';'))
		*--end = '\0';
	for (char *p = text;;)
	{
		char *out;

		while (isspace((unsigned char) *p))
			p++;
		if (*p == '\0')
			return n;
		if (n == max)
			return max + 1;
		words[n++] = out = p;
		while (*p != '\0' && !isspace((unsigned char) *p))
		{
			if (*p != '\'')
			{
				*out++ = *p++;
				continue;
			}
			for (p++;; p++)
			{
				if (*p == '\0')
					return -1;
				if (*p == '\'' && *++p != '\'')
					break;
				*out++ = *p;
			}
		}
		if (*p != '\0')
			p++;
		*out = '\0';
	}
}
