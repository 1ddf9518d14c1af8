/*
 * pageserver_ctl.c
 *	  The command line of pageserver_ctl.
 */
#include "ps_fe.h"

#include <getopt.h>
#include <limits.h>

#include "ctl.h"
#include "base/version.h"

static const struct option long_options[] = {
	{"directory", required_argument, NULL, 'D'},
	{"store", required_argument, NULL, 'S'},
	{"user", required_argument, NULL, 'U'},
	{"bindir", required_argument, NULL, 'b'},
	{"log", required_argument, NULL, 'l'},
	{"mode", required_argument, NULL, 'm'},
	{"port", required_argument, NULL, 'p'},
	{"options", required_argument, NULL, 'o'},
	{"timeout", required_argument, NULL, 't'},
	{"pgdata", required_argument, NULL, 'g'},
	{"settings-from", required_argument, NULL, 'c'},
	{"debian", required_argument, NULL, 'G'},
	{"wait", no_argument, NULL, 'w'},
	{"no-wait", no_argument, NULL, 'W'},
	{"json", no_argument, NULL, 'j'},
	{"quiet", no_argument, NULL, 'q'},
	{"data-checksums", no_argument, NULL, 'k'},
	{"no-sync", no_argument, NULL, 'N'},
	{"zero-damaged-pages", no_argument, NULL, 'Z'},
	{"from", required_argument, NULL, 'r'},
	{"remote", required_argument, NULL, 'X'},
	{"force", no_argument, NULL, 'f'},
	{"takeover", no_argument, NULL, 'T'},
	{"purge", no_argument, NULL, 'P'},
	{"deleted", no_argument, NULL, 'd'},
	{"values", no_argument, NULL, 'V'},
	{"hexdump", no_argument, NULL, 'x'},
	{"relation", required_argument, NULL, 'R'},
	{"fork", required_argument, NULL, 'F'},
	{"block", required_argument, NULL, 'B'},
	{"limit", required_argument, NULL, 'n'},
	{"all", no_argument, NULL, 'A'},
	{"read", no_argument, NULL, 'E'},
	{"rate", required_argument, NULL, 'M'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'v'},
	{NULL, 0, NULL, 0}};

/* Refers to the help of the command (NULL: of the program) and ends the program. */
static void
bad_usage(const CtlCommand *command)
{
	if (command == NULL)
		pg_log_error_hint("Try \"%s --help\" for more information.", get_progname("pageserver_ctl"));
	else
		pg_log_error_hint("Try \"pageserver_ctl %s%s%s --help\" for more information.", command->name,
						  command->sub ? " " : "", command->sub ? command->sub : "");
	exit(EXIT_USAGE);
}

/* Returns the command named by the first one or two words; ends the program if there is no such command. */
static const CtlCommand *
find_command(int argc, char **argv)
{
	bool known = false;

	for (int i = 0; i < command_table_size; i++)
	{
		if (strcmp(argv[1], command_table[i].name) != 0)
			continue;
		known = true;
		if (command_table[i].sub == NULL || (argc > 2 && strcmp(argv[2], command_table[i].sub) == 0))
			return &command_table[i];
	}
	if (!known)
		pg_log_error("unknown command \"%s\"", argv[1]);
	else if (argc > 2)
		pg_log_error("unknown command \"%s %s\"", argv[1], argv[2]);
	else
		pg_log_error("command \"%s\" requires a subcommand", argv[1]);
	bad_usage(NULL);
	return NULL;
}

static const char *
option_name(int letter)
{
	for (int i = 0; long_options[i].name != NULL; i++)
		if (long_options[i].val == letter)
			return psprintf("--%s", long_options[i].name);
	return "";
}

static void
bad_value(const char *what, const char *value, const char *expected)
{
	pg_log_error("invalid %s \"%s\": must be %s", what, value, expected);
	exit(EXIT_USAGE);
}

static int
parse_timeout(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || value < 1 || value > INT_MAX / 1000)
		bad_value("timeout", text, "a positive number of seconds");
	return value;
}

static int
parse_rate(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || value < 1 || value > 1000000)
		bad_value("rate", text, "a number of megabytes from 1 to 1000000");
	return value;
}

static void
parse_option(Options *options, int c)
{
	switch (c)
	{
		case 'D':
			options->directory = optarg;
			break;
		case 'S':
			options->store = optarg;
			break;
		case 'U':
			options->user = optarg;
			break;
		case 'b':
			options->bindir = optarg;
			break;
		case 'l':
			options->log = optarg;
			break;
		case 'm':
			options->mode = optarg;
			if (strcmp(optarg, "smart") != 0 && strcmp(optarg, "fast") != 0 && strcmp(optarg, "immediate") != 0)
				bad_value("mode", optarg, "smart, fast or immediate");
			break;
		case 'p':
			options->port = optarg;
			if (strspn(optarg, "0123456789") != strlen(optarg) || atoi(optarg) < 1 || atoi(optarg) > 65535)
				bad_value("port", optarg, "a number from 1 to 65535");
			break;
		case 'o':
			options->server_options = optarg;
			break;
		case 't':
			options->timeout = parse_timeout(optarg);
			break;
		case 'g':
			options->pgdata = optarg;
			break;
		case 'c':
			options->settings_from = optarg;
			break;
		case 'G':
			options->debian = optarg;
			break;
		case 'w':
			options->no_wait = false;
			break;
		case 'W':
			options->no_wait = true;
			break;
		case 'j':
			options->json = true;
			break;
		case 'q':
			options->quiet = true;
			break;
		case 'k':
			options->data_checksums = true;
			break;
		case 'X':
			options->remote = optarg;
			break;
		case 'r':
			options->from = optarg;
			break;
		case 'f':
			options->force = true;
			break;
		case 'T':
			options->takeover = true;
			break;
		case 'P':
			options->purge = true;
			break;
		case 'd':
			options->deleted = true;
			break;
		case 'N':
			options->no_sync = true;
			break;
		case 'Z':
			options->zero_damaged_pages = true;
			break;
		case 'V':
			options->values = true;
			break;
		case 'x':
			options->hexdump = true;
			break;
		case 'R':
			options->relation = optarg;
			break;
		case 'F':
			options->fork = optarg;
			break;
		case 'B':
			options->block = optarg;
			break;
		case 'n':
			options->limit = optarg;
			break;
		case 'E':
			options->read = true;
			break;
		case 'A':
			options->all = true;
			break;
		case 'M':
			options->rate = parse_rate(optarg);
			break;
	}
}

