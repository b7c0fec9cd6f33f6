import Base
import Foundation
import Host
import TestSupport
import Testing

@testable import LogForwarding

@Suite(.timeLimit(.minutes(5))) struct FileTailTests {
  /// A directory of its own, gone afterwards.
  private final class Scratch {
    let path = FileManager.default.temporaryDirectory.appending(path: "tail-\(UUID().uuidString)").path
    var log: String { path + "/app.log" }

    init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    func append(_ text: String) throws {
      if !FileManager.default.fileExists(atPath: log) { _ = FileManager.default.createFile(atPath: log, contents: nil) }
      let file = try FileHandle(forWritingTo: URL(filePath: log))
      try file.seekToEnd()
      try file.write(contentsOf: Data(text.utf8))
      try file.close()
    }

    func rename(to name: String = "app.log.1") throws {
      try? FileManager.default.removeItem(atPath: "\(path)/\(name)")
      try FileManager.default.moveItem(atPath: log, toPath: "\(path)/\(name)")
    }

    func copyAndTruncate() throws {
      try? FileManager.default.removeItem(atPath: log + ".1")
      try FileManager.default.copyItem(atPath: log, toPath: log + ".1")
      try FileHandle(forWritingTo: URL(filePath: log)).truncate(atOffset: 0)
    }
  }

  private func all(_ tail: inout FileTail) throws -> [String] {
    var lines: [String] = []
    // Every file in turn, the last one twice: the scan after a rotation detects it.
    for _ in 0..<6 { lines += try tail.read(time: 0).chunk.texts }
    return lines
  }

  /// Until a renamed file is closed, with the bytes after its last newline.
  private func later(_ tail: inout FileTail) throws -> [String] {
    var lines: [String] = []
    for _ in 0..<60 { lines += try tail.read(time: 0).chunk.texts }
    return lines
  }

  private func tail(_ scratch: Scratch, from position: FilePosition? = nil) -> FileTail {
    FileTail(path: scratch.log, start: position, opener: LocalFileStore())
  }

  @Test func `renamed and created again: the rest of the old file first, a line without an end included`() throws {
    let scratch = try Scratch()
    var tail = tail(scratch)
    #expect(try all(&tail) == [])
    try scratch.append("1\n2\n")
    #expect(try all(&tail) == ["1", "2"])
    // Half a line is no truncation.
    try scratch.append("half")
    #expect(try all(&tail) == [])
    try scratch.append(" and half\n")
    #expect(try all(&tail) == ["half and half"])
    try scratch.append("3\n4")
    let writer = try FileHandle(forWritingTo: URL(filePath: scratch.log))
    try writer.seekToEnd()
    try scratch.rename()
    try scratch.append("5\n")
    #expect(try all(&tail) == ["3", "5"])
    // A program writes to the renamed file until it opens its log again.
    try writer.write(contentsOf: Data("b\nlate".utf8))
    #expect(try all(&tail) == ["4b"])
    #expect(try later(&tail) == ["late"])
    try scratch.append("6\n")
    try scratch.rename(to: "app.log.2")
    try scratch.append("7\n")
    try scratch.rename()
    try scratch.append("8\n")
    #expect(try all(&tail) == ["6", "7", "8"])
    // Gone from its place, twice, and nothing in it.
    try scratch.append("9\n")
    try scratch.rename(to: "app.log.3")
    try scratch.append("10\n")
    try scratch.rename(to: "app.log.4")
    #expect(try all(&tail) == ["9", "10"])
    try scratch.append("11\n")
    #expect(try all(&tail) == ["11"])
  }

  @Test func `compressed: what was renamed can be read when its name is gone`() throws {
    let scratch = try Scratch()
    var tail = tail(scratch)
    try scratch.append("1\n")
    #expect(try all(&tail) == ["1"])
    try scratch.append("2\n")
    try scratch.rename()
    try FileManager.default.moveItem(atPath: scratch.log + ".1", toPath: scratch.log + ".1.gz")
    try scratch.append("3\n")
    #expect(try all(&tail) == ["2", "3"])
  }

  @Test func `copied and truncated: the rest is read from the copy, also when the file has grown past its old length`()
    throws
  {
    for growth in ["4\n", "4\n5\n6\n7\n8\n9\n10\n"] {
      let scratch = try Scratch()
      var tail = tail(scratch)
      try scratch.append("1\n2\n")
      #expect(try all(&tail) == ["1", "2"])
      try scratch.append("3\n")
      try scratch.copyAndTruncate()
      try scratch.append(growth)
      #expect(try all(&tail) == ["3"] + growth.split(separator: "\n").map(String.init))
    }
  }

  /// Regression: a checkpoint was computed from the file's present contents, which may be others than those that were
  /// read.
  @Test func `a checkpoint is computed from what was read, whatever the file contains by then`() throws {
    let scratch = try Scratch()
    var first = tail(scratch)
    try scratch.append(String(repeating: "one line that is longer than a fingerprint reaches\n", count: 10) + "2\n")
    let chunk = try first.read(time: 0).chunk
    try scratch.copyAndTruncate()
    try scratch.append(String(repeating: "another line that is longer than a fingerprint reaches\n", count: 20))
    guard case .file(let position)? = chunk.checkpoint(after: chunk.lines[9]) else {
      Issue.record("no checkpoint")
      return
    }
    var again = tail(scratch, from: position)
    #expect(try all(&again).first == "2")
    // In pieces: as if it had been read at once.
    var pieces = tail(scratch)
    var checkpoints: [Checkpoint?] = []
    for _ in 0..<100 {
      let chunk = try pieces.read(37, time: 0).chunk
      checkpoints += chunk.lines.map { chunk.checkpoint(after: $0) }
    }
    var whole = tail(scratch)
    let all = try whole.read(time: 0).chunk
    #expect(checkpoints == all.lines.map { all.checkpoint(after: $0) } && checkpoints.count == 20)
  }

  /// While the service is away, nothing of the file is read; every scan must still detect the rotation.
  @Test func `copied and truncated again and again before anything of it was read`() throws {
    let scratch = try Scratch()
    var tail = tail(scratch)
    try scratch.append("1\n")
    #expect(try all(&tail) == ["1"])
    for number in 2...5 {
      try scratch.append("\(number)\n")
      try tail.scanForRotation()
      for old in [3, 2, 1] where FileManager.default.fileExists(atPath: "\(scratch.log).\(old)") {
        try FileManager.default.moveItem(atPath: "\(scratch.log).\(old)", toPath: "\(scratch.log).\(old + 1)")
      }
      try scratch.copyAndTruncate()
      // As long as before, and longer.
      try scratch.append(number % 2 == 0 ? "x\n" : "longer than before\n")
      try tail.scanForRotation()
    }
    #expect(try all(&tail) == ["2", "x", "3", "longer than before", "4", "x", "5", "longer than before"])
  }

  @Test func `a restart resumes at the checkpoint, whatever rotations happened meanwhile`() throws {
    let scratch = try Scratch()
    var first = tail(scratch)
    try scratch.append("1\n2\n3\n")
    let read = try first.read(time: 0).chunk
    guard case .file(let position)? = read.checkpoint(after: read.lines[1]) else {
      Issue.record("no checkpoint")
      return
    }
    var same = tail(scratch, from: position)
    #expect(try all(&same) == ["3"])
    try scratch.rename()
    var missing = tail(scratch, from: position)
    #expect(try all(&missing) == ["3"])
    try scratch.append("4\n")
    #expect(try all(&missing) == ["4"])
    var rotated = tail(scratch, from: position)
    #expect(try all(&rotated) == ["3", "4"])
    try FileManager.default.removeItem(atPath: scratch.log + ".1")
    var lost = tail(scratch, from: position)
    let (lines, events) = try lost.read(time: 0)
    #expect(lines.texts == ["4"] && events == [.lostRest(of: position)])
    // Copied and truncated before anything was acknowledged: its former contents, then its present ones.
    let other = try Scratch()
    try other.append("1\n")
    let beginning = try #require(try self.tail(other).initialPosition(time: 0))
    try other.copyAndTruncate()
    try other.append("2\n")
    var copied = tail(other, from: beginning)
    #expect(try all(&copied) == ["1", "2"])
    // Checkpoints are read as they were written.
    let checkpoints = [
      "file:x": Checkpoint.file(position), "journal": .cursor("s=1"),
      "consul": .spool(SpoolPosition(segment: 3, offset: 17)),
    ]
    #expect(try CheckpointStore.parse(Array(CheckpointStore.json(checkpoints).prettyText.utf8)) == checkpoints)
  }

  // MARK: What lies beside the file

  /// Regression: no rotation was detected, and the file at the path was not read any more, without a word.
  @Test(arguments: ["directory", "symbolic link", "hard link", "dangling link"])
  func `a directory or a link whose name begins like the file's does not hide its rotation`(_ kind: String) throws {
    let scratch = try Scratch()
    let files = FileManager.default
    var tail = tail(scratch)
    try scratch.append("1\n")
    #expect(try all(&tail) == ["1"])
    try scratch.append("2\n")
    try scratch.rename()
    switch kind {
    case "directory": try files.createDirectory(atPath: scratch.log + ".old", withIntermediateDirectories: true)
    case "symbolic link":
      try files.createSymbolicLink(atPath: scratch.log + ".latest", withDestinationPath: scratch.log + ".1")
    case "hard link": try files.linkItem(atPath: scratch.log + ".1", toPath: scratch.log + ".2")
    default: try files.createSymbolicLink(atPath: scratch.log + ".gone", withDestinationPath: "/nonexistent")
    }
    try scratch.append("3\n")
    #expect(try all(&tail) == ["2", "3"])
  }

  // MARK: Hostile numbers

  /// Files that claim any size, as sparse files do.
  private struct HugeFiles: FileOpener {
    let names: [String]
    let size: Int64

    private struct Huge: OpenFile {
      let identity: FileIdentity
      let claimed: Int64
      func size() -> Int64 { claimed }
      func modified() -> Int64 { .max }
      func read(at offset: Int64, count: Int) -> [UInt8] { Array("x\n".utf8.prefix(count)) }
    }

    func open(_ path: String, followsLinks: Bool) -> (any OpenFile)? {
      guard let index = names.firstIndex(where: { path.hasSuffix("/" + $0) }) else { return nil }
      return Huge(identity: FileIdentity(device: 1, inode: UInt64(index)), claimed: size)
    }

    func list(_ directory: String) -> [String] { names }
  }

  @Test func `sizes of any number are added without a trap`() throws {
    let files = HugeFiles(names: ["app.log", "app.log.1", "app.log.2", "app.log.3"], size: .max)
    let start = FilePosition(
      identity: FileIdentity(device: 1, inode: 3), offset: 0, time: .min, fingerprint: Fingerprint.of([]))
    var tail = FileTail(path: "/var/log/app.log", start: start, opener: files)
    try tail.scanForRotation()
    #expect(try tail.unreadBytes() == .max)
    // More than can be held open.
    var many = FileTail(
      path: "/var/log/app.log", start: start,
      opener: HugeFiles(names: ["app.log"] + (1...70).map { "app.log.\($0)" }, size: .max))
    let events = try many.read(time: 0).events
    #expect(events.contains(.dropped(bytes: .max)))
  }

  @Test func `losses of any size are added without a trap`() async throws {
    let files = HugeFiles(names: ["app.log"] + (1...70).map { "app.log.\($0)" }, size: .max)
    let start = FilePosition(
      identity: FileIdentity(device: 1, inode: 3), offset: 0, time: .min, fingerprint: Fingerprint.of([]))
    var source = FileSource(
      path: "/var/log/app.log", checkpoint: .file(start), opener: files, now: { Timestamp(milliseconds: 0) },
      log: Logger(level: .error, sink: RecordingSink()))
    _ = try await source.read(100)
    #expect(source.losses.bytes == .max)
  }

  /// A checkpoint file may hold any number.
  @Test(arguments: [
    (Int64.max, Int64.max), (.max, .min), (0, .max), (0, .min), (2, .min), (3, .max),
  ])
  func `a checkpoint of any numbers resumes without a trap`(_ offset: Int64, _ time: Int64) throws {
    for isSameFile in [true, false] {
      let scratch = try Scratch()
      try scratch.append("1\n2\n")
      let inode = try #require(try LocalFileStore().open(scratch.log)).identity
      let identity = isSameFile ? inode : FileIdentity(device: .max, inode: .max)
      let position = FilePosition(identity: identity, offset: offset, time: time, fingerprint: .max)
      var tail = tail(scratch, from: position)
      #expect(try all(&tail) == ["1", "2"])
      #expect(try tail.unreadBytes() == 0)
    }
  }

  @Test(arguments: [
    ("app.log", "app.log", true), ("app.log", "*.log", true), ("app.log.1", "*.log", false), ("a", "?", true),
    ("ab", "?", false),
    (".hidden", "*", false),
    ("abcabd", "*abd", true), ("", "*", true), ("x", "", false),
  ])
  func `patterns`(_ name: String, _ pattern: String, _ isMatch: Bool) {
    #expect(LogFiles.matches(Array(name.utf8)[...], Array(pattern.utf8)[...]) == isMatch)
  }
}
