/*
 * audit.c
 *	  Descriptions of those who ask the store for something, for the log.
 */
#include "ps_fe.h"

#include <netdb.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "serve/serve_impl.h"

/* Appends "uid 0 (root)", or "uid 0" if the user has no name here. */
static void
append_user(StringInfo out, uid_t uid)
{
	char buf[4096];
	struct passwd pw;
	struct passwd *found = NULL;

	appendStringInfo(out, "uid %u", (unsigned int) uid);
	if (getpwuid_r(uid, &pw, buf, sizeof(buf), &found) == 0 && found != NULL)
		appendStringInfo(out, " (%s)", found->pw_name);
}

char *
audit_sender(pid_t pid, uid_t uid)
{
	StringInfoData out;

	initStringInfo(&out);
	append_user(&out, uid);
	appendStringInfo(&out, ", PID %d", (int) pid);
	return out.data;
}

/* Appends the client's address of a TCP connection. */
static void
append_address(StringInfo out, int fd)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	char host[NI_MAXHOST];
	char port[NI_MAXSERV];

	if (getpeername(fd, (struct sockaddr *) &addr, &len) == 0 &&
		getnameinfo((struct sockaddr *) &addr, len, host, sizeof(host), port, sizeof(port),
					NI_NUMERICHOST | NI_NUMERICSERV) == 0)
		appendStringInfo(out, "%s, port %s", host, port);
	else
		appendStringInfoString(out, "an unknown address");
}

char *
audit_peer(int fd, const Startup *startup)
{
	struct sockaddr_storage own;
	socklen_t own_len = sizeof(own);
	struct ucred cred;
	socklen_t cred_len = sizeof(cred);
	StringInfoData out;

	initStringInfo(&out);
	if (getsockname(fd, (struct sockaddr *) &own, &own_len) != 0 || own.ss_family != AF_UNIX)
		append_address(&out, fd);
	else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_len) == 0)
	{
		append_user(&out, cred.uid);
		appendStringInfo(&out, ", PID %d, Unix socket", (int) cred.pid);
	}
	else
		appendStringInfoString(&out, "Unix socket");
	appendStringInfo(&out, ", program \"%.64s\", user \"%.64s\"", startup->application_name, startup->user);
	return out.data;
}

void
audit_log(const char *who, const char *what, ...)
{
	char text[1024];
	va_list args;

	va_start(args, what);
	vsnprintf(text, sizeof(text), what, args);
	va_end(args);
	ps_log(PS_LOG, "%s, by %s", text, who);
}
