internal import CDeflate

/// gzip (RFC 1952) by libdeflate.
enum Gzip {
  /// Level 1: logs shrink to a quarter already, at the least CPU time. Nil where the result would not be shorter.
  static func compressed(_ bytes: [UInt8]) -> [UInt8]? {
    guard let compressor = libdeflate_alloc_compressor(1) else { return nil }
    defer { libdeflate_free_compressor(compressor) }
    var length = 0
    let result = [UInt8](unsafeUninitializedCapacity: bytes.count) { room, initialized in
      length = bytes.withUnsafeBytes {
        libdeflate_gzip_compress(compressor, $0.baseAddress, $0.count, room.baseAddress, room.count)
      }
      initialized = length
    }
    return length > 0 ? result : nil
  }
}
