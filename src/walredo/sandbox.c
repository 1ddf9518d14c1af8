/*
 * sandbox.c
 *	  Forbids all system calls that redo does not need.
 *
 * WAL and pages come from outside.  An attacker who can write them may try to take
 * over a helper through a bug in a redo function.  In the sandbox he gains the memory
 * of one helper and three pipes.
 */
#include "postgres.h"

#include <errno.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#include "walredo.h"

static void
allow(scmp_filter_ctx filter, int syscall, unsigned nargs, struct scmp_arg_cmp arg)
{
	int rc = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, syscall, nargs, &arg);

	if (rc != 0)
		elog(FATAL, "could not allow system call %d in the seccomp filter: %s", syscall, strerror(-rc));
}

/*
 * There is no way back.  Any other system call kills the process (SIGSYS).
 *
 * read, write, writev			the pipes and standard error
 * brk, mmap, mremap, munmap	malloc; mmap of nothing executable
 * futex						semaphores of LWLocks
 * clock_gettime, gettimeofday	time stamps, where the vDSO cannot provide them
 * rt_sigprocmask, rt_sigaction, getpid, gettid, tgkill (to itself only)
 *							abort() after a PANIC
 * rt_sigreturn				return from a signal handler
 * exit, exit_group
 */
void
walredo_enter_sandbox(void)
{
	static const int calls[] = {
		SCMP_SYS(read),
		SCMP_SYS(write),
		SCMP_SYS(writev),
		SCMP_SYS(brk),
		SCMP_SYS(mremap),
		SCMP_SYS(munmap),
		SCMP_SYS(futex),
		SCMP_SYS(clock_gettime),
		SCMP_SYS(gettimeofday),
		SCMP_SYS(rt_sigprocmask),
		SCMP_SYS(rt_sigaction),
		SCMP_SYS(rt_sigreturn),
		SCMP_SYS(getpid),
		SCMP_SYS(gettid),
		SCMP_SYS(exit),
		SCMP_SYS(exit_group),
	};
	const struct scmp_arg_cmp none = {0};
	scmp_filter_ctx filter;
	int rc;

	filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (filter == NULL)
		elog(FATAL, "could not create a seccomp filter");
	for (int i = 0; i < lengthof(calls); i++)
		allow(filter, calls[i], 0, none);
	allow(filter, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	allow(filter, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t) getpid()));

	/* also sets PR_SET_NO_NEW_PRIVS */
	rc = seccomp_load(filter);
	if (rc != 0)
		elog(FATAL, "could not load the seccomp filter: %s", strerror(-rc));
	seccomp_release(filter);
}
