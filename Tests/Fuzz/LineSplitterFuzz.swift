import Base
import LogForwarding

/// However the bytes arrive, they are the same lines; nothing is lost, and nothing is longer than it may be.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  guard count > 2 else { return 0 }
  let limit = 64 + Int(data[0]), step = 1 + Int(data[1])
  let bytes = Array(UnsafeBufferPointer(start: data + 2, count: count - 2))
  var whole = LineSplitter(limit: limit), pieces = LineSplitter(limit: limit)
  let first = lines(whole.feed(bytes)) + lines(whole.finish())
  var second: [(String, Int64)] = []
  var start = 0
  while start < bytes.count {
    let end = min(bytes.count, start + step)
    second += lines(pieces.feed(Array(bytes[start..<end])))
    start = end
  }
  second += lines(pieces.finish())
  precondition(
    first.count == second.count && zip(first, second).allSatisfy { $0.0 == $1.0 && $0.1 == $1.1 },
    "pieces differ from the whole")
  precondition(first.last?.1 ?? 0 == Int64(bytes.count), "bytes are left out")
  precondition(zip(first, first.dropFirst()).allSatisfy { $0.1 < $1.1 }, "ends do not grow")
  precondition(first.allSatisfy { $0.0.utf8.count <= limit }, "a part is too long")
  // As bytes: some characters of Unicode make one of themselves and a blank.
  let mark = Array(LineSplitter.cutMark.utf8)
  let cut = first.count { $0.0.utf8.suffix(mark.count).elementsEqual(mark) }
  precondition(first.count - cut <= bytes.count { $0 == 10 } + 1, "lines out of nothing")
  return 0
}

private func lines(_ chunk: LineChunk) -> [(String, Int64)] { chunk.lines.map { (chunk.text($0), $0.end) } }
