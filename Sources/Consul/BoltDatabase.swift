internal import Base

/// The part of the BoltDB format (go.etcd.io/bbolt, page.go, node.go, bucket.go, db.go; little-endian) that shows what
/// the top-level buckets hold.
///
/// The file is not trusted. Only the two meta pages have a checksum. Every other page is compared with all that bbolt
/// writes: number, type, order, gapless layout, zeros after the last byte. Reads are few and bounded, whatever the size
/// of the file.
struct BoltDatabase {
  private let file: RaftFile
  private let metaPages: MetaPages
  private let meta: Meta

  private static let pageHeaderSize = 16, elementSize = 16, bucketHeaderSize = 16
  private static let metaFlag: UInt16 = 4, branchFlag: UInt16 = 1, leafFlag: UInt16 = 2
  private static let bucketElementFlag: UInt32 = 1
  /// A page with its overflow pages, of those that are read whole: the largest holds the metadata of a write-ahead log,
  /// some 200 bytes for each segment of 64 MB.
  private static let longestLeaf = 256 << 10
  /// A path from the root is a handful of pages long.
  private static let maximumDepth = 32

  init(_ file: RaftFile) throws(RaftFileError) {
    self.file = file
    metaPages = try MetaPages(file)
    guard let newest = metaPages.newest else { throw file.invalid("has no valid meta page") }
    meta = newest
  }

  // MARK: Buckets

  /// An element of a leaf page.
  struct Element {
    let isBucket: Bool
    let key: [UInt8]
    let value: [UInt8]
  }

  /// The values of the top-level buckets, by name. Nil for a database that has just been created, with no bucket yet.
  func buckets() throws(RaftFileError) -> [String: [UInt8]]? {
    let root = try elements(ofPage: meta.root)
    if root.isEmpty, metaPages.areNew { return nil }
    guard root.allSatisfy(\.isBucket) else { throw file.invalid("has a key outside its buckets") }
    return Dictionary(root.map { (String(decoding: $0.key, as: UTF8.self), $0.value) }) { first, _ in first }
  }

  /// All elements of a small bucket: one leaf page, within its value or its own.
  func elements(of bucket: [UInt8]) throws(RaftFileError) -> [Element] {
    switch try location(of: bucket) {
    case .inline(let page): try elements(in: page, isInline: true)
    case .page(let number): try elements(ofPage: number)
    }
  }

  /// Whether a bucket of any size has a key.
  func hasElements(_ bucket: [UInt8]) throws(RaftFileError) -> Bool {
    switch try location(of: bucket) {
    case .inline(let page): return try !elements(in: page, isInline: true).isEmpty
    case .page(let number):
      // bbolt keeps an empty bucket inline: an empty page of its own is damage.
      guard try header(ofPage: number).count > 0 else { throw file.invalid("has an empty page \(number)") }
      return true
    }
  }

  /// The element with the greatest key in a bucket of any size: one page of each level. Nil for an empty bucket.
  func lastElement(of bucket: [UInt8]) throws(RaftFileError) -> (key: [UInt8], value: LargeValue)? {
    guard case .page(var number) = try location(of: bucket) else {
      return try elements(of: bucket).last.map { ($0.key, LargeValue(bytes: $0.value)) }
    }
    for _ in 0..<Self.maximumDepth {
      let header = try header(ofPage: number)
      guard header.count > 0 else { throw file.invalid("has an empty page \(number)") }
      let offset = header.start + Int64(Self.pageHeaderSize + (header.count - 1) * Self.elementSize)
      let element = try file.bytes(at: offset, Self.elementSize)
      if header.flags == Self.branchFlag {
        number = element.number(UInt64.self, at: 8) ?? 0
        continue
      }
      guard let position = element.number(UInt32.self, at: 4), let keySize = element.number(UInt32.self, at: 8),
        let valueSize = element.number(UInt32.self, at: 12), keySize <= UInt32(meta.pageSize),
        offset + Int64(position) + Int64(keySize) + Int64(valueSize) <= header.start + header.size
      else { throw file.invalid("has an invalid element in page \(number)") }
      let start = offset + Int64(position)
      let key = try file.bytes(at: start, Int(keySize))
      return (key, LargeValue(file: file, start: start + Int64(keySize), size: Int64(valueSize)))
    }
    throw file.invalid("has a tree of more than \(Self.maximumDepth) levels")
  }

