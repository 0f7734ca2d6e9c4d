/*
 * coro.c - the stacks, the few instructions that change from one to another, and what the
 * sanitizers must be told about it. See coro.h.
 *
 * Idea: a switch is a call. So the compiler has saved every register but those that a callee must
 * keep; we push these, store the stack pointer, load the other one and pop the same set. A new
 * coroutine gets a stack on which such a set lies ready, whose return address is a trampoline.
 * The last step is an indirect jump, not `ret`: the CPU predicts returns from the calls it saw,
 * and there was none on this stack.
 *
 * Always:   a stack that is not running holds one struct coro_frame at its stack pointer.
 * Unwinds:  the trampoline's call frame information says that nobody called it, and its frame
 *           pointer is 0, so gdb, ASan, perf and BPF end there.
 * Fails by: see coro.h.
 */
#include "daemon/runtime/coro.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
	CORO_PAGE_BYTES = 4096,
	/* Redzones and the frames of the sanitizers' own checks. */
	CORO_STACK_FACTOR = ELOQ_ASAN || ELOQ_TSAN ? 4 : 1,
	/* Tops that are a multiple of a page apart all fall into the same few sets of the L1 cache:
	 * with 1000 tasks in turn that each touch 512 bytes a switch takes 47 ns so, and 26 if the
	 * tops are spread over a page. */
	CORO_TOP_STEP_BYTES = 256,
	CORO_TOP_STEPS = CORO_PAGE_BYTES / CORO_TOP_STEP_BYTES,
};

/* A slot is, upwards: guard page, stack, one page over which the tops are spread. */
struct eloq_coro_stacks {
	char *base;
	size_t bytes;
	size_t slot_bytes;
	size_t stack_bytes;
	unsigned count;
};

/* Where a new stack starts. Not to be called. */
void eloq_coro_trampoline(void);

#if defined(__x86_64__)

/* As eloq_coro_switch() pushes it, lowest address first. */
struct coro_frame {
	uint32_t mxcsr;
	uint16_t x87_control;
	uint16_t padding;
	uint64_t r15, r14;
	void (*entry)(struct eloq_coro *coro); /* r13 */
	struct eloq_coro *coro;		       /* r12 */
	uint64_t rbx, rbp;
	void (*return_to)(void);
};
static_assert(sizeof(struct coro_frame) == 64, "eight words; keeps the stack 16-byte aligned");

static const struct coro_frame coro_frame_new = { .mxcsr = 0x1f80, .x87_control = 0x037f };

__asm__(".text\n"
	".p2align 4\n"
	".globl eloq_coro_switch\n"
	".hidden eloq_coro_switch\n"
	".type eloq_coro_switch, @function\n"
	"eloq_coro_switch:\n"
	"	.cfi_startproc\n"
	"	pushq %rbp\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	.cfi_rel_offset %rbp, 0\n"
	"	pushq %rbx\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	.cfi_rel_offset %rbx, 0\n"
	"	pushq %r12\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	.cfi_rel_offset %r12, 0\n"
	"	pushq %r13\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	.cfi_rel_offset %r13, 0\n"
	"	pushq %r14\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	.cfi_rel_offset %r14, 0\n"
	"	pushq %r15\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	.cfi_rel_offset %r15, 0\n"
	"	subq $8, %rsp\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	stmxcsr (%rsp)\n"
	"	fnstcw 4(%rsp)\n"
	/* Loading a control register costs more than all the rest, and they hardly ever differ. Of
	 * mxcsr only the control bits count: the flags below them are nobody's to keep. */
	"	movl (%rsp), %eax\n"
	"	xorl (%rsi), %eax\n"
	"	testl $0xffc0, %eax\n"
	"	jne 2f\n"
	"	movw 4(%rsp), %ax\n"
	"	cmpw 4(%rsi), %ax\n"
	"	jne 2f\n"
	"1:	movq %rsp, (%rdi)\n"
	"	movq %rsi, %rsp\n" /* the same shape lies there: the frame information still holds
				    */
	"	addq $8, %rsp\n"
	"	.cfi_remember_state\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	popq %r15\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	.cfi_restore %r15\n"
	"	popq %r14\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	.cfi_restore %r14\n"
	"	popq %r13\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	.cfi_restore %r13\n"
	"	popq %r12\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	.cfi_restore %r12\n"
	"	popq %rbx\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	.cfi_restore %rbx\n"
	"	popq %rbp\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	.cfi_restore %rbp\n"
	"	popq %rcx\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	.cfi_register %rip, %rcx\n"
	"	jmpq *%rcx\n"
	"	.cfi_restore_state\n"
	"2:	ldmxcsr (%rsi)\n"
	"	fldcw 4(%rsi)\n"
	"	jmp 1b\n"
	"	.cfi_endproc\n"
	".size eloq_coro_switch, . - eloq_coro_switch\n"
	".globl eloq_coro_trampoline\n"
	".hidden eloq_coro_trampoline\n"
	".type eloq_coro_trampoline, @function\n"
	"eloq_coro_trampoline:\n"
	"	.cfi_startproc\n"
	"	.cfi_undefined %rip\n"
	"	movq %r12, %rdi\n"
	"	callq *%r13\n"
	"	ud2\n"
	"	.cfi_endproc\n"
	".size eloq_coro_trampoline, . - eloq_coro_trampoline\n");

