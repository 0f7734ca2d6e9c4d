/*
 * compiler.h - what the compiler can be told, in one place.
 *
 * Only macros that make code clearer or that the compiler checks. eloq_assert() stays on in
 * release builds: a shard that stops is restarted, a shard that goes on wrongly corrupts files.
 * It is for promises of our own code; bytes from clients, disks and files are checked and refused.
 */
#ifndef ELOQ_COMMON_COMPILER_H
#define ELOQ_COMMON_COMPILER_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define eloq_likely(x)	 __builtin_expect(!!(x), 1)
#define eloq_unlikely(x) __builtin_expect(!!(x), 0)

#define ELOQ_UNUSED	    __attribute__((unused))
#define ELOQ_NODISCARD	    __attribute__((warn_unused_result))
#define ELOQ_NORETURN	    __attribute__((noreturn))
#define ELOQ_NOINLINE	    __attribute__((noinline))
#define ELOQ_PRINTF(f, a)   __attribute__((format(printf, f, a)))
#define ELOQ_CLEANUP(fn)    __attribute__((cleanup(fn)))
#define ELOQ_ALIGNED(bytes) __attribute__((aligned(bytes)))

#define ELOQ_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* The structure that contains @member at @ptr. */
#define eloq_container_of(ptr, type, member) \
	((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Bytes that two writers must keep apart: a line, and a pair of lines as CPUs prefetch them. */
enum { ELOQ_CACHE_LINE = 64, ELOQ_CACHE_PAIR = 128 };

#if defined(__SANITIZE_ADDRESS__)
#define ELOQ_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ELOQ_ASAN 1
#endif
#endif
#ifndef ELOQ_ASAN
#define ELOQ_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__)
#define ELOQ_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ELOQ_TSAN 1
#endif
#endif
#ifndef ELOQ_TSAN
#define ELOQ_TSAN 0
#endif

/* Tells the CPU that this is a spin loop. */
static inline void eloq_cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#endif
}

/* Writes one line with the place and the condition to stderr and aborts. */
ELOQ_NORETURN void eloq_assert_fail(const char *condition, const char *file, int line);

#define eloq_assert(condition)                                            \
	do {                                                              \
		if (eloq_unlikely(!(condition)))                          \
			eloq_assert_fail(#condition, __FILE__, __LINE__); \
	} while (0)

/* Checks too dear for release: whole structures walked, pages verified again. */
#ifdef ELOQ_SLOW_CHECKS
#define eloq_assert_slow(condition) eloq_assert(condition)
#else
#define eloq_assert_slow(condition) ((void)sizeof(condition))
#endif

static inline uint64_t eloq_min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t eloq_max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* @value rounded up to a multiple of @align, a power of two. */
static inline uint64_t eloq_round_up(uint64_t value, uint64_t align)
{
	return (value + align - 1) & ~(align - 1);
}

static inline int eloq_is_power_of_two(uint64_t value)
{
	return value != 0 && (value & (value - 1)) == 0;
}

#endif