  /// Whether both meta pages are valid, belong to successive transactions and are still those that this value rests on,
  /// and no page is missing. Without it nothing proves that a bucket is empty: an older meta page does not know the
  /// newest entries, and the pages that a running agent frees are written again.
  func confirm() throws(RaftFileError) {
    guard metaPages.areComplete else { throw file.invalid("has a damaged meta page") }
    guard try MetaPages(file) == metaPages else { throw .changed(path: file.path) }
    guard meta.pageCount <= UInt64(metaPages.fileSize / Int64(meta.pageSize)) else {
      throw file.invalid("is shorter than \(meta.pageCount) pages")
    }
  }

  private enum Location {
    case inline([UInt8])
    case page(UInt64)
  }

  private func location(of bucket: [UInt8]) throws(RaftFileError) -> Location {
    guard let root = bucket.number(UInt64.self, at: 0), bucket.count >= Self.bucketHeaderSize else {
      throw file.invalid("has a bucket of \(bucket.count) bytes")
    }
    // Root page 0: the bucket is small, and its only page follows its header.
    if root == 0 { return .inline(Array(bucket[Self.bucketHeaderSize...])) }
    guard bucket.count == Self.bucketHeaderSize else { throw file.invalid("has a bucket of \(bucket.count) bytes") }
    return .page(root)
  }

  // MARK: Pages

  private struct PageHeader {
    let start: Int64
    /// With the overflow pages.
    let size: Int64
    let flags: UInt16
    let count: Int
  }

  private func header(ofPage number: UInt64) throws(RaftFileError) -> PageHeader {
    let last = min(meta.pageCount, UInt64(metaPages.fileSize / Int64(meta.pageSize)))
    guard number > 1, number < last else { throw file.invalid("lacks page \(number)") }
    let start = Int64(number) * Int64(meta.pageSize)
    let bytes = try file.bytes(at: start, Self.pageHeaderSize)
    guard bytes.number(UInt64.self, at: 0) == number, let flags = bytes.number(UInt16.self, at: 8),
      flags == Self.leafFlag || flags == Self.branchFlag, let count = bytes.number(UInt16.self, at: 10),
      let overflow = bytes.number(UInt32.self, at: 12), UInt64(overflow) < last - number
    else { throw file.invalid("has an invalid page \(number)") }
    let size = (Int64(overflow) + 1) * Int64(meta.pageSize)
    guard Self.pageHeaderSize + Int(count) * Self.elementSize <= size else {
      throw file.invalid("has too many elements in page \(number)")
    }
    return PageHeader(start: start, size: size, flags: flags, count: Int(count))
  }

  private func elements(ofPage number: UInt64) throws(RaftFileError) -> [Element] {
    let header = try header(ofPage: number)
    // Bbolt splits a page from four keys on, and no bucket that is read whole has so many.
    guard header.flags == Self.leafFlag, header.size <= Self.longestLeaf else {
      throw file.invalid("has too many keys in page \(number)")
    }
    return try elements(in: try file.bytes(at: header.start, Int(header.size)), isInline: false)
  }