#elif defined(__aarch64__)

/* As eloq_coro_switch() stores it, lowest address first. */
struct coro_frame {
	struct eloq_coro *coro;		       /* x19 */
	void (*entry)(struct eloq_coro *coro); /* x20 */
	uint64_t x21_x28[8];
	uint64_t x29;
	void (*return_to)(void); /* x30 */
	uint64_t d8_d15[8];
	uint64_t fpcr;
	uint64_t padding;
};
static_assert(sizeof(struct coro_frame) == 176, "the number below; keeps 16-byte alignment");

static const struct coro_frame coro_frame_new;

__asm__(".text\n"
	".p2align 4\n"
	".globl eloq_coro_switch\n"
	".hidden eloq_coro_switch\n"
	".type eloq_coro_switch, %function\n"
	"eloq_coro_switch:\n"
	"	.cfi_startproc\n"
	"	sub sp, sp, #176\n"
	"	.cfi_def_cfa_offset 176\n"
	"	stp x19, x20, [sp, #0]\n"
	"	stp x21, x22, [sp, #16]\n"
	"	stp x23, x24, [sp, #32]\n"
	"	stp x25, x26, [sp, #48]\n"
	"	stp x27, x28, [sp, #64]\n"
	"	stp x29, x30, [sp, #80]\n"
	"	.cfi_offset x29, -96\n"
	"	.cfi_offset x30, -88\n"
	"	stp d8, d9, [sp, #96]\n"
	"	stp d10, d11, [sp, #112]\n"
	"	stp d12, d13, [sp, #128]\n"
	"	stp d14, d15, [sp, #144]\n"
	"	mrs x9, fpcr\n"
	"	str x9, [sp, #160]\n"
	"	mov x10, sp\n"
	"	str x10, [x0]\n"
	"	mov sp, x1\n" /* the same shape lies there: the frame information still holds */
	"	ldr x10, [sp, #160]\n"
	"	cmp x10, x9\n"
	"	b.eq 1f\n" /* writing it is slow, and it hardly ever differs */
	"	msr fpcr, x10\n"
	"1:	ldp x19, x20, [sp, #0]\n"
	"	ldp x21, x22, [sp, #16]\n"
	"	ldp x23, x24, [sp, #32]\n"
	"	ldp x25, x26, [sp, #48]\n"
	"	ldp x27, x28, [sp, #64]\n"
	"	ldp x29, x30, [sp, #80]\n"
	"	.cfi_restore x29\n"
	"	.cfi_restore x30\n"
	"	ldp d8, d9, [sp, #96]\n"
	"	ldp d10, d11, [sp, #112]\n"
	"	ldp d12, d13, [sp, #128]\n"
	"	ldp d14, d15, [sp, #144]\n"
	"	add sp, sp, #176\n"
	"	.cfi_def_cfa_offset 0\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size eloq_coro_switch, . - eloq_coro_switch\n"
	".globl eloq_coro_trampoline\n"
	".hidden eloq_coro_trampoline\n"
	".type eloq_coro_trampoline, %function\n"
	"eloq_coro_trampoline:\n"
	"	.cfi_startproc\n"
	"	.cfi_undefined x30\n"
	"	mov x0, x19\n"
	"	blr x20\n"
	"	brk #0\n"
	"	.cfi_endproc\n"
	".size eloq_coro_trampoline, . - eloq_coro_trampoline\n");

