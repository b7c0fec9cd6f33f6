#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

// EVP_sha256 returns a pointer to a type that Swift cannot name in every OpenSSL version; HMAC is used through this.
static inline int cb_hmac_sha256(const void *key, int keyLength, const unsigned char *bytes, size_t count,
                                 unsigned char digest[32]) {
  unsigned int length = 32;
  return HMAC(EVP_sha256(), key, keyLength, bytes, count, digest, &length) != NULL && length == 32;
}
