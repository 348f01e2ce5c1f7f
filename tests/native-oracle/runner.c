// Executes instructions of the oracle's cases on the real CPU. Reads batches of cases from standard input and writes a
// result for each to standard output. Every number of the arena and of the records comes from arena.ts by -D.
//
// A case is started by a return from a signal handler to the case's state and ends with the next signal; the handler keeps
// what it finds in the frame and goes on with the next case. Between the first and the last case of a batch nothing else of
// this program runs, and nothing in it uses thread-local storage, because FS belongs to the cases.

#define _GNU_SOURCE
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <cpuid.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define BATCH 4096
#define XSTATE_BV 512
#define LEGACY_COMPONENTS 3
#define FLAGS_KEPT 0x244

static uint8_t cases[BATCH][CASE_SIZE];
static uint8_t results[BATCH][RESULT_SIZE];
static uint32_t count, current;
static int running, handling;
static unsigned code32;
static gregset_t home;
static uint8_t before[DATA_SIZE];
static uint8_t pattern[DATA_SIZE];
static uint8_t *code;
static uint8_t *const data = (uint8_t *)DATA;

#define FIELD(record, offset, type) (*(type *)((record) + (offset)))

static long call(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}

/** Order of the general registers in the frame, by their number in the encoding. */
static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static void load(ucontext_t *context, uint8_t *c) {
  greg_t *regs = context->uc_mcontext.gregs;
  memcpy(code + FIELD(c, CASE_CODE_OFFSET, uint16_t), c + CASE_CODE, c[CASE_CODE_LENGTH]);
  uint16_t patch = FIELD(c, CASE_PATCH_OFFSET, uint16_t), length = FIELD(c, CASE_PATCH_LENGTH, uint16_t);
  memcpy(data + patch, c + CASE_PATCH, length);
  memcpy(before + patch, c + CASE_PATCH, length);
  for (int n = 0; n < 16; n++) regs[order[n]] = FIELD(c, CASE_GPR + 8 * n, uint64_t);
  regs[REG_RIP] = CODE + FIELD(c, CASE_CODE_OFFSET, uint16_t);
  regs[REG_EFL] = FIELD(c, CASE_RFLAGS, uint64_t);
  uint64_t cs = c[CASE_COMPATIBILITY] ? code32 : CODE64;
  // CS 15:0, GS 31:16, FS 47:32, SS 63:48.
  regs[REG_CSGSFS] = (greg_t)(((uint64_t)SELECTOR_DATA << 48) | cs);
  uint8_t *fx = (uint8_t *)context->uc_mcontext.fpregs;
  memcpy(fx, c + CASE_FX, FX_BYTES);
  FIELD(fx, XSTATE_BV, uint64_t) |= LEGACY_COMPONENTS;
}

static void keep(int signal, ucontext_t *context, uint8_t *c, uint8_t *r) {
  greg_t *regs = context->uc_mcontext.gregs;
  for (int n = 0; n < 16; n++) FIELD(r, RESULT_GPR + 8 * n, uint64_t) = regs[order[n]];
  FIELD(r, RESULT_RIP, uint64_t) = regs[REG_RIP];
  FIELD(r, RESULT_RFLAGS, uint64_t) = regs[REG_EFL];
  FIELD(r, RESULT_CR2, uint64_t) = regs[REG_CR2];
  FIELD(r, RESULT_ERROR, uint64_t) = regs[REG_ERR];
  FIELD(r, RESULT_TRAP, uint32_t) = regs[REG_TRAPNO];
  FIELD(r, RESULT_SIGNAL, uint32_t) = signal;
  FIELD(r, RESULT_CS, uint32_t) = regs[REG_CSGSFS] & 0xffff;
  memcpy(r + RESULT_FX, context->uc_mcontext.fpregs, FX_BYTES);
  memset(code + FIELD(c, CASE_CODE_OFFSET, uint16_t), CODE_FILLER, c[CASE_CODE_LENGTH]);

  uint32_t first = 0, end = 0;
  if (memcmp(data, before, DATA_SIZE) != 0) {
    while (data[first] == before[first]) first++;
    end = DATA_SIZE;
    while (data[end - 1] == before[end - 1]) end--;
  }
  uint32_t hash = 0x811c9dc5;
  for (uint32_t n = first; n < end; n++) hash = (hash ^ data[n]) * 0x01000193;
  FIELD(r, RESULT_FIRST, uint32_t) = first;
  FIELD(r, RESULT_END, uint32_t) = end;
  FIELD(r, RESULT_HASH, uint32_t) = hash;
  uint32_t shown = end - first < RESULT_CHANGED_BYTES ? end - first : RESULT_CHANGED_BYTES;
  memcpy(r + RESULT_CHANGED, data + first, shown);
  memcpy(data + first, pattern + first, end - first);
  uint16_t patch = FIELD(c, CASE_PATCH_OFFSET, uint16_t), length = FIELD(c, CASE_PATCH_LENGTH, uint16_t);
  memcpy(data + patch, pattern + patch, length);
  memcpy(before + patch, pattern + patch, length);
}

