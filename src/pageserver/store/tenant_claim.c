/*
 * tenant_claim.c
 *	  Ensures that only one store of a machine has a tenant in service.
 *
 * The directory of a tenant can be copied to another store, and both stores would serve
 * the tenant.  While a store serves a tenant it listens on an abstract Unix socket that is
 * named by the tenant's id.  Only one process can have that, and the kernel releases it
 * when the process ends in any way.  So a second store on the machine is refused.  Stores on
 * other machines or in other network namespaces are not detected.
 */
#include "ps_fe.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "sqlstate.h"
#include "store/store_impl.h"

static socklen_t
claim_address(const Tenant *tenant, struct sockaddr_un *addr)
{
	char id[PS_ID_TEXT];

	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	/* a leading zero byte makes the address abstract */
	snprintf(addr->sun_path + 1, sizeof(addr->sun_path) - 1, "pageserver/tenant/%s", ps_id_format(&tenant->id, id));
	return offsetof(struct sockaddr_un, sun_path) + 1 + strlen(addr->sun_path + 1);
}

/* Names the process that has the claim, and its working directory, which is its store. */
static PsError *
claimed_error(const Tenant *tenant, const struct sockaddr_un *addr, socklen_t len)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct ucred cred = {0};
	socklen_t cred_len = sizeof(cred);
	char id[PS_ID_TEXT];
	char link[64];
	char store[MAXPGPATH];
	ssize_t n;

	if (fd < 0 || connect(fd, (const struct sockaddr *) addr, len) != 0 ||
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_len) != 0)
		cred.pid = 0;
	if (fd >= 0)
		close(fd);
	snprintf(link, sizeof(link), "/proc/%d/cwd", (int) cred.pid);
	n = readlink(link, store, sizeof(store) - 1);
	strcpy(store + Max(n, 0), n > 0 ? "" : "?");
	return ps_error_hint(ps_error(PS_SQLSTATE_STATE,
								  "tenant %s is in service in another store of this machine: \"%s\" (PID %d)",
								  ps_id_format(&tenant->id, id), store, (int) cred.pid),
						 "One of the two is a copy: detach or delete it there, or attach it here with --force.");
}

PsError *
tenant_claim(Tenant *tenant)
{
	struct sockaddr_un addr;
	socklen_t len = claim_address(tenant, &addr);
	int fd;

	if (tenant->claim_fd >= 0)
		return NULL;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return ps_error(ps_errno_state(), "could not create a socket: %m");
	if (bind(fd, (struct sockaddr *) &addr, len) == 0 && listen(fd, 4) == 0)
	{
		tenant->claim_fd = fd;
		return NULL;
	}
	if (errno == EADDRINUSE)
	{
		close(fd);
		return claimed_error(tenant, &addr, len);
	}
	close(fd);
	return ps_error(PS_SQLSTATE_IO, "could not claim a tenant with a socket: %m");
}

void
tenant_unclaim(Tenant *tenant)
{
	if (tenant->claim_fd >= 0)
		close(tenant->claim_fd);
	tenant->claim_fd = TENANT_NOT_CLAIMED;
}
