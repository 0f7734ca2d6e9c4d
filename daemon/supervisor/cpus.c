/*
 * cpus.c - which CPU a worker may have to itself.
 *
 * Pinning pays only for a worker that owns a whole core (all of its hardware threads are ours to
 * use and no other worker's), with at least one core left over for clients and everybody else.
 * Otherwise the scheduler knows better. The first cores stay free: interrupts tend to go there.
 */
#include "daemon/supervisor/internal.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

/* "0-3,8": true if every CPU of the list is in @allowed; *ret_first is the lowest of them. */
static bool cpus_list_allowed(const char *list, const cpu_set_t *allowed, unsigned *ret_first)
{
	const char *p = list;

	*ret_first = CPU_SETSIZE;
	while (*p >= '0' && *p <= '9') {
		char *end;
		unsigned long from = strtoul(p, &end, 10), to = from;

		if (*end == '-')
			to = strtoul(end + 1, &end, 10);
		if (to >= CPU_SETSIZE)
			return false;
		for (unsigned long cpu = from; cpu <= to; cpu++)
			if (!CPU_ISSET(cpu, allowed))
				return false;
		if (from < *ret_first)
			*ret_first = (unsigned)from;
		p = *end == ',' ? end + 1 : end;
	}
	return *ret_first < CPU_SETSIZE;
}

/* True if @cpu is the first thread of a core that is ours as a whole. */
static bool cpus_is_whole_core(unsigned cpu, const cpu_set_t *allowed)
{
	char path[96], list[256];
	unsigned first;
	FILE *file;
	bool read_ok;

	(void)snprintf(path, sizeof(path),
		       "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", cpu);
	file = fopen(path, "re");
	if (!file)
		return false;
	read_ok = fgets(list, sizeof(list), file) != NULL;
	(void)fclose(file);
	return read_ok && cpus_list_allowed(list, allowed, &first) && first == cpu;
}

void super_cpus_choose(uint32_t *cpus, unsigned count, bool pin)
{
	uint32_t whole[CPU_SETSIZE];
	unsigned whole_count = 0;
	cpu_set_t allowed;

	for (unsigned i = 0; i < count; i++)
		cpus[i] = ELOQ_CPU_NONE;
	if (!pin || sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
		return;
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &allowed) && cpus_is_whole_core(cpu, &allowed))
			whole[whole_count++] = cpu;
	if (whole_count <= count)
		return;
	for (unsigned i = 0; i < count; i++)
		cpus[i] = whole[whole_count - count + i];
}
