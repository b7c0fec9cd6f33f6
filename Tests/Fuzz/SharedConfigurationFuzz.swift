@testable import AWS

/// The AWS tools' files as people write them: no value keeps a line break or blanks around it.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  for (name, section) in SharedConfiguration.parse(inputText(data, count)) {
    precondition(!name.contains(where: \.isNewline), "a section's name of two lines")
    for (key, value) in section {
      for text in [key, value] {
        precondition(!text.contains(where: \.isNewline), "two lines")
        precondition(text.first?.isWhitespace != true && text.last?.isWhitespace != true, "blanks around it")
      }
    }
  }
  return 0
}
