/*
 * interrupts.c
 *	  Interrupts of a process that waits for the store.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"

#include "interrupts.h"

void
interrupts_check(void)
{
	/*
	 * While interrupts are held off because of LWLocks, a process can still be
	 * terminated and a statement canceled: with one of these flags set,
	 * ProcessInterrupts() raises its error before it does anything that would
	 * not be safe with locks held.  This is not done while a transaction commits
	 * or aborts, when IsTransactionState() is false, because an error could not
	 * be handled.
	 */
	if (InterruptHoldoffCount == 0)
		CHECK_FOR_INTERRUPTS();
	else if (InterruptPending && CritSectionCount == 0 && QueryCancelHoldoffCount == 0 &&
			 !proc_exit_inprogress && IsTransactionState() &&
			 (ProcDiePending || ClientConnectionLost || QueryCancelPending))
	{
		uint32 holdoff = InterruptHoldoffCount;

		InterruptHoldoffCount = 0;
		ProcessInterrupts();
		InterruptHoldoffCount = holdoff;
	}

	/*
	 * The autovacuum launcher, and background workers in general, check this
	 * flag only between two pieces of work.  An ERROR takes them there.  It must
	 * not be FATAL: the postmaster would take the launcher's exit for a crash.
	 */
	if (ShutdownRequestPending && CritSectionCount == 0 && QueryCancelHoldoffCount == 0 &&
		!proc_exit_inprogress && IsTransactionState())
		ereport(ERROR,
				(errcode(ERRCODE_ADMIN_SHUTDOWN),
				 errmsg("canceling wait for the page store because the process is shutting down")));

	/* DROP DATABASE and other commands wait until all processes have done this. */
	if (ProcSignalBarrierPending && CritSectionCount == 0 && !proc_exit_inprogress)
		ProcessProcSignalBarrier();
}
