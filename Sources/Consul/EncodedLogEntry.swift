internal import Base

/// A value that is read in parts, because it may have megabytes.
struct LargeValue {
  private let file: RaftFile?
  private let bytes: [UInt8]
  private let start: Int64
  private let size: Int64

  init(bytes: [UInt8]) { (file, self.bytes, start, size) = (nil, bytes, 0, Int64(bytes.count)) }

  init(file: RaftFile, start: Int64, size: Int64) {
    (self.file, bytes, self.start, self.size) = (file, [], start, size)
  }

  /// At most so many bytes; none behind the end.
  func prefix(at offset: Int64, _ count: Int) throws(RaftFileError) -> [UInt8] {
    guard offset < size else { return [] }
    let count = Int(min(Int64(count), size - offset))
    guard let file else { return Array(bytes[Int(offset)..<Int(offset) + count]) }
    return try file.prefix(at: start + offset, count)
  }
}

/// An entry of the log as hashicorp/raft-boltdb stores it: a MessagePack map by the names of raft's `Log`, in whatever
/// order.
struct EncodedLogEntry {
  private let value: LargeValue

  init(_ value: LargeValue) { self.value = value }

  /// Nil for another format.
  func term() throws(RaftFileError) -> UInt64? {
    guard let map = try value.prefix(at: 0, 1).first, map & 0xF0 == 0x80 else { return nil }
    var position: Int64 = 1
    for _ in 0..<map & 0x0F {
      let name = try value.prefix(at: position, 1 + 31)
      guard let first = name.first, first & 0xE0 == 0xA0 else { return nil }
      position += 1 + Int64(first & 0x1F)
      let head = try value.prefix(at: position, 9)
      if name.dropFirst().prefix(Int(first & 0x1F)).elementsEqual("Term".utf8) { return Self.unsigned(head) }
      guard let size = Self.size(head) else { return nil }
      position += size
    }
    return nil
  }

  private static func unsigned(_ head: [UInt8]) -> UInt64? {
    guard let type = head.first else { return nil }
    if type < 0x80 { return UInt64(type) }
    guard (0xCC...0xCF).contains(type), head.count > 1 << (type - 0xCC) else { return nil }
    return networkOrder(head.dropFirst().prefix(1 << (type - 0xCC)))
  }

  /// The bytes of a value of the types that raft's fields have: none is an array or a map.
  private static func size(_ head: [UInt8]) -> Int64? {
    guard let type = head.first else { return nil }
    func length(_ bytes: Int, _ more: Int64 = 0) -> Int64? {
      guard head.count > bytes else { return nil }
      return 1 + Int64(bytes) + more + Int64(networkOrder(head.dropFirst().prefix(bytes)))
    }
    switch type {
    case 0x00...0x7F, 0xC0, 0xC2, 0xC3, 0xE0...0xFF: return 1
    case 0xA0...0xBF: return 1 + Int64(type & 0x1F)
    case 0xC4, 0xD9: return length(1)
    case 0xC5, 0xDA: return length(2)
    case 0xC6, 0xDB: return length(4)
    case 0xC7: return length(1, 1)
    case 0xCC, 0xD0: return 2
    case 0xCD, 0xD1: return 3
    case 0xCE, 0xD2: return 5
    case 0xCF, 0xD3: return 9
    case 0xD4...0xD8: return 2 + 1 << Int64(type - 0xD4)
    default: return nil
    }
  }

  private static func networkOrder(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
}
