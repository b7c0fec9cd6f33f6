internal import Base

/// The part of the BoltDB format (go.etcd.io/bbolt, page.go, bucket.go, db.go; little-endian) that shows whether a
/// top-level bucket is empty.
///
/// The file is not trusted: every offset is checked, a walk has a budget of elements. The answer is "empty" only if
/// every part that was read is valid, so that no flipped bit makes entries disappear.
struct BoltDatabase {
  private let bytes: [UInt8]

  private static let magic: UInt32 = 0xED0C_DAED
  private static let metaFlag: UInt16 = 4, branchFlag: UInt16 = 1, leafFlag: UInt16 = 2
  private static let pageHeaderSize = 16, elementSize = 16, bucketHeaderSize = 16
  /// Of a meta page, up to its checksum.
  private static let metaSize = 56
  private static let bucketElementFlag: UInt32 = 1
  private static let pageSizes = 512...65536
  /// A path from the root is a handful of pages long; a longer one would use up the stack.
  private static let maximumDepth = 32

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// Nil if this is not a valid database with such a bucket. False for a database without any bucket, which has just
  /// been created.
  func hasEntries(inBucket name: String) -> Bool? {
    guard let meta = newestMeta() else { return nil }
    var walk = Walk(elementsLeft: bytes.count / Self.elementSize)
    guard let found = bucket(named: Array(name.utf8), inPage: meta.root, pageSize: meta.pageSize, &walk) else {
      return nil
    }
    let hasEntries: Bool?
    switch found {
    case .value(let value): hasEntries = self.hasEntries(value, pageSize: meta.pageSize)
    case .none: hasEntries = walk.sawElements ? nil : isBlank(meta.root, pageSize: meta.pageSize) ? false : nil
    }
    // An older meta page does not have the newest entries.
    return hasEntries == false && !meta.isConfirmed ? nil : hasEntries
  }

  // MARK: Meta pages

  private struct Meta {
    let pageSize: Int
    let root: UInt64
    let transaction: UInt64
    /// The other meta page is valid, too.
    var isConfirmed = false
  }

  /// The two meta pages are written in turn; the one with the higher transaction is the newer.
  private func newestMeta() -> Meta? {
    let first = meta(at: 0)
    let second =
      first.map { meta(at: $0.pageSize) }
      ?? Self.pageSizes.lazy.filter { $0.nonzeroBitCount == 1 }.compactMap { meta(at: $0) }.first
    guard var newest = [first, second].compactMap({ $0 }).max(by: { $0.transaction < $1.transaction }) else {
      return nil
    }
    newest.isConfirmed = first != nil && second != nil
    return newest
  }

  private func meta(at page: Int) -> Meta? {
    let start = page + Self.pageHeaderSize
    guard integer(UInt16.self, page, 8) == Self.metaFlag, integer(UInt32.self, start) == Self.magic,
      let size = integer(UInt32.self, start, 8).map({ Int($0) }), Self.pageSizes.contains(size),
      page == 0 || page == size,
      let root = integer(UInt64.self, start, 16), let transaction = integer(UInt64.self, start, 48),
      integer(UInt64.self, start, UInt64(Self.metaSize)) == checksum(start..<start + Self.metaSize)
    else { return nil }
    return Meta(pageSize: size, root: root, transaction: transaction)
  }

  /// FNV-1a with 64 bits, as db.go has it. The range lies inside the file.
  private func checksum(_ range: Range<Int>) -> UInt64 {
    FNV1a(bytes[range]).value
  }

  // MARK: Pages

  /// What is left of the budget of one walk through the tree.
  private struct Walk {
    /// Each element has 16 bytes of its own, and each page but the root is an element of another: a loop, or a tree
    /// that repeats its pages, has more than the file can hold.
    var elementsLeft: Int
    var sawElements = false
  }

  private enum Found {
    /// The offset and the size of the bucket's value.
    case value(Range<Int>)
    case none
  }

