// A TLS client for Swift, over memory: the caller moves the bytes. OpenSSL's macros are functions here.
#ifndef CONSUL_BOOTSTRAP_TLS_H
#define CONSUL_BOOTSTRAP_TLS_H

#include <stdio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

// A key with a pass phrase is an error: without this, OpenSSL asks for it on the terminal.
static inline int cb_no_pass_phrase(char *buffer, int size, int isWritten, void *context) {
  (void)buffer, (void)size, (void)isWritten, (void)context;
  return 0;
}

static inline X509 *cb_next_certificate(BIO *pem) { return PEM_read_bio_X509(pem, NULL, cb_no_pass_phrase, NULL); }

// Trusts each certificate of a PEM text; returns how many.
static inline int cb_trust(SSL_CTX *context, const char *text, int length) {
  BIO *pem = BIO_new_mem_buf(text, length);
  int count = 0;
  X509 *certificate;
  while (pem && count < 1000 && (certificate = cb_next_certificate(pem))) {
    count += X509_STORE_add_cert(SSL_CTX_get_cert_store(context), certificate) == 1;
    X509_free(certificate);
  }
  BIO_free(pem);
  ERR_clear_error();
  return count;
}

// The first certificate of a PEM text is the client's own, the others lead to its CA.
static inline int cb_use_certificate(SSL_CTX *context, const char *text, int length) {
  BIO *pem = BIO_new_mem_buf(text, length);
  X509 *certificate = pem ? cb_next_certificate(pem) : NULL;
  int isUsed = certificate && SSL_CTX_use_certificate(context, certificate) == 1;
  X509_free(certificate);
  for (int count = 0; isUsed && count < 10 && (certificate = cb_next_certificate(pem)); count++) {
    // Takes the certificate over, if it does not fail.
    if (SSL_CTX_add_extra_chain_cert(context, certificate) != 1) X509_free(certificate);
  }
  BIO_free(pem);
  ERR_clear_error();
  return isUsed;
}

static inline int cb_use_key(SSL_CTX *context, const char *text, int length) {
  BIO *pem = BIO_new_mem_buf(text, length);
  EVP_PKEY *key = pem ? PEM_read_bio_PrivateKey(pem, NULL, cb_no_pass_phrase, NULL) : NULL;
  int isUsed = key && SSL_CTX_use_PrivateKey(context, key) == 1 && SSL_CTX_check_private_key(context) == 1;
  EVP_PKEY_free(key);
  BIO_free(pem);
  ERR_clear_error();
  return isUsed;
}

// Without the machine's openssl.cnf, which may name modules to load. Verifies the server's certificate always.
static inline SSL_CTX *cb_new_tls_context(void) {
  OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
  SSL_CTX *context = SSL_CTX_new(TLS_client_method());
  if (!context) return NULL;
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
  if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1) return context;
  SSL_CTX_free(context);
  return NULL;
}

// Reads from and writes to memory, which belongs to the session.
static inline SSL *cb_new_tls_session(SSL_CTX *context, const char *name, int verifiesName, BIO **input, BIO **output) {
  SSL *session = SSL_new(context);
  *input = BIO_new(BIO_s_mem());
  *output = BIO_new(BIO_s_mem());
  if (!session || !*input || !*output) {
    SSL_free(session), BIO_free(*input), BIO_free(*output);
    return NULL;
  }
  SSL_set_bio(session, *input, *output);
  SSL_set_connect_state(session);
  if (SSL_set_tlsext_host_name(session, name) == 1 && (!verifiesName || SSL_set1_host(session, name) == 1))
    return session;
  SSL_free(session);
  return NULL;
}

// Why the session failed: the verification of the certificate, or the library's last error.
static inline void cb_tls_error(SSL *session, char *text, size_t size) {
  long result = SSL_get_verify_result(session);
  unsigned long code = ERR_peek_last_error();
  const char *reason = code ? ERR_reason_error_string(code) : NULL;
  if (result != X509_V_OK) reason = X509_verify_cert_error_string(result);
  snprintf(text, size, "%s", reason ? reason : "the connection was closed during the handshake");
  ERR_clear_error();
}

#endif
