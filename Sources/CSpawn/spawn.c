#define _GNU_SOURCE
#include "CSpawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <malloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct report {
  int error;
  int stage;
};

enum stage {
  stage_pipe,
  stage_fork,
  stage_group,
  stage_redirect,
  stage_setgroups,
  stage_setgid,
  stage_setuid,
  stage_capability,
  stage_prctl,
  stage_parent,
  stage_exec,
};

static const char *const stages[] = {
    [stage_pipe] = "pipe",
    [stage_fork] = "fork",
    [stage_group] = "setpgid",
    [stage_redirect] = "redirect",
    [stage_setgroups] = "setgroups",
    [stage_setgid] = "setgid",
    [stage_setuid] = "setuid",
    [stage_capability] = "keep capability",
    [stage_prctl] = "prctl",
    [stage_parent] = "find the parent of",
    [stage_exec] = "exec",
};

// Runs in the child, between fork and exec: only async-signal-safe calls.
static void give_up(int report_fd, enum stage stage) {
  struct report report = {errno, stage};
  // A parent that does not read it any more has ended: the report has no reader, and the child ends all the same.
  ssize_t ignored = write(report_fd, &report, sizeof report);
  (void)ignored;
  _exit(127);
}

// The one capability that the new user's agent needs, and none of the others that root had.
static int keep_low_ports(void) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{0}, {0}};
  const unsigned int bit = 1u << CAP_NET_BIND_SERVICE;
  data[0].effective = data[0].permitted = data[0].inheritable = bit;
  if (syscall(SYS_capset, &header, data) != 0) return -1;
  return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0);
}

static void become(const struct cb_spawn *spawn, int report_fd) {
  // Signals go to the group: without one of its own, they would reach this program's.
  if (setpgid(0, 0) != 0) give_up(report_fd, stage_group);
  // Fails for SIGKILL, SIGSTOP and the two of the C library, whose dispositions cannot be changed.
  for (int signal_number = 1; signal_number < NSIG; signal_number++) signal(signal_number, SIG_DFL);
  // Consul 1.8 takes the SIGPIPE of a peer's closed connection for a second SIGTERM, and cuts its own graceful leave
  // off. Blocked, that signal stays with the thread that wrote, and the write fails with EPIPE as it should.
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGPIPE);
  sigprocmask(SIG_SETMASK, &blocked, NULL);

  int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null_fd < 0) {
    // A chroot without devices, as image builds have it: a pipe without a writer is at its end, too.
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) give_up(report_fd, stage_redirect);
    close(ends[1]);
    null_fd = ends[0];
  }
  if (dup2(null_fd, 0) < 0) give_up(report_fd, stage_redirect);
  if (spawn->stdout_fd >= 0 && dup2(spawn->stdout_fd, 1) < 0) give_up(report_fd, stage_redirect);
  if (spawn->stderr_fd >= 0 && dup2(spawn->stderr_fd, 2) < 0) give_up(report_fd, stage_redirect);

  if (spawn->change_user) {
    if (spawn->keep_low_ports && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) give_up(report_fd, stage_capability);
    // The raw calls: the C library's versions signal every thread of the process, of which the child has only one.
    if (syscall(SYS_setgroups, spawn->group_count, spawn->groups) != 0) give_up(report_fd, stage_setgroups);
    if (syscall(SYS_setresgid, spawn->gid, spawn->gid, spawn->gid) != 0) give_up(report_fd, stage_setgid);
    if (syscall(SYS_setresuid, spawn->uid, spawn->uid, spawn->uid) != 0) give_up(report_fd, stage_setuid);
    if (spawn->keep_low_ports && keep_low_ports() != 0) give_up(report_fd, stage_capability);
  }
  // Descriptors that a library left open, such as sockets of name servers. Kernels before 5.11 do not know the flag:
  // there, a descriptor that some library did not open close-on-exec reaches the child.
  syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
  if (spawn->parent_death_signal) {
    // After the change of user, which would clear it.
    if (prctl(PR_SET_PDEATHSIG, spawn->parent_death_signal) != 0) give_up(report_fd, stage_prctl);
    // A parent that ended before this call sends no signal any more: the child would outlive it, adopted by another.
    if (getppid() != spawn->parent) {
      errno = ESRCH;
      give_up(report_fd, stage_parent);
    }
  }
  execve(spawn->path, spawn->argv, spawn->envp);
  give_up(report_fd, stage_exec);
}

pid_t cb_spawn(const struct cb_spawn *spawn, int *error, const char **stage) {
  int report_pipe[2];
  if (pipe2(report_pipe, O_CLOEXEC) != 0) {
    *error = errno, *stage = stages[stage_pipe];
    return -1;
  }
  // No signal may reach the child before its handlers are reset.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pid_t child = fork();
  int fork_error = errno;
  if (child == 0) {
    close(report_pipe[0]);
    become(spawn, report_pipe[1]);
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  close(report_pipe[1]);
  if (child < 0) {
    close(report_pipe[0]);
    *error = fork_error, *stage = stages[stage_fork];
    return -1;
  }
  struct report report;
  ssize_t count;
  do count = read(report_pipe[0], &report, sizeof report);
  while (count < 0 && errno == EINTR);
  close(report_pipe[0]);
  if (count != (ssize_t)sizeof report) return child;  // the pipe closed at exec: the program runs
  while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
  }
  *error = report.error, *stage = stages[report.stage];
  return -1;
}

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434  // the same on every architecture
#endif

int cb_pidfd_open(pid_t child) { return (int)syscall(SYS_pidfd_open, child, 0); }

bool cb_has_exited(pid_t child) {
  siginfo_t info = {0};
  int result;
  do result = waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT);
  while (result != 0 && errno == EINTR);
  // ECHILD: it has been reaped already.
  return result != 0 || info.si_pid == child;
}

static volatile sig_atomic_t signal_descriptor = -1;

static void forward_signal(int signal_number) {
  int saved = errno;
  unsigned char byte = (unsigned char)signal_number;
  // Fails if the pipe is full: then thousands of the same few signals are waiting to be delivered.
  ssize_t ignored = write(signal_descriptor, &byte, 1);
  (void)ignored;
  errno = saved;
}

int cb_signal_to_descriptor(int signal_number, int descriptor) {
  signal_descriptor = descriptor;
  struct sigaction action = {.sa_handler = forward_signal, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  return sigaction(signal_number, &action, NULL);
}

// Hints to the allocator: without them the program works and uses more memory.
void cb_keep_memory_small(void) {
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_THRESHOLD, 16 << 20);
  mallopt(M_TRIM_THRESHOLD, 4 << 20);
}

// Cannot fail with this argument (prctl(2)).
void cb_forbid_core_files(void) { prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }

int cb_pipe(int ends[2], bool non_blocking) { return pipe2(ends, O_CLOEXEC | (non_blocking ? O_NONBLOCK : 0)); }

int cb_accept(int listener) { return accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK); }

// Cannot fail: longer names are cut (prctl(2)).
void cb_name_thread(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }

bool cb_wait_exited(int status) { return WIFEXITED(status); }
int cb_wait_exit_status(int status) { return WEXITSTATUS(status); }
int cb_wait_signal(int status) { return WIFSIGNALED(status) ? WTERMSIG(status) : 0; }
