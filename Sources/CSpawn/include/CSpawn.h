// What needs C: signals, and starting a child as another user, in its own process group, bound to the life of the thread that started it.
// posix_spawn can do none of the three, and Swift has no fork.
#ifndef CONSUL_BOOTSTRAP_CSPAWN_H
#define CONSUL_BOOTSTRAP_CSPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct cb_spawn {
  const char *path;              // absolute path of the program
  char *const *argv;             // NULL-terminated
  char *const *envp;             // NULL-terminated
  int stdout_fd;                 // becomes fd 1; -1 = inherited
  int stderr_fd;                 // becomes fd 2; -1 = inherited
  bool change_user;              // set uid, gid and groups below
  uid_t uid;
  gid_t gid;
  const gid_t *groups;           // supplementary groups
  size_t group_count;
  bool keep_low_ports;           // keep CAP_NET_BIND_SERVICE across the change of user, so that it may bind ports below 1024
  int parent_death_signal;       // sent to the child when the starting *thread* ends; 0 = none
};

// Returns the child's pid, or -1 with *error set to an errno and *stage to what failed ("fork", "setuid", "exec"...).
// The child has its own process group, a signal mask of SIGPIPE only, default dispositions, stdin from /dev/null, and no other
// file descriptor of ours (all are opened close-on-exec).
pid_t cb_spawn(const struct cb_spawn *spawn, int *error, const char **stage);

// waitpid macros, which Swift does not import.
bool cb_wait_exited(int status);
int cb_wait_exit_status(int status);
int cb_wait_signal(int status);

// From now on the signal is a byte, its number, written to the (non-blocking) descriptor; the same one for every signal.
int cb_signal_to_descriptor(int signal_number, int descriptor);

// No core files of this process, and no other user's debugger in it: its memory holds secrets.
// One heap for all threads, which keeps a few megabytes of what was freed: buffers of that size come and go with every batch of
// logs, and a page that the kernel gives anew costs more than all that is done in it.
void cb_keep_memory_small(void);

void cb_forbid_core_files(void);

// pipe2, which glibc hides behind _GNU_SOURCE: close-on-exec, and non-blocking if asked for.
int cb_pipe(int ends[2], bool non_blocking);

// The release, zero-terminated.
const char *cb_version(void);

#endif