#else
#error "coro.c knows x86-64 and aarch64"
#endif

/* The first C function on a new stack. Its locals would stay there after the end: it has none. */
static void coro_main(struct eloq_coro *coro)
{
	eloq_coro_entered(coro);
	coro->fn(coro->arg);
	coro->ended = true;
	eloq_coro_leaves(coro);
	eloq_coro_switch(&coro->sp, coro->caller_sp);
}

int eloq_coro_stacks_open(struct eloq_coro_stacks **ret_stacks, unsigned count, size_t stack_bytes)
{
	struct eloq_coro_stacks *stacks;
	size_t slot_bytes, bytes;
	int r;

	if (count == 0 || stack_bytes == 0 || stack_bytes % CORO_PAGE_BYTES != 0)
		return -EINVAL;
	if (__builtin_mul_overflow(stack_bytes, (size_t)CORO_STACK_FACTOR, &stack_bytes) ||
	    __builtin_add_overflow(stack_bytes, (size_t)2 * CORO_PAGE_BYTES, &slot_bytes) ||
	    __builtin_mul_overflow(slot_bytes, (size_t)count, &bytes))
		return -EINVAL;

	stacks = malloc(sizeof(*stacks));
	if (!stacks)
		return -ENOMEM;
	*stacks = (struct eloq_coro_stacks){
		.bytes = bytes,
		.slot_bytes = slot_bytes,
		.stack_bytes = stack_bytes,
		.count = count,
	};
	stacks->base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (stacks->base == MAP_FAILED) {
		r = -errno;
		goto out_free;
	}
	for (unsigned i = 0; i < count; i++) {
		if (mprotect(stacks->base + i * slot_bytes, CORO_PAGE_BYTES, PROT_NONE) < 0) {
			r = -errno;
			goto out_unmap;
		}
	}
	*ret_stacks = stacks;
	return 0;

out_unmap:
	(void)munmap(stacks->base, bytes);
out_free:
	free(stacks);
	return r;
}

void eloq_coro_stacks_close(struct eloq_coro_stacks *stacks)
{
	if (!stacks)
		return;
	(void)munmap(stacks->base, stacks->bytes);
	free(stacks);
}

void eloq_coro_init(struct eloq_coro *coro, struct eloq_coro_stacks *stacks, unsigned index)
{
	eloq_assert(index < stacks->count);
	*coro = (struct eloq_coro){
		.stack = stacks->base + index * stacks->slot_bytes + CORO_PAGE_BYTES,
		.stack_bytes = stacks->stack_bytes +
			       (size_t)(index % CORO_TOP_STEPS) * CORO_TOP_STEP_BYTES,
		.ended = true,
	};
}

void eloq_coro_start(struct eloq_coro *coro, void (*fn)(void *arg), void *arg)
{
	struct coro_frame *frame = (struct coro_frame *)(coro->stack + coro->stack_bytes) - 1;

	eloq_assert(coro->ended);
	*frame = coro_frame_new;
	frame->entry = coro_main;
	frame->coro = coro;
	frame->return_to = eloq_coro_trampoline;
	coro->sp = frame;
	coro->fn = fn;
	coro->arg = arg;
	coro->ended = false;
	coro->sanitizer.fake_stack = NULL;
#if ELOQ_TSAN
	coro->sanitizer.fiber = __tsan_create_fiber(0);
#endif
}
