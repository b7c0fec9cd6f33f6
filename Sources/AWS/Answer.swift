internal import Base

/// An answer that lacks a field that the API documents as required, or has one of another type.
struct MalformedAnswer: ExplainedError, Equatable {
  let explanation: String

  init(_ explanation: String) { self.explanation = explanation }
}

/// Required fields. A default in place of a missing one would be a decision on a fact that AWS never stated: a
/// cluster of 0 servers, for example. Each method names what the answer lacks, and of which thing.
extension XMLElement {
  /// - Throws: `MalformedAnswer` if there is no such child.
  func requiredChild(_ name: StaticString, of owner: String) throws(MalformedAnswer) -> XMLElement {
    guard let child = child(name) else { throw MalformedAnswer("the answer has no \(name) of \(owner)") }
    return child
  }

  /// - Throws: `MalformedAnswer` if there is no such child or it is empty.
  func required(_ name: StaticString, of owner: String) throws(MalformedAnswer) -> String {
    guard let text = self[name] else { throw MalformedAnswer("the answer has no \(name) of \(owner)") }
    return text
  }

  /// The elements of a list, which may be empty but not missing.
  func requiredList(_ name: StaticString, of owner: String) throws(MalformedAnswer) -> [XMLElement] {
    _ = try requiredChild(name, of: owner)
    return list(name)
  }

  /// AWS's Integer: a number from 0 on that a signed 32-bit integer holds, so that no sum of them overflows.
  func requiredCount(_ name: StaticString, of owner: String) throws(MalformedAnswer) -> Int {
    let text = try required(name, of: owner)
    guard let number = Int32(text), number >= 0 else {
      throw MalformedAnswer("\(name) of \(owner) is not a count: \(text.prefix(40))")
    }
    return Int(number)
  }

  /// Nil where the field is missing.
  func address(_ name: StaticString, of owner: String) throws(MalformedAnswer) -> IPv4Address? {
    guard let text = self[name] else { return nil }
    guard let address = IPv4Address(text) else {
      throw MalformedAnswer("\(name) of \(owner) is not an IPv4 address: \(text.prefix(40))")
    }
    return address
  }
}