static void take(int signal, ucontext_t *context) {
  if (running) {
    keep(signal, context, cases[current], results[current]);
    current++;
  } else {
    memcpy(home, context->uc_mcontext.gregs, sizeof home);
    running = 1;
    current = 0;
  }
  if (current < count) {
    load(context, cases[current]);
    return;
  }
  running = 0;
  memcpy(context->uc_mcontext.gregs, home, sizeof home);
  context->uc_mcontext.gregs[REG_RIP] += 2; // behind the UD2 of run()
  uint8_t *fx = (uint8_t *)context->uc_mcontext.fpregs;
  memset(fx, 0, FX_BYTES);
  FIELD(fx, FX_FCW, uint16_t) = 0x37f;
  FIELD(fx, FX_MXCSR, uint32_t) = 0x1f80;
  FIELD(fx, XSTATE_BV, uint64_t) |= LEGACY_COMPONENTS;
}

static void on_signal(int signal, siginfo_t *info, void *frame) {
  (void)info;
  if (handling) call(SYS_exit_group, 70, 0, 0); // a fault of this program's own
  handling = 1;
  take(signal, frame);
  handling = 0;
}

static __attribute__((noinline)) void run(void) { __asm__ volatile("ud2" ::: "memory", "cc"); }

/** Moves so many bytes; 0 at the end of the input. */
static int transfer(long number, int file, uint8_t *at, size_t bytes) {
  while (bytes > 0) {
    long moved = call(number, file, (long)at, (long)bytes);
    if (moved <= 0) return 0;
    at += moved;
    bytes -= (size_t)moved;
  }
  return 1;
}

static void *map(unsigned long address, size_t size, int protection, int flags, int file) {
  void *found = mmap((void *)address, size, protection, flags | (address ? MAP_FIXED_NOREPLACE : 0), file, 0);
  if (found == MAP_FAILED || (address && found != (void *)address)) {
    perror("mmap");
    exit(1);
  }
  return found;
}

/** True if a selector is one that code may load. */
static int is_there(unsigned selector) {
  unsigned rights;
  uint8_t found;
  __asm__("lar %2, %0; setz %1" : "=r"(rights), "=q"(found) : "r"(selector) : "cc");
  return found;
}

/** Selector of a 32-bit code segment: the kernel's if it has one, else one of our own; 0 if the machine allows neither. */
static unsigned find_code32(void) {
  if (is_there(CODE32)) return CODE32;
  struct user_desc segment = {.entry_number = 0, .limit = 0xfffff, .seg_32bit = 1, .contents = 2, .limit_in_pages = 1};
  return syscall(SYS_modify_ldt, 0x11, &segment, sizeof segment) == 0 && is_there(7) ? 7 : 0;
}

/** Prints vendor and feature words: CPUID leaf, subleaf and register contents; then code32. */
static int identify(void) {
  static const unsigned leaves[][2] = {{0, 0}, {1, 0}, {7, 0}, {0xd, 1}, {0x80000001u, 0}, {0x80000008u, 0}};
  for (size_t n = 0; n < sizeof leaves / sizeof *leaves; n++) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    __get_cpuid_count(leaves[n][0], leaves[n][1], &a, &b, &c, &d);
    printf("%x %x %x %x %x %x\n", leaves[n][0], leaves[n][1], a, b, c, d);
  }
  printf("code32 %x\n", find_code32());
  return 0;
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--cpuid") == 0) return identify();

  int file = memfd_create("code", 0);
  if (file < 0 || ftruncate(file, CODE_SIZE) != 0) {
    perror("memfd");
    return 1;
  }
  code = map(0, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file);
  memset(code, CODE_FILLER, CODE_SIZE);
  map(CODE, CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_POPULATE, file);
  map(DATA, DATA_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1);
  uint8_t *fixed = map(READ_ONLY, READ_ONLY_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1);

  // The input begins with the contents of the data pages and of the read-only page.
  if (!transfer(SYS_read, 0, pattern, DATA_SIZE) || !transfer(SYS_read, 0, fixed, READ_ONLY_SIZE)) return 1;
  memcpy(data, pattern, DATA_SIZE);
  memcpy(before, pattern, DATA_SIZE);
  mprotect(fixed, READ_ONLY_SIZE, PROT_READ);

  code32 = find_code32();
  static uint8_t stack[1 << 17];
  stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  sigaltstack(&alternate, NULL);
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
  for (size_t n = 0; n < sizeof signals / sizeof *signals; n++) sigaction(signals[n], &action, NULL);

  __asm__ volatile("mov %0, %%ds; mov %0, %%es" ::"r"(SELECTOR_DATA));
  call(SYS_arch_prctl, ARCH_SET_GS, GS_BASE, 0);
  call(SYS_arch_prctl, ARCH_SET_FS, FS_BASE, 0);
  while (transfer(SYS_read, 0, (uint8_t *)&count, sizeof count) && count <= BATCH) {
    if (!transfer(SYS_read, 0, cases[0], (size_t)count * CASE_SIZE)) break;
    run();
    if (!transfer(SYS_write, 1, results[0], (size_t)count * RESULT_SIZE)) break;
  }
  call(SYS_exit_group, 0, 0, 0);
  return 0;
}
