// with-clock FILE PROGRAM [ARGUMENT...]: runs PROGRAM with a wall clock that is wrong by the seconds in FILE, which is
// read at each question. Only processes of PROGRAM's own file are deceived: what they start sees the true time.
//
// The kernel has one wall clock for all namespaces, and a static binary cannot be given another C library. So the vDSO
// is hidden from the program, which then asks by system calls, and those are answered here. x86-64.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { AUXV_IGNORE = 1, AUXV_VDSO = 33 };

static const char *offset_file;
static char program[4096];

static long long offset(void) {
  long long seconds = 0;
  FILE *file = fopen(offset_file, "r");
  if (file) {
    if (fscanf(file, "%lld", &seconds) != 1) seconds = 0;
    fclose(file);
  }
  return seconds;
}

static void filter(void) {
#define TRACE BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE)
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_gettimeofday, 4, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_time, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_gettime, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CLOCK_REALTIME, 0, 1),
      TRACE,
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog all = {sizeof code / sizeof *code, code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all)) {
    perror("seccomp");
    exit(126);
  }
}

static int is_program(pid_t pid) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/%d/exe", pid);
  ssize_t length = readlink(link, path, sizeof path - 1);
  path[length > 0 ? length : 0] = 0;
  return strcmp(path, program) == 0;
}

static void hide_vdso(pid_t pid) {
  struct user_regs_struct registers;
  ptrace(PTRACE_GETREGS, pid, 0, &registers);
  unsigned long at = registers.rsp, word = ptrace(PTRACE_PEEKDATA, pid, at, 0);
  // The arguments, the environment, and behind each a null.
  at += (word + 2) * sizeof word;
  while (ptrace(PTRACE_PEEKDATA, pid, at, 0)) at += sizeof word;
  for (at += sizeof word; (word = ptrace(PTRACE_PEEKDATA, pid, at, 0)); at += 2 * sizeof word)
    if (word == AUXV_VDSO) ptrace(PTRACE_POKEDATA, pid, at, AUXV_IGNORE);
}

static void put(pid_t pid, unsigned long address, void *value, size_t size) {
  struct iovec here = {value, size}, there = {(void *)address, size};
  if (address) process_vm_writev(pid, &here, 1, &there, 1, 0);
}

static void answer(pid_t pid) {
  struct user_regs_struct registers;
  ptrace(PTRACE_GETREGS, pid, 0, &registers);
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  // The filter is that of the children, too.
  if (is_program(pid)) now.tv_sec += offset();
  struct timeval short_now = {now.tv_sec, now.tv_nsec / 1000};
  long result = 0;
  switch (registers.orig_rax) {
  case SYS_clock_gettime: put(pid, registers.rsi, &now, sizeof now); break;
  case SYS_gettimeofday: put(pid, registers.rdi, &short_now, sizeof short_now); break;
  case SYS_time:
    put(pid, registers.rdi, &now.tv_sec, sizeof now.tv_sec);
    result = now.tv_sec;
  }
  registers.orig_rax = -1;
  registers.rax = result;
  ptrace(PTRACE_SETREGS, pid, 0, &registers);
}

int main(int count, char **arguments) {
  if (count < 3 || !realpath(arguments[2], program)) {
    fprintf(stderr, "usage: with-clock FILE PROGRAM [ARGUMENT...]\n");
    return 2;
  }
  offset_file = arguments[1];
  pid_t child = fork();
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    filter();
    execv(program, arguments + 2);
    perror(program);
    _exit(127);
  }
  int status;
  waitpid(child, &status, 0);
  ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
      PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL);
  ptrace(PTRACE_CONT, child, 0, 0);
  for (;;) {
    pid_t pid = waitpid(-1, &status, __WALL);
    if (pid < 0) return 1;
    if (WIFEXITED(status) || WIFSIGNALED(status)) {
      if (pid == child) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      continue;
    }
    int sent = WSTOPSIG(status), event = status >> 16;
    if (event == PTRACE_EVENT_SECCOMP) answer(pid);
    if (event == PTRACE_EVENT_EXEC && is_program(pid)) hide_vdso(pid);
    // A new thread or process begins with a stop of its own.
    if (event || sent == SIGTRAP || sent == SIGSTOP) sent = 0;
    ptrace(PTRACE_CONT, pid, 0, sent);
  }
}
