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
	 * Processes to be stopped, and statements to be cancelled, although
	 * interrupts are held off because of LWLocks: with these flags set
	 * ProcessInterrupts() raises its error before it comes to anything that
	 * would not be safe with locks held.  Not while a transaction commits or
	 * aborts (then IsTransactionState() is false), where an error cannot be
	 * dealt with.
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
	 * The autovacuum launcher, and background workers as they may be, look at
	 * this flag between two pieces of work only.  An error brings them there:
	 * were it FATAL, the launcher's end would count as a crash.
	 */
	if (ShutdownRequestPending && CritSectionCount == 0 && QueryCancelHoldoffCount == 0 &&
		!proc_exit_inprogress && IsTransactionState())
		ereport(ERROR,
				(errcode(ERRCODE_ADMIN_SHUTDOWN),
				 errmsg("canceling a wait for the page store because the process is to shut down")));

	/* DROP DATABASE and others wait until all processes have done this. */
	if (ProcSignalBarrierPending && CritSectionCount == 0 && !proc_exit_inprogress)
		ProcessProcSignalBarrier();
}
