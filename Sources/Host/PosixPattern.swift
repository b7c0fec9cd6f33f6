internal import Base
internal import Glibc
internal import Synchronization

/// A POSIX extended regular expression (regex(7)), by the C library.
package final class PosixPattern: TextPattern {
  private let compiled: Mutex<regex_t>

  /// Nil if the text is not an expression.
  package init?(_ text: String) {
    var compiled = regex_t()
    guard !text.utf8.contains(0), regcomp(&compiled, text, REG_EXTENDED | REG_NOSUB) == 0 else { return nil }
    self.compiled = Mutex(compiled)
  }

  deinit { compiled.withLock { regfree(&$0) } }

  func isFound(in text: ArraySlice<UInt8>) -> Bool {
    compiled.withLock { compiled in
      text.withUnsafeBytes { bytes in
        // REG_STARTEND: the text ends at these bounds, not at a zero byte. Of a text of more than 2 GiB the rest is
        // not searched.
        var bounds = regmatch_t(rm_so: 0, rm_eo: regoff_t(clamping: bytes.count))
        var empty: CChar = 0
        let start = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
        // Any other result than 0 and "no match" means that memory ran out: no match either.
        return withUnsafeMutablePointer(to: &empty) {
          regexec(&compiled, start ?? UnsafePointer($0), 1, &bounds, Int32(REG_STARTEND)) == 0
        }
      }
    }
  }
}
