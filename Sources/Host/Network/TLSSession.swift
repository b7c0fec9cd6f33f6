internal import Base
internal import COpenSSL

/// A TLS client between plain bytes and the bytes of a connection, by OpenSSL. It belongs to one thread.
struct TLSSession: ~Copyable {
  private let context: OpaquePointer
  private let session: OpaquePointer
  /// Of the session: what the server sent, and what goes to the server.
  private let input: OpaquePointer, output: OpaquePointer

  /// - Throws: `StreamError.local` if the key material is of no use.
  init(_ client: TLSClient) throws(StreamError) {
    guard let context = cb_new_tls_context() else { throw .local("OpenSSL does not start") }
    do throws(StreamError) {
      guard Self.use(client.ca, { cb_trust(context, $0, $1) > 0 }) else {
        throw .local("the CA certificate is not a PEM certificate")
      }
      guard Self.use(client.certificate, { cb_use_certificate(context, $0, $1) == 1 }) else {
        throw .local("the certificate is not a PEM certificate")
      }
      guard Self.use(client.key, { cb_use_key(context, $0, $1) == 1 }) else {
        throw .local("the private key is not a PEM key of the certificate without a pass phrase")
      }
      var input: OpaquePointer?, output: OpaquePointer?
      let session = cb_new_tls_session(context, client.serverName, client.verifiesName ? 1 : 0, &input, &output)
      guard let session, let input, let output else {
        throw .local("cannot create a TLS session for \(client.serverName)")
      }
      self.context = context
      self.session = session
      self.input = input
      self.output = output
    } catch {
      SSL_CTX_free(context)
      throw error
    }
  }

  deinit {
    SSL_free(session)
    SSL_CTX_free(context)
  }

  private static func use(_ secret: Secret, _ body: (UnsafePointer<CChar>, Int32) -> Bool) -> Bool {
    guard let length = Int32(exactly: secret.value.utf8.count) else { return false }
    return secret.value.withCString { body($0, length) }
  }

  /// Whether the handshake is over; false if it needs more bytes of the server.
  func shakeHands() throws(StreamError) -> Bool { try goesOn(SSL_do_handshake(session)) }

  /// After the handshake. A session in memory takes all of them.
  func encrypt(_ bytes: [UInt8]) throws(StreamError) {
    guard try goesOn(SSL_write(session, bytes, Int32(clamping: bytes.count))) else {
      throw .handshake("the session takes no bytes")
    }
  }

  /// What has arrived, decrypted; nil if the server has ended the session.
  func decrypt() throws(StreamError) -> [UInt8]? {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16 << 10)
    while true {
      let count = SSL_read(session, &buffer, Int32(buffer.count))
      if count > 0 {
        bytes += buffer[..<Int(count)]
      } else if SSL_get_error(session, count) == SSL_ERROR_ZERO_RETURN {
        return bytes.isEmpty ? nil : bytes
      } else {
        _ = try goesOn(count)
        return bytes
      }
    }
  }

  /// Takes bytes of the connection.
  func receive(_ bytes: ArraySlice<UInt8>) throws(StreamError) {
    let count = bytes.withUnsafeBytes { BIO_write(input, $0.baseAddress, Int32(clamping: $0.count)) }
    guard Int(count) == bytes.count else { throw .local("out of memory") }
  }

  /// What the connection has to send now.
  func bytesToSend() -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: BIO_ctrl_pending(output))
    let count = BIO_read(output, &bytes, Int32(clamping: bytes.count))
    return Array(bytes.prefix(max(0, Int(count))))
  }

  private func goesOn(_ result: Int32) throws(StreamError) -> Bool {
    if result > 0 { return true }
    switch SSL_get_error(session, result) {
    case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return false
    default: throw .handshake(explanation)
    }
  }

  /// Why the session failed, in the words of OpenSSL.
  private var explanation: String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { text in
      guard let start = text.baseAddress else { return "" }
      cb_tls_error(session, start, text.count)
      return String(cString: start)
    }
  }
}
