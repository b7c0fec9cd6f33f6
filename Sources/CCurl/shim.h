// libcurl's easy and multi interfaces for Swift: curl_easy_setopt and curl_easy_getinfo are variadic, which Swift
// cannot call, so each type of argument that we use has a setter here.
#ifndef CONSUL_BOOTSTRAP_CCURL_H
#define CONSUL_BOOTSTRAP_CCURL_H

#include <curl/curl.h>

// What libcurl reads by has the same type.
typedef size_t (*cb_curl_write)(char *bytes, size_t size, size_t count, void *context);
typedef int (*cb_curl_seek)(void *context, curl_off_t offset, int origin);

static inline CURLcode cb_curl_set_long(CURL *handle, CURLoption option, long value) {
  return curl_easy_setopt(handle, option, value);
}

static inline CURLcode cb_curl_set_string(CURL *handle, CURLoption option, const char *value) {
  return curl_easy_setopt(handle, option, value);
}

static inline CURLcode cb_curl_set_pointer(CURL *handle, CURLoption option, void *value) {
  return curl_easy_setopt(handle, option, value);
}

static inline CURLcode cb_curl_set_list(CURL *handle, CURLoption option, struct curl_slist *value) {
  return curl_easy_setopt(handle, option, value);
}

static inline CURLcode cb_curl_set_write(CURL *handle, CURLoption option, cb_curl_write value) {
  return curl_easy_setopt(handle, option, value);
}

static inline CURLcode cb_curl_set_seek(CURL *handle, CURLoption option, cb_curl_seek value) {
  return curl_easy_setopt(handle, option, value);
}

static inline CURLcode cb_curl_get_long(CURL *handle, CURLINFO info, long *value) {
  return curl_easy_getinfo(handle, info, value);
}

static inline CURLMcode cb_curl_multi_set_long(CURLM *multi, CURLMoption option, long value) {
  return curl_multi_setopt(multi, option, value);
}

// The result of a CURLMsg lies in a union, which Swift imports awkwardly.
static inline CURLcode cb_curl_message_result(const CURLMsg *message) { return message->data.result; }

static inline CURLcode cb_curl_global_init(void) { return curl_global_init(CURL_GLOBAL_DEFAULT); }

#endif
