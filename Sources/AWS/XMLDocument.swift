internal import Base
internal import CExpat

/// A document that is not acceptable XML.
package struct XMLError: ExplainedError, Sendable, Equatable {
  package let reason: String
  /// Counted from 1.
  package let line: Int

  package var explanation: String { "not XML: \(reason) in line \(line)" }
}

/// A parsed XML document: elements and their text, without attributes and namespaces, which AWS does not use for data.
///
/// One flat arena instead of an object per element: an answer about 1,000 instances has some 100,000 elements.
/// A document type declaration is refused (entity bombs need one), as are more than 64 levels and 8 million elements.
package struct XMLDocument: Sendable {
  fileprivate struct Node {
    var name: UInt16
    var textStart: Int32
    var textEnd: Int32
    var firstChild: Int32 = -1
    var nextSibling: Int32 = -1
  }

  fileprivate var nodes: [Node] = []
  fileprivate var text: [UInt8] = []
  fileprivate var names: [[UInt8]] = []

  package static let maximumDepth = 64
  package static let maximumElements = 8_000_000

  /// - Throws: `XMLError`.
  package init(parsing bytes: [UInt8]) throws(XMLError) {
    var builder = XMLBuilder()
    try builder.parse(bytes)
    (nodes, text, names) = (builder.nodes, builder.text, builder.names)
  }

  package var root: XMLElement { XMLElement(document: self, index: 0) }
}

/// One element of a document.
package struct XMLElement: Sendable {
  fileprivate let document: XMLDocument
  fileprivate let index: Int

  package var name: String { String(decoding: document.names[Int(document.nodes[index].name)], as: UTF8.self) }

  /// The character data of an element without children; empty for one that has children.
  package var text: String {
    let node = document.nodes[index]
    return String(decoding: document.text[Int(node.textStart)..<Int(node.textEnd)], as: UTF8.self)
  }

  /// The first child of that name.
  package func child(_ name: StaticString) -> XMLElement? {
    var next = document.nodes[index].firstChild
    while next >= 0 {
      if hasName(next, name) { return XMLElement(document: document, index: Int(next)) }
      next = document.nodes[Int(next)].nextSibling
    }
    return nil
  }

  /// The text of the first child of that name; nil if there is none or it is empty.
  package subscript(name: StaticString) -> String? {
    guard let text = child(name)?.text, !text.isEmpty else { return nil }
    return text
  }

  /// All children of that name, in order.
  package func children(_ name: StaticString) -> [XMLElement] {
    var found: [XMLElement] = []
    var next = document.nodes[index].firstChild
    while next >= 0 {
      if hasName(next, name) { found.append(XMLElement(document: document, index: Int(next))) }
      next = document.nodes[Int(next)].nextSibling
    }
    return found
  }

  /// What AWS calls a list: the children `member` (Auto Scaling) or `item` (EC2) of the child of that name.
  package func list(_ name: StaticString) -> [XMLElement] {
    guard let child = child(name) else { return [] }
    let members = child.children("member")
    return members.isEmpty ? child.children("item") : members
  }

  private func hasName(_ node: Int32, _ name: StaticString) -> Bool {
    let bytes = document.names[Int(document.nodes[Int(node)].name)]
    return bytes.count == name.utf8CodeUnitCount
      && bytes.withUnsafeBufferPointer { mine in
        for offset in 0..<bytes.count where mine[offset] != name.utf8Start[offset] { return false }
        return true
      }
  }
}

/// Fills the arena from Expat's callbacks, which reach it by a pointer: no check for exclusive access a callback.
private struct XMLBuilder {
  fileprivate var nodes: [XMLDocument.Node] = []
  fileprivate var text: [UInt8] = []
  fileprivate var names: [[UInt8]] = []
  private var nameNumbers: [UInt64: UInt16] = [:]
  /// The open elements, each with its last child.
  private var open: [(node: Int32, lastChild: Int32)] = []
  private var refusal: String?
  private var parser: XML_Parser?

  mutating func parse(_ bytes: [UInt8]) throws(XMLError) {
    if let error = withUnsafeMutablePointer(to: &self, { Self.parse(bytes, into: $0) }) { throw error }
  }

