// System calls that Swift cannot make: fork and exec as another user, signal handlers, and calls that the headers hide
// behind _GNU_SOURCE. posix_spawn can neither change the user nor bind a child to the life of its parent.
#ifndef CONSUL_BOOTSTRAP_CSPAWN_H
#define CONSUL_BOOTSTRAP_CSPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct cb_spawn {
  const char *path;         // absolute path of the program
  char *const *argv;        // NULL-terminated
  char *const *envp;        // NULL-terminated
  int stdout_fd;            // becomes fd 1; -1 = inherited
  int stderr_fd;            // becomes fd 2; -1 = inherited
  bool change_user;         // set uid, gid and groups below
  uid_t uid;
  gid_t gid;
  const gid_t *groups;      // supplementary groups
  size_t group_count;
  bool keep_low_ports;      // keep CAP_NET_BIND_SERVICE across the change of user: ports below 1024
  int parent_death_signal;  // sent to the child when the *thread* that starts it ends; 0 = none
  pid_t parent;             // this process: a child that has another parent when it is about to exec gives up
};

// Returns the child's pid, or -1 with *error set to an errno and *stage to what failed ("fork", "setuid", "exec"...).
// The child has its own process group, a signal mask of SIGPIPE only, default dispositions, stdin from /dev/null, and
// no other file descriptor of this process (all are close-on-exec).
pid_t cb_spawn(const struct cb_spawn *spawn, int *error, const char **stage);

// A descriptor that becomes readable when the child has exited, close-on-exec; -1 with errno where the kernel has none
// (ENOSYS before Linux 5.3).
int cb_pidfd_open(pid_t child);

// Whether the child has exited. It stays a zombie, so that its pid is not reused.
bool cb_has_exited(pid_t child);

// waitpid macros, which Swift does not import.
bool cb_wait_exited(int status);
int cb_wait_exit_status(int status);
int cb_wait_signal(int status);

// From now on the signal is a byte, its number, written to the (non-blocking) descriptor, which is the same for every
// signal.
int cb_signal_to_descriptor(int signal_number, int descriptor);

// One heap for all threads, which keeps a few megabytes of freed memory: buffers of that size come and go with every
// batch of logs, and a page that the kernel hands out again costs more than the work that is done in it.
void cb_keep_memory_small(void);

// No core files of this process, and no other user's debugger in it: its memory holds secrets.
void cb_forbid_core_files(void);

// pipe2 and accept4, which glibc hides behind _GNU_SOURCE: close-on-exec; the pipe non-blocking if requested, the
// connection always.
int cb_pipe(int ends[2], bool non_blocking);
int cb_accept(int listener);

// Name of the calling thread in `ps -L` and `top -H`; at most 15 bytes.
void cb_name_thread(const char *name);

// The release, zero-terminated.
const char *cb_version(void);

#endif
