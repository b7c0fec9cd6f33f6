internal import Base

/// FNV-1a, 64 bits, of at most the last 256 bytes before a position. It tells apart files that share a name or an inode
/// number; it does not resist files that are made alike on purpose.
enum Fingerprint {
  static let length: Int64 = 256

  /// Of the first bytes of a file. Throws `FileError`.
  static func head(of file: any OpenFile, size: Int64) throws -> (length: Int64, fingerprint: UInt64) {
    let length = min(size, Self.length)
    return (length, try of(file, before: length))
  }

  /// Throws `FileError`.
  static func of(_ file: any OpenFile, before offset: Int64) throws -> UInt64 {
    of(try bytes(of: file, before: offset))
  }

  /// At most the last 256 bytes of a file before an offset. Throws `FileError`.
  static func bytes(of file: any OpenFile, before offset: Int64) throws -> [UInt8] {
    let start = max(0, offset - length)
    return try file.read(at: start, count: Int(offset - start))
  }

  /// At most the last 256 bytes of two sequences that follow each other.
  static func last(_ first: [UInt8], _ second: ArraySlice<UInt8>) -> [UInt8] {
    let reach = Int(length)
    return second.count >= reach ? Array(second.suffix(reach)) : first.suffix(reach - second.count) + second
  }

  static func of(_ bytes: [UInt8]) -> UInt64 { FNV1a(bytes).value }
}
