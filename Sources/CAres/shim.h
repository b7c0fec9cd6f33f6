// One question to one name server, by c-ares: its event loop wants select's macros, which Swift does not import.
#ifndef CONSUL_BOOTSTRAP_CARES_H
#define CONSUL_BOOTSTRAP_CARES_H

#include <ares.h>
#include <arpa/nameser.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>

struct cb_ares_answer {
  int status;            // ARES_SUCCESS or an error for ares_strerror
  int count;
  struct in_addr addresses[16];
};

static inline void cb_ares_receive(void *context, int status, int timeouts, unsigned char *bytes, int length) {
  struct cb_ares_answer *answer = (struct cb_ares_answer *)context;
  struct ares_addrttl records[16];
  int count = 16;
  (void)timeouts;
  answer->status = status;
  if (status != ARES_SUCCESS) return;
  answer->status = ares_parse_a_reply(bytes, length, NULL, records, &count);
  if (answer->status != ARES_SUCCESS) return;
  answer->count = count;
  for (int i = 0; i < count; i++) answer->addresses[i] = records[i].ipaddr;
}

// Asks `server` ("10.0.0.2:53") for the A records of `name`, twice at most, each time for so many milliseconds. Blocks.
static inline void cb_ares_lookup(const char *server, const char *name, int milliseconds, struct cb_ares_answer *answer) {
  memset(answer, 0, sizeof *answer);
  answer->status = ARES_ETIMEOUT;
  ares_channel channel;
  struct ares_options options;
  memset(&options, 0, sizeof options);
  options.timeout = milliseconds;
  options.tries = 2;
  // Nothing of the machine's own configuration: this server and no search domains.
  int status = ares_init_options(&channel, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES);
  if (status != ARES_SUCCESS) {
    answer->status = status;
    return;
  }
  status = ares_set_servers_ports_csv(channel, server);
  if (status == ARES_SUCCESS) {
    ares_query(channel, name, ns_c_in, ns_t_a, cb_ares_receive, answer);
    for (;;) {
      fd_set readable, writable;
      FD_ZERO(&readable);
      FD_ZERO(&writable);
      int limit = ares_fds(channel, &readable, &writable);
      if (limit == 0) break;
      struct timeval most = {1, 0}, wait;
      select(limit, &readable, &writable, NULL, ares_timeout(channel, &most, &wait));
      ares_process(channel, &readable, &writable);
    }
  } else {
    answer->status = status;
  }
  ares_destroy(channel);
}

#endif