/* Does the command have a second word, like "branch list"? */
static bool
has_second_word(const char *name)
{
	for (int i = 0; i < command_table_size; i++)
		if (strcmp(command_table[i].name, name) == 0)
			return command_table[i].sub != NULL;
	return false;
}

/*
 * Removes the libpq environment variables, which are meant for PostgreSQL
 * servers and not for the store.  The servers that this program starts must not
 * inherit them either, because they are clients of the store.  PGPORT is kept,
 * since it is also the default port of a server.
 */
static void
forget_libpq_variables(void)
{
	PQconninfoOption *known = PQconndefaults();

	for (PQconninfoOption *option = known; option != NULL && option->keyword != NULL; option++)
		if (option->envvar != NULL && strcmp(option->envvar, "PGPORT") != 0)
			unsetenv(option->envvar);
	PQconninfoFree(known);
	unsetenv("PGSERVICEFILE");
	unsetenv("PGSYSCONFDIR");
}

/* Runs the command line and returns the exit code. */
static int
run(int argc, char **argv)
{
	Options options = {.user = DEFAULT_USER, .bindir = NULL, .mode = "fast", .timeout = DEFAULT_TIMEOUT};
	const CtlCommand *command;
	int skip;
	int c;

	/* options before the command */
	while ((c = getopt_long(argc, argv, "+S:qh?V", long_options, NULL)) != -1)
	{
		if (c == 'h' || (c == '?' && optopt == '?'))
		{
			command_table_usage();
			return 0;
		}
		if (c == 'v' || (c == 'V' && argv[optind - 1][1] == 'V'))
		{
			printf("pageserver_ctl (pageserver_smgr) %s for PostgreSQL %s\n", PS_VERSION, PG_MAJORVERSION);
			return 0;
		}
		if (c != 'S' && c != 'q')
		{
			if (c != '?')
				pg_log_error("option \"%s\" must follow the command", option_name(c));
			bad_usage(NULL);
		}
		parse_option(&options, c);
	}
	argv[optind - 1] = argv[0];
	argc -= optind - 1;
	argv += optind - 1;
	if (argc < 2)
	{
		pg_log_error("no command specified");
		bad_usage(NULL);
	}
	if (strcmp(argv[1], "help") == 0 || (argc == 3 && strcmp(argv[2], "--help") == 0 && has_second_word(argv[1])))
	{
		command_table_usage();
		return 0;
	}
	command = find_command(argc, argv);
	skip = command->sub ? 2 : 1;
	argv[skip] = argv[0];
	argc -= skip;
	argv += skip;
	optind = 0; /* makes glibc's getopt start over */
	while ((c = getopt_long(argc, argv, "D:S:l:m:p:o:t:wWkNfqR:F:B:n:h?", long_options, NULL)) != -1)
	{
		if (c == 'h' || (c == '?' && optopt == '?'))
		{
			command_table_help(command);
			return 0;
		}
		if (c == '?')
			bad_usage(command);
		if (strchr(command->options, c) == NULL)
		{
			pg_log_error("option \"%s\" is not valid for this command", option_name(c));
			bad_usage(command);
		}
		parse_option(&options, c);
	}
	options.args = argv + optind;
	options.nargs = argc - optind;
	if (options.nargs < command->least || options.nargs > command->most)
	{
		if (options.nargs < command->least)
			pg_log_error("not enough command-line arguments");
		else
			pg_log_error("too many command-line arguments (first is \"%s\")", options.args[command->most]);
		bad_usage(command);
	}
	return command->run(&options);
}

/*
 * Reports an error and returns false if something that was printed could not be
 * written: commands do not check that themselves.  If the reader of a pipe has
 * read enough, like "head", there is no message, as if SIGPIPE were not ignored.
 */
static bool
output_is_written(void)
{
	bool failed = ferror(stdout) != 0;

	/* an earlier failure is repeated to learn its reason; the output is incomplete anyway */
	clearerr(stdout);
	if (failed)
		putchar('\n');
	if (fflush(stdout) == 0 && !failed)
		return true;
	if (!ferror(stdout))
		pg_log_error("could not write all output to standard output");
	else if (errno != EPIPE)
		pg_log_error("could not write to standard output: %m");
	return false;
}

int
main(int argc, char **argv)
{
	int code;

	pg_logging_init(argv[0]);
	signal(SIGPIPE, SIG_IGN);
	forget_libpq_variables();
	code = run(argc, argv);
	return output_is_written() || code != 0 ? code : EXIT_FAILURE;
}
