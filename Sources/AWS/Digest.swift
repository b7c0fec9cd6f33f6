internal import COpenSSL

/// SHA-256 and HMAC-SHA-256 from libcrypto.
enum Digest {
  static func sha256(_ bytes: [UInt8]) -> [UInt8] {
    var digest = [UInt8](repeating: 0, count: 32)
    _ = SHA256(bytes, bytes.count, &digest)
    return digest
  }

  static func hmac(key: [UInt8], _ text: String) -> [UInt8] {
    var digest = [UInt8](repeating: 0, count: 32)
    let bytes = Array(text.utf8)
    // HMAC fails only when libcrypto has no SHA-256, which leaves nothing that could be signed.
    precondition(cb_hmac_sha256(key, Int32(key.count), bytes, bytes.count, &digest) == 1, "libcrypto has no SHA-256")
    return digest
  }

  static func hex(_ bytes: [UInt8]) -> String {
    let digits = Array("0123456789abcdef".utf8)
    return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
  }
}
