internal import CZlib

/// gzip (RFC 1952) by zlib.
enum Gzip {
  /// Nil where it would not be shorter.
  static func compressed(_ bytes: [UInt8]) -> [UInt8]? {
    var length = 0
    let result = [UInt8](unsafeUninitializedCapacity: bytes.count) { room, initialized in
      length = bytes.withUnsafeBufferPointer { cb_gzip($0.baseAddress, $0.count, room.baseAddress, room.count) }
      initialized = length
    }
    return length > 0 ? result : nil
  }
}