  private static func parse(_ bytes: [UInt8], into builder: UnsafeMutablePointer<XMLBuilder>) -> XMLError? {
    guard let parser = XML_ParserCreate("UTF-8") else { return XMLError(reason: "out of memory", line: 1) }
    defer { XML_ParserFree(parser) }
    builder.pointee.parser = parser
    XML_SetUserData(parser, builder)
    XML_SetElementHandler(
      parser,
      { context, name, _ in
        guard let context, let name else { return }
        context.assumingMemoryBound(to: XMLBuilder.self).pointee.start(name)
      },
      { context, _ in
        guard let context else { return }
        context.assumingMemoryBound(to: XMLBuilder.self).pointee.end()
      })
    XML_SetCharacterDataHandler(parser) { context, bytes, count in
      guard let context, let bytes else { return }
      context.assumingMemoryBound(to: XMLBuilder.self).pointee.characters(bytes, Int(count))
    }
    XML_SetStartDoctypeDeclHandler(parser) { context, _, _, _, _ in
      guard let context else { return }
      context.assumingMemoryBound(to: XMLBuilder.self).pointee.refuse("document type declarations are not accepted")
    }
    let status = bytes.withUnsafeBufferPointer { buffer in
      buffer.withMemoryRebound(to: CChar.self) { XML_Parse(parser, $0.baseAddress, Int32(clamping: bytes.count), 1) }
    }
    let refusal = builder.pointee.refusal
    guard status != XML_STATUS_OK || refusal != nil || builder.pointee.nodes.isEmpty else { return nil }
    let line = Int(XML_GetCurrentLineNumber(parser))
    if let refusal { return XMLError(reason: refusal, line: line) }
    let words = XML_ErrorString(XML_GetErrorCode(parser)).map { String(cString: $0) }
    return XMLError(reason: words ?? "unknown error", line: line)
  }

  private mutating func refuse(_ reason: String) {
    refusal = refusal ?? reason
    XML_StopParser(parser, 0)
  }

  private mutating func start(_ name: UnsafePointer<CChar>) {
    guard open.count < XMLDocument.maximumDepth else {
      return refuse("nested deeper than \(XMLDocument.maximumDepth) levels")
    }
    guard nodes.count < XMLDocument.maximumElements, let number = number(of: name) else {
      return refuse("more elements than an answer can have")
    }
    let index = Int32(nodes.count)
    nodes.append(XMLDocument.Node(name: number, textStart: Int32(text.count), textEnd: Int32(text.count)))
    if let parent = open.last {
      if parent.lastChild < 0 {
        // White space before the first child is no text.
        text.removeLast(text.count - Int(nodes[Int(parent.node)].textStart))
        nodes[Int(parent.node)].firstChild = index
        nodes[Int(index)].textStart = Int32(text.count)
      } else {
        nodes[Int(parent.lastChild)].nextSibling = index
      }
      open[open.count - 1].lastChild = index
    }
    open.append((index, -1))
  }

  private mutating func end() {
    let (node, lastChild) = open.removeLast()
    let start = nodes[Int(node)].textStart
    nodes[Int(node)].textEnd = lastChild < 0 ? Int32(text.count) : start
  }

  private mutating func characters(_ bytes: UnsafePointer<CChar>, _ count: Int) {
    guard let last = open.last, last.lastChild < 0 else { return }
    bytes.withMemoryRebound(to: UInt8.self, capacity: count) {
      text.append(contentsOf: UnsafeBufferPointer(start: $0, count: count))
    }
  }

  /// Names are few and repeat: each is kept once. Nil if there are more than 65,535.
  private mutating func number(of name: UnsafePointer<CChar>) -> UInt16? {
    var fnv = FNV1a()
    var length = 0
    // Clark's namespace form is not used: a prefix, as in `ns:item`, stays part of the name.
    while name[length] != 0 {
      fnv.add(UInt8(bitPattern: name[length]))
      length += 1
    }
    var hash = fnv.value
    while let number = nameNumbers[hash] {
      if matches(names[Int(number)], name, length) { return number }
      hash &+= 1
    }
    guard names.count < Int(UInt16.max) else { return nil }
    let number = UInt16(names.count)
    names.append((0..<length).map { UInt8(bitPattern: name[$0]) })
    nameNumbers[hash] = number
    return number
  }

  private func matches(_ known: [UInt8], _ name: UnsafePointer<CChar>, _ length: Int) -> Bool {
    guard known.count == length else { return false }
    for offset in 0..<length where known[offset] != UInt8(bitPattern: name[offset]) { return false }
    return true
  }
}