  /// Where a page begins; nil if it is not there or is not the page of that number.
  private func start(ofPage number: UInt64, pageSize: Int) -> Int? {
    guard number > 1, number < UInt64(bytes.count / pageSize) else { return nil }
    let start = Int(number) * pageSize
    return integer(UInt64.self, start) == number ? start : nil
  }

  /// Nil if the pages are malformed.
  private func bucket(
    named name: [UInt8], inPage page: UInt64, pageSize: Int, depth: Int = 0, _ walk: inout Walk
  ) -> Found? {
    guard depth < Self.maximumDepth, let start = start(ofPage: page, pageSize: pageSize),
      let flags = integer(UInt16.self, start, 8), let count = integer(UInt16.self, start, 10).map({ Int($0) }),
      flags == Self.leafFlag || flags == Self.branchFlag, count <= walk.elementsLeft
    else { return nil }
    walk.elementsLeft -= count
    if count > 0 { walk.sawElements = true }
    for index in 0..<count {
      let element = start + Self.pageHeaderSize + index * Self.elementSize
      if flags == Self.leafFlag {
        guard let elementFlags = integer(UInt32.self, element), let position = integer(UInt32.self, element, 4),
          let keySize = integer(UInt32.self, element, 8), let valueSize = integer(UInt32.self, element, 12),
          let key = range(element, UInt64(position), UInt64(keySize)),
          let value = range(key.upperBound, 0, UInt64(valueSize))
        else { return nil }
        if elementFlags == Self.bucketElementFlag, bytes[key].elementsEqual(name) { return .value(value) }
      } else {
        guard let child = integer(UInt64.self, element, 8),
          let found = bucket(named: name, inPage: child, pageSize: pageSize, depth: depth + 1, &walk)
        else { return nil }
        if case .value = found { return found }
      }
    }
    return Found.none
  }

  /// Nil if the bucket is malformed.
  private func hasEntries(_ value: Range<Int>, pageSize: Int) -> Bool? {
    guard value.count >= Self.bucketHeaderSize, let root = integer(UInt64.self, value.lowerBound) else { return nil }
    // Root page 0: the bucket is small, and its only page follows its header.
    let isInline = root == 0
    if isInline, value.count < Self.bucketHeaderSize + Self.pageHeaderSize { return nil }
    guard let page = isInline ? value.lowerBound + Self.bucketHeaderSize : start(ofPage: root, pageSize: pageSize),
      let flags = integer(UInt16.self, page, 8), let count = integer(UInt16.self, page, 10)
    else { return nil }
    switch flags {
    case Self.branchFlag where !isInline: return true
    case Self.leafFlag where count > 0: return true
    // Bolt keeps an empty bucket inline, and nothing follows its page header.
    case Self.leafFlag where isInline && value.count == Self.bucketHeaderSize + Self.pageHeaderSize: return false
    default: return nil
    }
  }

  /// Whether nothing follows the header of a page.
  private func isBlank(_ page: UInt64, pageSize: Int) -> Bool {
    guard let start = start(ofPage: page, pageSize: pageSize) else { return false }
    return bytes[start + Self.pageHeaderSize..<start + pageSize].allSatisfy { $0 == 0 }
  }

  // MARK: Checked reading

  /// `base + offset` and so many bytes from there on; nil if they are not all inside the file.
  private func range(_ base: Int, _ offset: UInt64, _ count: UInt64) -> Range<Int>? {
    let length = UInt64(bytes.count)
    guard base >= 0, UInt64(base) <= length, offset <= length - UInt64(base),
      count <= length - UInt64(base) - offset
    else { return nil }
    let start = base + Int(offset)
    return start..<start + Int(count)
  }

  private func integer<Number: FixedWidthInteger>(_: Number.Type, _ base: Int, _ offset: UInt64 = 0) -> Number? {
    guard let range = range(base, offset, UInt64(MemoryLayout<Number>.size)) else { return nil }
    var number: Number = 0
    for index in range.reversed() { number = number << 8 | Number(truncatingIfNeeded: bytes[index]) }
    return number
  }
}
