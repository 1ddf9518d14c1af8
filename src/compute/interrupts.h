/*
 * interrupts.h
 *	  What a process that waits for the store must check meanwhile.
 */
#ifndef PS_INTERRUPTS_H
#define PS_INTERRUPTS_H

/*
 * To be called in each loop that waits for the store.  Unlike
 * CHECK_FOR_INTERRUPTS() it also handles a cancel or termination while
 * interrupts are held off, because blocks are read with content locks held; it
 * raises the ERROR that a failed read would raise there.  It also raises an ERROR
 * if ShutdownRequestPending is set.  In critical sections, and while a
 * transaction commits or aborts, it raises nothing.
 */
extern void interrupts_check(void);

#endif /* PS_INTERRUPTS_H */
