// c-ares for Swift, with the constants of DNS.
#ifndef CONSUL_BOOTSTRAP_CARES_H
#define CONSUL_BOOTSTRAP_CARES_H

#include <ares.h>
#include <arpa/nameser.h>

#endif
