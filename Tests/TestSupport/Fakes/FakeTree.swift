internal import Base
internal import Foundation

/// An errno with the C library's words, or others.
struct Errno: Error {
  let number: Int32
  let reason: String

  init(_ number: Int32, _ reason: String? = nil) {
    self.number = number
    self.reason = reason ?? String(cString: strerror(number))
  }
}

struct FakeNode: Sendable {
  enum Content: Sendable {
    case file([UInt8])
    case directory([String: UInt64])
    case link(String)
    case other
  }

  var content: Content
  var mode: UInt32
  var user: UInt32
  var group: UInt32
  var device: UInt64 = 0
  var modified: Timestamp

  init(
    _ content: Content, mode: UInt32 = 0o755, user: UInt32 = 0, group: UInt32 = 0,
    modified: Timestamp = Timestamp(seconds: 0)
  ) {
    (self.content, self.mode, self.user, self.group, self.modified) = (content, mode, user, group, modified)
  }
}

/// Inodes by number and their names. A node without a name stays for those that have it open.
struct FakeTree: Sendable {
  private static let root: UInt64 = 1
  private static let maximumLinks = 40
  private var nodes: [UInt64: FakeNode]
  private var nextNumber: UInt64 = 2

  init() {
    var root = FakeNode(.directory([:]))
    root.device = 1
    nodes = [Self.root: root]
  }

  func node(_ number: UInt64) -> FakeNode { nodes[number]! }

  mutating func change(_ number: UInt64, _ change: (inout FakeNode) -> Void) { change(&nodes[number]!) }

  /// The node and, if it is a directory, everything under it.
  mutating func changeAll(_ number: UInt64, _ change: (inout FakeNode) -> Void) {
    self.change(number, change)
    if case .directory(let entries) = node(number).content {
      for entry in entries.values { changeAll(entry, change) }
    }
  }

  func parent(of path: String) -> String {
    let parts = Self.parts(path).dropLast()
    return "/" + parts.joined(separator: "/")
  }

  private static func parts(_ path: String) -> [Substring] {
    precondition(path.hasPrefix("/"), "a path that is not absolute: \(path)")
    return path.split(separator: "/").filter { $0 != "." }
  }

  /// The node at a path; nil if there is none. Throws ENOTDIR where a file stands for a directory, ELOOP.
  func lookup(_ path: String, followsLast: Bool = true) throws -> UInt64? {
    var links = 0
    return try walk(Self.parts(path)[...], from: [Self.root], followsLast, &links)?.last
  }

  /// The path without links. Throws ENOENT, ENOTDIR, ELOOP.
  func resolved(_ path: String) throws -> String {
    var links = 0
    guard let trail = try walk(Self.parts(path)[...], from: [Self.root], true, &links) else { throw Errno(2) }
    return zip(trail, trail.dropFirst()).map { directory, number in
      guard case .directory(let entries) = node(directory).content else { return "" }
      return "/" + (entries.first { $0.value == number }?.key ?? "")
    }.joined()
  }

  /// - Returns: the nodes from the root to the one looked for.
  private func walk(
    _ parts: ArraySlice<Substring>, from start: [UInt64], _ followsLast: Bool, _ links: inout Int
  ) throws -> [UInt64]? {
    var trail = start
    for (offset, part) in parts.enumerated() {
      guard case .directory(let entries) = node(trail.last!).content else { throw Errno(20) }
      if part == ".." {
        if trail.count > 1 { trail.removeLast() }
        continue
      }
      guard let next = entries[String(part)] else { return nil }
      guard case .link(let target) = node(next).content, followsLast || offset < parts.count - 1 else {
        trail.append(next)
        continue
      }
      links += 1
      guard links <= Self.maximumLinks else { throw Errno(40) }
      let base = target.hasPrefix("/") ? [Self.root] : trail
      guard let reached = try walk(target.split(separator: "/")[...], from: base, true, &links) else { return nil }
      trail = reached
    }
    return trail
  }

  /// Where a path's last name stands. Throws ENOENT, ENOTDIR.
  private func place(_ path: String) throws -> (directory: UInt64, name: String, entries: [String: UInt64]) {
    guard let name = Self.parts(path).last.map(String.init) else { throw Errno(16) }
    guard let directory = try lookup(parent(of: path)) else { throw Errno(2) }
    guard case .directory(let entries) = node(directory).content else { throw Errno(20) }
    return (directory, name, entries)
  }

  /// Names a new node, in place of whatever has the name. The device is its directory's.
  mutating func add(_ path: String, _ node: FakeNode) throws -> UInt64 {
    let place = try place(path)
    let number = nextNumber
    nextNumber += 1
    var new = node
    new.device = self.node(place.directory).device
    nodes[number] = new
    set(place.name, number, in: place.directory)
    return number
  }

  /// With missing parents; what is there already stays.
  mutating func makeDirectories(_ path: String) throws {
    let parts = Self.parts(path)
    for count in parts.indices.map({ $0 + 1 }) {
      let path = "/" + parts.prefix(count).joined(separator: "/")
      guard let number = try lookup(path) else {
        _ = try add(path, FakeNode(.directory([:])))
        continue
      }
      guard case .directory = node(number).content else { throw Errno(20) }
    }
  }

  /// Takes the name away; the node stays for those that have it open.
  mutating func remove(_ path: String) throws {
    let place = try place(path)
    guard place.entries[place.name] != nil else { throw Errno(2) }
    set(place.name, nil, in: place.directory)
  }

  mutating func rename(_ path: String, to newPath: String) throws {
    let from = try place(path), to = try place(newPath)
    guard let number = from.entries[from.name] else { throw Errno(2) }
    guard node(from.directory).device == node(to.directory).device, node(number).device == node(to.directory).device
    else { throw Errno(18) }
    if let replaced = to.entries[to.name], replaced != number {
      switch (node(number).content, node(replaced).content) {
      case (.directory, .directory(let entries)): if !entries.isEmpty { throw Errno(39) }
      case (.directory, _): throw Errno(20)
      case (_, .directory): throw Errno(21)
      default: break
      }
    }
    set(from.name, nil, in: from.directory)
    set(to.name, number, in: to.directory)
  }

  private mutating func set(_ name: String, _ number: UInt64?, in directory: UInt64) {
    guard case .directory(var entries) = node(directory).content else { return }
    entries[name] = number
    change(directory) { $0.content = .directory(entries) }
  }

  func status(_ number: UInt64) -> FileStatus {
    let node = node(number)
    let kind: FileKind, size: Int64
    switch node.content {
    case .file(let bytes): (kind, size) = (.file, Int64(bytes.count))
    case .directory: (kind, size) = (.directory, 4096)
    case .link, .other: (kind, size) = (.other, 0)
    }
    return FileStatus(
      kind: kind, size: size, mode: node.mode, user: node.user, group: node.group, device: node.device)
  }
}