  /// - Parameter page: a leaf page as bbolt writes it: elements, then each key and value, in order and without a gap.
  private func elements(in page: [UInt8], isInline: Bool) throws(RaftFileError) -> [Element] {
    guard page.number(UInt16.self, at: 8) == Self.leafFlag, let count = page.number(UInt16.self, at: 10),
      page.count >= Self.pageHeaderSize + Int(count) * Self.elementSize
    else { throw file.invalid("has an invalid leaf page") }
    var elements: [Element] = []
    var end = Self.pageHeaderSize + Int(count) * Self.elementSize
    for index in 0..<Int(count) {
      let start = Self.pageHeaderSize + index * Self.elementSize
      guard let flags = page.number(UInt32.self, at: start), flags <= Self.bucketElementFlag,
        let position = page.number(UInt32.self, at: start + 4), Int(position) == end - start,
        let keySize = page.number(UInt32.self, at: start + 8), keySize > 0, Int(keySize) <= page.count - end,
        let valueSize = page.number(UInt32.self, at: start + 12), Int(valueSize) <= page.count - end - Int(keySize)
      else { throw file.invalid("has an invalid element in a leaf page") }
      let value = end + Int(keySize)
      let element = Element(
        isBucket: flags == Self.bucketElementFlag, key: Array(page[end..<value]),
        value: Array(page[value..<value + Int(valueSize)]))
      if let last = elements.last, !last.key.lexicographicallyPrecedes(element.key) {
        throw file.invalid("has keys that are not in order")
      }
      elements.append(element)
      end = value + Int(valueSize)
    }
    // Bbolt zeroes a page before it writes it; a bucket's value ends with its last element.
    guard isInline ? end == page.count : page[end...].isZero else {
      throw file.invalid("has more in a leaf page than its elements")
    }
    return elements
  }
}

// MARK: - Meta pages

/// One of the two pages that name the current root.
private struct Meta: Equatable {
  let pageSize: Int
  let root: UInt64
  /// Of the whole database: a page with this number has never been used.
  let pageCount: UInt64
  let transaction: UInt64
}

/// The meta pages are written in turn: the one with the higher transaction is the newer, and the other one is the last
/// before it.
private struct MetaPages: Equatable {
  let first: Meta?
  let second: Meta?
  let fileSize: Int64

  private static let magic: UInt32 = 0xED0C_DAED, version: UInt32 = 2, metaFlag: UInt16 = 4
  private static let headerSize = 16
  /// Up to the checksum.
  private static let summedSize = 56
  private static let pageSizes = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]

  init(_ file: RaftFile) throws(RaftFileError) {
    fileSize = try file.size()
    first = try Self.meta(in: file, 0)
    if let first {
      second = try Self.meta(in: file, first.pageSize)
      return
    }
    var found: Meta?
    for size in Self.pageSizes where found == nil { found = try Self.meta(in: file, size) }
    second = found
  }

  var newest: Meta? {
    guard let first, let second else { return first ?? second }
    return first.transaction > second.transaction ? first : second
  }

  var areComplete: Bool {
    guard let first, let second, first.pageSize == second.pageSize else { return false }
    // Both are smaller than 2^64.
    return max(first.transaction, second.transaction) - min(first.transaction, second.transaction) == 1
  }

  /// As bbolt creates them, before the first transaction: four pages, the last of them the root.
  var areNew: Bool {
    guard let first, let second else { return false }
    return first.transaction == 0 && second.transaction == 1 && first.root == 3 && second.root == 3
      && first.pageCount == 4 && second.pageCount == 4
  }

  private static func meta(in file: RaftFile, _ page: Int) throws(RaftFileError) -> Meta? {
    let bytes = try file.prefix(at: Int64(page), headerSize + summedSize + 8)
    let summed = bytes.dropFirst(headerSize).prefix(summedSize)
    guard bytes.number(UInt16.self, at: 8) == metaFlag, summed.number(UInt32.self, at: 0) == magic,
      summed.number(UInt32.self, at: 4) == version,
      let pageSize = summed.number(UInt32.self, at: 8).map({ Int($0) }), pageSizes.contains(pageSize),
      page == 0 || page == pageSize, bytes.number(UInt64.self, at: 0) == (page == 0 ? 0 : 1),
      let root = summed.number(UInt64.self, at: 16), let pageCount = summed.number(UInt64.self, at: 40),
      let transaction = summed.number(UInt64.self, at: 48),
      bytes.number(UInt64.self, at: headerSize + summedSize) == FNV1a(summed).value
    else { return nil }
    return Meta(pageSize: pageSize, root: root, pageCount: pageCount, transaction: transaction)
  }
}
