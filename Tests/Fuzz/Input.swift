@testable import Base

/// The input that libFuzzer generated.
func input(_ data: UnsafePointer<UInt8>, _ count: Int) -> [UInt8] {
  Array(UnsafeBufferPointer(start: data, count: count))
}

func inputText(_ data: UnsafePointer<UInt8>, _ count: Int) -> String {
  String(decoding: input(data, count), as: UTF8.self)
}

/// A file with generated content.
struct InputFile: OpenFile {
  let bytes: [UInt8]
  let identity = FileIdentity(device: 1, inode: 1)

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  func size() -> Int64 { Int64(bytes.count) }
  func modified() -> Int64 { 0 }

  func read(at offset: Int64, count: Int) -> [UInt8] {
    guard let start = Int(exactly: offset), bytes.indices.contains(start) else { return [] }
    return Array(bytes[start...].prefix(count))
  }
}
