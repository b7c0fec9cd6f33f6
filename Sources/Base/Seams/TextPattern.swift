/// A regular expression, made once and matched often. The real one is `PosixPattern` in Host.
package protocol TextPattern: Sendable {
  /// Whether it is found anywhere in the text.
  func isFound(in text: ArraySlice<UInt8>) -> Bool
}
