import COpenSSL
import Foundation
import Glibc

@testable import Base
@testable import Host

/// Certificates made in memory. The keys are Ed25519: a millisecond each.
final class Authority {
  let name: String
  let certificate: OpaquePointer
  private let key: OpaquePointer
  private var serial = 1

  init(_ name: String) {
    self.name = name
    key = Self.newKey()
    certificate = Self.newCertificate(name, key, serial: 1, validSeconds: 3600)
    Self.extend(certificate, NID_basic_constraints, "critical,CA:TRUE")
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate))
    precondition(X509_sign(certificate, key, nil) > 0)
  }

  deinit {
    X509_free(certificate)
    EVP_PKEY_free(key)
  }

  var pem: String { pemText { PEM_write_bio_X509($0, certificate) } }

  /// - Returns: PEM of a certificate for the DNS name, and of its key.
  func issue(_ name: String, validSeconds: Int = 3600) -> (certificate: String, key: String) {
    serial += 1
    let own = Self.newKey(), issued = Self.newCertificate(name, own, serial: serial, validSeconds: validSeconds)
    defer {
      X509_free(issued)
      EVP_PKEY_free(own)
    }
    Self.extend(issued, NID_subject_alt_name, "DNS:\(name)")
    X509_set_issuer_name(issued, X509_get_subject_name(certificate))
    precondition(X509_sign(issued, key, nil) > 0)
    return (
      pemText { PEM_write_bio_X509($0, issued) },
      pemText { PEM_write_bio_PrivateKey($0, own, nil, nil, 0, nil, nil) }
    )
  }

  private static func newKey() -> OpaquePointer {
    var key: OpaquePointer?
    let context = EVP_PKEY_CTX_new_id(EVP_PKEY_ED25519, nil)
    defer { EVP_PKEY_CTX_free(context) }
    precondition(EVP_PKEY_keygen_init(context) == 1 && EVP_PKEY_keygen(context, &key) == 1)
    return key!
  }

  private static func newCertificate(
    _ name: String, _ key: OpaquePointer, serial: Int, validSeconds: Int
  ) -> OpaquePointer {
    let certificate = X509_new()!
    X509_set_version(certificate, 2)
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial)
    X509_gmtime_adj(X509_getm_notBefore(certificate), -86_400)
    X509_gmtime_adj(X509_getm_notAfter(certificate), validSeconds)
    X509_set_pubkey(certificate, key)
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_UTF8, name, -1, -1, 0)
    return certificate
  }

  private static func extend(_ certificate: OpaquePointer, _ kind: Int32, _ value: String) {
    let extended = X509V3_EXT_conf_nid(nil, nil, kind, value)
    precondition(X509_add_ext(certificate, extended, -1) == 1)
    X509_EXTENSION_free(extended)
  }
}

private func pemText(_ write: (OpaquePointer) -> Int32) -> String {
  let memory = BIO_new(BIO_s_mem())!
  defer { BIO_free(memory) }
  precondition(write(memory) == 1)
  var bytes = [UInt8](repeating: 0, count: BIO_ctrl_pending(memory))
  let count = BIO_read(memory, &bytes, Int32(bytes.count))
  return String(decoding: bytes.prefix(Int(count)), as: UTF8.self)
}

/// A TCP server on a free port of 127.0.0.1: `serve` gets each connection on a thread of its own.
final class StreamServer: Sendable {
  let port: UInt16
  private let descriptor: Descriptor

  init(_ serve: @escaping @Sendable (Int32) -> Void) throws {
    let here = IPv4Address("127.0.0.1")!
    let number = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    precondition(withInternetAddress(here, 0) { bind(number, $0, $1) } == 0 && listen(number, 16) == 0)
    descriptor = Descriptor(number)
    port = localPort(of: number)
    try startThread("accepts") {
      while true {
        let connection = accept(number, nil, nil)
        guard connection >= 0 else { return }
        Thread.detachNewThread {
          serve(connection)
          close(connection)
        }
      }
    }
  }

  deinit { shutdown(descriptor.number, Int32(SHUT_RDWR)) }
}

/// Reads so many bytes; fewer at the end of the connection.
func receive(_ connection: Int32, count: Int) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: count)
  let received = recv(connection, &bytes, count, Int32(MSG_WAITALL))
  return Array(bytes.prefix(max(0, received)))
}

/// - Returns: whether all bytes were taken.
@discardableResult
func send(_ connection: Int32, _ bytes: [UInt8]) -> Bool {
  var rest = bytes[...]
  while !rest.isEmpty {
    let count = rest.withUnsafeBytes { Glibc.send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    guard count > 0 else { return false }
    rest = rest.dropFirst(count)
  }
  return true
}

/// A TLS server of one connection, with Consul's `verify_incoming` if it has the authority of its clients.
struct TLSServer: Sendable {
  let certificate: String, key: String
  let clientCA: String?

  /// Echoes `count` bytes after a good handshake.
  func echo(_ connection: Int32, count: Int) {
    let context = SSL_CTX_new(TLS_server_method())!
    defer { SSL_CTX_free(context) }
    precondition(cb_use_certificate(context, certificate, Int32(certificate.utf8.count)) == 1)
    precondition(cb_use_key(context, key, Int32(key.utf8.count)) == 1)
    if let clientCA {
      precondition(cb_trust(context, clientCA, Int32(clientCA.utf8.count)) == 1)
      SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
    }
    let session = SSL_new(context)!
    defer { SSL_free(session) }
    SSL_set_fd(session, connection)
    guard SSL_accept(session) == 1 else {
      // An end before the client has read the alert would reset the connection, and the alert be lost.
      _ = receive(connection, count: 1 << 16)
      return
    }
    var bytes = [UInt8](repeating: 0, count: count)
    var received = 0
    while received < count {
      let more = bytes[received...].withUnsafeMutableBytes { SSL_read(session, $0.baseAddress, Int32($0.count)) }
      guard more > 0 else { return }
      received += Int(more)
    }
    SSL_write(session, bytes, Int32(count))
    SSL_shutdown(session)
  }
}
